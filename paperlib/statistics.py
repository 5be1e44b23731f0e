"""Intervals: how much a figure would move on another sample of images."""

from typing import NamedTuple

import numpy as np

DRAWS_AT_ONCE = 100


class Interval(NamedTuple):
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


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
