"""Rankings of the filters of each class by a score that needs one look at the images.

Each returns one `[k] int64` tensor per class, from the most to the least important, so that a
smaller k is the start of a larger one.  The paper's own ranking, by frequency, is in `ranking`;
rankings that search are in `heads.searches`.
"""

import torch
from torch import Tensor

from paperlib.filters.sums import column_deviations
from paperlib.filters.tensors import Subsets, check_k, highest_scores
from paperlib.seeds import check_whole, torch_generator


def random_subsets(
    num_classes: int,
    num_filters: int,
    k: int,
    *,
    draws: int = 20,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[Subsets]:
    """`draws` independent choices of k filters per class, uniform without replacement.

    Drawn on the CPU, so that every device gets the same.  Raises ValueError for a bad k,
    draws or seed.
    """
    check_k(k, num_filters)
    check_whole("draws", draws, 1)
    generator = torch_generator(seed)
    chosen = []
    for _ in range(draws):
        order = torch.rand(num_classes, num_filters, generator=generator).argsort(dim=1)
        chosen.append(list(order[:, :k].clone().to(device)))  # a slice would keep all D of them
    return chosen


def weight_magnitude(weight: Tensor, k: int) -> Subsets:
    """The k filters with the largest |W[c, j]|; weight: [C, D] float.  No images needed."""
    return highest_scores(weight.abs(), k)


def weight_times_std(weight: Tensor, features: Tensor, k: int) -> Subsets:
    """The k filters that move the class's logit most from image to image, |W[c, j]| std(x_j).

    weight: [C, D] float, features: [N, D] float, the train split.  No labels needed.
    """
    return highest_scores(weight.abs() * column_deviations(features), k)


def mean_activation(class_means: Tensor, k: int) -> Subsets:
    """The k filters with the largest mean feature over the class; class_means: [C, D] float."""
    return highest_scores(class_means, k)


def mean_contribution(weight: Tensor, class_means: Tensor, k: int) -> Subsets:
    """The k filters that add most to the class's own logit, W[c, j] * mean_c(x_j).

    weight: [C, D] float, class_means: [C, D] float.
    """
    return highest_scores(weight * class_means, k)


def contrast(weight: Tensor, class_means: Tensor, mean: Tensor, k: int) -> Subsets:
    """The k filters that raise the class's logit most for its own images over all images.

    score[c, j] = W[c, j] (mean_c(x_j) - mean(x_j))

    weight, class_means: [C, D] float, mean: [D] float.
    """
    return highest_scores(weight * (class_means - mean), k)
