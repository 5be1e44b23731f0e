"""What a head costs: parameters, multiply-accumulates, and ways to compute a decomposed one."""

import warnings
from collections.abc import Callable, Mapping
from timeit import Timer
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from paperlib.filters.tensors import Subsets
from paperlib.heads.decomposed import DecomposedHead


class HeadCost(NamedTuple):
    """Numbers a head stores, and its multiply-accumulates for one image.

    `weights` and `biases` are parameters; `indices` say which feature a weight belongs to.
    Adding a bias is not counted as a multiply-accumulate.
    """

    weights: int
    biases: int
    indices: int
    macs: int

    @property
    def parameters(self) -> int:
        """Weights and biases: all that training sets."""
        return self.weights + self.biases


def head_cost(head: nn.Linear | DecomposedHead) -> HeadCost:
    """Cost of a head: C D weights and MACs if dense, sum_c |I_c| if decomposed.

    Raises TypeError for any other module.
    """
    if isinstance(head, DecomposedHead):
        kept = len(head.values)
        return HeadCost(kept, len(head.bias), kept, kept)
    if isinstance(head, nn.Linear):
        biases = 0 if head.bias is None else len(head.bias)
        return HeadCost(head.weight.numel(), biases, 0, head.weight.numel())
    raise TypeError(f"a head is nn.Linear or DecomposedHead, not {type(head).__name__}")


def multiply_accumulates(model: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image [3, H, W].

    PyTorch counts two operations for each.  The model may live on the "meta" device, where
    nothing is computed; it should be in eval mode.  Sparse products are not seen: ask `head_cost`
    of a decomposed head.
    """
    device = next(model.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *image_shape, device=device))
    return counter.get_total_flops() // 2


def head_implementations(
    weight: Tensor, bias: Tensor, subsets: Subsets
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Six ways to compute logits `[N, C]` from features `[N, D] float32`, on the CPU.

    "dense" is the full nn.Linear and does the most work; the others give the logits of
    `DecomposedHead(weight, bias, subsets)`.  "gather" is how the paper's authors compute them.
    Raises ValueError where the subsets of the classes differ in size.
    """
    if len({len(filters) for filters in subsets}) != 1:
        raise ValueError("the gather needs subsets of one size for all classes")
    weight, bias = weight.cpu(), bias.cpu()
    index = torch.stack(subsets).cpu().sort(dim=1).values  # [C, k]
    kept = weight.gather(1, index)
    starts = torch.arange(len(index) + 1) * index.shape[1]
    crow_col_values = (starts, index.flatten(), kept.flatten())
    # 32-bit indices, as SciPy chooses itself for matrices of this size
    pointers, columns, values = (part.numpy() for part in crow_col_values)
    csr = (values, columns.astype(np.int32), pointers.astype(np.int32))
    scipy_csr = scipy.sparse.csr_array(csr, weight.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        warnings.filterwarnings("ignore", "Sparse invariant checks")  # they are asked for below
        torch_csr = torch.sparse_csr_tensor(*crow_col_values, weight.shape, check_invariants=True)
    column = bias[:, None]
    return {
        "dense": lambda x: F.linear(x, weight, bias),
        "gather": lambda x: (x[:, index] * kept).sum(dim=2) + bias,
        "sparse, PyTorch": lambda x: torch.addmm(column, torch_csr, x.T).T,
        "sparse, SciPy": lambda x: torch.from_numpy((scipy_csr @ x.numpy().T).T) + bias,
        "embedding bag": lambda x: (
            (
                F.embedding_bag(index, x.T.contiguous(), mode="sum", per_sample_weights=kept)
                + column
            ).T
        ),
        "this package": DecomposedHead(weight, bias, subsets).requires_grad_(False),
    }


def interleaved_times(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = 9, seconds: float = 0.01
) -> dict[str, list[float]]:
    """Seconds a call takes, `rounds` times each; the calls take turns, so that all share a load.

    Each turn repeats the call for about `seconds`, on one thread, after a warm-up.
    """
    timers = {name: Timer(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        repeats = {n: max(1, int(seconds * 3 / timer.timeit(3))) for n, timer in timers.items()}
        for _ in range(rounds):
            for name, timer in timers.items():
                times[name].append(timer.timeit(repeats[name]) / repeats[name])
    finally:
        torch.set_num_threads(threads)
    return times
