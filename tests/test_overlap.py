"""Overlap against hand-computed values, the published figures, and what chance must give."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from paperlib.filters.scores import random_subsets
from paperlib.filters.tensors import membership
from paperlib.metrics import overlap
from paperlib.metrics.overlap import (
    against_chance,
    jaccard,
    mean_over_pairs,
    mean_overlap,
    mutual_information,
    shared_filters,
)
from reproduction.published import RESNET20_CSG_SUBSETS, RESNET20_SUBSETS

PAIR = membership([torch.tensor([0, 1]), torch.tensor([1, 2])], 4)


def brute_mi(a, b):
    """The definition: sum over the four cells of p ln(p / (p_a p_b))."""
    total, n = 0.0, len(a)
    for i in (False, True):
        for j in (False, True):
            both = sum(x == i and y == j for x, y in zip(a, b, strict=True)) / n
            if both:
                total += both * math.log(both / (a.count(i) / n * b.count(j) / n))
    return total


def test_two_subsets_by_hand():
    assert shared_filters(PAIR).tolist() == [[2, 1], [1, 2]]
    assert jaccard(PAIR)[0].tolist() == pytest.approx([1, 1 / 3])
    # 2 of 4 each, sharing 1: independent, so MI = 0; with itself it is ln 2
    assert mutual_information(PAIR).flatten().tolist() == pytest.approx(
        [math.log(2), 0, 0, math.log(2)], abs=1e-12
    )


def test_disjoint_halves_are_as_informative_as_equal_ones():
    halves = membership([torch.tensor([0, 1]), torch.tensor([2, 3])], 4)
    assert mutual_information(halves)[0, 1].item() == pytest.approx(math.log(2))
    assert jaccard(halves)[0, 1] == 0


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n)] * 2)
    )
)
def test_mutual_information_equals_its_definition(pair):
    value = mutual_information(torch.tensor(pair))[0, 1].item()
    assert value == pytest.approx(brute_mi(*pair), abs=1e-12)


@pytest.mark.parametrize(
    ("subsets", "with_self", "without"),
    [
        (RESNET20_SUBSETS[5], 0.0345378, 0.0079124),
        (RESNET20_CSG_SUBSETS["lowest gates"], 0.0375091, 0.0112139),
        (RESNET20_CSG_SUBSETS["highest gates"], 0.0339446, 0.0072533),
    ],
)
def test_published_figures(subsets, with_self, without):
    mi = mutual_information(membership([torch.tensor(one) for one in subsets], 64))
    assert mean_over_pairs(mi, include_self=True).item() == pytest.approx(with_self, abs=1e-7)
    assert mean_over_pairs(mi, include_self=False).item() == pytest.approx(without, abs=1e-7)


def test_mean_over_pairs_is_ordered_and_batched():
    pairs = torch.tensor([[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 9.0]])
    assert mean_over_pairs(pairs, include_self=False) == 3.5
    assert mean_over_pairs(pairs, include_self=True) == pytest.approx(48 / 9)
    batch = torch.stack([pairs, 2 * pairs])
    assert mean_over_pairs(batch, include_self=False).tolist() == [3.5, 7]
    with pytest.raises(ValueError, match="at least two classes"):
        mean_over_pairs(torch.ones(1, 1), include_self=False)


@pytest.mark.parametrize("include_self", [True, False])
def test_overlap_of_families_a_few_at_a_time_is_the_same(include_self, monkeypatch):
    member = torch.rand(3, 7, 5, 20, generator=torch.Generator().manual_seed(0)) < 0.3
    for measure in (mutual_information, shared_filters, jaccard):
        whole = mean_over_pairs(measure(member), include_self=include_self)
        for pairs_at_once in (1, 4 * 25, 2**22):
            monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", pairs_at_once)
            parts = mean_overlap(measure, member, include_self=include_self)
            torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
        one = mean_overlap(measure, member[0, 0], include_self=include_self)
        torch.testing.assert_close(one, whole[0, 0], rtol=1e-12, atol=0)


def test_random_subsets_share_what_the_hypergeometric_law_says():
    member = torch.stack([membership(s, 64) for s in random_subsets(10, 64, 5, draws=1500)])
    shared = shared_filters(member)
    assert mean_over_pairs(shared, include_self=False).mean().item() == pytest.approx(
        25 / 64, abs=0.01
    )
    pairs = shared[:, ~torch.eye(10, dtype=torch.bool)]
    for n in range(4):
        share = (pairs == n).double().mean().item()
        assert share == pytest.approx(hypergeom.pmf(n, 64, 5, 5), abs=0.01)


def test_position_against_chance():
    draws = list(range(1, 100))
    assert against_chance(50, draws) == (50.0, 1.0)
    assert against_chance(1000, draws) == (100.0, 0.02)
    assert against_chance(-1, draws) == (0.0, 0.02)
    assert against_chance(3, draws).p == pytest.approx(2 * 4 / 100)
    assert against_chance(1, [1, 1, 1]) == (50.0, 1.0)
