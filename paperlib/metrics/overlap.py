"""How much the filter subsets of different classes overlap, and what chance alone would give.

Subsets enter as membership matrices, `[..., C, D] bool` (see `order.membership`); leading
dimensions are independent families of subsets, such as random draws.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PAIRS_AT_ONCE = 2**22  # pairs of classes whose overlap is in memory together


def shared_filters(member: Tensor) -> Tensor:
    """`[..., C, C] float64`: number of filters two classes share, |I_a and I_b|."""
    one_hot = member.double()
    return one_hot @ one_hot.transpose(-1, -2)


def jaccard(member: Tensor) -> Tensor:
    """`[..., C, C] float64`: |I_a and I_b| / |I_a or I_b|; 0 for two empty subsets."""
    shared = shared_filters(member)
    size = member.double().sum(dim=-1)
    union = size[..., :, None] + size[..., None, :] - shared
    return shared / union.clamp(min=1)


def mutual_information(member: Tensor) -> Tensor:
    """Mutual information in nats between the 0/1 membership vectors of two classes.

    MI(a, b) = H(m_a) + H(m_b) - H(m_a, m_b), with probabilities as shares of the D filters

    member: [..., C, D] bool -> `[..., C, C] float64`.  It is zero where two classes share as many
    filters as independence predicts, |I_a| |I_b| / D, and grows with *every* departure from that:
    sharing more, but also sharing fewer.  Source: the paper's comparison with CSG.
    """
    num_filters = member.shape[-1]
    both = shared_filters(member) / num_filters
    a = (member.double().sum(dim=-1) / num_filters)[..., :, None]
    b = a.transpose(-1, -2)

    def entropy(*shares: Tensor) -> Tensor:
        # entr(p) = -p ln p; rounding can leave a share of no filters a hair below zero
        return sum(torch.special.entr(share.clamp(min=0)) for share in shares)

    joint = entropy(both, a - both, b - both, 1 - a - b + both)
    return (entropy(a, 1 - a) + entropy(b, 1 - b) - joint).clamp(min=0)


def mean_over_pairs(pairs: Tensor, *, include_self: bool) -> Tensor:
    """Mean over all ordered pairs of classes, with or without the pairs (a, a).

    pairs: [..., C, C] -> `[...] float64`.  The pair (a, a) says nothing about overlap: its mutual
    information is the entropy of the subset's size.  Raises ValueError for fewer than 2 classes.
    """
    num_classes = pairs.shape[-1]
    if num_classes < 2:
        raise ValueError("overlap needs at least two classes")
    total = pairs.double().sum(dim=(-1, -2))
    if include_self:
        return total / num_classes**2
    own = pairs.double().diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    return (total - own) / (num_classes * (num_classes - 1))


def mean_overlap(
    measure: Callable[[Tensor], Tensor], member: Tensor, *, include_self: bool
) -> Tensor:
    """`mean_over_pairs` of a measure of this module, for many families in little memory.

    member: [..., C, D] bool -> `[...] float64`.  Raises ValueError as `mean_over_pairs` does.
    """
    families = member.reshape(-1, *member.shape[-2:])
    few = families.split(max(1, PAIRS_AT_ONCE // max(1, member.shape[-2]) ** 2))
    means = [mean_over_pairs(measure(part), include_self=include_self) for part in few]
    return torch.cat(means).view(member.shape[:-2])


class ChancePosition(NamedTuple):
    """Where a figure lies among random draws: percentile (ties count half), two-sided p."""

    percentile: float
    p: float


def against_chance(value: float, draws) -> ChancePosition:
    """Place a figure among what random subsets give.

    p = min(1, 2 min(1 + #{draws <= value}, 1 + #{draws >= value}) / (B + 1))

    draws: [B] numbers.  Differences below 1e-9 count as ties, because equal overlaps may differ
    in their last bit.  Source: permutation p-values, Phipson & Smyth, doi 10.2202/1544-6115.1585.
    """
    difference = np.asarray(draws, dtype=np.float64) - value
    below, above = (difference < -1e-9).sum(), (difference > 1e-9).sum()
    size = len(difference)
    smaller_tail = 1 + size - max(below, above)
    percentile = 100 * (below + (size - below - above) / 2) / size
    return ChancePosition(float(percentile), float(min(1.0, 2 * smaller_tail / (size + 1))))
