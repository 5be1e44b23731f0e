"""Ranking against brute force in plain Python, on shapes, ties and dead filters."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.filters import counting, ranking
from paperlib.filters.counting import ClassStatistics, class_statistics, frequency_histogram
from paperlib.filters.mass import features_for_mass, response_mass
from paperlib.filters.ranking import (
    influential_filters,
    resampled_filters,
    subsets_with_dense_rows,
)
from paperlib.filters.tensors import membership


@st.composite
def labelled_features(draw):
    """Few distinct values, so that ties, dead filters and one-image classes are common."""
    n, d, c = draw(st.integers(1, 25)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    values = st.sampled_from([0.0, 0.0, 0.25, 0.1, 0.3, 1.0, 7.5])
    rows = draw(st.lists(st.lists(values, min_size=d, max_size=d), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n))
    return torch.tensor(rows), torch.tensor(labels), c


def top_k(row, k):
    """The k largest features of one image: larger first, then lower index."""
    return sorted(range(len(row)), key=lambda j: (-row[j], j))[:k]


def brute_histogram(features, labels, num_classes, k):
    counts = [[0] * features.shape[1] for _ in range(num_classes)]
    for row, label in zip(features.tolist(), labels.tolist(), strict=True):
        for j in top_k(row, k):
            counts[label][j] += 1
    return counts


def brute_subset(features, labels, num_classes, c, k):
    """I_c(k) by the definition, with exact fractions for the means."""
    counts = brute_histogram(features, labels, num_classes, k)[c]
    mine = [row for row, y in zip(features.tolist(), labels.tolist(), strict=True) if y == c]
    totals = [sum(map(Fraction, column)) for column in zip(*mine, strict=True)]
    return sorted(range(len(counts)), key=lambda j: (-counts[j], -totals[j], j))[:k]


@settings(max_examples=150, deadline=None)
@given(labelled_features())
def test_histogram_and_subsets_equal_brute_force(data):
    features, labels, c = data
    d = features.shape[1]
    histogram = frequency_histogram(features, labels, c, d)
    present = labels.unique().tolist()
    remapped = torch.tensor([present.index(y) for y in labels.tolist()])
    statistics = class_statistics(features, remapped, len(present), d)
    for k in range(1, d + 1):
        assert histogram[k - 1].tolist() == brute_histogram(features, labels, c, k)
        found = [filters.tolist() for filters in influential_filters(statistics, k)]
        assert found == [brute_subset(features, labels, c, y, k) for y in present]


@settings(max_examples=60, deadline=None)
@given(labelled_features(), st.randoms(use_true_random=False))
def test_order_and_precision_change_nothing(data, random):
    features, labels, c = data
    features = features.half().float()  # values that both precisions hold
    k = features.shape[1]
    whole = class_statistics(features, labels, c, k)
    rows = list(range(len(labels)))
    random.shuffle(rows)
    shuffled = class_statistics(features[rows].half(), labels[rows], c, k)
    assert same(whole, shuffled)


def test_class_sums_break_ties_beyond_float_rounding():
    """0.1 summed 3 times and 0.3 once differ in float64; equal means must go to the lower index."""
    x = torch.tensor([[0.3, 0.1], [0.1, 0.3]])
    many = x.repeat(501, 1)[torch.randperm(1002, generator=torch.Generator().manual_seed(3))]
    statistics = class_statistics(many, torch.zeros(1002, dtype=torch.int64), 1, 1)
    assert statistics.totals[0, 0] == statistics.totals[0, 1]
    assert influential_filters(statistics, 1)[0].tolist() == [0]


@pytest.mark.parametrize("compiled_from", [0, 10**9])
def test_fractions_of_many_images_do_not_overflow(monkeypatch, compiled_from):
    """Whole numbers are carried over after every chunk of images."""
    monkeypatch.setattr(counting, "COMPILED_FROM", compiled_from)
    features = torch.tensor([[0.5, -0.25]]).repeat(2**12, 1)
    features[:64] = torch.tensor([[1.0, -1.0]]) * 65535.5  # the largest that compiled code takes
    found = class_statistics(features, torch.zeros(2**12, dtype=torch.int64), 1, 1)
    assert found.totals.tolist() == [[64 * 65535.5 + 2016, -64 * 65535.5 - 1008]]
    assert 0 <= found.fraction.min() <= found.fraction.max() < 2**40


def test_negative_features_and_exact_means():
    x = torch.tensor([[-1.5, 0.25], [-0.5, 2.0]])
    statistics = class_statistics(x, torch.zeros(2, dtype=torch.int64), 1, 2)
    assert statistics.means.tolist() == [[-1.0, 1.125]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_gives_the_same_subsets(resnet20):
    train = resnet20.split("train")
    on = {
        device: class_statistics(train.features.to(device), train.labels.to(device), 10, 64)
        for device in ("cpu", "cuda")
    }
    for k in (1, 5, 0.5):
        pairs = zip(*(influential_filters(one, k) for one in on.values()), strict=True)
        assert all(torch.equal(a, b.cpu()) for a, b in pairs)


def test_share_of_the_mass_is_the_smallest_set_that_reaches_it():
    x = torch.tensor([[4.0, 1.0, 3.0, 2.0], [4.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    statistics = class_statistics(x, torch.tensor([0, 0, 1]), 2, 1)
    sets = {f: [s.tolist() for s in influential_filters(statistics, f)] for f in (0.4, 0.41, 0.75)}
    assert sets[0.4] == [[0], [0, 1]]
    assert sets[0.41] == [[0, 2], [0, 1]]
    assert sets[0.75] == [[0, 2, 3], [0, 1, 2]]


@settings(max_examples=60, deadline=None)
@given(labelled_features(), st.floats(0.01, 1.0))
def test_mass_equals_brute_force(data, fraction):
    features, _, _ = data
    mass, needed = response_mass(features), features_for_mass(features, fraction)
    for row, curve, n in zip(features.tolist(), mass, needed.tolist(), strict=True):
        total = sum(row)
        if total == 0:
            assert n == 0 and curve.isnan().all()
            continue
        largest = sorted(row, reverse=True)
        shares = [sum(largest[: k + 1]) / total for k in range(len(row))]
        assert curve.tolist() == pytest.approx(shares)
        assert shares[n - 1] >= fraction - 1e-9
        assert n == 1 or shares[n - 2] < fraction + 1e-9


def test_equal_features_share_the_mass_equally():
    equal = torch.full((1, 10), 0.1)
    needed = [features_for_mass(equal, f / 10).item() for f in range(1, 11)]
    assert needed == list(range(1, 11))


X, Y = torch.rand(4, 3), torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("features", "labels", "k", "message"),
    [
        (X[0], Y, 1, r"features must be \[N, D\]"),
        (X, Y[:3], 1, r"features must be \[N, D\]"),
        (X.masked_fill(X > 0.5, float("nan")), Y, 1, "NaN or infinity"),
        (X, torch.tensor([0, 1, 2, 0]), 1, "labels must lie in 0..1, found 0..2"),
        (X, torch.tensor([0, 1, -1, 0]), 1, "labels must lie in 0..1, found -1..1"),
        (X, Y, 0, "k must be a whole number from 1 to 3, not 0"),
        (X, Y, 4, "k must be a whole number from 1 to 3, not 4"),
        (X, Y, True, "k must be a whole number"),
    ],
)
def test_bad_input_is_named(features, labels, k, message):
    with pytest.raises(ValueError, match=message):
        frequency_histogram(features, labels, 2, k)


def test_ranking_refuses_what_it_cannot_rank():
    statistics = class_statistics(X, Y, 3, 2)
    with pytest.raises(
        ValueError, match=r"classes without images .*\(1 of 3: 2\); .*without_empty"
    ):
        influential_filters(statistics, 1)
    whole = class_statistics(X, Y, 2, 2)
    with pytest.raises(ValueError, match="from 1 to 2, not 3"):
        influential_filters(whole, 3)
    with pytest.raises(ValueError, match=r"between 0 and 1, not 1\.5"):
        influential_filters(whole, 1.5)
    with pytest.raises(ValueError, match="non-negative"):
        response_mass(X - 1)
    with pytest.raises(ValueError, match="fraction"):
        features_for_mass(X, 0.0)


def test_membership_refuses_bad_subsets():
    assert membership([torch.tensor([2, 0])], 3).tolist() == [[True, False, True]]
    with pytest.raises(ValueError, match=r"class 1: filters must lie in 0\.\.2"):
        membership([torch.tensor([0]), torch.tensor([3])], 3)
    with pytest.raises(ValueError, match="listed twice"):
        membership([torch.tensor([1, 1])], 3)


def test_resampled_filters_are_those_of_the_resampled_images():
    generator = torch.Generator().manual_seed(3)
    features, labels = torch.rand(40, 7, generator=generator), torch.arange(40) % 2
    (filters,) = resampled_filters(features, labels, 2, 3, draws=1, seed=5)
    rng = np.random.default_rng(5)
    rows = []
    for c in range(2):
        images = (labels == c).nonzero().flatten()
        times = rng.multinomial(len(images), np.full(len(images), 1 / len(images)), size=1)[0]
        rows.append(images.repeat_interleave(torch.from_numpy(times)))
    rows = torch.cat(rows)
    expected = influential_filters(class_statistics(features[rows], labels[rows], 2, 3), 3)
    assert [one.tolist() for one in filters] == [one.tolist() for one in expected]


def test_resampling_one_image_a_class_changes_nothing():
    features = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 5.0]])
    for filters in resampled_filters(features, torch.tensor([0, 1]), 2, 2, draws=5):
        assert [one.tolist() for one in filters] == [[0, 2], [2, 0]]
    with pytest.raises(ValueError, match="class 1 has no images"):
        resampled_filters(features, torch.tensor([0, 0]), 2, 2)
    with pytest.raises(ValueError, match="k must be a whole number"):
        resampled_filters(features, torch.tensor([0, 1]), 2, 4)


def same(a, b):
    """All counts and sums equal, to the last bit."""
    for name in ("histogram", "images", "whole", "fraction"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    return a.ks == b.ks


@settings(max_examples=100, deadline=None)
@given(labelled_features(), st.data())
def test_compiled_counting_equals_the_torch_path(data, more):
    """Ties, dead filters, images of very different strength, negative values and both zeros."""
    features, labels, c = data
    scale = torch.tensor(
        more.draw(st.lists(st.sampled_from([1.0, -1.0, -1e-9, 8e3, 1e5]), min_size=1))
    )
    features = features * scale.repeat(len(features))[: len(features), None]
    ks = sorted(more.draw(st.sets(st.integers(1, features.shape[1]), min_size=1)))
    plain = class_statistics(features, labels, c, ks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "COMPILED_FROM", 0)
        patch.setattr(ranking, "COMPILED_FROM", 0)
        assert same(class_statistics(features, labels, c, ks), plain)
        compiled = [subsets_with_dense_rows(plain, k) for k in ks]
    assert [list(map(list, s)) for s in compiled] == [
        list(map(list, subsets_with_dense_rows(plain, k))) for k in ks
    ]


def test_compiled_counting_on_a_large_problem_with_threads():
    """Wide enough for thresholds, with images that have fewer responses than k."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(9000, 512, generator=generator).sub_(0.3).relu_()
    features *= torch.logspace(-3, 3, 9000)[torch.randperm(9000, generator=generator), None]
    features[::7, 20:] = 0
    labels = torch.randint(30, (9000,), generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = class_statistics(features, labels, 31, [5, 40])
    finally:
        torch.set_num_threads(threads)
    assert same(found, class_statistics(features.double(), labels, 31, [5, 40]))  # the torch path
    columns = class_statistics(features.T.contiguous().T, labels, 31, [5, 40])
    assert same(found, columns)


@pytest.mark.parametrize("scale", [1.0, -1.0, 1e4])
def test_compiled_counting_of_features_of_either_sign(scale):
    """Totals near or below zero set no threshold; an endless search would hang here."""
    generator = torch.Generator().manual_seed(0)
    features = scale * torch.randn(1100, 2048, generator=generator)
    features[::3] = features[::3].abs()
    labels = torch.arange(1100) % 5
    found = class_statistics(features, labels, 5, [50])
    assert torch.equal(
        found.histogram, class_statistics(features.double(), labels, 5, [50]).histogram
    )


@settings(max_examples=50, deadline=None)
@given(labelled_features(), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_batches_on_a_grid_equal_the_whole(data, sizes):
    features, labels, c = data
    num_filters = features.shape[1]
    ks = range(1, num_filters + 1, 2)
    whole = class_statistics(features, labels, c, ks)
    streamed = ClassStatistics.empty(c, num_filters, ks)
    start = 0
    for size in sizes * (len(features) // sum(sizes) + 1):
        batch = slice(start, start := start + size)
        streamed.update(features[batch], labels[batch])
    assert same(streamed, whole)
    every = class_statistics(features, labels, c, num_filters)
    assert torch.equal(every.histogram[::2], whole.histogram)


def test_statistics_do_not_grow_with_the_images():
    statistics = ClassStatistics.empty(2, 3, [1, 3])
    sizes = [t.numel() for t in vars(statistics).values() if isinstance(t, torch.Tensor)]
    for _ in range(3):
        assert statistics.update(X, Y) is statistics
    assert sizes == [t.numel() for t in vars(statistics).values() if isinstance(t, torch.Tensor)]
    assert statistics.images.tolist() == [6, 6]


def test_grids_are_checked():
    statistics = class_statistics(X, Y, 2, [3, 1])
    assert statistics.ks == (1, 3)
    with pytest.raises(ValueError, match=r"k = 2 was not counted; choose from \(1, 3\)"):
        influential_filters(statistics, 2)
    for bad in ([], [0, 1], [1, 4], [True]):
        with pytest.raises(ValueError, match="k must be a whole number from 1 to 3"):
            class_statistics(X, Y, 2, bad)
    with pytest.raises(ValueError, match="statistics of 3 filters cannot count 2 features"):
        statistics.update(X[:, :2], Y)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_streams_the_same_statistics():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(9000, 512, generator=generator).sub_(0.3).relu_()
    labels = torch.randint(30, (9000,), generator=generator)
    cpu = class_statistics(features, labels, 30, [5, 40])
    gpu = ClassStatistics.empty(30, 512, [5, 40], device="cuda")
    for x, y in zip(features.split(1000), labels.split(1000), strict=True):
        gpu.update(x, y)
    for name in ("histogram", "images", "totals"):
        assert torch.equal(getattr(cpu, name), getattr(gpu, name).cpu()), name
    for k in (5, 40):
        pairs = zip(influential_filters(cpu, k), influential_filters(gpu, k), strict=True)
        assert all(torch.equal(a, b.cpu()) for a, b in pairs)
