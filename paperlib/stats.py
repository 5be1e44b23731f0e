"""Intervals, rank correlations and exponents: how far a figure can be trusted."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple, Self

import numpy as np
from scipy import stats

from paperlib.seeds import check_whole, numpy_generator

DRAWS_AT_ONCE = 100
KEPT = 4_000_000  # draws times images up to which resamples are kept, 32 MB, for the next figure
MIN_GAIN = 10.0  # points over a constant decision, below which a head decides nothing


class _Ends(NamedTuple):
    value: float
    low: float
    high: float


class Interval(_Ends):
    """A figure `value` with the ends `low` and `high` of an interval, which `of` describes."""

    of: str

    def __new__(cls, value: float, low: float, high: float, of: str = "95 % of resamples") -> Self:
        made = super().__new__(cls, value, low, high)
        made.of = of
        return made

    def __repr__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] ({self.of})"


def _numbers(values) -> np.ndarray:
    """Numbers as float64; a tensor may lie on a GPU, learn, or be of a type unknown to NumPy."""
    held = values.detach().cpu().double() if hasattr(values, "detach") else values
    return np.asarray(held, dtype=np.float64)


def _times_drawn(n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n images is in each resample, `[<= DRAWS_AT_ONCE, n] int64` at a time."""
    rng = numpy_generator(seed)
    for start in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - start)
        yield rng.multinomial(n, np.full(n, 1 / n), size=size)


@lru_cache(maxsize=2)
def _kept_times_drawn(n: int, draws: int, seed: int) -> list[np.ndarray]:
    return list(_times_drawn(n, draws, seed))


