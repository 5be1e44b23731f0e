"""A card for each class: its filters, their part of its logit, the images that excite them."""

from collections.abc import Sequence
from itertools import starmap
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from paperlib.filters.counting import ClassStatistics
from paperlib.filters.tensors import Subsets, largest_filters, membership, subset_tensors


class FilterRow(NamedTuple):
    """One filter on the card of a class.

    `named_by` is the share of the class's images that have it among their k largest, `logit` what
    it adds to the class's logit on average, `share` its part of the logit (see `logit_shares`),
    and `classes` the number of classes whose subset it belongs to.
    """

    filter: int
    named_by: float
    mean_feature: float
    weight: float
    logit: float
    share: float
    classes: int


def logit_shares(weight: Tensor, class_means: Tensor) -> Tensor:
    """What each filter adds to the logit of each class, as a signed share: `[C, D] float64`.

    s_cj = W_cj m_cj / sum_i |W_ci m_ci|, with m_c the mean features of class c

    The sum runs over absolute values, because additions of either sign may cancel.  Zero for a
    class without images or response.  weight: [C, D] float, class_means: [C, D] float.
    """
    added = weight.double() * class_means.double()
    total = added.abs().sum(dim=1, keepdim=True)
    return added / torch.where(total > 0, total, 1.0)


def exciting_images(features: Tensor, filters: Tensor, number: int) -> Tensor:
    """`[k, number] int64`: the images with the largest feature of each filter, ties to the first.

    features: [N, D] float, filters: [k] int64; fewer columns where N is smaller.
    """
    number = min(number, len(features))
    return largest_filters(features[:, filters].T, number)


def cards_of(
    statistics: ClassStatistics,
    weight: Tensor,
    subsets: Subsets,
    k: int,
    classes: Sequence[int] | None = None,
) -> dict[int, list[FilterRow]]:
    """The filters of some classes (all if None) in the order of their subsets, a row each.

    weight: [C, D] float; statistics that counted k.  Raises ValueError for a class that does not
    exist, subsets that do not fit, or a k that was not counted.
    """
    num_classes, num_filters = weight.shape
    served = membership(subsets, num_filters, num_classes).sum(dim=0).cpu()
    subsets = [filters.cpu() for filters in subset_tensors(subsets)]
    classes = range(num_classes) if classes is None else classes
    if unknown := [c for c in classes if not isinstance(c, Integral) or not 0 <= c < num_classes]:
        raise ValueError(f"classes must lie in 0..{num_classes - 1}, not {unknown}")
    means, weight = statistics.means.cpu(), weight.detach().double().cpu()
    named_by = statistics.counts(k).cpu() / statistics.images.cpu().clamp(min=1)[:, None]
    shares = logit_shares(weight, means)
    cards = {}
    for c in classes:
        j = subsets[c]
        columns = (
            j,
            named_by[c, j],
            means[c, j],
            weight[c, j],
            weight[c, j] * means[c, j],
            shares[c, j],
            served[j],
        )
        cards[c] = list(starmap(FilterRow, zip(*(x.tolist() for x in columns), strict=True)))
    return cards
