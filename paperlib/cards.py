"""A card for each class: its filters, their part of its logit, the images that excite them."""

from typing import NamedTuple

import torch
from torch import Tensor

from paperlib.filters import ClassStatistics, Subsets, largest_filters, rank_filters


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


def subsets_with_dense_rows(statistics: ClassStatistics, k: int) -> Subsets:
    """Influential filters I_c(k) of the classes with images, and all D filters for the others.

    A class without images keeps its dense row in the decomposed head, since nothing is known of
    its filters.  Returns C tensors `[k]` or `[D] int64`.  Raises ValueError for a k that was
    not counted.
    """
    totals = statistics.totals
    ranked = rank_filters(statistics.counts(k), totals, k)
    everything = torch.arange(totals.shape[1], device=totals.device)
    seen = (statistics.images > 0).tolist()
    return [
        filters if has_images else everything
        for filters, has_images in zip(ranked, seen, strict=True)
    ]


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


def class_card(
    statistics: ClassStatistics, weight: Tensor, subsets: Subsets, c: int, k: int
) -> list[FilterRow]:
    """The filters of class c in the order of its subset, with what the card says of each.

    weight: [C, D] float.  Raises ValueError for a class that does not exist, or a k that was not
    counted.
    """
    num_classes = len(subsets)
    if not 0 <= c < num_classes:
        raise ValueError(f"class must lie in 0..{num_classes - 1}, not {c}")
    means = statistics.means
    named_by = statistics.counts(k)[c] / statistics.images[c].clamp(min=1)
    shares = logit_shares(weight[c : c + 1], means[c : c + 1])[0]
    served = torch.bincount(torch.cat([filters.cpu() for filters in subsets]))
    return [
        FilterRow(
            j,
            named_by[j].item(),
            means[c, j].item(),
            weight[c, j].item(),
            (weight[c, j] * means[c, j]).item(),
            shares[j].item(),
            int(served[j]),
        )
        for j in subsets[c].tolist()
    ]
