"""Compiled counting and ranking for large problems on the CPU, equal to the plain ones.

`ClassStatistics._count` and `order.rank_filters` are the reference.
Imported only where it is used, because numba takes half a second to import.  The machine code is
kept on disk, so that only the first run ever compiles it (a few seconds).
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise

import numpy as np
import torch
from numba import njit
from torch import Tensor

from paperlib.filters.sums import FRACTION_BITS

UNIT = 2.0**FRACTION_BITS
COUNTED_PER_THREAD = 2**19  # features that repay the start of a thread
RANKED_AT_ONCE = 64  # images, so that their candidates fit the second-level cache
SLACK = 0.9  # of the last images' k_max-th feature: the next ones' threshold ...
TRIES = 8  # ... and how often it may be lowered before all features are sorted


def count_images(features: Tensor, labels: Tensor, statistics) -> None:
    """Add images to the histogram and the sums of `ClassStatistics`, in place.

    features: [N, D] float32 below 2**16 in size, labels: [N] int64, both on the CPU.
    The images are visited class by class, so that the counts of one class stay in the cache and
    threads share no class.
    """
    num_classes, k_max = len(statistics.images), statistics.k_max
    x, y = features.detach().contiguous().numpy(), labels.numpy()
    order = np.argsort(y, kind="stable")
    starts = np.searchsorted(y[order], np.arange(num_classes + 1))
    step = np.searchsorted(statistics.ks, np.arange(1, k_max + 1))  # grid step of each rank
    threads = min(torch.get_num_threads(), 1 + x.size // COUNTED_PER_THREAD)
    bounds = np.searchsorted(starts, np.linspace(0, len(y), threads + 1))
    bounds[0], bounds[-1] = 0, num_classes
    histogram = statistics.histogram.numpy()
    sums = (tensor.numpy() for tensor in (statistics.whole, statistics.fraction))
    data = (x, order, starts, step, histogram, *sums)
    with ThreadPoolExecutor(threads) as pool:  # compiled code and NumPy's sort release the GIL
        list(pool.map(lambda part: _count_classes(*part, *data), pairwise(bounds)))


def _count_classes(first, last, x, order, starts, step, histogram, whole, fraction):
    """Classes first..last-1, some images at a time: pick candidates, sort them, count."""
    keys = np.empty((RANKED_AT_ONCE, x.shape[1]), np.int64)
    copies = np.empty((RANKED_AT_ONCE, x.shape[1]), np.float32)
    totals = np.empty(RANKED_AT_ONCE, np.float32)
    share = 0.0  # of an image's total, at which its threshold is first tried; 0 for none
    for c in (c for c in range(first, last) if starts[c] < starts[c + 1]):
        at_step = np.zeros_like(histogram[:, c])
        for start in range(starts[c], starts[c + 1], RANKED_AT_ONCE):
            images = order[start : min(start + RANKED_AT_ONCE, starts[c + 1])]
            # Copies in the cache, because the first look at a scattered row waits for the memory
            rows = np.take(x, images, axis=0, out=copies[: len(images)], mode="clip")
            sums = whole[c], fraction[c]
            width = _candidates(rows, rows.view(np.int32), len(step), share, keys, totals, *sums)
            near = keys[: len(rows), :width]
            near.sort(axis=1)  # NumPy's sort uses the vector unit
            share = _count(rows, near, totals, step, at_step)
        for k, counted in enumerate(accumulate(at_step, np.add)):  # faster than cumsum
            histogram[k, c] += counted


def rank_counts(counts: Tensor, whole: Tensor, fraction: Tensor, k: int) -> Tensor:
    """`[R, k] int64`: what `order.rank_filters` chooses by `totals_of(whole, fraction)`.

    counts: [R, D] int32, not negative; whole, fraction: [R, D] int64; all on the CPU.
    """
    chosen = np.empty((len(counts), k), np.int64)
    arrays = (tensor.contiguous().numpy() for tensor in (counts, whole, fraction))
    data = [*arrays, chosen]
    threads = min(torch.get_num_threads(), 1 + counts.numel() // COUNTED_PER_THREAD)
    bounds = np.linspace(0, len(chosen), threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: _rank(*part, *data), pairwise(bounds)))
    return torch.from_numpy(chosen)


@njit(cache=True, nogil=True)
def _rank(first, last, counts, whole, fraction, chosen):
    """Rows first..last-1: two stable sorts, by total and then by count, of what can be chosen."""
    num_filters, k = counts.shape[1], chosen.shape[1]
    for r in range(first, last):
        place = np.zeros(counts[r].max() + 1, np.int64)  # first filters with each count, then ...
        for j in range(num_filters):
            place[counts[r, j]] += 1
        least, reach = len(place), 0
        while reach < k:  # ... the place of the next filter with that count
            least -= 1
            place[least], reach = reach, reach + place[least]
        near = np.empty(reach, np.int64)
        i = 0
        for j in range(num_filters):
            if counts[r, j] >= least:
                near[i] = j
                i += 1
        totals = whole[r][near].astype(np.float64) + fraction[r][near] / UNIT
        for i in np.argsort(-totals, kind="mergesort"):
            at = place[counts[r, near[i]]]
            place[counts[r, near[i]]] += 1
            if at < k:
                chosen[r, at] = near[i]


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _add(x, fraction):
    """Add an image to a class's sums; returns its total, in any order, for a threshold."""
    total = np.float32(0)
    for j in range(len(x)):
        total += x[j]
        fraction[j] += np.int64(np.rint(np.float64(x[j]) * UNIT))
    return total


