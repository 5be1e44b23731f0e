"""Every ranking against brute force: random shapes, types, strides and many ties.

The paper's own ranking on float32 is in `test_filters`, searches and fits are in
`test_brute_force_searches`.
"""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.filters import scores
from paperlib.filters.counting import class_statistics
from paperlib.filters.kernels import rank_counts
from paperlib.filters.ranking import influential_filters
from paperlib.filters.sums import FRACTION_BITS, carried
from paperlib.filters.tensors import highest_scores, membership, rank_filters
from reproduction import rankings

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
VALUES = [0.0, 0.0, 0.25, 0.5, 1.0, 3.0]  # few, and exact in every type: ties and dead filters


def laid_out(draw, rows):
    """The same numbers in memory in one of five ways."""
    x = torch.tensor(rows)
    padded = torch.full((2 * x.shape[0], 3 * x.shape[1]), 9.0, dtype=x.dtype)
    padded[::2, 1::3] = x
    wide = x.repeat_interleave(2, dim=1)
    ways = [x, x.T.contiguous().T, padded[::2, 1::3], wide[:, ::2], x.flip(0).flip(0)]
    return draw(st.sampled_from(ways))


@st.composite
def problems(draw, values=VALUES):
    """Features `[N, D]`, labels with every class, weights `[C, D]`, and a k."""
    c, d = draw(st.integers(2, 4)), draw(st.integers(1, 8))
    n = draw(st.integers(c, 16))
    row = st.lists(st.sampled_from(values), min_size=d, max_size=d)
    features = draw(st.lists(row, min_size=n, max_size=n))
    labels = [*range(c), *draw(st.lists(st.integers(0, c - 1), min_size=n - c, max_size=n - c))]
    signed = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 1.0]), min_size=d, max_size=d)
    weight = draw(st.lists(signed, min_size=c, max_size=c))
    kind = draw(st.sampled_from(TYPES))
    x, w = laid_out(draw, features).to(kind), laid_out(draw, weight)
    return x, torch.tensor(labels), w, draw(st.integers(1, d))


def exact(tensor):
    return [[Fraction(value) for value in row] for row in tensor.double().tolist()]


def mean(values):
    values = list(values)
    return sum(values, Fraction(0)) / len(values)


def columns_of(features, labels, c):
    """The values of each filter over the images of a class."""
    rows = [row for row, y in zip(exact(features), labels.tolist(), strict=True) if y == c]
    return list(zip(*rows, strict=True))


def first(score, k):
    """The k indices of the highest scores, ties to the lower index."""
    return sorted(range(len(score)), key=lambda j: (-score[j], j))[:k]


def lists(subsets):
    return [filters.tolist() for filters in subsets]


@settings(max_examples=50, deadline=None)
@given(problems())
def test_frequency_ranking_in_every_type_and_layout(problem):
    features, labels, weight, k = problem
    found = lists(influential_filters(class_statistics(features, labels, len(weight), k), k))
    for c, filters in enumerate(found):
        columns = columns_of(features, labels, c)
        images = list(zip(*columns, strict=True))
        named = [first(image, k) for image in images]
        counts = [sum(j in each for each in named) for j in range(len(columns))]
        order = [(counts[j], sum(columns[j])) for j in range(len(columns))]
        by_count = sorted(range(len(order)), key=lambda j: (-order[j][0], -order[j][1], j))
        assert filters == by_count[:k]


@settings(max_examples=50, deadline=None)
@given(problems(), st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]))
def test_shares_of_the_response_are_the_smallest_sets(problem, share):
    features, labels, weight, _ = problem
    statistics = class_statistics(features, labels, len(weight), 1)
    for c, filters in enumerate(lists(influential_filters(statistics, share))):
        totals = [sum(column) for column in columns_of(features, labels, c)]
        order, need, size = first(totals, len(totals)), Fraction(str(share)) * sum(totals), 0
        while sum(totals) and sum(totals[j] for j in order[:size]) < need:
            size += 1
        assert filters == order[:size]


@settings(max_examples=50, deadline=None)
@given(problems())
def test_scores_in_every_type_and_layout(problem):
    features, labels, weight, k = problem
    w, every = exact(weight), list(zip(*exact(features), strict=True))
    means = [[mean(column) for column in columns_of(features, labels, c)] for c in range(len(w))]
    overall = [mean(column) for column in every]
    # Sums of up to 16 dyadic numbers over 16 images are exact; means by other numbers are rounded,
    # so brute force starts from the same rounded ones
    given_means, given_overall = (
        torch.tensor(m, dtype=torch.float64)
        for m in (
            [[float(value) for value in row] for row in means],
            [float(value) for value in overall],
        )
    )
    m, o = given_means.tolist(), given_overall.tolist()
    d = range(len(overall))
    pairs = {
        "magnitude": (
            scores.weight_magnitude(weight, k),
            [[abs(row[j]) for j in d] for row in w],
        ),
        "activation": (scores.mean_activation(given_means, k), m),
        "contribution": (
            scores.mean_contribution(weight, given_means, k),
            [[float(row[j]) * m[c][j] for j in d] for c, row in enumerate(w)],
        ),
        "contrast": (
            scores.contrast(weight, given_means, given_overall, k),
            [[float(row[j]) * (m[c][j] - o[j]) for j in d] for c, row in enumerate(w)],
        ),
    }
    for name, (found, score) in pairs.items():
        assert lists(found) == [first(row, k) for row in score], name


