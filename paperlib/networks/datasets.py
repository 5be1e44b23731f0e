"""Labelled images by name: `cifar10[:N[,M]]`, `imagefolder:PATH` and `imagenet:PATH`."""

import os
import warnings
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import torchvision
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension

from paperlib.networks.assets import cache_folder, download, find_asset
from paperlib.networks.strips import CifarStrips

SPLITS = ("train", "test")
# The names under which image folders commonly keep each split, in order of preference.
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val")}
IMAGENET_FOLDERS = {"train": ("train",), "test": ("val",)}  # its "test" has no labels
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


class UnreadableImageError(OSError):
    """An image file that cannot be decoded; the message names the file."""


def read_image(path: str | Path) -> Image.Image:
    """Decode one file to RGB: greyscale is repeated, palettes are looked up, alpha is dropped.

    Of an animation the first frame is taken.  Raises UnreadableImageError, with the file's name,
    for whatever Pillow cannot decode, for more pixels than its limit, 89 million, and for pixels of
    32 bits.
    """
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            opened = Image.open(path)  # a small file may ask for more than the memory holds
        with opened:
            image: Image.Image = opened
            sixteen = image.mode == "I" and image.format in ("PNG", "PPM")
            if sixteen or image.mode.startswith("I;16"):  # convert() alone would clip the grey
                image = image.point(lambda value: value / 256).convert("L")
            elif image.mode in ("I", "F"):
                raise ValueError("pixels of 32 bits have no known range; save it with 8 or 16")
            elif image.mode == "P":  # by way of RGBA, for palettes with transparent entries
                image = image.convert("RGBA")
            return image.convert("RGB")
    except Exception as error:  # damaged files raise MemoryError, NotImplementedError, TypeError
        raise UnreadableImageError(f"cannot read the image file {path}: {error}") from error


class ImageFolder(torchvision.datasets.ImageFolder):
    """Images in one folder per class; an unreadable file raises, or yields None if skipped.

    Hidden files and folders, and links to a folder above, hold no images.  `per_class` keeps so
    many images of each class, evenly spaced among its sorted file names.
    """

    samples: list[tuple[str, int]]

    def __init__(
        self,
        root: Path,
        transform: Callable | None,
        skip_unreadable: bool,
        per_class: int | None = None,
    ):
        super().__init__(str(root), transform=transform, loader=read_image)
        self.skip_unreadable = skip_unreadable
        if per_class is not None:
            self.samples = self.imgs = _evenly_spaced(self.samples, per_class)
            self.targets = [label for _, label in self.samples]

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """The class folders and their labels.  Raises FileNotFoundError where there are none."""
        paths = sorted(Path(directory).iterdir())
        classes = [path.name for path in paths if path.is_dir() and not _hidden_or_loop(path)]
        if all(name.isdecimal() for name in classes):  # as text, "10" would come before "2"
            classes.sort(key=int)
        if not classes:
            raise FileNotFoundError(
                f"{directory} has no class folders: expected {directory}/<class>/<image>; "
                f"found there: {[path.name for path in paths[:5]] or 'nothing'}"
            )
        return classes, {name: label for label, name in enumerate(classes)}

    @staticmethod
    def make_dataset(directory: str, class_to_idx: dict[str, int], *_, **__) -> list:
        """The image files and their labels.  Raises FileNotFoundError for classes without any."""
        files = {name: _image_files(os.path.join(directory, name)) for name in class_to_idx}
        if empty := [name for name, own in files.items() if not own]:
            raise FileNotFoundError(
                f"{directory}: no images in the class folders {', '.join(empty[:5])}; names of "
                f"images end in {', '.join(IMG_EXTENSIONS)}"
            )
        return [(file, class_to_idx[name]) for name, own in files.items() for file in own]

    def __getitem__(self, index: int):
        try:
            return super().__getitem__(index)
        except UnreadableImageError:
            if self.skip_unreadable:
                return None
            raise


