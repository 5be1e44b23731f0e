"""What is decided without some features: a class's filters, all others, or one filter at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from paperlib.filters.tensors import AT_ONCE, Subsets, check_features, membership
from paperlib.seeds import check_whole, torch_generator

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
    if fill == "noise":
        value = torch.randn(features.shape, generator=generator).to(features)
    elif fill == "zero":
        value = torch.zeros_like(features)
    elif means is None:
        raise ValueError('fill "mean" needs means, [D]: the mean features of the train images')
    else:
        value = means.to(features)
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
    rows = []
    for _ in range(repeats if fill == "noise" else 1):
        parts = (
            replace_features(x, w, fill, means=means, generator=generator)
            for x, w in _parts(features, where)
        )
        rows.append(torch.cat([(x @ weight.T + bias).argmax(dim=1) for x in parts]))
    return torch.stack(rows)


def accuracy_after_ablation(
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
    predicted = predictions_after(
        features, weight, bias, where, fill, means=means, repeats=repeats, seed=seed
    )
    return (predicted == labels).double().mean(dim=0)


def decisions_when_silenced(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a head decides for each image with each filter silenced in turn, `[D, N] int64`.

    argmax_c (logit_c - W[c, j] x_j), the feature j set to 0

    features: [N, D] float, weight: [C, D] (zeros outside the subsets of a decomposed head),
    bias: [C].  In float64.
    """
    x, w = features.double(), weight.double()
    logits = x @ w.T + bias.double()
    return torch.stack(
        [(logits - x[:, j, None] * w[:, j]).argmax(dim=1) for j in range(x.shape[1])]
    )


class Repairs(NamedTuple):
    """Of each image, `[N] bool`: decided wrongly; repaired by some filter; readable; net."""

    wrong: Tensor
    repaired: Tensor
    readable: Tensor
    net: Tensor


def repairs(silenced: Tensor, decisions: Tensor, labels: Tensor, member: Tensor) -> Repairs:
    """Which errors silencing one filter of the wrong class repairs, and at what price.

    Image n, decided p != y_n, is *repaired* if for some j in I_p the decision without j is y_n; it
    is *readable* if such a j, silenced whenever the head says p, repairs at least as large a
    share of the other images wrongly decided p as it breaks of those rightly decided p, and *net*
    if it repairs at least as many images as it breaks.

    silenced: [D, N] int64 of `decisions_when_silenced`, decisions and labels: [N] int64, member:
    [C, D] bool, the filters to try for each class.  Shares beside numbers, because a head with
    many errors has more to repair and less to break.  After Wong, Santurkar & Madry 2021,
    arXiv 2105.04857, who silence one feature and ask for the repair of the image alone.
    """
    wrong = decisions != labels
    tried = member[decisions]  # [N, D]
    right_after = (silenced == labels).T
    repaired = tried & right_after & wrong[:, None]
    broken = tried & ~right_after & ~wrong[:, None]

    def by_decision(of_image: Tensor) -> Tensor:
        """Sums over the images decided alike, given back to each of them."""
        per_image = of_image.double().reshape(len(labels), -1)
        sums = per_image.new_zeros(len(member), per_image.shape[1])
        return sums.index_add_(0, decisions, per_image)[decisions]

    gains, losses = by_decision(repaired), by_decision(broken)  # [N, D], of the head's decision
    share_gained = (gains - 1) / (by_decision(wrong) - 1).clamp(min=1)  # the image itself left out
    share_lost = losses / by_decision(~wrong).clamp(min=1)
    good = (repaired, repaired & (share_gained >= share_lost), repaired & (gains >= losses))
    return Repairs(wrong, *(of_filter.any(dim=1) for of_filter in good))


class NewErrors(NamedTuple):
    """New errors of each image, `[N] float64`: all, of its own class's filters, and by chance."""

    all: Tensor
    own: Tensor
    chance: Tensor


def new_errors(silenced: Tensor, decisions: Tensor, labels: Tensor, member: Tensor) -> NewErrors:
    """How many kept filters make each image an error when silenced, and how many are its own.

    e_nj = [right before and wrong without j], j kept by some class
    all_n = sum_j e_nj, own_n = sum_{j in I_{y_n}} e_nj, chance_n = sum_j e_nj q_j, with q_j the
    share of the images decided rightly whose class keeps j

    So sum(own) / sum(all) of the errors fall on classes that keep the filter, sum(chance) /
    sum(all) if they fell on images at random.  silenced: [D, N] int64, decisions, labels:
    [N] int64, member: [C, D] bool.
    """
    right = decisions == labels
    own = member[labels]  # [N, D]
    errors = (right[:, None] & (silenced != labels).T & member.any(dim=0)).double()
    chance = (own & right[:, None]).sum(dim=0) / right.sum().clamp(min=1)  # q_j
    return NewErrors(errors.sum(dim=1), (errors * own).sum(dim=1), errors @ chance.double())
