"""Compiled loops for large problems on the CPU; the torch paths of their callers are the reference.

Imported only where it is used, because numba takes half a second to import.  The machine code is
kept on disk, so that only the first run ever compiles it (a few seconds).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from numba import njit
from torch import Tensor

PER_THREAD = 2**22  # multiplications or features that repay the start of a thread
KEEP_MORE = 1.25  # times k_max candidates, at which the next image's threshold is set
FEW = 6  # images below which the sparse head goes image by image
IMAGES, TILE = 32, 16  # of a block in the sparse head: its features fit the second-level cache


def _in_threads(kernel: Callable, bounds: np.ndarray, *arguments: np.ndarray) -> None:
    """Run kernel(first, last, ...) between consecutive bounds, a thread each: no GIL is held."""
    if len(bounds) == 2:
        return kernel(*bounds, *arguments)
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        list(pool.map(lambda part: kernel(*part, *arguments), pairwise(bounds)))


def count_images(features: Tensor, labels: Tensor, statistics, scale: float) -> None:
    """Add images to the histogram, sums and squares of `ClassStatistics`, in place.

    features: [N, D] float32, labels: [N] int64, both on the CPU; fractions are kept in 1/scale.
    The images are visited class by class, so that the counts of one class stay in the cache and
    threads share no class.
    """
    num_classes, k_max = len(statistics.images), statistics.k_max
    x, y = features.detach().contiguous().numpy(), labels.numpy()
    order = np.argsort(y, kind="stable")
    starts = np.searchsorted(y[order], np.arange(num_classes + 1))
    step = np.searchsorted(statistics.ks, np.arange(1, k_max + 1))  # grid step of each rank
    threads = min(torch.get_num_threads(), 1 + x.size // PER_THREAD)
    bounds = np.searchsorted(starts, np.linspace(0, len(y), threads + 1))
    bounds[0], bounds[-1] = 0, num_classes
    sums = (statistics.histogram, statistics.whole, statistics.fraction, statistics.squares)
    arrays = (tensor.numpy() for tensor in sums)
    _in_threads(_count_classes, bounds, x, x.view(np.int32), order, starts, step, scale, *arrays)


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _total(x):
    """A quick sum in any order, for thresholds that need not be exact."""
    total = np.float32(0)
    for j in range(len(x)):
        total += x[j]
    return total


@njit(cache=True, nogil=True)
def _count_classes(
    first, last, features, bits, order, starts, step, scale, histogram, whole, fraction, squares
):
    """Classes first..last-1; bits: the features' bit patterns, [N, D] int32."""
    num_steps, _, num_filters = histogram.shape
    k_max = len(step)
    near = np.empty(num_filters + 1, np.int64)  # filters at or above the threshold
    keys = np.empty(num_filters, np.int64)
    at_step = np.empty((num_steps, num_filters), np.int32)
    share = 0.0  # of an image's total, at which its threshold is first tried
    for c in range(first, last):
        if starts[c] == starts[c + 1]:
            continue
        at_step[:] = 0
        for n in order[starts[c] : starts[c + 1]]:
            x = features[n]
            for j in range(num_filters):
                value = np.float64(x[j])
                integer = np.floor(value)
                whole[c, j] += np.int64(integer)
                fraction[c, j] += np.int64(np.rint((value - integer) * scale))
                squares[c, j] += value * value
            # The last image's share mostly fits; lower the threshold until k_max features reach it
            threshold = share * _total(x)
            while True:
                count = 0
                for j in range(num_filters):  # without a branch to mispredict
                    near[count] = j
                    count += x[j] >= threshold
                if count >= k_max:
                    break
                threshold = 0.8 * threshold if threshold > 1e-30 else -np.inf
            # One integer orders by larger feature, then lower index: a float32's bits, with the
            # negative ones turned round and -0.0 made 0.0, are in its order
            for i in range(count):
                bit = np.int64(bits[n, near[i]])
                if bit < 0:
                    bit = -(bit & 0x7FFFFFFF)
                keys[i] = (-bit << 32) + near[i]
            keys[:count].sort()
            for rank in range(k_max):
                at_step[step[rank], keys[rank] & 0xFFFFFFFF] += 1
            if 2 * k_max < num_filters:
                lowest = x[keys[min(count, int(KEEP_MORE * k_max)) - 1] & 0xFFFFFFFF]
                share = lowest / max(_total(x), np.float32(1e-30))
        for j in range(num_filters):
            so_far = 0
            for s in range(num_steps):
                so_far += at_step[s, j]
                histogram[s, c, j] += so_far