@njit(cache=True, nogil=True)
def _candidates(rows, bits, k_max, share, keys, totals, whole, fraction):
    """Add images of one class to its sums; their strongest filters to `keys`, at least k_max each.

    rows: [n, D] float32, bits: the same as int32; totals: [n], filled with the images' totals.
    Returns the most candidates of an image, up to which the others' rows are filled with a key
    that sorts last.
    """
    num_filters = rows.shape[1]
    near = np.empty(num_filters + 1, np.int64)  # filters at or above the threshold
    found = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        x = rows[i]
        totals[i] = _add(x, fraction)
        tries, threshold = 0, np.float32(share * totals[i])
        while True:  # lower the threshold until k_max features reach it
            tries += 1
            if share == 0 or tries > TRIES or not np.isfinite(threshold):
                threshold = np.float32(-np.inf)
            count = 0
            for j in range(num_filters):  # without a branch to mispredict
                near[count] = j
                count += x[j] >= threshold
            if count >= k_max:
                break
            threshold *= np.float32(0.8)
        # One integer orders by larger feature, then lower index: a float32's bits, with the
        # negative ones turned round and -0.0 made 0.0, are in its order
        for rank in range(count):
            bit = np.int64(bits[i, near[rank]])
            if bit < 0:
                bit = -(bit & 0x7FFFFFFF)
            keys[i, rank] = (-bit << 32) + near[rank]
        found[i] = count
    for j in range(num_filters):
        carry = fraction[j] >> FRACTION_BITS
        whole[j] += carry
        fraction[j] -= carry << FRACTION_BITS
    width = found.max()
    for i in range(len(rows)):
        keys[i, found[i] : width] = np.iinfo(np.int64).max
    return width


@njit(cache=True, nogil=True)
def _count(rows, keys, totals, step, at_step):
    """Count sorted keys at their rank's grid step; returns the share for the next threshold."""
    k_max, num_filters = len(step), rows.shape[1]
    for i in range(len(rows)):
        for rank in range(k_max):
            at_step[step[rank], keys[i, rank] & 0xFFFFFFFF] += 1
    if 2 * k_max >= num_filters:
        return 0.0  # most filters are wanted: no threshold is worth its search
    share = 0.0
    for i in range(len(rows)):
        lowest = rows[i, keys[i, k_max - 1] & 0xFFFFFFFF]
        if lowest <= 0 or totals[i] <= 0:
            return 0.0  # features of either sign: shares of their sum mean nothing
        share += np.float64(lowest) / totals[i]
    return SLACK * share / len(rows)