def is_ranking(filters, score, k):
    """Whether filters are k of the highest scores in order, whatever rounding does to ties."""
    slack = 1e-9 * max(map(abs, score), default=0)
    chosen = [score[j] for j in filters]
    rest = [score[j] for j in range(len(score)) if j not in filters]
    ordered = all(a >= b - slack for a, b in pairwise(chosen))
    return len(set(filters)) == k and ordered and (not rest or chosen[-1] >= max(rest) - slack)


@settings(max_examples=50, deadline=None)
@given(problems())
def test_weight_times_deviation(problem):
    features, _, weight, k = problem
    every = [list(column) for column in zip(*exact(features), strict=True)]
    variance = [mean((value - mean(column)) ** 2 for value in column) for column in every]
    for c, filters in enumerate(lists(scores.weight_times_std(weight, features, k))):
        score = [
            abs(w) * float(v) ** 0.5 for w, v in zip(weight[c].tolist(), variance, strict=True)
        ]
        assert is_ranking(filters, score, k)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(1, 7), st.sampled_from(TYPES[2:]))
def test_anova_f_is_its_formula(seed, num_classes, num_filters, kind):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(5 * num_classes) % num_classes
    x = torch.rand(len(labels), num_filters, generator=generator).to(kind)
    k = 1 + seed % num_filters
    for c, filters in enumerate(lists(rankings.anova_f(x, labels, num_classes, k))):
        score = []
        for column in x.double().T.numpy():
            mine, rest = (column[(labels.numpy() == c) == side] for side in (True, False))
            between = len(mine) * len(rest) / len(column) * (mine.mean() - rest.mean()) ** 2
            within = ((mine - mine.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()
            score.append(between / within * (len(column) - 2))
        assert is_ranking(filters, score, k)


@settings(max_examples=40, deadline=None)
@given(problems())
def test_anova_f_takes_ties_and_classes_that_a_filter_separates_alone(problem):
    """Spread of zero within both sides: an infinite F, first, and no warning."""
    features, labels, weight, k = problem
    found = rankings.anova_f(features, labels, len(weight), k)
    constant = {j for j, column in enumerate(features.double().T) if (column == column[0]).all()}
    for c, filters in enumerate(lists(found)):
        assert len(set(filters)) == k
        x = features.double().numpy()
        mine, rest = (x[(labels.numpy() == c) == side] for side in (True, False))
        parts = [j for j in range(x.shape[1]) if np.ptp(mine[:, j]) == np.ptp(rest[:, j]) == 0]
        perfect = [j for j in parts if j not in constant]
        assert set(filters[: len(perfect)]) <= set(perfect) or len(perfect) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 7))
def test_matching_pursuit_is_greedy(seed, num_filters):
    rng = np.random.default_rng(seed)
    x, weight = rng.random((30, num_filters)), rng.normal(size=(3, num_filters))
    k = 1 + seed % (num_filters - 1)
    found = rankings.orthogonal_matching_pursuit(torch.tensor(x), torch.tensor(weight), k)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    logits = (x - x.mean(axis=0)) @ weight.T
    for c, filters in enumerate(lists(found)):
        chosen, left = [], logits[:, c]
        for _ in range(k):
            gain = np.abs(z.T @ left)
            gain[chosen] = -1
            chosen.append(int(gain.argmax()))
            fit = np.linalg.lstsq(z[:, chosen], logits[:, c], rcond=None)[0]
            left = logits[:, c] - z[:, chosen] @ fit
        assert filters == chosen


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_order_of_counts_then_totals_then_index(data):
    rows, d = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    number = st.lists(st.integers(0, 3), min_size=d, max_size=d)
    counts = data.draw(st.lists(number, min_size=rows, max_size=rows))
    totals = data.draw(st.lists(number, min_size=rows, max_size=rows))
    k = data.draw(st.integers(1, d))
    expected = [
        sorted(range(d), key=lambda j, r=r: (-counts[r][j], -totals[r][j], j))[:k]
        for r in range(rows)
    ]
    kind = data.draw(st.sampled_from([torch.int32, torch.int64]))
    given_counts = laid_out(data.draw, counts).to(kind)
    given_totals = laid_out(data.draw, totals).double()
    assert rank_filters(given_counts, given_totals, k).tolist() == expected
    halves = laid_out(data.draw, totals).long()  # the totals as sums of halves
    sums = carried(halves - 7, (halves + 14) << (FRACTION_BITS - 1))
    compiled = rank_counts(given_counts.int(), *sums, k)
    assert compiled.tolist() == expected
    assert lists(highest_scores(given_totals, k)) == [first(row, k) for row in totals]
    member = membership([torch.tensor(row) for row in expected], d)
    assert member.tolist() == [[j in row for j in range(d)] for row in expected]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@settings(max_examples=30, deadline=None)
@given(problems())
def test_a_gpu_ranks_as_the_cpu_does(problem):
    features, labels, weight, k = problem
    on = [(features.to(d), labels.to(d), weight.to(d)) for d in ("cpu", "cuda")]
    frequency = [influential_filters(class_statistics(x, y, len(w), k), k) for x, y, w in on]
    magnitude = [scores.weight_magnitude(w, k) for _, _, w in on]
    assert lists(frequency[0]) == lists(frequency[1]) and lists(magnitude[0]) == lists(magnitude[1])
