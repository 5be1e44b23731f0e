"""Rankings of the literature that notebook 11 compares with the paper's, by scikit-learn.

Each returns one `[k] int64` tensor per class, from the most to the least important, so that a
smaller k is the start of a larger one.  All use the train split only.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression, orthogonal_mp_gram
from sklearn.svm import l1_min_c
from torch import Tensor

from paperlib.filters.tensors import Subsets, check_features, check_k, highest_scores

PATH_STEPS = 40  # strengths of the L1 penalty that are tried, from none in to
PATH_RANGE = 1000.0  # this many times weaker


def _one_vs_rest(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    features: Tensor,
    labels: Tensor,
    num_classes: int,
) -> Tensor:
    """`[C, D] float64`: score(x, y == c) of each filter; a constant filter comes last."""
    check_features(features, labels, num_classes)
    x, y = features.double().cpu().numpy(), labels.cpu().numpy()
    varying = np.ptp(x, axis=0) > 0
    scores = np.full((num_classes, x.shape[1]), -np.inf)
    for c in range(num_classes):
        if not 0 < (y == c).sum() < len(y):
            raise ValueError(f"class {c} has none or all of the images: nothing to tell apart")
        if varying.any():
            scores[c, varying] = score(x[:, varying], y == c)
    return torch.from_numpy(scores)


def anova_f(features: Tensor, labels: Tensor, num_classes: int, k: int) -> Subsets:
    """The k filters whose mean differs most between the class and the rest, in units of spread.

    F[c, j] = N_c N_r / N (mean_c(x_j) - mean_r(x_j))^2 / scatter of x_j within c and r,
    infinite where x_j is constant within both

    features: [N, D] float, labels: [N] int64, the train split.  Raises ValueError for a class
    without images.
    """

    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        mine, rest = x[y], x[~y]
        between = len(mine) * len(rest) / len(x) * (mine.mean(axis=0) - rest.mean(axis=0)) ** 2
        within = len(mine) * mine.var(axis=0) + len(rest) * rest.var(axis=0)
        with np.errstate(divide="ignore"):  # infinite where a filter alone separates the class
            return between / within

    return highest_scores(_one_vs_rest(score, features, labels, num_classes), k)


def feature_information(
    features: Tensor, labels: Tensor, num_classes: int, k: int, *, seed: int = 0
) -> Subsets:
    """The k filters that tell most about being of the class, I(x_j; [y = c]) in nats.

    Estimated from nearest neighbours (Ross 2014, doi 10.1371/journal.pone.0087357), which breaks
    ties of x_j by noise, hence the seed.  features: [N, D] float, labels: [N] int64, the train
    split.  Raises ValueError for a class without images.
    """

    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return mutual_info_classif(x, y, random_state=seed)

    return highest_scores(_one_vs_rest(score, features, labels, num_classes), k)


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
    return highest_scores(scores, k)


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
    return highest_scores(torch.from_numpy(steps_in.T), k)
