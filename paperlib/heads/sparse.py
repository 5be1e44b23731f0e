"""Compiled sparse product of a decomposed head, for a few images on the CPU.

Imported only where it is used, because numba takes half a second to import.  The machine code is
kept on disk, so that only the first run ever compiles it (a second).
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor


def sparse_logits(
    x: Tensor, starts: np.ndarray, columns: np.ndarray, values: np.ndarray, bias: np.ndarray
) -> Tensor:
    """`[N, C] float32`: x W^T + b for a W in compressed sparse rows, without gradients.

    x: [N, D] float32, few images, on the CPU; W: starts [C + 1] int32, columns and values [nnz].
    """
    logits = np.empty((len(x), len(bias)), np.float32)
    _sparse_logits(x.detach().contiguous().numpy(), starts, columns, values, bias, logits)
    return torch.from_numpy(logits)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sparse_logits(x, starts, columns, values, bias, logits):
    """Image by image.  Unsigned indices spare the check for negative ones."""
    for n in range(len(x)):
        row = x[n]
        for c in range(len(bias)):
            total = np.float32(0)
            for i in range(np.uint64(starts[c]), np.uint64(starts[c + 1])):
                total += values[i] * row[np.uint64(columns[i])]
            logits[n, c] = total + bias[c]
