"""Rankings that search: filters enter one by one or leave by halves, with refits in between.

Each returns one `[k] int64` tensor per class, in the order of entry (or of leaving, reversed), so
that a smaller k is the start of a larger one.  All use the train split only.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from paperlib.filters import scores
from paperlib.filters.sums import class_means
from paperlib.filters.tensors import Subsets, check_features, check_k, largest_filters
from paperlib.heads.decomposed import DecomposedHead
from paperlib.heads.refit import ROWS_AT_ONCE, fit_by_softmax, softmax_refit

STEPS = 10  # of L-BFGS between the rounds of backward selection
SMALLEST = 1e-12  # curvature below which a filter is dead


def _derivatives(head: DecomposedHead, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative of the decomposed softmax by every weight, `[C, D] float64`.

    g[c, j] = mean_n (p_nc - [y_n = c]) x_nj
    h[c, j] = mean_n p_nc (1 - p_nc) (x_nj - m_cj)^2, m_cj the mean of x_j under these weights:
    the bias moves along
    """
    weight, bias = head.weight.double(), head.bias.double()[:, None]
    gradient, first, second = (torch.zeros_like(weight) for _ in range(3))
    total = torch.zeros_like(bias)
    rows = zip(features.split(ROWS_AT_ONCE), labels.split(ROWS_AT_ONCE), strict=True)
    for x, y in ((x.double(), y) for x, y in rows):
        p = torch.addmm(bias, weight, x.T).softmax(dim=0)  # [C, n]
        v = p * (1 - p)
        total += v.sum(dim=1, keepdim=True)
        first += v @ x
        second += v @ x.square()
        gradient += p.scatter_add_(0, y[None], -x.new_ones(1, len(y))) @ x
    curvature = second - first.square() / total.clamp(min=SMALLEST)
    return gradient / len(features), curvature / len(features)


@torch.no_grad()
def forward_selection(
    features: Tensor, labels: Tensor, num_classes: int, k: int, *, l2: float = 1e-3
) -> Subsets:
    """Start from no filter; each round every class gains the filter that promises the most.

    gain[c, j] = g[c, j]^2 / (2 (h[c, j] + l2)): the drop in the decomposed softmax that one Newton
    step on the new weight would bring; after each round all weights are refitted.

    features: [N, D] float, labels: [N] int64 -> C tensors `[k] int64`, k refits in all.
    Raises ValueError on bad shapes, labels or k.
    """
    check_features(features, labels, num_classes)
    check_k(k, features.shape[1])
    chosen = labels.new_empty(num_classes, 0, dtype=torch.int64)
    weight = features.new_zeros(num_classes, features.shape[1], dtype=torch.float64)
    bias = weight.new_zeros(num_classes)
    for _ in range(k):
        head = softmax_refit(weight, bias, list(chosen), features, labels, l2=l2)
        weight, bias = head.weight, head.bias
        gradient, curvature = _derivatives(head, features, labels)
        gain = gradient.square() / (2 * (curvature + l2))
        best = largest_filters(gain.scatter(1, chosen, -1.0), 1)
        chosen = torch.cat([chosen, best], dim=1)
    return list(chosen)


@torch.no_grad()
def backward_selection(
    weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, k: int, *, l2: float = 1e-3
) -> Subsets:
    """Start from the full head; each round every class drops the half that it misses the least.

    loss[c, j] = W[c, j]^2 (h[c, j] + l2) / 2: the rise of the decomposed softmax, to second order,
    when a fitted weight is set to zero (LeCun et al. 1989, "Optimal brain damage").  After a round
    the weights that are left take a few steps of a refit.

    weight: [C, D] and bias: [C] of a head fitted to these features, such as the network's own;
    features: [N, D] float, labels: [N] int64 -> C tensors `[k] int64`, the last to leave first.
    Raises ValueError on bad shapes, labels or k.
    """
    check_features(features, labels, len(weight))
    check_k(k, features.shape[1])
    everything = torch.arange(features.shape[1], device=features.device)
    kept = everything.repeat(len(weight), 1)  # [C, left], any order
    left_last: list[Tensor] = []
    head = DecomposedHead(weight.double(), bias.double(), list(kept))
    while (left := kept.shape[1]) > 1:
        if left_last:  # the full head is fitted as it comes
            head, _ = fit_by_softmax(
                head.weight, head.bias, list(kept), features, labels, l2=l2, max_iterations=STEPS
            )
        _, curvature = _derivatives(head, features, labels)
        missed = (head.weight.square() * (curvature + l2) / 2).gather(1, kept)
        kept, dropped = kept.gather(1, largest_filters(missed, left)).tensor_split([left // 2], 1)
        left_last.insert(0, dropped)
    return list(torch.cat([kept, *left_last], dim=1)[:, :k])


def _means(features: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    return class_means(features, labels, len(weight))


# Rankings by name: (features [N, D], labels [N], weight [C, D], bias [C], k) -> C tensors `[k]`,
# the most important first, so that a smaller k is the start of a larger one.
RANKINGS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, int], Subsets]] = {
    "mean activation": lambda x, y, w, b, k: scores.mean_activation(_means(x, y, w), k),
    "weight magnitude": lambda x, y, w, b, k: scores.weight_magnitude(w, k),
    "|W| x std": lambda x, y, w, b, k: scores.weight_times_std(w, x, k),
    "mean contribution": lambda x, y, w, b, k: scores.mean_contribution(w, _means(x, y, w), k),
    "contrast": lambda x, y, w, b, k: scores.contrast(
        w, _means(x, y, w), x.double().mean(dim=0), k
    ),
    "forward selection": lambda x, y, w, b, k: forward_selection(x, y, len(w), k),
    "backward selection": lambda x, y, w, b, k: backward_selection(w, b, x, y, k),
}
