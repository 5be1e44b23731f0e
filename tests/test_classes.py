"""Banks in which some classes have no images."""

from dataclasses import replace

import pytest
import torch

from paperlib.bank import FeatureBank


def test_classes_without_train_images_are_left_out(small_bank):
    """Class 1 has test images only: they go, and class 2 becomes class 1."""
    keep = (small_bank.labels != 1) | (small_bank.split_codes == 1)
    bank = replace(
        small_bank,
        features=small_bank.features[keep],
        logits=small_bank.logits[keep],
        labels=small_bank.labels[keep],
        split_codes=small_bank.split_codes[keep],
        stored_head=None,
    )
    assert bank.classes_with_images() == [0, 2] and bank.classes_with_images("test") == [0, 1, 2]
    cut = bank.without_empty_classes()
    assert cut.class_names == ["ant", "cow"] and cut.metadata["classes_kept"] == [0, 2]
    assert cut.labels.unique().tolist() == [0, 1]
    assert len(cut) == int((small_bank.labels != 1).sum())
    assert torch.allclose(cut.head.weight, bank.head.weight[[0, 2]])
    assert cut.head_fit().residual < 1e-3


def test_a_full_bank_comes_back_as_it_is(small_bank):
    assert small_bank.without_empty_classes() is small_bank


def test_a_bank_without_train_images_is_refused(small_bank):
    test_only = replace(small_bank, split_codes=torch.ones(60, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no train images, so no class can be kept"):
        test_only.without_empty_classes()


@pytest.mark.parametrize("levels", [256, 65536])
def test_quantised_features_and_logits_still_give_the_head(resnet20, levels):
    """Another framework's arrays, rounded to so many levels, without head and metadata."""

    def rounded(x):
        step = (x.max() - x.min()) / (levels - 1)
        return (x / step).round() * step

    arrays = (rounded(resnet20.features).numpy(), rounded(resnet20.logits).numpy())
    bank = FeatureBank(*arrays, resnet20.labels.numpy())
    fit = bank.head_fit()
    assert fit.agreement > (0.98 if levels == 256 else 0.999)
    assert fit.residual < 40 / levels * resnet20.logits.abs().max()
    assert (bank.head.weight - resnet20.head.weight).abs().max() < 10 / levels
