"""One filter silenced: which decisions change, which errors that repairs, and whom it hurts."""

from typing import NamedTuple

import torch
from torch import Tensor


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