class ImageNetFolder(ImageFolder):
    """Folders named by WordNet id, all 1000 of ImageNet or some of them, with ImageNet's labels.

    `classes` are the 1000 readable names that torchvision gives its outputs.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.classes = list(torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """The WordNet ids found and their labels 0..999.  Raises ValueError for other names."""
        found, _ = super().find_classes(directory)
        labels = {wordnet_id: label for label, wordnet_id in enumerate(imagenet_ids())}
        if unknown := [name for name in found if name not in labels]:
            raise ValueError(
                f"{directory}: not among the 1000 WordNet ids of ImageNet: {unknown[:5]}; "
                "for other classes use imagefolder:PATH"
            )
        return found, {name: labels[name] for name in found}


def _hidden_or_loop(path: Path) -> bool:
    above = path.is_symlink() and path.is_dir() and {parent.resolve() for parent in path.parents}
    return path.name.startswith(".") or bool(above and path.resolve() in above)


def _image_files(folder: str) -> list[str]:
    """Image files at any depth, in the order of torchvision: by folder, then by name."""
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _hidden_or_loop(Path(root, name))]
        shown = (name for name in files if not name.startswith("."))
        found += [
            (root, name) for name in shown if has_file_allowed_extension(name, IMG_EXTENSIONS)
        ]
    return [os.path.join(*place) for place in sorted(found)]


def imagenet_ids() -> list[str]:
    """The WordNet ids of ImageNet's 1000 classes (ILSVRC 2012), sorted: the order of the labels."""
    return Path(__file__).with_name("imagenet_wordnet_ids.txt").read_text().split()


def _evenly_spaced(samples: list[tuple[str, int]], per_class: int) -> list[tuple[str, int]]:
    if per_class < 1:
        raise ValueError(f"images per class must be at least 1, not {per_class}")
    kept = []
    for _, group in groupby(samples, key=itemgetter(1)):
        members = list(group)
        number = min(per_class, len(members))
        kept += [members[i * len(members) // number] for i in range(number)]
    return kept


def _split_folder(root: Path, split: str, imagenet: bool) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"image folder {root} does not exist")
    names = (IMAGENET_FOLDERS if imagenet else SPLIT_FOLDERS)[split]
    for name in names:
        if (root / name).is_dir():
            return root / name
    found = sorted(p.name for p in root.iterdir() if p.is_dir())[:10]
    expected = " or ".join(f"{root / name}/<class>/" for name in names)
    raise FileNotFoundError(f"no {split} images: expected {expected}; folders there: {found}")


def _cifar10(
    split: str, transform: Callable | None, numbers: str
) -> torchvision.datasets.VisionDataset:
    given = numbers.split(",") if numbers else []
    first = dict(zip(SPLITS[: len(given)], given[:2], strict=True))
    if len(given) > 2 or not all(n.isdecimal() and int(n) for n in given):
        raise ValueError(
            f"cifar10:N takes a number of train images, not {numbers!r}; "
            "cifar10:N,M takes one of test images too"
        )
    if strips := find_asset("data/cifar10"):
        images = CifarStrips(strips, split, transform)
    else:
        root = cache_folder() / "data"
        archive = root / torchvision.datasets.CIFAR10.filename
        if not archive.exists():  # its batches are pickles: torchvision reads only those it knows
            download(torchvision.datasets.CIFAR10.url, archive, CIFAR10_SHA256)
        images = torchvision.datasets.CIFAR10(str(root), split == "train", transform, download=True)
    if split in first:
        number = int(first[split])
        images.data, images.targets = images.data[:number], images.targets[:number]
    return images


def load_dataset(
    name: str,
    split: str,
    transform: Callable | None = None,
    *,
    skip_unreadable: bool = False,
    per_class: int | None = None,
) -> torchvision.datasets.VisionDataset:
    """A dataset of (image, label) with a `classes` attribute, by name.

    - `cifar10`: all 60,000 images, from the assets (`data/cifar10`) or downloaded once and
      checked by torchvision; `cifar10:N` keeps the first N train images and all test images,
      `cifar10:N,M` the first M test images too;
    - `imagefolder:PATH`: `PATH/train/<class>/*` and `PATH/test/<class>/*` (or `val`);
    - `imagenet:PATH`: the same with WordNet ids as folders, all 1000 or some, labels 0..999.

    `split` is "train" or "test"; `per_class` limits the images of each class in a
    folder.  Raises ValueError for an unknown name or split, and FileNotFoundError for a folder
    that is missing or holds no images.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}")
    kind, _, path = name.partition(":")
    if kind == "cifar10" and (path or name == kind):
        return _cifar10(split, transform, path)
    if kind in (folders := {"imagefolder": ImageFolder, "imagenet": ImageNetFolder}) and path:
        folder = _split_folder(Path(path).expanduser(), split, kind == "imagenet")
        return folders[kind](folder, transform, skip_unreadable, per_class)
    choices = "cifar10[:N[,M]], imagefolder:PATH or imagenet:PATH"
    raise ValueError(f"unknown dataset {name!r}; choose {choices}")
