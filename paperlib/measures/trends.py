"""Does one figure follow another: rank correlations, exponents, shares of the variance."""

import math
from itertools import permutations
from typing import NamedTuple

import numpy as np
from scipy import stats

from paperlib.measures.intervals import Interval
from paperlib.subsets.generators import numpy_generator

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


def explained_share(y, *factors) -> float:
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
    return Interval(float(slope), float(slope - reach), float(slope + reach))
