"""Frequency histograms: how often each filter is among the k largest of an image of a class.

Everything is exact: counts are integers and class sums are kept in fixed point, so the result
does not depend on device, precision of the input (float16 or float32), batch order or sharding.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from paperlib.filters.sums import ClassSums
from paperlib.filters.tensors import (
    check_features,
    check_k,
    check_shapes,
    largest_filters,
    row_chunks,
)
from paperlib.seeds import check_whole

COMPILED_FROM = 2_000_000  # features or counts from which compiled code repays its import ...
COMPILED_UP_TO = 2.0**16  # ... and their size, which leaves room for the sum of 64 in int64


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


@dataclass(frozen=True)
class ClassStatistics(ClassSums):
    """All that ranking needs of the images, in memory that does not grow with their number.

    histogram: [K, C, D] int32, H_k for each k of `ks`; images: [C] int64, images per class; class
    sums of the features as integers `whole + fraction * 2**-40`, both [C, D] int64.  Start from
    `class_statistics` or `empty`, feed batches to `update`.
    """

    ks: tuple[int, ...]
    histogram: Tensor

    @classmethod
    def empty(
        cls,
        num_classes: int,
        num_filters: int,
        ks: int | Sequence[int],
        *,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Statistics of no images; `ks` and errors as in `frequency_histogram`."""
        asked = list(ks) if isinstance(ks, Iterable) and not isinstance(ks, str) else [ks]
        for k in asked or [0]:
            check_k(k, num_filters)
        check_whole("the number of classes", num_classes, 1)
        grid = sorted(set(asked)) if isinstance(ks, Iterable) else range(1, ks + 1)
        shape = (num_classes, num_filters)
        whole = torch.zeros(shape, dtype=torch.int64, device=device)
        return cls(
            images=torch.zeros(num_classes, dtype=torch.int64, device=device),
            whole=whole,
            fraction=torch.zeros_like(whole),
            ks=tuple(map(int, grid)),
            histogram=torch.zeros(len(grid), *shape, dtype=torch.int32, device=device),
        )

    def update(self, features: Tensor, labels: Tensor) -> Self:
        """Count further images, `[n, D] float` and `[n] int64`, in place; returns itself.

        Raises ValueError as `frequency_histogram` does, for features of another width, and for
        features too large to be summed exactly.
        """
        largest = check_features(features, labels, len(self.images))
        if features.shape[1] != self.whole.shape[1]:
            found, wanted = features.shape[1], self.whole.shape[1]
            raise ValueError(f"statistics of {wanted} filters cannot count {found} features")
        self.check_room(largest, len(features))
        features, labels = features.to(self.images.device), labels.to(self.images.device)
        kind, place = features.dtype, features.device.type
        large = features.numel() >= COMPILED_FROM
        if large and largest < COMPILED_UP_TO and (kind, place) == (torch.float32, "cpu"):
            from paperlib.filters.kernels import count_images  # numba takes time to import

            count_images(features, labels, self)
        else:
            for x, y in row_chunks(features, labels):
                self._count(x, y)
                self.add(x, y)
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


def class_statistics(
    features: Tensor, labels: Tensor, num_classes: int, ks: int | Sequence[int]
) -> ClassStatistics:
    """Frequency histograms and class sums of a set of images, for `influential_filters`.

    features: [N, D] float, labels: [N] int64; use the train split and the true labels.  `ks` and
    errors as in `frequency_histogram`.
    """
    check_shapes(features, labels)
    shape = num_classes, features.shape[1]
    return ClassStatistics.empty(*shape, ks, device=features.device).update(features, labels)