def sparse_logits(
    x: Tensor, starts: Tensor, columns: Tensor, values: Tensor, bias: Tensor
) -> Tensor:
    """`[N, C] float32`: x W^T + b for a W in compressed sparse rows, without gradients.

    x: [N, D] float32; W: starts [C + 1] int32, columns and values [nnz]; all on the CPU.
    """
    tensors = (x.detach().contiguous(), starts, columns, values.detach(), bias.detach())
    logits = np.empty((len(x), len(bias)), np.float32)
    arrays = (*(tensor.numpy() for tensor in tensors), logits)
    if len(x) < FEW:
        _few_logits(*arrays)
        return torch.from_numpy(logits)
    threads = min(torch.get_num_threads(), 1 + len(x) * len(values) // PER_THREAD)
    blocks = -(-len(x) // IMAGES)
    bounds = np.linspace(0, blocks, min(threads, blocks) + 1).astype(np.int64)
    _in_threads(_tiled_logits, bounds, *arrays)
    return torch.from_numpy(logits)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _few_logits(x, starts, columns, values, bias, logits):
    """Image by image.  Unsigned indices spare the check for negative ones, here and below."""
    for n in range(len(x)):
        row = x[n]
        for c in range(len(bias)):
            total = np.float32(0)
            for i in range(np.uint64(starts[c]), np.uint64(starts[c + 1])):
                total += values[i] * row[np.uint64(columns[i])]
            logits[n, c] = total + bias[c]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _tiled_logits(first, last, x, starts, columns, values, bias, logits):
    """Blocks first..last-1 of IMAGES rows: each weight is read once for all images of a block."""
    num_classes, num_filters = len(bias), x.shape[1]
    xt = np.zeros((num_filters, IMAGES), np.float32)  # the block's features, transposed
    tile = np.empty((TILE, IMAGES), np.float32)  # its logits, [class, image]
    for start in range(first * IMAGES, last * IMAGES, IMAGES):
        size = min(IMAGES, len(x) - start)
        for j0 in range(0, num_filters, TILE):
            for n in range(size):
                for j in range(j0, min(j0 + TILE, num_filters)):
                    xt[j, n] = x[start + n, j]
        for c0 in range(0, num_classes, TILE):
            classes = min(TILE, num_classes - c0)
            for k in range(classes):
                total = tile[k]
                total[:] = bias[c0 + k]
                i, end = np.uint64(starts[c0 + k]), np.uint64(starts[c0 + k + 1])
                while i + np.uint64(4) <= end:  # four weights for one load and store of the sums
                    j = columns[i : i + np.uint64(4)]
                    w = values[i : i + np.uint64(4)]
                    a, b, c, d = np.uint32(j[0]), np.uint32(j[1]), np.uint32(j[2]), np.uint32(j[3])
                    for n in range(IMAGES):
                        total[n] += (
                            w[0] * xt[a, n] + w[1] * xt[b, n] + w[2] * xt[c, n] + w[3] * xt[d, n]
                        )
                    i += np.uint64(4)
                while i < end:
                    a = np.uint32(columns[i])
                    for n in range(IMAGES):
                        total[n] += values[i] * xt[a, n]
                    i += np.uint64(1)
            for n in range(size):
                for k in range(classes):
                    logits[start + n, c0 + k] = tile[k, n]
