"""Rankings of the filters of each class by a score that needs one look at the images.

Each returns one `[k] int64` tensor per class, from the most to the least important, so that a
smaller k is the start of a larger one.  The paper's own ranking, by frequency, is in `filters`;
rankings that search are in `selection`.
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.feature_selection import f_classif, mutual_info_classif
from torch import Tensor

from paperlib.filters import Subsets, check_features, check_k, largest_filters


def random_subsets(
    num_classes: int, num_filters: int, k: int, *, draws: int = 20, seed: int = 0
) -> list[Subsets]:
    """`draws` independent choices of k filters per class, uniform without replacement.

    Seeded on the CPU, so that every device sees the same draws.  Raises ValueError for a bad k.
    """
    check_k(k, num_filters)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(draws, num_classes, num_filters, generator=generator)
    chosen = noise.argsort(dim=2)[:, :, :k].clone()  # a slice would keep all D of them
    return [list(draw) for draw in chosen]


def _highest(score: Tensor, k: int) -> Subsets:
    check_k(k, score.shape[1])
    return list(largest_filters(score, k))


def weight_magnitude(weight: Tensor, k: int) -> Subsets:
    """The k filters with the largest |W[c, j]|; weight: [C, D] float.  No images needed."""
    return _highest(weight.abs(), k)


def weight_times_std(weight: Tensor, features: Tensor, k: int) -> Subsets:
    """The k filters that move the class's logit most from image to image, |W[c, j]| std(x_j).

    weight: [C, D] float, features: [N, D] float, the train split.  No labels needed.
    """
    return _highest(weight.abs() * features.double().std(dim=0, correction=0), k)


def mean_activation(class_means: Tensor, k: int) -> Subsets:
    """The k filters with the largest mean feature over the class; class_means: [C, D] float."""
    return _highest(class_means, k)


def mean_contribution(weight: Tensor, class_means: Tensor, k: int) -> Subsets:
    """The k filters that add most to the class's own logit, W[c, j] * mean_c(x_j).

    weight: [C, D] float, class_means: [C, D] float.
    """
    return _highest(weight * class_means, k)


def contrast(weight: Tensor, class_means: Tensor, mean: Tensor, k: int) -> Subsets:
    """The k filters that raise the class's logit most for its own images over all images.

    score[c, j] = W[c, j] (mean_c(x_j) - mean(x_j))

    weight, class_means: [C, D] float, mean: [D] float.
    """
    return _highest(weight * (class_means - mean), k)


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
        scores[c, varying] = score(x[:, varying], y == c)
    return torch.from_numpy(scores)


def anova_f(features: Tensor, labels: Tensor, num_classes: int, k: int) -> Subsets:
    """The k filters whose mean differs most between the class and the rest, in units of spread.

    F[c, j] = N_c N_r / N (mean_c(x_j) - mean_r(x_j))^2 / pooled variance of x_j within c and r

    features: [N, D] float, labels: [N] int64, the train split.  Raises ValueError for a class
    without images.
    """
    return _highest(_one_vs_rest(lambda x, y: f_classif(x, y)[0], features, labels, num_classes), k)


def mutual_information(
    features: Tensor, labels: Tensor, num_classes: int, k: int, *, seed: int = 0
) -> Subsets:
    """The k filters that tell most about being of the class, I(x_j; [y = c]) in nats.

    Estimated from nearest neighbours (Ross 2014, doi 10.1371/journal.pone.0087357), which breaks
    ties of x_j by noise, hence the seed.  features: [N, D] float, labels: [N] int64, the train
    split.  Raises ValueError for a class without images.
    """

    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return mutual_info_classif(x, y, random_state=seed)

    return _highest(_one_vs_rest(score, features, labels, num_classes), k)
