"""Other ways to choose k filters per class, to hold the frequency ranking against.

Each returns one `[k] int64` tensor per class, ordered from the most to the least important.
"""

import torch
from torch import Tensor

from paperlib.filters import Subsets, check_k, largest_filters


def random_subsets(
    num_classes: int, num_filters: int, k: int, *, draws: int = 20, seed: int = 0
) -> list[Subsets]:
    """`draws` independent choices of k filters per class, uniform without replacement.

    Seeded on the CPU, so that every device sees the same draws.  Raises ValueError for a bad k.
    """
    check_k(k, num_filters)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(draws, num_classes, num_filters, generator=generator)
    return [list(draw) for draw in noise.argsort(dim=2)[:, :, :k]]


def _highest(score: Tensor, k: int) -> Subsets:
    check_k(k, score.shape[1])
    return list(largest_filters(score, k))


def weight_magnitude(weight: Tensor, k: int) -> Subsets:
    """The k filters with the largest |W[c, j]|; weight: [C, D] float.  No images needed."""
    return _highest(weight.abs(), k)


def mean_activation(class_means: Tensor, k: int) -> Subsets:
    """The k filters with the largest mean feature over the class; class_means: [C, D] float."""
    return _highest(class_means, k)


def mean_contribution(weight: Tensor, class_means: Tensor, k: int) -> Subsets:
    """The k filters that add most to the class's own logit, W[c, j] * mean_c(x_j).

    weight: [C, D] float, class_means: [C, D] float.
    """
    return _highest(weight * class_means, k)
