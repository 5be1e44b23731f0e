"""Which filters decide a class: frequency histograms, influential filters, response mass.

Everything is exact: counts are integers and class sums are kept in fixed point, so the result
does not depend on device, precision of the input (float16 or float32), batch order or sharding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Self

import numpy as np
import torch
from torch import Tensor

# One tensor of filter indices per class, most influential first: `[k_c] int64`.
Subsets = list[Tensor]

ROWS_AT_ONCE = 8192  # images ranked together: bounds the memory of a pass
MASS_TOLERANCE = 1e-12  # of rounding in a running sum, so that 3 of 10 equal features hold 0.3
FRACTION_BITS = 40  # resolution of class sums: features are rounded to 2**-40


def check_features(features: Tensor, labels: Tensor, num_classes: int) -> None:
    """Raise ValueError unless features `[N, D]` are finite and labels `[N]` lie in 0..C-1."""
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            "features must be [N, D] and labels [N]; got "
            f"{list(features.shape)} and {list(labels.shape)}"
        )
    if not torch.isfinite(features).all():
        raise ValueError("features hold NaN or infinity")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1}, found {labels.min()}..{labels.max()}"
        )


def check_k(k: int, largest: int) -> None:
    """Raise ValueError unless k is a whole number of filters from 1 to `largest`."""
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= largest:
        raise ValueError(f"k must be a whole number from 1 to {largest}, not {k!r}")


def largest_filters(features: Tensor, k: int) -> Tensor:
    """`[N, k] int64`: each image's k largest features, ties to the lower index.

    A stable sort, because `torch.topk` promises no order among equal features, and dead filters
    (exact zeros after ReLU) make such ties common.
    """
    return torch.sort(features, dim=1, descending=True, stable=True).indices[:, :k]


def _row_chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(ROWS_AT_ONCE) for tensor in tensors), strict=True)


def frequency_histogram(features: Tensor, labels: Tensor, num_classes: int, k_max: int) -> Tensor:
    """For every k = 1..k_max, how often each filter is among an image's k largest, per class.

    H_k[c, j] = #{images of class c whose k largest features include j}

    features: [N, D] float, labels: [N] int64 -> `[k_max, C, D] int64`, where entry k - 1 is H_k.
    One pass: each image's filters are ranked once, counted by (rank, class, filter), and summed
    over ranks.  Raises ValueError on bad shapes, NaN, labels out of range or k_max outside 1..D.
    Source: the paper's L1-norm frequency histogram, arXiv 2112.07719.
    """
    check_features(features, labels, num_classes)
    num_filters = features.shape[1]
    check_k(k_max, num_filters)
    shape = (k_max, num_classes, num_filters)
    at_rank = torch.zeros(shape, dtype=torch.int64, device=features.device)
    rank = torch.arange(k_max, device=features.device)
    for x, y in _row_chunks(features, labels.to(features.device)):
        filters = largest_filters(x, k_max)  # [n, k_max]
        cell = (rank * num_classes + y[:, None]) * num_filters + filters
        at_rank += torch.bincount(cell.flatten(), minlength=at_rank.numel()).view(shape)
    return at_rank.cumsum(dim=0)


@dataclass(frozen=True)
class ClassStatistics:
    """All that ranking needs of the images; statistics of two sets of images add up.

    histogram: [k_max, C, D] int64, `images: [C] int64` (images per class), and the class sums of
    the features as integers `whole + fraction * 2**-40`, both [C, D] int64.
    """

    histogram: Tensor
    images: Tensor
    whole: Tensor
    fraction: Tensor

    @property
    def k_max(self) -> int:
        """The largest k the histogram was counted for."""
        return len(self.histogram)

    @property
    def totals(self) -> Tensor:
        """Sum of each feature over the images of each class, `[C, D] float64`."""
        carry = self.fraction >> FRACTION_BITS  # the canonical form, whatever the order of sums
        rest = self.fraction - (carry << FRACTION_BITS)
        return (self.whole + carry).double() + rest.double() * 2.0**-FRACTION_BITS

    @property
    def means(self) -> Tensor:
        """Mean feature of each class, `[C, D] float64`; zero for a class without images."""
        return self.totals / self.images.clamp(min=1)[:, None]

    def __add__(self, other: Self) -> Self:
        if self.histogram.shape != other.histogram.shape:
            shapes = f"{list(self.histogram.shape)} and {list(other.histogram.shape)}"
            raise ValueError(f"statistics of different shapes cannot be added: {shapes}")
        return ClassStatistics(
            self.histogram + other.histogram,
            self.images + other.images,
            self.whole + other.whole,
            self.fraction + other.fraction,
        )


def class_statistics(
    features: Tensor, labels: Tensor, num_classes: int, k_max: int
) -> ClassStatistics:
    """Frequency histograms and class sums of a set of images, for `influential_filters`.

    features: [N, D] float, labels: [N] int64; use the train split and the true labels.
    Raises ValueError as `frequency_histogram` does.
    """
    histogram = frequency_histogram(features, labels, num_classes, k_max)
    labels = labels.to(features.device)
    whole = torch.zeros(histogram.shape[1:], dtype=torch.int64, device=features.device)
    fraction = torch.zeros_like(whole)
    for x, y in _row_chunks(features, labels):
        integer = x.double().floor()
        remainder = ((x.double() - integer) * 2.0**FRACTION_BITS).round()
        whole.index_add_(0, y, integer.long())
        fraction.index_add_(0, y, remainder.long())
    images = torch.bincount(labels, minlength=num_classes)
    return ClassStatistics(histogram, images, whole, fraction)


def rank_filters(counts: Tensor, totals: Tensor, k: int) -> Tensor:
    """`[R, k] int64`: the k filters of each row with the highest count, ties to the larger total.

    counts, totals: [R, D]; remaining ties go to the lower index.
    """
    # Least significant key first: a stable sort by total, then a stable sort by count
    by_total = largest_filters(totals, totals.shape[1])
    return by_total.gather(1, largest_filters(counts.gather(1, by_total), k))


def influential_filters(statistics: ClassStatistics, k: int | float) -> Subsets:
    """The influential filters I_c(k) of every class, most influential first.

    For whole k: the k filters with the highest H_k[c], ties by the mean feature over the class,
    then by the lower index.  For a share k in (0, 1): the smallest set of filters that holds that
    share of the class's response mass, sum_{j in I_c} m_cj >= k sum_j m_cj with m the class sums;
    its size differs between classes.  Returns C tensors `[k_c] int64`.

    Raises ValueError for k outside the range counted, for a class without images, and for a share
    of features that are negative.  Source: the paper's influential features, arXiv 2112.07719.
    """
    if len(empty := (statistics.images == 0).nonzero().flatten().tolist()):
        raise ValueError(f"classes without images have no influential filters: {empty}")
    if isinstance(k, float):
        return _filters_for_share(statistics.totals, k)
    check_k(k, statistics.k_max)
    return list(rank_filters(statistics.histogram[k - 1], statistics.totals, k))


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
    rng = np.random.default_rng(seed)
    chosen = []
    for c in range(num_classes):
        x = features[labels == c].double().cpu()
        if not len(x):
            raise ValueError(f"class {c} has no images to resample")
        named = torch.zeros_like(x).scatter_(1, largest_filters(x, k), 1.0)
        drawn = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=draws)
        times = torch.from_numpy(drawn).double()  # [draws, N_c]
        chosen.append(rank_filters(times @ named, times @ x, k))
    return [list(draw) for draw in torch.stack(chosen, dim=1)]


def _filters_for_share(totals: Tensor, share: float) -> Subsets:
    if not 0 < share < 1:
        raise ValueError(f"a share of the response mass must lie between 0 and 1, not {share}")
    order = largest_filters(totals, totals.shape[1])
    return [
        filters[:size]
        for filters, size in zip(order, features_for_mass(totals, share).tolist(), strict=True)
    ]


def response_mass(features: Tensor) -> Tensor:
    """Share of an image's L1 mass that its k largest features hold, for every k = 1..D.

    R_k(x) = sum of the k largest x_j / sum_j x_j

    features: [N, D] float, not negative -> `[N, D] float64`, where column k - 1 is R_k.  An image
    without any response has no mass to share: its row is NaN.  Raises ValueError on negatives.
    Source: the paper's response mass, arXiv 2112.07719.
    """
    if (lowest := features.min()) < 0:
        raise ValueError(f"response mass needs non-negative features; the lowest is {lowest:.3g}")
    mass = features.double().sort(dim=1, descending=True).values.cumsum(dim=1)
    return mass / mass[:, -1:]


def features_for_mass(features: Tensor, fraction: float) -> Tensor:
    """The smallest number of features that hold a fraction of an image's L1 mass.

    n_f(x) = min {k : R_k(x) >= f}; 0 for an image without any response.

    features: [N, D] float, not negative -> `[N] int64`.  Raises ValueError for f outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], not {fraction}")
    mass = response_mass(features)
    short = (mass < fraction - MASS_TOLERANCE).sum(dim=1)
    return torch.where(mass[:, 0].isnan(), 0, short + 1)


def membership(subsets: Subsets, num_filters: int) -> Tensor:
    """`[C, D] bool`: which filters belong to the subset of each class.

    Raises ValueError for an index outside 0..D-1 or listed twice for a class.
    """
    member = torch.zeros(len(subsets), num_filters, dtype=torch.bool)
    for c, filters in enumerate(subsets):
        chosen = torch.as_tensor(filters).cpu()
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < num_filters:
            raise ValueError(f"class {c}: filters must lie in 0..{num_filters - 1}")
        if len(chosen.unique()) != len(chosen):
            raise ValueError(f"class {c}: a filter is listed twice")
        member[c, chosen] = True
    return member
