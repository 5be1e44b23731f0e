"""CIFAR-10 as strips: lossless WebP or PNG files of images in order, and labels as text."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import VisionDataset

SUFFIXES = (".webp", ".png")
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


class CifarStrips(VisionDataset):
    """CIFAR-10 from `<split>_000.webp`, `<split>_001.webp`, ... and `<split>_labels.txt`, in order.

    A strip holds images of 32 x 32 RGB pixels one after the other, whether under each other or one
    to a row; PNG is read as well.  `data` is `[N, 32, 32, 3] uint8` and `targets` a list of N
    labels, as in torchvision's CIFAR10.  A. Krizhevsky, *Learning Multiple Layers of Features from
    Tiny Images*, 2009.  Raises FileNotFoundError where there are no strips, and ValueError where
    images and labels do not agree.
    """

    def __init__(self, root: Path, split: str, transform: Callable | None = None):
        super().__init__(str(root), transform=transform)
        self.classes = list(CLASSES)
        files = sorted(f for f in Path(root).glob(f"{split}_[0-9]*") if f.suffix in SUFFIXES)
        if not files:
            kinds = " or ".join(f"{split}_000{suffix}" for suffix in SUFFIXES)
            raise FileNotFoundError(f"{root} holds no strips {kinds}, ...")
        strips = []
        for file in files:
            with Image.open(file) as image:
                strips.append(np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3))
        self.data = np.concatenate(strips)
        self.targets = [int(y) for y in (Path(root) / f"{split}_labels.txt").read_text().split()]
        if len(self.data) != len(self.targets):
            raise ValueError(
                f"{root}: {len(self.data)} {split} images, but {len(self.targets)} labels"
            )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple:
        image = Image.fromarray(self.data[index])
        return (self.transform(image) if self.transform else image), self.targets[index]
