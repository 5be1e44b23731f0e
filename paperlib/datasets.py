"""Labelled images by name: `cifar10` and `imagefolder:PATH`."""

from collections.abc import Callable
from pathlib import Path

import torchvision
from PIL import Image

from paperlib.paths import cache_folder

SPLITS = ("train", "test")
# The names under which image folders commonly keep each split, in order of preference.
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val")}


class UnreadableImageError(OSError):
    """An image file that cannot be decoded; the message names the file."""


def read_image(path: str | Path) -> Image.Image:
    """Decode one file to RGB: greyscale is repeated, palettes are looked up, alpha is dropped.

    Raises UnreadableImageError, with the file's name, for whatever Pillow cannot decode.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):  # 16-bit greyscale: convert() alone would clip it
                image = image.point(lambda value: value / 256).convert("L")
            elif image.mode == "P":  # by way of RGBA, for palettes with transparent entries
                image = image.convert("RGBA")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"cannot read the image file {path}: {error}") from error


class ImageFolder(torchvision.datasets.ImageFolder):
    """Images in one folder per class; an unreadable file raises, or yields None if skipped."""

    def __init__(self, root: Path, transform: Callable | None, skip_unreadable: bool):
        super().__init__(str(root), transform=transform, loader=read_image)
        self.skip_unreadable = skip_unreadable

    def __getitem__(self, index: int):
        try:
            return super().__getitem__(index)
        except UnreadableImageError:
            if self.skip_unreadable:
                return None
            raise


def _split_folder(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"image folder {root} does not exist")
    for name in SPLIT_FOLDERS[split]:
        if (root / name).is_dir():
            return root / name
    found = sorted(p.name for p in root.iterdir() if p.is_dir())[:10]
    expected = " or ".join(f"{root / name}/<class>/" for name in SPLIT_FOLDERS[split])
    raise FileNotFoundError(f"no {split} images: expected {expected}; folders there: {found}")


def load_dataset(
    name: str,
    split: str,
    transform: Callable | None = None,
    *,
    skip_unreadable: bool = False,
) -> torchvision.datasets.VisionDataset:
    """A dataset of (image, label) with a `classes` attribute, by name.

    - `cifar10`: all 60,000 images, downloaded once and checked by torchvision;
    - `imagefolder:PATH`: `PATH/train/<class>/*` and `PATH/test/<class>/*` (or `val`).

    `split` is "train" or "test".  Raises ValueError for an unknown name or split, and
    FileNotFoundError for a folder that is missing or holds no images.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}")
    kind, _, path = name.partition(":")
    if name == "cifar10":
        return torchvision.datasets.CIFAR10(
            str(cache_folder() / "data"), split == "train", transform, download=True
        )
    if kind == "imagefolder" and path:
        folder = _split_folder(Path(path).expanduser(), split)
        return ImageFolder(folder, transform, skip_unreadable)
    raise ValueError(f"unknown dataset {name!r}; choose cifar10 or imagefolder:PATH")
