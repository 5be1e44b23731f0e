"""Purity: does a filter answer to one class, and does it serve one class alone?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.filters.tensors import check_features
from paperlib.metrics.cards import exciting_images
from paperlib.seeds import check_whole


def top_image_shares(features: Tensor, labels: Tensor, num_classes: int, top: int = 50) -> Tensor:
    """Of the images that excite each filter most, the share of each class, `[C, D] float64`.

    p_cj = #{n among the `top` largest x_nj : y_n = c} / top

    features: [N, D] float, labels: [N] int64; ties go to the first image, all images if there are
    fewer than `top`.  Raises ValueError on bad shapes, NaN, labels out of range and a bad `top`.
    """
    check_features(features, labels, num_classes)
    check_whole("top", top, 1)
    everything = torch.arange(features.shape[1], device=features.device)
    found = exciting_images(features, everything, top)  # [D, top]
    return F.one_hot(labels[found], num_classes).double().mean(dim=1).T


def one_vs_rest_auc(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """How well each filter alone tells each class from the rest, `[C, D] float64`.

    AUC_cj = P(x_j of an image of c > x_j of another image), ties counting half

    1/2 by chance; below it, the filter is weak for the class.  NaN for a class with none or all
    of the images.  features: [N, D] float, labels: [N] int64.  Raises ValueError on bad shapes,
    NaN and labels out of range.  Source: Hanley & McNeil 1982, doi 10.1148/radiology.143.1.7063747.
    """
    check_features(features, labels, num_classes)
    x = features.T.contiguous()
    ordered = x.sort(dim=1).values
    first, last = (torch.searchsorted(ordered, x, right=right) for right in (False, True))
    ranks = ((first + last).T + 1).double() / 2  # [N, D] from 1, ties at their mean
    of_class = F.one_hot(labels, num_classes).double()  # [N, C]
    number = of_class.sum(dim=0)[:, None]
    pairs = of_class.T @ ranks - number * (number + 1) / 2  # won against the rest
    return pairs / (number * (len(labels) - number))


def serving_one_class(member: Tensor) -> Tensor:
    """Share of the places in subsets whose filter no other class keeps, `[...] float64`.

    #{(c, j) : j in I_c, j in no other I_r} / sum_c |I_c|

    member: [..., C, D] bool; leading dimensions are families of subsets, such as random draws.
    """
    alone = member.sum(dim=-2) == 1
    return alone.sum(dim=-1) / member.sum(dim=(-1, -2)).double()
