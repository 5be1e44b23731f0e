"""Intervals: how much a figure would move on another sample of images."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from paperlib.subsets.generators import check_whole, numpy_generator

DRAWS_AT_ONCE = 100
KEPT = 4_000_000  # draws times images up to which resamples are kept, 32 MB, for the next figure
MIN_GAIN = 10.0  # points over a constant decision, below which a head decides nothing


class Interval(NamedTuple):
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


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


def interval(value: float, draws: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval of a figure from its bootstrap draws, `[B]`."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))


def mean_interval(values, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean over images with its bootstrap 95 % interval; values: [N] numbers."""
    numbers = _numbers(values)
    resampled = bootstrap_means(numbers, draws=draws, seed=seed)
    return interval(numbers.mean(), resampled)


def draws_over_runs(draws, *, seed: int = 0) -> np.ndarray:
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
    return interval(table.mean(), draws_over_runs(resampled, seed=seed))


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


def resampled_within(groups, *, draws: int = 2000, seed: int = 0) -> np.ndarray:
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
