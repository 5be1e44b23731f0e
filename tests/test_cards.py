"""Class cards and sweeps on statistics counted by hand; classes without images divide nothing."""

import pytest
import torch

from paperlib.filters import sweeps
from paperlib.filters.counting import class_statistics
from paperlib.filters.ranking import influential_filters, subsets_with_dense_rows
from paperlib.filters.sweeps import HISTOGRAM_ENTRIES, influential_by_k, size_grid, sweep_statistics
from paperlib.metrics.cards import cards_of, exciting_images, logit_shares

FEATURES = torch.tensor([[3.0, 1, 0, 0], [3, 0, 1, 0], [0, 1, 4, 0], [0, 0, 2, 1]])
WEIGHT = torch.tensor([[2.0, -1, 1, 0], [0, 1, 1, -2], [1, 1, 1, 1]])


@pytest.fixture
def statistics():
    """Two images of class 0, two of class 1, none of class 2."""
    return class_statistics(FEATURES, torch.tensor([0, 0, 1, 1]), 3, 4)


def test_shares_of_the_logit_by_hand(statistics):
    """Class 0 has means 3, 1/2, 1/2, 0: it adds 6, -1/2 and 1/2 to its logit."""
    shares = logit_shares(WEIGHT, statistics.means)
    assert torch.allclose(shares[0], torch.tensor([6, -0.5, 0.5, 0]).double() / 7)
    assert torch.allclose(shares.abs().sum(dim=1), torch.tensor([1.0, 1.0, 0.0]).double())
    assert shares.isfinite().all()


def test_a_class_without_images_keeps_its_dense_row(statistics):
    subsets = subsets_with_dense_rows(statistics, 1)
    assert [filters.tolist() for filters in subsets] == [[0], [2], [0, 1, 2, 3]]
    with pytest.raises(
        ValueError, match=r"classes without images .*\(1 of 3: 2\); leave them out with"
    ):
        influential_filters(statistics, 1)
    with pytest.raises(ValueError, match="k must be a whole number from 1 to 4, not 5"):
        subsets_with_dense_rows(statistics, 5)


def test_a_card_tells_each_filter(statistics):
    cards = cards_of(statistics, WEIGHT, subsets_with_dense_rows(statistics, 1), 1)
    (row,) = cards[0]
    assert (row.filter, row.named_by, row.mean_feature, row.weight) == (0, 1.0, 3.0, 2.0)
    assert (row.logit, row.classes) == (6.0, 2)  # class 2 keeps every filter
    assert row.share == pytest.approx(6 / 7)
    assert [row.named_by for row in cards[2]] == [row.share for row in cards[2]] == [0.0] * 4
    with pytest.raises(ValueError, match=r"classes must lie in 0\.\.2, not \[3\]"):
        cards_of(statistics, WEIGHT, subsets_with_dense_rows(statistics, 1), 1, [3])


def test_exciting_images_are_those_with_the_largest_feature():
    found = exciting_images(FEATURES, torch.tensor([2, 0]), 2)
    assert found.tolist() == [[2, 3], [0, 1]]  # images 0 and 1 tie on filter 0
    assert exciting_images(FEATURES, torch.tensor([2]), 9).shape == (1, 4)


def test_a_narrow_layer_is_swept_whole_and_a_wide_one_on_a_grid():
    assert size_grid(64) == list(range(1, 65))
    wide = size_grid(2048, 50, 999, 5000)
    assert wide[:64] == list(range(1, 65)) and wide[-1] == 2048 and 999 in wide
    assert len(wide) < 90 and wide == sorted(set(wide))
    assert size_grid(1) == [1]


def test_a_sweep_counts_the_whole_grid_or_what_a_gigabyte_holds(monkeypatch):
    features, labels = torch.rand(6, 100), torch.arange(6) % 2
    assert sweep_statistics(features, labels, 2, 70).ks == tuple(size_grid(100, 70))
    assert len(size_grid(2048)) * 1000 * 2048 <= HISTOGRAM_ENTRIES  # ResNet-50's head fits
    monkeypatch.setattr(sweeps, "HISTOGRAM_ENTRIES", 3 * 2 * 100)
    assert sweep_statistics(features, labels, 2).ks == (1, 2, 3)


def test_cards_read_the_histogram_of_their_k_on_any_grid():
    labels = torch.tensor([0, 0, 1, 1])
    every, grid = (class_statistics(FEATURES, labels, 3, ks) for ks in (3, [1, 3]))
    for k in (1, 3):
        subsets = subsets_with_dense_rows(grid, k)
        for found, expected in zip(subsets, subsets_with_dense_rows(every, k), strict=True):
            assert torch.equal(found, expected)
        assert cards_of(grid, WEIGHT, subsets, k) == cards_of(every, WEIGHT, subsets, k)
    with pytest.raises(ValueError, match=r"k = 2 was not counted; choose from \(1, 3\)"):
        subsets_with_dense_rows(grid, 2)


def test_a_sweep_ends_with_all_filters():
    statistics = class_statistics(FEATURES, torch.tensor([0, 0, 1, 1]), 2, 3)
    subsets = influential_by_k(statistics)
    assert list(subsets) == [1, 2, 3, 4]
    assert [len(filters) for filters in subsets[4]] == [4, 4]
    assert torch.equal(subsets[2][0], influential_filters(statistics, 2)[0])
