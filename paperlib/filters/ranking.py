"""The paper's ranking: the filters that are most often among an image's strongest."""

import numpy as np
import torch
from torch import Tensor

from paperlib.filters.counting import COMPILED_FROM, ClassStatistics
from paperlib.filters.mass import features_for_mass
from paperlib.filters.sums import totals_of
from paperlib.filters.tensors import (
    Subsets,
    check_features,
    check_k,
    largest_filters,
    rank_filters,
)
from paperlib.seeds import check_whole, numpy_generator

RANKED_AT_ONCE = 2**16  # counts ranked together: what the caches hold


def empty_classes(images: Tensor) -> str:
    """Which classes have no images, in a few words ("990 of 1000: 1, 2, 3, 4, 5, ..."), or "".

    images: [C] int64, the number of images of each class.
    """
    empty = (images == 0).nonzero().flatten().tolist()
    named = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
    return f"{len(empty)} of {len(images)}: {named}" if empty else ""


def influential_filters(statistics: ClassStatistics, k: int | float) -> Subsets:
    """The influential filters I_c(k) of every class, most influential first.

    For whole k: the k filters with the highest H_k[c], ties by the mean feature over the class,
    then by the lower index.  For a share k in (0, 1): the smallest set of filters that holds that
    share of the class's response mass, sum_{j in I_c} m_cj >= k sum_j m_cj with m the class sums;
    its size differs between classes.  Returns C tensors `[k_c] int64`.

    Raises ValueError for k outside the range counted, for a class without images, and for a share
    of features that are negative.  Source: the paper's influential features, arXiv 2112.07719.
    """
    if not statistics.images.any():
        raise ValueError("no images were counted, so no filters can be chosen")
    if which := empty_classes(statistics.images):
        raise ValueError(
            f"classes without images have no influential filters ({which}); leave them out with "
            "bank.without_empty_classes(), or keep their dense rows with subsets_with_dense_rows"
        )
    return _ranked(statistics, k)


def subsets_with_dense_rows(statistics: ClassStatistics, k: int | float) -> Subsets:
    """Influential filters I_c(k) of the classes with images, and all D filters for the others.

    A class without images keeps its dense row in the decomposed head, since nothing is known of
    its filters.  Returns C tensors `[k_c]` or `[D] int64`.  Raises ValueError as
    `influential_filters` does, but for classes without images.
    """
    everything = torch.arange(statistics.whole.shape[1], device=statistics.whole.device)
    seen = (statistics.images > 0).tolist()
    return [
        filters if has_images else everything
        for filters, has_images in zip(_ranked(statistics, k), seen, strict=True)
    ]


def _ranked(statistics: ClassStatistics, k: int | float) -> Subsets:
    """The k filters of each class with the highest H_k, some classes at a time; or a share."""
    if isinstance(k, float):
        return _filters_for_share(statistics.totals, k)
    counts = statistics.counts(k)
    if counts.device.type == "cpu" and counts.numel() >= COMPILED_FROM:
        from paperlib.filters.kernels import rank_counts  # numba takes time to import

        return list(rank_counts(counts, statistics.whole, statistics.fraction, k))
    rows = max(1, RANKED_AT_ONCE // counts.shape[1])
    parts = (t.split(rows) for t in (counts, statistics.whole, statistics.fraction))
    subsets: Subsets = []
    for h, whole, fraction in zip(*parts, strict=True):
        subsets += rank_filters(h, totals_of(whole, fraction), k)
    return subsets


def _filters_for_share(totals: Tensor, share: float) -> Subsets:
    if not 0 < share < 1:
        raise ValueError(f"a share of the response mass must lie between 0 and 1, not {share}")
    order = largest_filters(totals, totals.shape[1])
    return [
        filters[:size]
        for filters, size in zip(order, features_for_mass(totals, share).tolist(), strict=True)
    ]


def resampled_filters(
    features: Tensor, labels: Tensor, num_classes: int, k: int, *, draws: int = 200, seed: int = 0
) -> list[Subsets]:
    """I_c(k) chosen anew on `draws` bootstrap resamples of each class's images.

    H*_k[c, j] = sum_n t_n [j among the k largest of x_n], with t_n how often image n is drawn

    features: [N, D] float, labels: [N] int64 (the train split) -> `draws` lists of C tensors
    `[k] int64`, ranked as `influential_filters` ranks.  Resampling within classes keeps their
    sizes.  Raises ValueError on bad shapes, labels or k, and for a class without images.
    """
    check_features(features, labels, num_classes)
    check_k(k, features.shape[1])
    check_whole("draws", draws, 1)
    rng = numpy_generator(seed)
    chosen = []
    for c in range(num_classes):
        x = features[labels == c].double()
        if not len(x):
            raise ValueError(f"class {c} has no images to resample")
        named = torch.zeros_like(x).scatter_(1, largest_filters(x, k), 1.0)
        drawn = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=draws)
        times = torch.from_numpy(drawn).to(x)  # [draws, N_c]
        chosen.append(rank_filters(times @ named, times @ x, k))
    return [list(draw) for draw in torch.stack(chosen, dim=1)]
