"""Which filters decide a class: frequency histograms, influential filters, response mass.

Everything is exact: counts are integers and class sums are kept in fixed point, so the result
does not depend on device, precision of the input (float16 or float32), batch order or sharding.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Self

import numpy as np
import torch
from torch import Tensor

# One tensor of filter indices per class, most influential first: `[k_c] int64`.
Subsets = list[Tensor]

AT_ONCE = 2**22  # features ranked together: bounds the memory of a pass
RANKED_AT_ONCE = 2**16  # counts ranked together: what the caches hold
COMPILED_FROM = 2**21  # features from which compiled counting repays its import
MASS_TOLERANCE = 1e-12  # of rounding in a running sum, so that 3 of 10 equal features hold 0.3
FRACTION_BITS = 40  # resolution of class sums: features are rounded to 2**-40


def check_features(features: Tensor, labels: Tensor, num_classes: int) -> None:
    """Raise ValueError unless features `[N, D]` are finite and labels `[N]` lie in 0..C-1."""
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            "features must be [N, D] and labels [N]; got "
            f"{list(features.shape)} and {list(labels.shape)}"
        )
    # The extremes are NaN where a feature is, and take no memory
    if features.numel() and not torch.stack(features.aminmax()).isfinite().all():
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
    """Some images at a time of tensors with one row an image, the first `[N, D]`."""
    rows = max(1, AT_ONCE // tensors[0].shape[1])
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def frequency_histogram(
    features: Tensor, labels: Tensor, num_classes: int, ks: int | Sequence[int]
) -> Tensor:
    """For every k, how often each filter is among an image's k largest, per class.

    H_k[c, j] = #{images of class c whose k largest features include j}

    features: [N, D] float, labels: [N] int64 -> `[K, C, D] int32`, one H_k for each of `ks`: a
    grid, or k_max for all of 1..k_max (entry k - 1 is H_k).  Raises ValueError on bad shapes, NaN,
    labels out of range or k outside 1..D.
    Source: the paper's L1-norm frequency histogram, arXiv 2112.07719.
    """
    return class_statistics(features, labels, num_classes, ks).histogram


def _totals(whole: Tensor, fraction: Tensor) -> Tensor:
    carry = fraction >> FRACTION_BITS  # the canonical form, whatever the order of sums
    rest = fraction - (carry << FRACTION_BITS)
    return (whole + carry).double() + rest.double() * 2.0**-FRACTION_BITS


@dataclass(frozen=True)
class ClassStatistics:
    """All that ranking needs of the images, in memory that does not grow with their number.

    histogram: [K, C, D] int32, H_k for each k of `ks`; images: [C] int64, images per class; class
    sums of the features as integers `whole + fraction * 2**-40`, both [C, D] int64; squares:
    [C, D] float64, class sums of the squared features; mass: [F, C, D + 1] int64, images of each
    class whose `features_for_mass` is n = 0..D, for each f of `fractions`.  Start from
    `class_statistics` or `empty`, feed batches to `update`; those of two sets of images add up.
    """

    ks: tuple[int, ...]
    fractions: tuple[float, ...]
    histogram: Tensor
    images: Tensor
    whole: Tensor
    fraction: Tensor
    squares: Tensor
    mass: Tensor

    @classmethod
    def empty(
        cls,
        num_classes: int,
        num_filters: int,
        ks: int | Sequence[int],
        *,
        fractions: Sequence[float] = (),
        device: torch.device | str = "cpu",
    ) -> Self:
        """Statistics of no images; `ks` and errors as in `frequency_histogram`."""
        asked = [ks] if isinstance(ks, Integral) else sorted(set(ks))
        for k in asked or [0]:
            check_k(k, num_filters)
        grid = range(1, ks + 1) if isinstance(ks, Integral) else asked
        integers = {"dtype": torch.int64, "device": device}
        shape = (num_classes, num_filters)
        return cls(
            tuple(map(int, grid)),
            tuple(fractions),
            torch.zeros(len(grid), *shape, dtype=torch.int32, device=device),
            torch.zeros(num_classes, **integers),
            torch.zeros(shape, **integers),
            torch.zeros(shape, **integers),
            torch.zeros(shape, dtype=torch.float64, device=device),
            torch.zeros(len(fractions), num_classes, num_filters + 1, **integers),
        )

    def update(self, features: Tensor, labels: Tensor) -> Self:
        """Count further images, `[n, D] float` and `[n] int64`, in place; returns itself.

        Raises ValueError as `frequency_histogram` does, and where `features_for_mass` does.
        """
        check_features(features, labels, len(self.images))
        if features.shape[1] != self.whole.shape[1]:
            found, wanted = features.shape[1], self.whole.shape[1]
            raise ValueError(f"statistics of {wanted} filters cannot count {found} features")
        features, labels = features.to(self.images.device), labels.to(self.images.device)
        for fraction, counts in zip(self.fractions, self.mass, strict=True):
            for x, y in _row_chunks(features, labels):
                cell = y * counts.shape[1] + features_for_mass(x, fraction)
                counts += torch.bincount(cell, minlength=counts.numel()).view_as(counts)
        large = features.numel() >= COMPILED_FROM
        if large and features.dtype == torch.float32 and features.device.type == "cpu":
            from paperlib.compiled import count_images  # only here: numba takes time to import

            count_images(features, labels, self, 2.0**FRACTION_BITS)
        else:
            for x, y in _row_chunks(features, labels):
                self._count(x, y)
        self.images.add_(torch.bincount(labels, minlength=len(self.images)))
        return self

    def _count(self, x: Tensor, y: Tensor) -> None:
        """One pass: rank each image's filters, count by (grid step, class, filter), add steps."""
        grid = torch.tensor(self.ks, device=x.device)
        step = torch.bucketize(torch.arange(1, self.k_max + 1, device=x.device), grid)  # of a rank
        present, row = y.unique(return_inverse=True)
        shape = (len(grid), len(present), x.shape[1])
        cell = (step * shape[1] + row[:, None]) * shape[2] + largest_filters(x, self.k_max)
        at_step = torch.bincount(cell.flatten(), minlength=math.prod(shape)).view(shape)
        self.histogram.index_add_(1, present, at_step.cumsum(dim=0).int())
        exact = x.double()
        integer = exact.floor()
        remainder = ((exact - integer) * 2.0**FRACTION_BITS).round()
        self.whole.index_add_(0, y, integer.long())
        self.fraction.index_add_(0, y, remainder.long())
        self.squares.index_add_(0, y, exact.square())

    @property
    def k_max(self) -> int:
        """The largest k that was counted."""
        return self.ks[-1]

    def counts(self, k: int) -> Tensor:
        """H_k, `[C, D] int32`.  Raises ValueError for a k that was not counted."""
        check_k(k, self.k_max)
        if k not in self.ks:
            raise ValueError(f"k = {k} was not counted; choose from {self.ks}")
        return self.histogram[self.ks.index(k)]

    @property
    def totals(self) -> Tensor:
        """Sum of each feature over the images of each class, `[C, D] float64`."""
        return _totals(self.whole, self.fraction)

    @property
    def means(self) -> Tensor:
        """Mean feature of each class, `[C, D] float64`; zero for a class without images."""
        return self.totals / self.images.clamp(min=1)[:, None]

    @property
    def second_moments(self) -> Tensor:
        """Mean squared feature of each class, `[C, D] float64`; zero for a class without images."""
        return self.squares / self.images.clamp(min=1)[:, None]

    def __add__(self, other: Self) -> Self:
        mine, theirs = ((s.ks, s.fractions, s.histogram.shape) for s in (self, other))
        if mine != theirs:
            shapes = f"{list(mine[2])} and {list(theirs[2])}"
            raise ValueError(
                f"statistics of different shapes, ks or fractions cannot be added: {shapes}"
            )
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: t + getattr(other, name) for name, t in tensors.items()})


