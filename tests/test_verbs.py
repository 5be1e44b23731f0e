"""The verbs of the front door on a bank: what they return, and that they trust what was checked."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import paperlib as pl
from paperlib.filters.ranking import influential_filters
from paperlib.filters.sweeps import sweep_statistics

PASSES = ("aminmax", "isfinite", "isnan", "isinf", "min.", "max.", "amin", "amax")


class Looks(TorchDispatchMode):
    """Counts the full passes over features that only look for bad values."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.found = numel, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        first = args[0] if args else None
        whole = isinstance(first, torch.Tensor) and first.numel() >= self.numel
        if whole and name.startswith(PASSES):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "verb",
    [
        lambda bank: pl.influential(bank, 2),
        lambda bank: pl.frequency_histogram(bank, 2),
        lambda bank: pl.rank(bank, 2, by="contrast"),
        lambda bank: pl.backward_selection(bank, 2),
        lambda bank: pl.refit(bank, pl.influential(bank, 2)),
        lambda bank: pl.accuracy(bank.head, bank),
        lambda bank: pl.accuracy_curve(bank),
        lambda bank: pl.ablate(bank, pl.influential(bank, 2)),
        lambda bank: pl.class_cards(bank, pl.influential(bank, 2)),
        lambda bank: pl.random_baseline(bank.train, bank.test, 2, draws=2),
        lambda bank: pl.influential(bank.train.to("cpu"), 2),
    ],
)
def test_a_checked_bank_is_not_checked_again(verb):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(300, 40, generator=generator)
    head = pl.LinearHead(torch.randn(3, 40, generator=generator), torch.zeros(3))
    labels, codes = torch.arange(300) % 3, (torch.arange(300) >= 200).to(torch.uint8)
    bank = pl.FeatureBank(x, head(x), labels, codes, stored_head=head)
    with Looks(100 * 40) as looks:
        verb(bank)
    assert looks.found == []


def test_features_that_change_are_looked_at_again(small_bank):
    assert small_bank.head  # recovered before
    small_bank.features[3, 1] = torch.nan
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        pl.influential(small_bank, 2)


def test_curve_is_the_decomposed_heads_accuracy(resnet20):
    curve = pl.accuracy_curve(resnet20)
    assert list(curve.ks) == list(range(65))
    for k in (1, 5, 64):
        head = pl.decompose(resnet20, pl.influential(resnet20, k))
        assert curve.accuracy[k] == pytest.approx(pl.accuracy(head, resnet20).value)
    smallest = pl.accuracy_curve(resnet20).smallest_k(within=1.0)
    full = curve.accuracy[-1]
    assert curve.accuracy[int(smallest.value)] >= full - 1 > curve.accuracy[int(smallest.value) - 1]
    assert smallest.low <= smallest.value <= smallest.high and "846" in smallest.of
    table = curve.table()
    assert [row["k"] for row in table] == list(curve.ks)
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in table)
    contrast = pl.accuracy_curve(resnet20, by="contrast")
    head = pl.decompose(resnet20, pl.rank(resnet20, 5, by="contrast"))
    assert contrast.accuracy[5] == pytest.approx(pl.accuracy(head, resnet20).value)


def test_histogram_and_rankings(resnet20):
    train = resnet20.train
    counts = pl.frequency_histogram(resnet20, 5)
    statistics = sweep_statistics(train.features, train.labels, 10, 5)
    assert torch.equal(counts, statistics.counts(5))
    assert (counts.sum(dim=1) == 5 * torch.bincount(train.labels)).all()
    ours, theirs = pl.influential(resnet20, 5), influential_filters(statistics, 5)
    assert all(map(torch.equal, ours, theirs))
    assert all(map(torch.equal, pl.rank(resnet20, 5), ours))
    with pytest.raises(ValueError, match="unknown ranking 'luck'; choose from frequency, mean act"):
        pl.rank(resnet20, 5, by="luck")
    drawn = pl.random_filters(resnet20, 5, draws=3, seed=1)
    assert len(drawn) == 3 and all(len(set(own.tolist())) == 5 for own in drawn[0])


def test_ablation_of_the_own_filters_costs_more(resnet20):
    subsets = pl.influential(resnet20, 5)
    own, others = pl.ablate(resnet20, subsets), pl.ablate(resnet20, subsets, others=True)
    assert own.value < others.value - 20
    assert pl.ablate(resnet20, subsets, "mean").value > own.value
    with pytest.raises(ValueError, match="unknown fill 'paint'"):
        pl.ablate(resnet20, subsets, "paint")


def test_a_head_is_put_where_the_final_layer_was(small_bank):
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    head = pl.decompose(small_bank, pl.influential(small_bank, 2))
    assert pl.put_head(model, head) is model and model[1] is head
    assert torch.equal(model(small_bank.features), head(small_bank.features))
    with pytest.raises(ValueError, match="the layer 1 maps 6 features to 3 logits, the head 5 to"):
        pl.put_head(model, nn.Linear(5, 3))


def test_fine_tuning_from_the_front_door(small_bank):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    images = small_bank.features, small_bank.labels
    subsets = [torch.tensor([c, c + 1]) for c in range(3)]
    tuned = pl.fine_tune(model, subsets, images, epochs=2, progress=False, device="cpu")
    assert isinstance(tuned[2], pl.DecomposedHead) and isinstance(model[2], nn.Linear)
    assert not torch.equal(tuned[0].weight, model[0].weight)


def test_intervals_say_what_they_are(small_bank):
    subsets = pl.influential(small_bank, 2)
    value, low, high = pl.accuracy(pl.decompose(small_bank, subsets), small_bank)
    assert low <= value <= high
    baseline = pl.random_baseline(small_bank.train, small_bank.test, 2, draws=3)
    assert baseline.of == "lowest to highest of 3 random choices"
    assert "20 resampled images" in repr(pl.accuracy(small_bank.head, small_bank))
    assert np.isfinite(baseline).all()
