"""Rankings that search: filters enter one by one or leave by halves, with refits in between.

Each returns one `[k] int64` tensor per class, in the order of entry (or of leaving, reversed), so
that a smaller k is the start of a larger one.  All use the train split only.
"""

import warnings

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, orthogonal_mp_gram
from sklearn.svm import l1_min_c
from torch import Tensor

from paperlib.decomposition import ROWS_AT_ONCE, DecomposedHead, softmax_refit
from paperlib.filters import Subsets, check_features, check_k, largest_filters

PATH_STEPS = 40  # strengths of the L1 penalty that are tried, from none in to
PATH_RANGE = 1000.0  # this many times weaker
STEPS = 10  # of L-BFGS between the rounds of backward selection
SMALLEST = 1e-12  # curvature below which a filter is dead


def _standardised(features: Tensor) -> Tensor:
    """`[N, D] float64` of mean 0 and standard deviation 1; a constant filter stays 0."""
    x = features.double() - features.double().mean(dim=0)
    std = x.std(dim=0, correction=0)
    return x / torch.where(std > 0, std, 1.0)


def l1_logistic(features: Tensor, labels: Tensor, num_classes: int, k: int) -> Subsets:
    """The k filters that enter the class's L1-penalised logistic regression first.

    min over (w, b) of |w|_1 + |b| + strength * sum_n log(1 + exp(-s_n (w z_n + b))), s_n = +-1
    for y_n = c or not, z standardised; ties in entry by the larger |w|, then by the lower index.

    features: [N, D] float, labels: [N] int64.  Raises ValueError on bad shapes, labels or k.
    """
    check_features(features, labels, num_classes)
    check_k(k, features.shape[1])
    z = _standardised(features).cpu().numpy()
    scores = torch.zeros(num_classes, features.shape[1], dtype=torch.float64)
    for c in range(num_classes):
        y = labels.cpu().numpy() == c
        strengths = l1_min_c(z, y, loss="log") * np.geomspace(1, PATH_RANGE, PATH_STEPS)
        for step, strength in enumerate(strengths):
            model = LogisticRegression(l1_ratio=1, solver="liblinear", C=strength, random_state=0)
            size = torch.from_numpy(np.abs(model.fit(z, y).coef_[0]))
            entered = (size > 0) & (scores[c] == 0)
            # Earlier entry first; within a step the size, as a fraction, decides
            scores[c, entered] = PATH_STEPS - step + (size / (1 + size))[entered]
            if (scores[c] > 0).sum() >= k:
                break
    return list(largest_filters(scores, k))


def orthogonal_matching_pursuit(features: Tensor, weight: Tensor, k: int) -> Subsets:
    """The k filters that orthogonal matching pursuit takes to rebuild the class's own logit.

    Each step adds the filter that correlates most with what is left of the logit, and fits again:
    min over w of sum_n (z_n w - logit_nc)^2, z standardised and the logit centred.

    features: [N, D] float, weight: [C, D] float; no labels needed.  Source: Pati et al. 1993,
    doi 10.1109/ACSSC.1993.342465.
    """
    check_k(k, features.shape[1])
    z = _standardised(features)
    logits = (features.double() - features.double().mean(dim=0)) @ weight.double().T
    with warnings.catch_warnings():
        # It warns where it ends before k, as the logit is rebuilt; idle filters tie behind
        warnings.simplefilter("ignore", RuntimeWarning)
        path = orthogonal_mp_gram(
            (z.T @ z).cpu().numpy(),
            (z.T @ logits).cpu().numpy(),
            n_nonzero_coefs=k,
            return_path=True,
        )  # [D, C, steps]
    # Counted over the steps, the filter that entered first has been in the longest
    steps_in = np.count_nonzero(path.reshape(len(z[0]), len(weight), -1), axis=2)
    return list(largest_filters(torch.from_numpy(steps_in.T), k))


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
            options = {"l2": l2, "max_iterations": STEPS}
            head = softmax_refit(head.weight, head.bias, list(kept), features, labels, **options)
        _, curvature = _derivatives(head, features, labels)
        missed = (head.weight.square() * (curvature + l2) / 2).gather(1, kept)
        kept, dropped = kept.gather(1, largest_filters(missed, left)).tensor_split([left // 2], 1)
        left_last.insert(0, dropped)
    return list(torch.cat([kept, *left_last], dim=1)[:, :k])
