"""Simulatability: can a reader name the network's class by counting which filters are on?

A filter is on where its feature exceeds a threshold.  The reader knows the filters of each class
and the thresholds, and no weights.  Source of the word: Lipton 2018, doi 10.1145/3236386.3241340.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.filters.tensors import check_features


def on_thresholds(features: Tensor, decisions: Tensor, member: Tensor) -> Tensor:
    """The threshold of each filter that best tells the images of its classes from the others.

    t_j = argmax_t P(x_j > t | c keeps j) - P(x_j > t | c does not), c the network's decision

    features: [N, D] float, decisions: [N] int64, both of train images; member: [..., C, D] bool,
    which classes keep which filters; leading dimensions are families of subsets, such as random
    draws -> `[..., D] float64`: a feature that occurs, or -inf where being always on tells most
    (all classes keep the filter); the lowest of equals.  Raises ValueError on bad shapes, NaN and
    classes out of range.  Source: Youden 1950.
    """
    check_features(features, decisions, member.shape[-2])
    value, order = features.double().sort(dim=0)
    own = member[..., decisions, :].double()  # [..., N, D]
    off_own, off_other = (
        part.gather(-2, order.expand_as(part)).cumsum(dim=-2)
        / part.sum(dim=-2, keepdim=True).clamp(min=1)
        for part in (own, 1 - own)
    )
    # Of equal features all are off or none: only the last of them is a threshold
    last = F.pad(value.diff(dim=0) > 0, (0, 0, 0, 1), value=True)
    tells = torch.where(last, off_other - off_own, -torch.inf)
    best = F.pad(tells, (0, 0, 1, 0)).argmax(dim=-2)  # [..., D]; 0: always on, which tells nothing
    choices = F.pad(value, (0, 0, 1, 0), value=-torch.inf)
    return choices.gather(0, best.view(-1, best.shape[-1])).view(best.shape)


def named_by_counting(
    features: Tensor, thresholds: Tensor, member: Tensor, classes: Tensor
) -> Tensor:
    """How likely a reader names the given class of each image by counting, `[..., N] float64`.

    v_c = #{j in I_c : x_j > t_j} / |I_c|;  [v_c = max_r v_r] / #{r : v_r is the maximum}

    A tie is a guess among the classes that tie.  features: [N, D] float, thresholds: [..., D],
    member: [..., C, D] bool, classes: [N] int64, such as the network's decisions -> `[..., N]`.
    A class without filters gets no votes.
    """
    on = (features > thresholds[..., None, :]).double()
    votes = on @ member.double().mT / member.sum(dim=-1).clamp(min=1)[..., None, :]
    highest = votes == votes.amax(dim=-1, keepdim=True)
    mine = highest[..., torch.arange(len(classes), device=classes.device), classes]
    return mine.double() / highest.sum(dim=-1)