def class_statistics(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    ks: int | Sequence[int],
    fractions: Sequence[float] = (),
) -> ClassStatistics:
    """Frequency histograms and class sums of a set of images, for `influential_filters`.

    features: [N, D] float, labels: [N] int64; use the train split and the true labels.  `ks` and
    errors as in `frequency_histogram`; `fractions` of the response mass are counted too.
    """
    check_features(features, labels, num_classes)
    shape = num_classes, features.shape[1]
    counted = ClassStatistics.empty(*shape, ks, fractions=fractions, device=features.device)
    return counted.update(features, labels)


def rank_filters(counts: Tensor, totals: Tensor, k: int) -> Tensor:
    """`[R, k] int64`: the k filters of each row with the highest count, ties to the larger total.

    counts, totals: [R, D]; remaining ties go to the lower index.
    """
    # Only filters that reach the k-th highest count can be chosen: few, unless many tie there
    reach = counts >= counts.topk(k, dim=1).values[:, -1:]
    near = counts.topk(int(reach.sum(dim=1).max()), dim=1).indices.sort(dim=1).values
    num_near = near.shape[1]
    near = near.gather(1, largest_filters(totals.gather(1, near), num_near))
    place = torch.arange(num_near, 0, -1, device=near.device)  # by total: breaks all ties
    key = counts.gather(1, near).long() * (num_near + 1) + place
    return near.gather(1, key.topk(k, dim=1).indices)


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
    counts = statistics.counts(k)
    rows = max(1, RANKED_AT_ONCE // counts.shape[1])
    parts = (t.split(rows) for t in (counts, statistics.whole, statistics.fraction))
    subsets: Subsets = []
    for h, whole, fraction in zip(*parts, strict=True):
        subsets += rank_filters(h, _totals(whole, fraction), k)
    return subsets


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
    if len(negative := features[features < 0]):
        lowest = negative.min()
        raise ValueError(f"response mass needs non-negative features; the lowest is {lowest:.3g}")
    mass = torch.empty(features.shape, dtype=torch.float64, device=features.device)
    for x, out in _row_chunks(features, mass):
        torch.cumsum(x.double().sort(dim=1, descending=True).values, dim=1, out=out)
        out /= out[:, -1:].clone()
    return mass


def features_for_mass(features: Tensor, fraction: float) -> Tensor:
    """The smallest number of features that hold a fraction of an image's L1 mass.

    n_f(x) = min {k : R_k(x) >= f}; 0 for an image without any response.

    features: [N, D] float, not negative -> `[N] int64`.  Raises ValueError for f outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], not {fraction}")
    needed = []
    for (x,) in _row_chunks(features):
        mass = response_mass(x)
        short = (mass < fraction - MASS_TOLERANCE).sum(dim=1)
        needed.append(torch.where(mass[:, 0].isnan(), 0, short + 1))
    return torch.cat(needed)


def membership(subsets: Subsets, num_filters: int) -> Tensor:
    """`[C, D] bool`: which filters belong to the subset of each class.

    Raises ValueError for an index outside 0..D-1 or listed twice for a class.
    """
    sizes = torch.tensor([len(filters) for filters in subsets])
    classes = torch.arange(len(subsets)).repeat_interleave(sizes)
    filters = torch.cat([torch.as_tensor(chosen).cpu() for chosen in subsets])
    outside = (filters < 0) | (filters >= num_filters)
    if outside.any():
        raise ValueError(f"class {classes[outside][0]}: filters must lie in 0..{num_filters - 1}")
    position = (classes * num_filters + filters).sort().values
    if len(twice := position[1:][position.diff() == 0]):
        raise ValueError(f"class {twice[0] // num_filters}: a filter is listed twice")
    member = torch.zeros(len(subsets), num_filters, dtype=torch.bool)
    member[classes, filters] = True
    return member