def bootstrap_means(values, *, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Means of `draws` bootstrap resamples of the images; images are the last axis.

    values: [..., N] numbers -> `[draws, ...] float64`.  All rows see the same resamples, so that
    differences between rows are paired (Efron & Tibshirani 1993, chapter 6).  Raises ValueError
    for no values, fewer than one draw or a negative seed.
    """
    check_whole("draws", draws, 1)
    check_whole("seed", seed, 0)
    table = _numbers(values)
    n = table.shape[-1]
    if not n:
        raise ValueError("there are no values to resample")
    resamples = _kept_times_drawn if draws * n <= KEPT else _times_drawn
    # Divided last, so that a mean of equal values is that value
    means = [
        np.tensordot(times, table, axes=([1], [-1])) / n for times in resamples(n, draws, seed)
    ]
    return np.concatenate(means)


def interval(
    value: float, draws: np.ndarray, level: float = 0.95, of: str = "resamples"
) -> Interval:
    """Percentile interval of a figure from its bootstrap draws `[B]`; `of`: what was resampled."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high), f"{100 * level:.0f} % of {of}")


def mean_interval(values, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean over images with its bootstrap 95 % interval; values: [N] numbers."""
    numbers = _numbers(values)
    resampled = bootstrap_means(numbers, draws=draws, seed=seed)
    return interval(numbers.mean(), resampled, of=f"{len(numbers):,} resampled images")


def pigeonhole_bootstrap(draws, *, seed: int = 0) -> np.ndarray:
    """Means over training runs, `[B] float64`, where every draw resamples the runs as well.

    mean_i draws[b, r_i], the R runs r_i drawn with replacement for each b

    draws: [B, R], the figure of each run on each resample of its images, such as
    `bootstrap_means` gives.  What two runs share, the images, they share in each draw.
    Source: the pigeonhole bootstrap, Owen 2007, doi 10.1214/07-AOAS122.
    """
    table = np.asarray(draws, dtype=np.float64)
    runs = numpy_generator(seed).integers(table.shape[1], size=table.shape)
    return np.take_along_axis(table, runs, axis=1).mean(axis=1)


def mean_over_runs(values, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean over runs and images, whose interval resamples both; values: [R, N] numbers."""
    table = _numbers(values)
    resampled = bootstrap_means(table, draws=draws, seed=seed)
    resampled = pigeonhole_bootstrap(resampled, seed=seed)
    return interval(table.mean(), resampled, of="resampled runs and images")


def smallest_within(
    accuracy, sizes: Sequence[int] | None = None, *, tolerance: float = 1.0
) -> np.ndarray:
    """The smallest size that keeps accuracy within `tolerance` points of the largest size's.

    min {s : accuracy_s >= accuracy_S - tolerance}

    accuracy: [..., n] in percent, sizes: [n] rising (0..n - 1 if left out) -> `[...] int64`.  The
    first size stands for one constant decision, the last for all there is.  A head that beats the
    constant decision by less than `MIN_GAIN` points has no decisions to keep: it needs the last.
    """
    table = _numbers(accuracy)
    whole = table[..., -1:]
    # Counts of images are exact; the slack covers the rounding of their means
    smallest = np.argmax(table >= whole - tolerance - 1e-9, axis=-1)
    decides = table[..., -1] - table[..., 0] >= MIN_GAIN
    index = np.where(decides, smallest, table.shape[-1] - 1)
    return index if sizes is None else np.asarray(sizes)[index]


def stratified_bootstrap(groups, *, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Rows drawn with replacement within their groups: `[draws, n] int64` indices.

    groups: [n] labels.  Each group keeps its size; a group of one is drawn every time.
    Raises ValueError for fewer than one draw or a negative seed.
    """
    check_whole("draws", draws, 1)
    groups, rng = np.asarray(groups), numpy_generator(seed)
    rows = np.empty((draws, len(groups)), dtype=np.int64)
    for group in np.unique(groups):
        (members,) = np.nonzero(groups == group)
        rows[:, members] = rng.choice(members, size=(draws, len(members)))
    return rows


def half_sample_draws(
    estimate: Callable[[np.ndarray], float | Sequence[float]],
    n: int,
    *,
    draws: int = 50,
    seed: int = 0,
) -> np.ndarray:
    """Spread of an estimator that a bootstrap would spoil: `[draws, ...] float64` around its value.

    estimate(all) + estimate(half_i) - mean_i estimate(half_i)

    `estimate` maps image indices `[m] int64` to a figure, or to several at once.  Halves are drawn
    without replacement, because copies of an image break estimators that look at nearest
    neighbours.  A half varies by (1 - 1/2) sigma^2 / (n/2) = sigma^2 / n, as much as the whole
    sample does.  Raises ValueError for n < 4.
    Source: Politis & Romano 1994, doi 10.1214/aos/1176325770.
    """
    if n < 4:
        raise ValueError(f"halves need at least 4 images, got {n}")
    check_whole("draws", draws, 1)
    rng = numpy_generator(seed)
    halves = np.array([estimate(np.sort(rng.permutation(n)[: n // 2])) for _ in range(draws)])
    return np.asarray(estimate(np.arange(n))) + halves - halves.mean(axis=0)


NOTHING = 1e-12  # of the squared ranks: what rounding leaves of a residual that is zero
MAX_EXACT = 8  # values whose orders (8! = 40,320) are all counted; beyond, a random sample of them


class RankCorrelation(NamedTuple):
    """Spearman's rho, and the two-sided permutation p of a rho at least as far from zero."""

    rho: float
    p: float


def _centred_ranks(values) -> np.ndarray:
    """Twice the ranks along the last axis, less their mean: whole numbers, also for ties.

    Raises ValueError for NaN, which has no rank.
    """
    table = np.asarray(values, dtype=np.float64)
    if np.isnan(table).any():
        raise ValueError("the values to rank hold NaN")
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
    orders, p = (1 + extreme) / (1 + draws).  Raises ValueError for unequal lengths, n < 3 or NaN.
    """
    if np.shape(x) != np.shape(y) or np.ndim(x) != 1 or len(x) < 3:
        raise ValueError(f"x and y must be [n], n at least 3; got {np.shape(x)}, {np.shape(y)}")
    a, b = _centred_ranks(x), _centred_ranks(y)
    if len(a) <= MAX_EXACT:
        orders = np.array(list(permutations(b)))
        known = 0  # the order of the data is among all orders
    else:
        orders = numpy_generator(seed).permuted(np.tile(b, (draws, 1)), axis=1)
        known = 1
    extreme = np.count_nonzero(np.abs(orders @ a) >= np.abs(b @ a))
    p = (extreme + known) / (len(orders) + known)
    return RankCorrelation(float(spearman(x, y)), float(p))


def partial_rank_correlation(x, y, *given) -> float:
    """Spearman's rho of x and y once what the ranks of others tell of both is taken away.

    corr(e_x, e_y), with e the residuals of the ranks after least squares on the ranks of `given`;
    0 where nothing is left of either.  x, y and each of `given`: [n] numbers.
    """
    design = np.column_stack([_centred_ranks(values) for values in given])
    ranks = np.column_stack([_centred_ranks(x), _centred_ranks(y)])
    a, b = (ranks - design @ np.linalg.lstsq(design, ranks)[0]).T
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > NOTHING * len(a) ** 3 else 0.0


def adjusted_r2(y, *factors) -> float:
    """Share of the variance of y that groups explain, less what as many groups would by chance.

    R^2_adj = 1 - (1 - R^2) (n - 1) / (n - 1 - p), of least squares on the groups' p dummies,
    additive for several factors; about 0 or below where they explain nothing

    y: [n] numbers, each factor [n] labels.  NaN where groups are as many as values.
    """
    y = np.asarray(y, dtype=np.float64)
    dummies = [np.asarray(f)[:, None] == np.unique(f)[1:] for f in factors]
    design = np.column_stack([np.ones(len(y)), *dummies]).astype(np.float64)
    rank = np.linalg.matrix_rank(design)
    rest = np.sum((y - design @ np.linalg.lstsq(design, y)[0]) ** 2)
    total = np.sum((y - y.mean()) ** 2)
    if rank == len(y) or total == 0:
        return math.nan
    return float(1 - rest / total * (len(y) - 1) / (len(y) - rank))


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
    return Interval(
        float(slope), float(slope - reach), float(slope + reach), f"{100 * level:.0f} %, t"
    )
