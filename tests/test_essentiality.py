"""Replaced features: which, by what, and what the head makes of them, on heads that can be read."""

import pytest
import torch

from paperlib.filters.tensors import membership
from paperlib.metrics import ablation
from paperlib.metrics.ablation import (
    FILLS,
    accuracy_after_ablation,
    predictions_after,
    replace_features,
)
from reproduction.published import RESNET20_SUBSETS

# Two classes, four filters: class 0 reads filters 0 and 1, class 1 reads 2 and 3
WEIGHT = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
BIAS = torch.zeros(2)
FEATURES = torch.tensor([[9.0, 9.0, 3.0, 3.0], [2.0, 2.0, 8.0, 8.0], [4.0, 4.0, 3.0, 3.0]])
LABELS = torch.tensor([0, 1, 0])
SUBSETS = [torch.tensor([0, 1]), torch.tensor([2, 3])]


def test_zero_and_mean_by_hand():
    where = torch.tensor([[True, False, False, False]] * 3)
    zero = replace_features(FEATURES, where, "zero")
    assert zero[:, 0].tolist() == [0, 0, 0]
    mean = replace_features(FEATURES, where, "mean", means=torch.tensor([5.0, 6.0, 7.0, 8.0]))
    assert mean[:, 0].tolist() == [5, 5, 5]
    assert torch.equal(zero[:, 1:], FEATURES[:, 1:]) and torch.equal(mean[:, 1:], FEATURES[:, 1:])


def test_noise_is_standard_normal_and_only_where_asked():
    features = torch.full((4000, 6), 3.0)
    where = torch.tensor([True, True, True, False, False, True])
    noisy = replace_features(features, where, "noise", generator=torch.Generator().manual_seed(1))
    assert torch.equal(noisy[:, ~where], features[:, ~where])
    drawn = noisy[:, where]
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.03
    assert abs(torch.corrcoef(drawn.T).fill_diagonal_(0)).max() < 0.06


@pytest.mark.parametrize("fill", FILLS)
def test_features_are_not_changed_in_place(fill):
    before = FEATURES.clone()
    replace_features(FEATURES, torch.ones(4, dtype=torch.bool), fill, means=torch.ones(4))
    assert torch.equal(FEATURES, before)


def test_own_filters_zeroed_lose_the_class_and_the_others_do_not():
    data = (FEATURES, LABELS, WEIGHT, BIAS, SUBSETS, "zero")
    assert accuracy_after_ablation(*data).tolist() == [0, 0, 0]
    assert accuracy_after_ablation(*data, others=True).tolist() == [1, 1, 1]


def test_mean_keeps_the_level():
    # With (6, 6) in filters 0 and 1 image 0 and 2 still beat their 3 + 3; image 1 keeps 8 + 8 > 12
    means = torch.tensor([6.0, 6.0, 5.0, 5.0])
    own = accuracy_after_ablation(FEATURES, LABELS, WEIGHT, BIAS, SUBSETS, "mean", means=means)
    assert own.tolist() == [1, 1, 1]
    rest = accuracy_after_ablation(
        FEATURES, LABELS, WEIGHT, BIAS, SUBSETS, "mean", means=means, others=True
    )
    assert rest.tolist() == [1, 1, 0]  # image 2: 4 + 4 < 5 + 5


def test_noise_accuracy_has_its_closed_form():
    # z_0 + z_1 ~ N(0, 2) must exceed the margin 1 of class 1: P = 1 - Phi(1 / sqrt 2)
    features = torch.tensor([[5.0, 5.0, 0.5, 0.5]])
    kept = accuracy_after_ablation(features, LABELS[:1], WEIGHT, BIAS, SUBSETS, repeats=20_000)
    expected = 1 - torch.special.ndtr(torch.tensor(0.5**0.5))
    assert kept.item() == pytest.approx(expected.item(), abs=0.012)


def test_repeats_are_seeded_and_differ():
    where = membership(SUBSETS, 4)[LABELS]
    x = FEATURES / 10  # margins that noise can overturn
    runs = [predictions_after(x, WEIGHT, BIAS, where, repeats=50, seed=s) for s in (0, 0, 1)]
    assert runs[0].shape == (50, 3)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert (runs[0].double().std(dim=0) > 0).any()
    assert predictions_after(x, WEIGHT, BIAS, where, "zero", repeats=50).shape == (1, 3)


def test_published_subsets_of_resnet20(resnet20):
    """Measured independently with one seed: 48.2 % and 85.2 %; one draw deviates by a point."""
    test = resnet20.split("test")
    subsets = [torch.tensor(one) for one in RESNET20_SUBSETS[5]]
    data = (test.features, test.labels, *test.head, subsets)
    assert 100 * accuracy_after_ablation(*data).mean().item() == pytest.approx(48.2, abs=3)
    assert 100 * accuracy_after_ablation(*data, others=True).mean().item() == pytest.approx(
        85.2, abs=3
    )


def test_bad_input_is_named():
    data = (FEATURES, LABELS, WEIGHT, BIAS)
    with pytest.raises(ValueError, match="choose from noise, zero, mean"):
        accuracy_after_ablation(*data, SUBSETS, "median")
    with pytest.raises(ValueError, match="needs means"):
        accuracy_after_ablation(*data, SUBSETS, "mean")
    with pytest.raises(ValueError, match="1 subsets for a head of 2 classes"):
        accuracy_after_ablation(*data, SUBSETS[:1])
    with pytest.raises(ValueError, match="filters must lie in"):
        accuracy_after_ablation(*data, [torch.tensor([0]), torch.tensor([4])])
    with pytest.raises(ValueError, match="repeats must be a whole number of at least 1"):
        accuracy_after_ablation(*data, SUBSETS, repeats=0)
    with pytest.raises(ValueError, match="labels must lie in"):
        accuracy_after_ablation(FEATURES, LABELS + 1, WEIGHT, BIAS, SUBSETS)


@pytest.mark.parametrize("images", [1, 7, 16, 31, 32, 47, 48, 63, 64, 100])
@pytest.mark.parametrize("filters", [1, 3, 16, 50])
def test_noise_drawn_in_parts_is_that_of_one_draw(monkeypatch, images, filters):
    monkeypatch.setitem(ablation.AT_ONCE, "cpu", 20 * filters)  # parts of 16 images
    x, everywhere = torch.zeros(images, filters), torch.ones(images, filters, dtype=torch.bool)
    generator = torch.Generator().manual_seed(3)
    parts = [
        ablation.replace_features(part, where, "noise", generator=generator)
        for part, where in ablation._parts(x, everywhere)
    ]
    whole = torch.randn(images, filters, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.cat(parts), whole) and (len(parts) > 1) == (images >= 32)
