"""Three ways to mend a decomposed head from features alone: mean fill, least squares, softmax."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from paperlib.filters.sums import added, column_means
from paperlib.filters.tensors import (
    Subsets,
    check_features,
    largest_feature,
    membership,
    row_chunks,
    subset_tensors,
)
from paperlib.heads.decomposed import DecomposedHead, check_head

SMALL_PROBLEM = 2**24  # N * D below which one thread is fastest, and float64 affordable
ROWS_AT_ONCE = 8192  # images whose loss is summed at once: bounds the memory of a fit
SOLVED_AT_ONCE = 2**22  # entries of the linear systems that are solved together
HISTORY = 30  # gradients that L-BFGS remembers
FLAT = 1e-4  # largest slope of the loss at which a fit counts as converged
ORDINARY = 2.0**7  # features spread more, or less than its inverse, are brought to unit size first


def _check_fit(weight: Tensor, bias: Tensor, features: Tensor) -> None:
    check_head(weight, bias)
    if features.ndim != 2 or features.shape[1] != weight.shape[1] or not len(features):
        raise ValueError(
            f"features must be [N, {weight.shape[1]}] with N above 0, got {list(features.shape)}"
        )
    largest_feature(features)


def mean_fill(weight: Tensor, bias: Tensor, subsets: Subsets, features: Tensor) -> DecomposedHead:
    """Stand in for every omitted feature with its mean over the train images.

    b'_c = b_c + sum_{j not in I_c} W[c, j] mean(x_j)

    A constant per class, folded into the bias.  features: [N, D] float, the train split.  Raises
    ValueError for features or a head that are not finite or do not fit.
    """
    _check_fit(weight, bias, features)
    omitted = weight * ~membership(subsets, weight.shape[1]).to(weight.device)
    means = column_means(features)
    return DecomposedHead(weight, bias + (omitted.double() @ means).to(bias.dtype), subsets)


def least_squares_refit(
    weight: Tensor, bias: Tensor, subsets: Subsets, features: Tensor
) -> DecomposedHead:
    """Refit each class's k weights and bias to the dense logits of the train images.

    min over (w, b) of sum_n (b + sum_{j in I_c} w_j x_nj - logit_nc)^2

    features: [N, D] float, the train split.  With z = [x - mean, 1] and G = z^T z, class c solves
    G[I, I] v = G[I, :] [W_c, b_c + W_c mean], so the cost in memory is D^2 whatever N; classes
    with subsets of one size are solved together.  Raises ValueError as `mean_fill` does.
    """
    _check_fit(weight, bias, features)
    member = membership(subsets, weight.shape[1], len(weight)).to(weight.device)
    subsets, mean = subset_tensors(subsets), column_means(features)
    chunks = row_chunks(features)
    padded = (F.pad(x.double() - mean, (0, 1), value=1.0) for (x,) in chunks)  # [n, D + 1]
    gram = added(z.T @ z for z in padded)
    centred = bias.double() + weight.double() @ mean
    dense = torch.cat([weight.double(), centred[:, None]], dim=1)  # [C, D + 1]
    aims = dense @ gram  # [C, D + 1]
    intercept = torch.tensor([weight.shape[1]], device=weight.device)
    refitted = dense.clone()
    for classes in _alike(subsets):
        kept = torch.stack([torch.cat([subsets[c].to(intercept), intercept]) for c in classes])
        rows = torch.tensor(classes, device=weight.device)[:, None]
        # pinv, because a filter that is dead on the train images makes the system singular
        inverse = torch.linalg.pinv(gram[kept[:, :, None], kept[:, None, :]], hermitian=True)
        refitted[rows, kept] = (inverse @ aims[rows, kept][:, :, None])[:, :, 0]
    values = refitted[:, :-1] * member
    intercepts = refitted[:, -1] - values @ mean
    return DecomposedHead(values.to(weight.dtype), intercepts.to(bias.dtype), subsets)


def _alike(subsets: Subsets) -> Iterator[list[int]]:
    """Classes with subsets of one size, as many at a time as the memory of a pass allows."""
    by_size: dict[int, list[int]] = {}
    for c, chosen in enumerate(subsets):
        by_size.setdefault(len(chosen), []).append(c)
    for size, classes in by_size.items():
        at_once = max(1, SOLVED_AT_ONCE // (size + 1) ** 2)
        yield from (classes[i : i + at_once] for i in range(0, len(classes), at_once))


@contextmanager
def _threads_for(size: int) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if size < SMALL_PROBLEM else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _unit(blocks: list[tuple[Tensor, Tensor]], number: int) -> float:
    """The power of two to fit centred features in: 1 unless they are far from unit size.

    Slopes are measured against it.  Of a feature in the hundred-thousandths every slope is small.
    """
    squares = added(x.double().square().sum(dim=1) for x, _ in blocks)
    spread = math.sqrt(max(squares.tolist(), default=0.0) / number)
    ordinary = spread == 0 or 1 / ORDINARY < spread < ORDINARY
    return 1.0 if ordinary else 2.0 ** round(math.log2(spread))


def _set(head: DecomposedHead, flat: np.ndarray) -> None:
    """Give a head its kept weights and biases, in this order."""
    weights = len(head.values)
    head.values.copy_(torch.from_numpy(flat[:weights]))
    head.bias.copy_(torch.from_numpy(flat[weights:]))


@torch.no_grad()
def softmax_refit(
    weight: Tensor,
    bias: Tensor,
    subsets: Subsets,
    features: Tensor,
    labels: Tensor,
    *,
    l2: float = 1e-3,
    max_iterations: int = 100,
) -> DecomposedHead:
    """Refit each class's k weights and bias by the decomposed softmax on the train images.

    min over (w, b) of mean_n -log softmax(decomposed logits_n)[y_n] + l2 / 2 * |w|^2

    Convex; L-BFGS from the given weights, with a warning where `max_iterations` end it early.
    features: [N, D] float, labels: [N] int64, the train split.  The network itself stays untouched,
    no image is needed; the head can be trained on.  Classes without images keep their weights.
    Images pass in blocks: memory holds the features twice and a block of logits.  Weights and sums
    are float64, products too unless N * D is large.  Raises ValueError on bad shapes, labels or
    subsets, and for a negative l2.  Source: the paper's decomposed softmax, arXiv 2112.07719,
    which its authors minimise over the whole network.
    """
    head, slope = fit_by_softmax(
        weight, bias, subsets, features, labels, l2=l2, max_iterations=max_iterations
    )
    if slope > FLAT:
        warnings.warn(
            f"the softmax refit has not converged in {max_iterations} iterations: a slope of "
            f"{slope:.1e} is left; raise max_iterations",
            stacklevel=2,
        )
    return head


@torch.no_grad()
def fit_by_softmax(
    weight: Tensor,
    bias: Tensor,
    subsets: Subsets,
    features: Tensor,
    labels: Tensor,
    *,
    l2: float,
    max_iterations: int,
) -> tuple[DecomposedHead, float]:
    """The head of `softmax_refit`, wherever its iterations end, and the largest slope left."""
    _check_fit(weight, bias, features)
    check_features(features, labels, len(weight))
    if not isinstance(l2, Real) or not l2 >= 0:
        raise ValueError(f"l2 must be a number that is not negative, got {l2!r}")
    head = DecomposedHead(weight.double(), bias.double(), subsets)
    exact = torch.float64 if features.numel() < SMALL_PROBLEM else torch.float32
    mean = column_means(features)
    used = head.columns.unique()  # the filters that some class reads
    # Centred, it takes half as many iterations; as [filter, image], softmax is twice as fast
    rows = zip(features.split(ROWS_AT_ONCE), labels.split(ROWS_AT_ONCE), strict=True)
    centre = mean[used].to(exact)
    blocks = [((x[:, used].to(exact) - centre).T.contiguous(), y) for x, y in rows]
    unit = _unit(blocks, len(labels))
    for x, _ in blocks:
        x /= unit
    head.bias += head.weight @ mean
    head.values *= unit
    penalty = l2 / unit**2
    kept = head.kept
    fitted = torch.bincount(labels, minlength=len(bias)) > 0  # classes with images

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        _set(head, flat)
        w, b = head.weight[:, used].to(exact), head.bias.to(exact)[:, None]
        loss = penalty / 2 * head.values.square().sum()
        by_weight, by_bias = torch.zeros_like(head.weight), torch.zeros_like(head.bias)
        for x, y in blocks:
            log_p = torch.addmm(b, w, x).log_softmax(dim=0)  # [C, n]
            loss -= log_p.gather(0, y[None]).sum(dtype=torch.float64) / len(labels)
            error = log_p.exp_().scatter_add_(0, y[None], -x.new_ones(1, len(y)))  # p - [y = c]
            by_weight[:, used] += error @ x.T
            by_bias += error.sum(dim=1)
        by_values = (by_weight[kept] / len(labels) + penalty * head.values) * fitted[kept[0]]
        gradient = torch.cat([by_values, by_bias / len(labels) * fitted])
        return loss.item(), gradient.cpu().numpy()

    start = torch.cat([head.values, head.bias]).cpu().numpy()
    options = {"maxiter": max_iterations, "gtol": 1e-6, "ftol": 1e-12, "maxcor": HISTORY}
    with _threads_for(features.numel()):
        found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    _set(head, found.x)
    head.values /= unit
    head.bias -= head.weight @ mean
    return head.to(weight.dtype), float(np.abs(found.jac).max())
