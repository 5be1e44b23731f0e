"""Exact sums of the features of each class: the same for any order, device, batch or shard."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from paperlib.filters.tensors import check_features, row_chunks

FRACTION_BITS = 40  # resolution of class sums: features are rounded to 2**-40
LARGEST_SUM = 2.0**62  # beyond it the integers would overflow
LARGE = 2**24  # features from which products of a few thousand images are float32, sums float64


def carried(whole: Tensor, fraction: Tensor) -> tuple[Tensor, Tensor]:
    """The same sums with fractions in 0..2**40 - 1: one form, whatever the order of additions."""
    carry = fraction >> FRACTION_BITS
    return whole + carry, fraction - (carry << FRACTION_BITS)


def totals_of(whole: Tensor, fraction: Tensor) -> Tensor:
    """`whole + fraction * 2**-40` in float64; both int64, as `carried` gives them."""
    return whole.double() + fraction.double() * 2.0**-FRACTION_BITS


@dataclass(frozen=True)
class ClassSums:
    """Images of each class, `[C] int64`, and sums of their features, `[C, D]`.

    The sums are integers, `whole + fraction * 2**-40`, both int64 with fractions in 0..2**40 - 1,
    so that no order of addition changes them.
    """

    images: Tensor
    whole: Tensor
    fraction: Tensor

    @property
    def totals(self) -> Tensor:
        """Sum of each feature over the images of each class, `[C, D] float64`."""
        return totals_of(self.whole, self.fraction)

    @property
    def means(self) -> Tensor:
        """Mean feature of each class, `[C, D] float64`; zero for a class without images."""
        return self.totals / self.images.clamp(min=1)[:, None]

    def check_room(self, largest: float, images: int) -> None:
        """Raise ValueError where adding `images` features of size `largest` could overflow."""
        # Whoever adds checks first: a bound on every sum is images so far times the largest yet
        so_far = self.whole.abs().max().item() if self.images.any() else 0
        if so_far + largest * images >= LARGEST_SUM:
            raise ValueError(
                f"features of up to {largest:.3g} are too large to be summed exactly over "
                f"{images} images (sums must stay below 2**62); scale the features down"
            )

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add features `[n, D] float` of images of classes `y [n] int64`, in place."""
        exact = x.double()
        integer = exact.trunc()  # not the floor: near zero 1 - |x| would be rounded
        remainder = ((exact - integer) * 2.0**FRACTION_BITS).round()
        self.whole.index_add_(0, y, integer.long())
        self.fraction.index_add_(0, y, remainder.long())
        for held, new in zip(
            (self.whole, self.fraction), carried(self.whole, self.fraction), strict=True
        ):
            held.copy_(new)  # makes room for the next fractions


def added(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors, at least one."""
    return reduce(torch.add, parts)


def column_means(features: Tensor) -> Tensor:
    """Mean of every feature over all images, `[D] float64`; features: [N, D] float."""
    return added(x.double().sum(dim=0) for (x,) in row_chunks(features)) / len(features)


def column_deviations(features: Tensor) -> Tensor:
    """Standard deviation of every feature over all images, `[D] float64`; features: [N, D]."""
    mean = column_means(features)
    squares = added((x - mean).square().sum(dim=0) for (x,) in row_chunks(features))
    return (squares / len(features)).sqrt()


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean feature of every filter over every class, `[C, D] float64`.

    m_cj = sum_{n: y_n = c} x_nj / N_c; zero for a class without images

    features: [N, D] float, labels: [N] int64.  Raises ValueError on bad shapes, NaN, labels out
    of range, and features too large to be summed exactly.
    """
    largest = check_features(features, labels, num_classes)
    images = torch.bincount(labels, minlength=num_classes)
    whole = images.new_zeros(num_classes, features.shape[1])
    sums = ClassSums(images, whole, torch.zeros_like(whole))
    sums.check_room(largest, len(features))
    for x, y in row_chunks(features, labels):
        sums.add(x, y)
    return sums.means


def scatter_about(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Products of the features' distances from the centre of their class, `[D, D] float64`.

    sum_n (x_n - m_{y_n})(x_n - m_{y_n})^T

    features: [N, D] float, labels: [N] int64, centres: [C, D] float64.
    """
    exact = torch.float64 if features.numel() < LARGE else torch.float32
    apart = ((x.double() - centres[y]).to(exact) for x, y in row_chunks(features, labels))
    return added((x.T @ x).double() for x in apart)
