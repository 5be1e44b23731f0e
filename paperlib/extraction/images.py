"""Images in every form that people have, as one: a map-style dataset of (image, label)."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from paperlib.border import real_numbers

FORMS = (
    "an ImageFolder or any other map-style dataset of (image, label), a TensorDataset, a pair "
    "(X, y) of tensors or arrays, or a DataLoader of one of these"
)


class Images(NamedTuple):
    """A map-style dataset of (image, label) and what makes batches of its items."""

    dataset: Any  # with items and a length, which need not be torch's Dataset
    collate: Callable[[list], tuple[list, int]]  # to (images, labels) and how many were skipped

    def __len__(self) -> int:
        return len(self.dataset)


def as_images(given: object) -> Images:
    """Images from whatever of `FORMS` is given.

    Of a DataLoader the dataset is taken, in the dataset's order, and its `collate_fn`; batches,
    order and workers are the extraction's own.  A pair is X `[N, ...] float` and y `[N] int`, which
    may be a list or a Series as well.
    Raises TypeError for anything else, naming what can be taken.
    """
    if isinstance(given, DataLoader):
        return _from_loader(given)
    if isinstance(given, tuple) and len(given) == 2 and _is_array(given[0]):
        return Images(_pair(*given), collate_readable)
    if isinstance(given, IterableDataset):
        raise TypeError(f"an IterableDataset cannot be resumed or counted; give {FORMS}")
    if not (hasattr(given, "__getitem__") and hasattr(given, "__len__")) or isinstance(
        given, str | dict
    ):
        raise TypeError(f"images cannot be a {type(given).__name__}; give {FORMS}")
    return Images(given, collate_readable)


def _is_array(part: object) -> bool:
    return isinstance(part, Tensor | np.ndarray)


def _pair(x: object, y: object) -> TensorDataset:
    x, y = real_numbers("images", x), real_numbers("labels", y)
    if y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"a pair (X, y) must be images [N, ...] and labels [N]; got {list(x.shape)} and "
            f"{list(y.shape)}"
        )
    return TensorDataset(x, y)


def _from_loader(loader: DataLoader) -> Images:
    """The dataset behind a loader: all of it, or the part that its sampler draws from."""
    dataset: Any = loader.dataset
    batches = loader.batch_sampler
    if isinstance(dataset, IterableDataset) or batches is None:
        raise TypeError(f"a DataLoader must draw batches from a map-style dataset; give {FORMS}")
    sampler = batches.sampler if type(batches) is BatchSampler else batches
    if isinstance(sampler, SubsetRandomSampler):
        dataset = Subset(dataset, sorted(sampler.indices))
    elif not isinstance(sampler, SequentialSampler | RandomSampler):
        raise TypeError(
            f"a DataLoader with a {type(sampler).__name__} may draw images twice or not at all; "
            "give its dataset, or a Subset of it"
        )
    elif len(sampler.data_source) < len(dataset):
        dataset = Subset(dataset, range(len(sampler.data_source)))
    own = loader.collate_fn
    return Images(dataset, collate_readable if own is default_collate else _Counted(own))


class _Counted:
    """A user's collate function, whose batches skip nothing; a class, so that workers find it."""

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, items: list) -> tuple[list, int]:
        return check_batch(self.collate(items)), 0


def collate_readable(items: list) -> tuple[list, int]:
    """Stack (image, label) items without those that the dataset skipped (None); count these.

    Raises ValueError where the items are not images and labels that fit together.
    """
    readable = [item for item in items if item is not None]
    if not readable:
        return [], len(items)
    for item in readable:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(f"an item must be (image, label), not a {type(item).__name__}")
        if not _is_array(item[0]):
            raise ValueError(
                f"an image must be a tensor, not a {type(item[0]).__name__}: end the dataset's "
                "transform in ToTensor()"
            )
        if not (isinstance(item[1], Number) or _is_array(item[1])):
            raise ValueError(f"a label must be a whole number, not {item[1]!r}")
    shapes = {tuple(image.shape) for image, _ in readable}
    if len(shapes) > 1:
        found = ", ".join(str(list(shape)) for shape in sorted(shapes))
        raise ValueError(f"the images of a batch differ in shape ({found}); make them one shape")
    return check_batch(default_collate(readable)), len(items) - len(readable)


def check_batch(batch: Sequence) -> list:
    """`[images, labels]` of a batch; ValueError unless floats, and whole numbers `[n]`."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError("a batch must be (images, labels)")
    x, y = real_numbers("images", batch[0]), real_numbers("labels", batch[1])
    if len(x) and not x[0].numel():
        raise ValueError(f"images must hold pixels; a batch has the shape {list(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(
            f"images must be floating-point, scaled as the network takes them, not {x.dtype}"
        )
    if y.ndim != 1 or len(y) != len(x) or y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(
            f"labels must be one whole number an image; got {y.dtype} {list(y.shape)} for "
            f"{len(x)} images"
        )
    return [x, y.long()]


def class_names(datasets: Mapping[str, Dataset], num_classes: int) -> list[str]:
    """Names of the network's classes, from the `classes` of the datasets; [] where none has any.

    A dataset that holds only some of the network's classes names these, where its
    `target_transform` turns its own labels into the network's; several that become one are named
    together, "cat/dog".  Raises ValueError where the number
    of classes does not fit the network, or the splits disagree.
    """
    named: dict[int, str] = {}
    for split, dataset in datasets.items():
        for label, name in _labelled_names(split, dataset, num_classes).items():
            if named.setdefault(label, name) != name:
                raise ValueError(
                    f"the splits have different classes: label {label} is {named[label]!r} and, "
                    f"in {split}, {name!r}"
                )
    names = [named.get(c, str(c)) for c in range(num_classes)] if named else []
    if all(name.isdecimal() for name in names) and names != sorted(names, key=int):
        odd = next(c for c, name in enumerate(names) if int(name) != c)
        warnings.warn(
            f"class names are numbers in text order: {names[odd]!r} has label {odd}; name the "
            "folders 000, 001, ... if the network numbers its classes",
            stacklevel=2,
        )
    return names


def _labelled_names(split: str, dataset: Dataset, num_classes: int) -> dict[int, str]:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    names = [] if names is None else names
    if isinstance(names, str | Mapping) or not isinstance(names, Iterable):
        raise ValueError(
            f"the `classes` of the {split} images must be a list of names, not {names!r}"
        )
    names = [str(name) for name in names]
    translate = getattr(dataset, "target_transform", None)
    if translate is None and names and len(names) != num_classes:
        raise ValueError(
            f"the {split} images have {len(names)} classes ({', '.join(names[:10])}), "
            f"the network tells {num_classes} apart; where these are some of the network's, give "
            "the dataset a `target_transform` from its labels to the network's"
        )
    merged: dict[int, list[str]] = {}
    for i, name in enumerate(names):
        label = translate(i) if translate else i
        if not isinstance(label, Number) and getattr(label, "ndim", None) != 0:
            raise ValueError(f"`target_transform` must give whole numbers, not {label!r}")
        merged.setdefault(int(label), []).append(name)
    return {label: "/".join(own) for label, own in merged.items()}
