"""Response mass: how much of an image's response its strongest features hold."""

import torch
from torch import Tensor

from paperlib.filters.tensors import row_chunks

MASS_TOLERANCE = 1e-12  # of rounding in a running sum, so that 3 of 10 equal features hold 0.3


def response_mass(features: Tensor) -> Tensor:
    """Share of an image's L1 mass that its k largest features hold, for every k = 1..D.

    R_k(x) = sum of the k largest x_j / sum_j x_j

    features: [N, D] float, not negative -> `[N, D] float64`, where column k - 1 is R_k.  An image
    without any response has no mass to share: its row is NaN.  Raises ValueError for features
    that are negative or not finite.
    Source: the paper's response mass, arXiv 2112.07719.
    """
    if not features.isfinite().all():
        raise ValueError("response mass needs finite features; these hold NaN or infinity")
    if len(negative := features[features < 0]):
        lowest = negative.min()
        raise ValueError(f"response mass needs non-negative features; the lowest is {lowest:.3g}")
    mass = torch.empty(features.shape, dtype=torch.float64, device=features.device)
    for x, out in row_chunks(features.detach(), mass):
        torch.cumsum(x.double().sort(dim=1, descending=True).values, dim=1, out=out)
        out /= out[:, -1:].clone()
    return mass


def features_for_mass(features: Tensor, fraction: float) -> Tensor:
    """The smallest number of features that hold a fraction of an image's L1 mass.

    n_f(x) = min {k : R_k(x) >= f}; 0 for an image without any response.

    features: [N, D] float, not negative -> `[N] int64`.  Raises ValueError for f outside (0, 1],
    and as `response_mass` does.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], not {fraction}")
    needed = []
    for (x,) in row_chunks(features):
        mass = response_mass(x)
        short = (mass < fraction - MASS_TOLERANCE).sum(dim=1)
        needed.append(torch.where(mass[:, 0].isnan(), 0, short + 1))
    return torch.cat(needed)
