"""Simulatability: can a reader name the network's class by counting which filters are on?

A filter is on where its feature exceeds a threshold.  The reader knows the filters of each class
and the thresholds, and no weights.  Source of the word: Lipton 2018, doi 10.1145/3236386.3241340.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.subsets.order import check_features


def on_thresholds(features: Tensor, decisions: Tensor, member: Tensor) -> Tensor:
    """The threshold of each filter that best tells the images of its classes from the others.

    t_j = argmax_t P(x_j > t | c keeps j) - P(x_j > t | c does not), c the network's decision

    features: [N, D] float, decisions: [N] int64, both of train images; member: [C, D] bool, which
    classes keep which filters -> `[D] float64`: a feature that occurs, or -inf where being always
    on tells most (all classes keep the filter); the lowest of equals.  Raises ValueError on bad
    shapes, NaN and classes out of range.  Source: Youden 1950.
    """
    check_features(features, decisions, len(member))
    own = member[decisions].double()  # [N, D]
    value, order = features.double().sort(dim=0)
    off_own, off_other = (
        part.gather(0, order).cumsum(dim=0) / part.sum(dim=0).clamp(min=1)
        for part in (own, 1 - own)
    )
    # Of equal features all are off or none: only the last of them is a threshold
    last = F.pad(value.diff(dim=0) > 0, (0, 0, 0, 1), value=True)
    tells = torch.where(last, off_other - off_own, -torch.inf)
    always = tells.new_zeros(1, len(value[0]))
    best = torch.cat([always, tells]).argmax(dim=0, keepdim=True)
    return torch.cat([always - torch.inf, value]).gather(0, best)[0]


def named_by_counting(
    features: Tensor, thresholds: Tensor, member: Tensor, classes: Tensor
) -> Tensor:
    """How likely a reader names the given class of each image by counting, `[N] float64`.

    v_c = #{j in I_c : x_j > t_j} / |I_c|;  [v_c = max_r v_r] / #{r : v_r is the maximum}

    A tie is a guess among the classes that tie.  features: [N, D] float, thresholds: [D],
    member: [C, D] bool, classes: [N] int64, such as the network's decisions.  A class without
    filters gets no votes.
    """
    on = (features > thresholds).double()
    votes = on @ member.double().T / member.sum(dim=1).clamp(min=1)
    highest = votes == votes.amax(dim=1, keepdim=True)
    mine = highest.gather(1, classes[:, None])[:, 0]
    return mine.double() / highest.sum(dim=1)
