"""Intervals with known coverage, and rank correlation against counts by hand and scipy."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paperlib.stats import (
    adjusted_r2,
    bootstrap_means,
    half_sample_draws,
    interval,
    mean_interval,
    partial_rank_correlation,
    pigeonhole_bootstrap,
    power_law_exponent,
    rank_correlation,
    smallest_within,
    spearman,
    stratified_bootstrap,
)
from reproduction.rules import proportional


def test_bootstrap_of_a_mean_has_its_standard_error():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    means = bootstrap_means(values, draws=4000)
    assert means.shape == (4000,)
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_bootstrap_rows_are_paired_seeded_and_of_any_number():
    values = np.random.default_rng(2).normal(size=(3, 50))
    shifted = np.stack([values, values + 7])
    means = bootstrap_means(shifted, draws=130, seed=4)
    assert means.shape == (130, 2, 3)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.full((130, 3), 7.0))
    assert np.array_equal(means, bootstrap_means(shifted, draws=130, seed=4))
    assert not np.array_equal(means, bootstrap_means(shifted, draws=130, seed=5))
    assert np.unique(means[:, 0, 0]).size == 130


def test_interval_is_the_middle_of_the_draws():
    assert interval(5, np.arange(101)) == pytest.approx((5.0, 2.5, 97.5))
    assert interval(5, np.arange(101), level=0.5) == pytest.approx((5.0, 25.0, 75.0))


def test_interval_of_a_constant_has_no_width():
    assert mean_interval([3.0] * 20, draws=50) == pytest.approx((3, 3, 3))


def test_mean_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    samples = [mean_interval(rng.exponential(size=60), draws=300) for _ in range(400)]
    covered = np.mean([one.low <= 1 <= one.high for one in samples])
    assert 0.89 < covered < 0.97


def test_half_samples_vary_as_the_whole_sample_does():
    values = np.random.default_rng(3).normal(size=1000)
    draws = half_sample_draws(lambda rows: values[rows].mean(), 1000, draws=2000)
    assert draws.mean() == pytest.approx(values.mean())
    assert draws.std() == pytest.approx(values.std() / 1000**0.5, rel=0.06)


def test_half_samples_hold_no_image_twice_and_are_seeded():
    seen = []

    def estimate(rows):
        seen.append(rows)
        return rows.sum()

    first = half_sample_draws(estimate, 11, draws=6, seed=1)
    assert sorted(map(len, seen)) == [5] * 6 + [11]
    assert all(np.unique(rows).size == len(rows) for rows in seen)
    assert np.array_equal(first, half_sample_draws(estimate, 11, draws=6, seed=1))


def test_half_samples_keep_the_bias_of_half_the_images_out():
    """The largest value grows with the sample; the draws stay around the whole sample's."""
    values = np.random.default_rng(5).random(200)
    draws = half_sample_draws(lambda rows: values[rows].max(), 200)
    assert draws.mean() == pytest.approx(values.max())


def test_half_samples_of_two_figures_are_those_of_each():
    values = np.random.default_rng(7).random(50)
    both = half_sample_draws(lambda rows: (values[rows].mean(), values[rows].max()), 50, draws=8)
    each = [
        half_sample_draws(f, 50, draws=8)
        for f in (lambda r: values[r].mean(), lambda r: values[r].max())
    ]
    assert np.array_equal(both, np.stack(each, axis=1))


numbers = st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.5, 7.0]), min_size=3, max_size=6)


@settings(max_examples=60, deadline=None)
@given(numbers, st.randoms(use_true_random=False))
def test_rank_correlation_equals_brute_force(x, random):
    y = random.sample(x, len(x))
    found = rank_correlation(x, y)
    if len(set(x)) == 1:
        assert found == (0.0, 1.0)
        return
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    a, b = (stats.zscore(stats.rankdata(v)) for v in (x, y))
    orders = [abs(np.mean(a * order)) for order in permutations(b)]
    assert found.p == pytest.approx(np.mean(np.array(orders) >= abs(found.rho) - 1e-9))


def test_perfect_order_of_four_is_never_significant():
    assert rank_correlation([20, 32, 44, 56], [4, 3, 2, 1]) == pytest.approx((-1, 2 / 24))
    assert rank_correlation([1, 2, 3, 4, 5], [1, 4, 9, 16, 25]) == pytest.approx((1, 2 / 120))


def test_published_example_of_spearman_with_ties_and_constants():
    assert spearman([1, 2, 3, 4], [9, 7, 12, 7]) == pytest.approx(-0.2108185)
    table = spearman([1, 2, 3], [[3, 4, 5], [5, 4, 3], [6, 6, 6]])
    assert table.tolist() == pytest.approx([1, -1, 0])


def test_many_values_use_random_orders():
    rng = np.random.default_rng(6)
    x = np.arange(12.0)
    assert rank_correlation(x, x, draws=999).p == pytest.approx(1 / 1000)
    y = x + rng.normal(0, 5, size=12)
    ours, theirs = rank_correlation(x, y), stats.spearmanr(x, y)
    assert ours.rho == pytest.approx(theirs.statistic)
    assert ours.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert ours == rank_correlation(x, y)


def test_power_laws_are_recovered():
    depths = np.array([20, 32, 44, 56, 110])
    assert power_law_exponent(depths, 3 * depths) == pytest.approx((1, 1, 1), abs=1e-6)
    assert power_law_exponent(depths, 7 / depths**2) == pytest.approx((-2, -2, -2), abs=1e-6)
    assert power_law_exponent(depths, [64] * 5) == pytest.approx((0, 0, 0))


