"""Purity of filters by hand, and AUC against scikit-learn's."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from paperlib.metrics.purity import one_vs_rest_auc, serving_one_class, top_image_shares

FEATURES = torch.tensor([[5.0, 0], [4, 1], [3, 1], [0, 1]])
LABELS = torch.tensor([0, 0, 1, 2])


def test_shares_of_the_top_images_by_hand():
    # Filter 0: images 0, 1, 2; filter 1: images 1, 2, 3
    shares = top_image_shares(FEATURES, LABELS, 3, top=3)
    assert torch.allclose(shares, torch.tensor([[2.0, 1], [1, 1], [0, 1]]).double() / 3)
    assert top_image_shares(FEATURES, LABELS, 3, top=1)[:, 1].tolist() == [1, 0, 0]  # first of ties
    assert torch.allclose(
        top_image_shares(FEATURES, LABELS, 3), torch.tensor([0.5, 0.25, 0.25]).double()[:, None]
    )  # only four images


def test_auc_by_hand():
    auc = one_vs_rest_auc(FEATURES, LABELS, 4)
    assert auc[0].tolist() == [1, 0.25]  # filter 1: 0 and 1 against 1 and 1, two ties
    assert auc[2].tolist() == [0, pytest.approx(2 / 3)]
    assert auc[3].isnan().all()  # no images of class 3


def test_auc_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(200, 4, generator=generator).round(decimals=1)
    labels = torch.randint(3, (200,), generator=generator)
    auc = one_vs_rest_auc(features, labels, 3)
    for c in range(3):
        for j in range(4):
            assert auc[c, j].item() == pytest.approx(roc_auc_score(labels == c, features[:, j]))


def test_places_that_serve_one_class():
    member = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]).bool()
    assert serving_one_class(member).item() == pytest.approx(3 / 5)  # filter 1 is shared
    family = torch.stack([member, torch.ones(3, 4).bool()])
    assert serving_one_class(family).tolist() == [pytest.approx(3 / 5), 0]


def test_bad_input_is_named():
    for measure in (top_image_shares, one_vs_rest_auc):
        with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1, found 0\.\.2"):
            measure(FEATURES, LABELS, 2)
