"""What a class loses when features are replaced: its influential filters, or all the others."""

from collections.abc import Iterator

import torch
from torch import Tensor

from paperlib.subsets.generators import check_whole, torch_generator
from paperlib.subsets.order import AT_ONCE, Subsets, check_features, membership

FILLS = ("noise", "zero", "mean")
DRAWN_AT_ONCE = 16  # normal numbers that the generator makes together


def replace_features(
    features: Tensor,
    where: Tensor,
    fill: str,
    *,
    means: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Features with some of them replaced, the others untouched.

    x'_nj = z_nj where `where_nj`, else x_nj; z ~ N(0, 1), or 0, or the mean feature m_j

    features: [N, D] float, where: [N, D] or [D] bool, means: [D] float over the train images
    (for "mean" only) -> `[N, D]` of the features' type.  Noise is drawn on the CPU, so that every
    device sees the same.  Raises ValueError for an unknown fill, or "mean" without means.
    Source: the paper replaces by N(0, 1) noise, arXiv 2112.07719.
    """
    if fill not in FILLS:
        raise ValueError(f"unknown fill {fill!r}; choose from {', '.join(FILLS)}")
    if fill == "mean" and means is None:
        raise ValueError('fill "mean" needs means, [D]: the mean features of the train images')
    if fill == "noise":
        value = torch.randn(features.shape, generator=generator).to(features)
    else:
        value = means.to(features) if fill == "mean" else torch.zeros_like(features)
    return torch.where(where.to(features.device), value, features)


def _parts(features: Tensor, where: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some images at a time, such that noise drawn part by part is that of one draw for all."""
    rows = max(1, AT_ONCE["cpu"] // features.shape[1] // DRAWN_AT_ONCE) * DRAWN_AT_ONCE
    # A draw that is no multiple of 16 numbers makes its last 16 anew: only the last part may be
    cuts = list(range(rows, len(features) - DRAWN_AT_ONCE + 1, rows))
    return zip(features.tensor_split(cuts), where.tensor_split(cuts), strict=True)


@torch.no_grad()
def predictions_after(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    where: Tensor,
    fill: str = "noise",
    *,
    means: Tensor | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> Tensor:
    """What the dense head predicts once features are replaced, `[repeats, N] int64`.

    argmax_c (W x' + b)_c, with x' of `replace_features`

    features: [N, D] float, weight: [C, D], bias: [C], where: [N, D] or [D] bool.  Every repeat
    draws its own noise; "zero" and "mean" draw nothing and return one row.  Raises ValueError for
    fewer than one repeat, and as `replace_features` does.
    """
    check_whole("repeats", repeats, 1)
    generator = torch_generator(seed)
    where = where.expand(features.shape)
    settings = {"means": means, "generator": generator}
    rows = []
    for _ in range(repeats if fill == "noise" else 1):
        parts = [replace_features(x, w, fill, **settings) for x, w in _parts(features, where)]
        rows.append(torch.cat([(x @ weight.T + bias).argmax(dim=1) for x in parts]))
    return torch.stack(rows)


def still_correct(
    features: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    subsets: Subsets,
    fill: str = "noise",
    *,
    others: bool = False,
    means: Tensor | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> Tensor:
    """Essentiality: how often each image keeps its class without the filters of that class.

    e_n = mean over repeats of [argmax(W x'_n + b) = y_n], where x' replaces the features in
    I_{y_n}, or with `others` all the features outside it

    features: [N, D] float, labels: [N] int64, weight: [C, D], bias: [C], one subset per class
    -> `[N] float64` in 0..1; its mean over the images of class c is the class's accuracy.
    Raises ValueError on bad shapes, labels or indices, and as `predictions_after` does.
    """
    check_features(features, labels, len(weight))
    if len(subsets) != len(weight):
        raise ValueError(f"{len(subsets)} subsets for a head of {len(weight)} classes")
    member = membership(subsets, features.shape[1]).to(labels.device)
    where = (~member if others else member)[labels]
    settings = {"means": means, "repeats": repeats, "seed": seed}
    predicted = predictions_after(features, weight, bias, where, fill, **settings)
    return (predicted == labels).double().mean(dim=0)