def test_the_exponent_interval_is_that_of_a_regression():
    depths, sizes = [20, 32, 44, 56], [9, 7, 12, 7]
    fit = stats.linregress(np.log(depths), np.log(sizes))
    reach = 4.302653 * fit.stderr  # t of 2 degrees of freedom
    expected = (fit.slope, fit.slope - reach, fit.slope + reach)
    assert power_law_exponent(depths, sizes) == pytest.approx(expected, rel=1e-6)


def test_the_exponent_interval_covers_the_truth_for_few_networks():
    rng, depths = np.random.default_rng(8), np.array([20, 32, 44, 56])
    noisy = depths**0.5 * np.exp(rng.normal(0, 0.1, size=(500, 4)))
    found = [power_law_exponent(depths, row) for row in noisy]
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((0.9, 0.5, 1.3), "reproduced"),
        ((0.3, 0.1, 0.5), "partly"),
        ((1.5, 1.1, 1.9), "partly"),
        ((0.1, -0.2, 0.4), "not reproduced"),
        ((-0.5, -0.9, -0.1), "not reproduced"),
        ((0.0, 0.0, 0.0), "not reproduced"),
        ((0.9, -0.1, 1.9), "not testable here"),
    ],
)
def test_the_rule_that_reads_an_exponent(found, verdict):
    assert proportional().decide(*found) == verdict


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: half_sample_draws(len, 3), "at least 4 images, got 3"),
        (lambda: rank_correlation([1, 2], [1, 2]), "n at least 3"),
        (lambda: rank_correlation([1, 2, 3], [1, 2]), r"got \(3,\), \(2,\)"),
        (lambda: power_law_exponent([1, 2], [1, 2]), "at least 3 points"),
        (lambda: power_law_exponent([1, 2, 3], [1, 0, 2]), "all positive"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_smallest_within_by_hand():
    assert smallest_within([10, 50, 91, 92, 92]) == 2
    assert smallest_within([10, 50, 91, 92, 92], tolerance=0.5) == 3
    resamples = np.array([[10, 92, 91, 92, 92], [10, 50, 60, 90, 92]])
    assert smallest_within(resamples).tolist() == [1, 4]
    assert smallest_within(resamples, [0, 1, 8, 32, 64]).tolist() == [1, 64]


def test_a_head_that_decides_nothing_needs_everything():
    assert smallest_within([10, 11, 9, 10.5]) == 3


def test_draws_over_runs_by_hand():
    """One run: its own draws.  Runs at 0 and 1, two of them drawn: 0, 1/2 or 1."""
    draws = np.arange(5.0)[:, None]
    assert pigeonhole_bootstrap(draws).tolist() == [0, 1, 2, 3, 4]
    two = pigeonhole_bootstrap(np.tile([0.0, 1.0], (20_000, 1)))
    assert set(two) == {0, 0.5, 1} and two.std() == pytest.approx(0.5 / 2**0.5, rel=0.02)
    assert np.array_equal(two, pigeonhole_bootstrap(np.tile([0.0, 1.0], (20_000, 1))))


def test_resampling_within_groups_keeps_their_sizes():
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    rows = stratified_bootstrap(groups, draws=500, seed=3)
    assert (groups[rows] == groups).all() and (rows[:, 3] == 3).all()
    assert np.array_equal(rows, stratified_bootstrap(groups, draws=500, seed=3))
    drawn = np.bincount(rows[:, [0, 2, 5]].ravel(), minlength=6)[[0, 2, 5]]
    assert np.abs(drawn / drawn.sum() - 1 / 3).max() < 0.04


def test_partial_correlation_equals_the_textbook_formula():
    """(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)) for one variable given."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=40)
    x, y = z + rng.normal(size=40), z + rng.normal(size=40)
    xy, xz, yz = spearman(x, y), spearman(x, z), spearman(y, z)
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_rank_correlation(x, y, z) == pytest.approx(expected)
    assert partial_rank_correlation(x, y, z, z) == pytest.approx(expected)


def test_nothing_is_left_where_the_given_explains_all():
    x = np.arange(12.0)
    assert partial_rank_correlation(x, x[::-1], x**3) == 0
    common = np.random.default_rng(1).normal(size=2000)
    a, b = (common + np.random.default_rng(s).normal(size=2000) for s in (2, 3))
    assert spearman(a, b) > 0.4 and abs(partial_rank_correlation(a, b, common)) < 0.05


def test_explained_share_equals_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 10)
    y = groups + rng.normal(size=30)
    inside = sum(((y[groups == g] - y[groups == g].mean()) ** 2).sum() for g in range(3))
    expected = 1 - inside / ((y - y.mean()) ** 2).sum() * 29 / 27
    assert adjusted_r2(y, groups) == pytest.approx(expected)
    assert adjusted_r2(groups.astype(float), groups) == pytest.approx(1)
    assert np.isnan(adjusted_r2(y, np.arange(30)))


def test_groups_at_random_explain_nothing_on_average():
    rng = np.random.default_rng(0)
    shares = [adjusted_r2(rng.normal(size=24), rng.integers(4, size=24)) for _ in range(300)]
    assert abs(np.mean(shares)) < 0.02
    both = [adjusted_r2(y := rng.normal(size=24), y > 0, rng.integers(3, size=24))]
    assert both[0] > 0.3
