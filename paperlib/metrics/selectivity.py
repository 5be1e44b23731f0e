"""How concentrated a block's response is, and how much its filters prefer one class."""

import numpy as np
import torch
from torch import Tensor

from paperlib.filters.mass import features_for_mass
from paperlib.filters.sums import class_means
from paperlib.seeds import numpy_generator


def psi(features: Tensor, fraction: float) -> Tensor:
    """Share of the filters that an image can do without, at a fraction f of its response.

    Psi_f(x) = 1 - n_f(x) / D

    features: [N, D] float, not negative -> `[N] float64`: 1 - f for an even response, 1 - 1/D
    where one filter holds it, NaN for an image without any.  Raises as `features_for_mass`.
    Source: the paper's Psi, arXiv 2112.07719.
    """
    needed = features_for_mass(features, fraction).double()
    return torch.where(needed == 0, torch.nan, 1 - needed / features.shape[1])


def bootstrap_class_means(
    features: Tensor, labels: Tensor, num_classes: int, *, draws: int = 1000, seed: int = 0
) -> Tensor:
    """Class means of `draws` bootstrap samples, drawn within each class: `[B, C, D] float64`.

    The same seed resamples the same images whatever the features.  Raises ValueError as
    `class_means` does, and for a class without images.
    """
    means = class_means(features, labels, num_classes).expand(draws, -1, -1).clone()
    present = torch.bincount(labels, minlength=num_classes) > 0
    if not present.all():
        empty = (~present).nonzero().flatten().tolist()
        raise ValueError(f"classes without images have no mean response: {empty[:5]}")
    rng = numpy_generator(seed)
    for c in range(num_classes):
        x = features[labels == c].double()
        times_drawn = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=draws)
        means[:, c] = torch.from_numpy(times_drawn).to(x) @ x / len(x)
    return means


def selectivity_index(means: Tensor, eps: float = 1e-7) -> Tensor:
    """How much a filter prefers its favourite class over the others: 0 not at all, 1 wholly.

    (mu_max - mu_rest) / (mu_max + mu_rest + eps), mu_rest the mean over the other C - 1 classes

    means: [..., C, D] class means, not negative -> `[..., D]`.  Raises ValueError for one class
    or negative means.  Source: Leavitt & Morcos 2020, arXiv 2003.01262.
    """
    num_classes = means.shape[-2]
    if num_classes < 2:
        raise ValueError("a preference needs at least 2 classes")
    if (lowest := means.min()) < 0:
        raise ValueError(f"the index needs non-negative responses; the lowest is {lowest:.3g}")
    highest = means.amax(dim=-2)
    rest = (means.sum(dim=-2) - highest) / (num_classes - 1)
    return (highest - rest) / (highest + rest + eps)
