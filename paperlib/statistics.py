"""Intervals: how much a figure would move on another sample of images, and rank correlation."""

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
from scipy import stats

DRAWS_AT_ONCE = 100
MIN_GAIN = 10.0  # points over a constant decision, below which a head decides nothing
MAX_EXACT = 8  # values whose orders (8! = 40,320) are all counted; beyond, a random sample of them


class Interval(NamedTuple):
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class RankCorrelation(NamedTuple):
    """Spearman's rho, and the two-sided permutation p of a rho at least as far from zero."""

    rho: float
    p: float


def bootstrap_means(values, *, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Means of `draws` bootstrap resamples of the images; images are the last axis.

    values: [..., N] numbers -> `[draws, ...] float64`.  All rows see the same resamples, so that
    differences between rows are paired (Efron & Tibshirani 1993, chapter 6).
    """
    table = np.asarray(values, dtype=np.float64)
    n = table.shape[-1]
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - start)
        # A resample of N images is how often each image is drawn: multinomial weights
        weights = rng.multinomial(n, np.full(n, 1 / n), size=size) / n
        means.append(np.tensordot(weights, table, axes=([1], [-1])))
    return np.concatenate(means)


def interval(value: float, draws: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval of a figure from its bootstrap draws, `[B]`."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))


def mean_interval(values, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean over images with its bootstrap 95 % interval; values: [N] numbers."""
    return interval(np.mean(np.asarray(values)), bootstrap_means(values, draws=draws, seed=seed))


def smallest_within(
    accuracy, sizes: Sequence[int] | None = None, *, tolerance: float = 1.0
) -> np.ndarray:
    """The smallest size that keeps accuracy within `tolerance` points of the largest size's.

    min {s : accuracy_s >= accuracy_S - tolerance}

    accuracy: [..., n] in percent, sizes: [n] rising (0..n - 1 if left out) -> `[...] int64`.  The
    first size stands for one constant decision, the last for all there is.  A head that beats the
    constant decision by less than `MIN_GAIN` points has no decisions to keep: it needs the last.
    """
    table = np.asarray(accuracy, dtype=np.float64)
    whole = table[..., -1:]
    # Counts of images are exact; the slack covers the rounding of their means
    smallest = np.argmax(table >= whole - tolerance - 1e-9, axis=-1)
    decides = table[..., -1] - table[..., 0] >= MIN_GAIN
    index = np.where(decides, smallest, table.shape[-1] - 1)
    return index if sizes is None else np.asarray(sizes)[index]


def half_sample_draws(
    estimate: Callable[[np.ndarray], float], n: int, *, draws: int = 50, seed: int = 0
) -> np.ndarray:
    """Spread of an estimator that a bootstrap would spoil: `[draws] float64` around its value.

    estimate(all) + estimate(half_i) - mean_i estimate(half_i)

    `estimate` maps image indices `[m] int64` to a figure.  Halves are drawn without replacement,
    because copies of an image break estimators that look at nearest neighbours.  A half varies
    by (1 - 1/2) sigma^2 / (n/2) = sigma^2 / n, as much as the whole sample does.  Raises
    ValueError for n < 4.  Source: Politis & Romano 1994, doi 10.1214/aos/1176325770.
    """
    if n < 4:
        raise ValueError(f"halves need at least 4 images, got {n}")
    rng = np.random.default_rng(seed)
    halves = [estimate(np.sort(rng.permutation(n)[: n // 2])) for _ in range(draws)]
    return estimate(np.arange(n)) + np.asarray(halves, dtype=np.float64) - np.mean(halves)


def _centred_ranks(values) -> np.ndarray:
    """Twice the ranks along the last axis, less their mean: whole numbers, also for ties."""
    table = np.asarray(values, dtype=np.float64)
    return np.rint(2 * stats.rankdata(table, axis=-1)) - (table.shape[-1] + 1)


def spearman(x, y) -> np.ndarray:
    """Spearman's rho along the last axis, ties at their mean rank; 0 where either is constant.

    rho = sum_i a_i b_i / sqrt(sum_i a_i^2 sum_i b_i^2), with a, b the centred ranks
    """
    a, b = _centred_ranks(x), _centred_ranks(y)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return (a * b).sum(axis=-1) / np.where(scale > 0, scale, 1.0)


def rank_correlation(x, y, *, draws: int = 10_000, seed: int = 0) -> RankCorrelation:
    """Spearman's rho with p = share of all n! orders of y whose |rho| is at least as large.

    x, y: [n] numbers.  Exact up to n = 8, so p is never below 2 / n!; beyond, `draws` random
    orders, p = (1 + extreme) / (1 + draws).  Raises ValueError for unequal lengths or n < 3.
    """
    if np.shape(x) != np.shape(y) or np.ndim(x) != 1 or len(x) < 3:
        raise ValueError(f"x and y must be [n], n at least 3; got {np.shape(x)}, {np.shape(y)}")
    a, b = _centred_ranks(x), _centred_ranks(y)
    if len(a) <= MAX_EXACT:
        orders = np.array(list(permutations(b)))
        known = 0  # the order of the data is among all orders
    else:
        orders = np.random.default_rng(seed).permuted(np.tile(b, (draws, 1)), axis=1)
        known = 1
    extreme = np.count_nonzero(np.abs(orders @ a) >= np.abs(b @ a))
    p = (extreme + known) / (len(orders) + known)
    return RankCorrelation(float(spearman(x, y)), float(p))


def networks_needed(rho: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Networks that a two-sided test at `alpha` needs to see a Spearman correlation of size rho.

    n = 3 + (1 + rho^2 / 2) ((z_{1 - alpha/2} + z_{power}) / atanh(rho))^2, and 2 / n! < alpha

    Raises ValueError for rho outside (0, 1).  Source: Bonett & Wright 2000,
    doi 10.1007/BF02294183.
    """
    if not 0 < abs(rho) < 1:
        raise ValueError(f"rho must lie between 0 and 1 in size, not {rho}")
    z = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    n = math.ceil(3 + (1 + rho**2 / 2) * (z / math.atanh(abs(rho))) ** 2)
    while 2 / math.factorial(n) >= alpha:
        n += 1
    return n


def power_law_exponent(x, y, level: float = 0.95) -> Interval:
    """Exponent a of y ~ x^a by least squares of log y on log x, with its t interval.

    exponent = cov(log x, log y) / var(log x): 1 where y is proportional to x, 0 where x does not
    matter.  The interval, t_{n-2} standard errors either way, counts each of the n points once.

    x, y: [n] positive numbers.  Raises ValueError for n < 3 or numbers that are not positive.
    """
    if len(x) < 3 or np.min(x) <= 0 or np.min(y) <= 0:
        raise ValueError("an exponent needs at least 3 points, all positive")
    a, b = (np.log(v) - np.log(v).mean() for v in (x, y))
    slope = (a @ b) / (a @ a)
    error = np.sqrt(np.sum((b - slope * a) ** 2) / (len(a) - 2) / (a @ a))
    reach = stats.t.ppf((1 + level) / 2, len(a) - 2) * error
    return Interval(float(slope), float(slope - reach), float(slope + reach))
