"""Images that live on the device as bytes; crops and flips are drawn from the seed, per epoch."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.datasets import VisionDataset

from paperlib.networks.cifar_runs import NORMALISATIONS

NORMALISATION = "CIFAR"
SIZE, PADDING = 32, 4
EPOCHS_APART = 1_000_003  # seeds of two runs' epochs never meet: nobody trains so many epochs


class Batches:
    """A labelled set of 32 x 32 images on a device: `pixels [N, 40, 40, 3] uint8`, padded black.

    Batches are normalised by the constants of this name.  Raises ValueError for images of another
    size and for no images.
    """

    def __init__(
        self,
        dataset: VisionDataset,
        device: torch.device,
        images: int = 0,
        normalisation: str = NORMALISATION,
    ):
        number = min(images or len(dataset), len(dataset))
        if not number:
            raise ValueError("no images to train on")
        items = [dataset[i] for i in range(number)]
        if wrong := next((im.size for im, _ in items if im.size != (SIZE, SIZE)), None):
            raise ValueError(
                f"images must be {SIZE} x {SIZE} pixels, found {wrong[0]} x {wrong[1]}"
            )
        pixels = torch.from_numpy(
            np.stack([np.asarray(image.convert("RGB")) for image, _ in items])
        )
        self.pixels = F.pad(pixels, (0, 0, PADDING, PADDING, PADDING, PADDING)).to(device)
        self.labels = torch.tensor([label for _, label in items], device=device)
        mean, std = torch.tensor(NORMALISATIONS[normalisation], device=device)
        self.mean, self.std = 255 * mean, 255 * std

    def __len__(self) -> int:
        return len(self.labels)

    def cut(self, chosen: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
        """The window of each chosen image, normalised: `[n, 3, 32, 32] float32`, channels last."""
        window = torch.arange(SIZE, device=chosen.device)
        columns = torch.where(flip[:, None], SIZE - 1 - window, window) + left[:, None]
        rows = top[:, None] + window
        x = self.pixels[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        return ((x.float() - self.mean) / self.std).permute(0, 3, 1, 2)

    def epoch(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (images, labels) of one epoch in random order, cropped and flipped at random.

        A last batch of one image is left out: its batch norms would divide by zero.
        """
        number, device = len(self), self.labels.device
        # Drawn on the CPU from (seed, epoch) alone: a resumed run goes on as if nothing had been
        draw = torch.Generator().manual_seed((seed * EPOCHS_APART + epoch) % 2**64)
        order = torch.randperm(number, generator=draw).to(device)
        corner = torch.randint(2 * PADDING + 1, (2, number), generator=draw).to(device)
        flip = (torch.rand(number, generator=draw) < 0.5).to(device)
        for i in range(0, number, size):
            part = slice(i, i + size)
            if (chosen := order[part]).numel() > 1:
                x = self.cut(chosen, corner[0, part], corner[1, part], flip[part])
                yield x, self.labels[chosen]

    def in_order(self, size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (images, labels) as they are."""
        for chosen in torch.arange(len(self), device=self.labels.device).split(size):
            middle = torch.full_like(chosen, PADDING)
            x = self.cut(chosen, middle, middle, torch.zeros_like(chosen, dtype=torch.bool))
            yield x, self.labels[chosen]
