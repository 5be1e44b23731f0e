"""Published training runs of CIFAR-10 ResNets: where each is, and how its file is read.

`resnet20` is the checkpoint that the paper started from, `resnet20:segura` another run of the same
network by somebody else; `cifar_runs.csv` names the origin of each, at a commit, with its licence.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision import transforms

from paperlib.networks.assets import fetch_checkpoint
from paperlib.networks.cifar import CifarResNet

PAPERS_RUN = "akamaster"  # github.com/akamaster/pytorch_resnet_cifar10, from which the paper began
# Mean and standard deviation of each channel that the networks were trained with
NORMALISATIONS = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
# What the same tensors are called in other people's files, by the start of a part of the name
RENAMED = {"conv": "conv1", "bn": "bn1", "fc": "linear", "downsample": "shortcut"}


class Run(NamedTuple):
    """A row of `cifar_runs.csv`: one training run, as its author published it."""

    network: str
    run: str
    recipe: str  # runs of one recipe differ in depth and chance alone, as far as we know
    option: str  # of the shortcuts, "A" or "B"
    normalisation: str
    repository: str
    commit: str
    path: str
    licence: str
    sha256: str  # or its first eight digits
    stated: str  # test accuracy that its author states, in percent, or ""

    @property
    def name(self) -> str:
        """`resnet20` for the run that the paper started from, else `resnet20:RUN`."""
        return self.network if self.run == PAPERS_RUN else f"{self.network}:{self.run}"

    @property
    def depth(self) -> int:
        """Layers of the network."""
        return int(self.network.removeprefix("resnet"))

    def fetch(self) -> Path:
        """The checkpoint: from the assets, the cache, or downloaded; its SHA-256 is checked."""
        url = f"https://github.com/{self.repository}/raw/{self.commit}/{self.path}"
        if self.run == PAPERS_RUN:
            return fetch_checkpoint(url, self.sha256)
        suffix = Path(self.path).suffix
        file = f"runs/{self.network}-{self.run}-{self.sha256[:8]}{suffix}"
        return fetch_checkpoint(url, self.sha256, file)

    def load(self, path: Path) -> CifarResNet:
        """The network with the weights of a file, in eval mode, every tensor accounted for."""
        saved = torch.load(path, map_location="cpu", weights_only=True)
        model = CifarResNet(self.depth, option=self.option)
        # Files of before 2018 lack these counters of batches, which evaluation does not read
        counters = {k: v for k, v in model.state_dict().items() if k.endswith("batches_tracked")}
        model.load_state_dict(counters | _our_names(saved.get("state_dict", saved)))
        return model.eval()


def _read_table() -> dict[str, Run]:
    with open(Path(__file__).with_name("cifar_runs.csv"), newline="") as file:
        runs = [Run(**row) for row in csv.DictReader(file)]
    return {run.name: run for run in runs}


RUNS = _read_table()


def _our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = {key: key.removeprefix("module.").split(".") for key in state}
    return {".".join(RENAMED.get(p, p) for p in parts[key]): state[key] for key in state}


def cifar_transform(normalisation: str = "ImageNet") -> transforms.Compose:
    """PIL image to `[3, 32, 32] float32`, each channel minus its mean over its deviation.

    The paper's checkpoints were trained with the ImageNet constants, so we use those; its authors
    evaluated with those of CIFAR-10.
    """
    return transforms.Compose(
        [
            transforms.Resize(32),  # leaves an image of 32 x 32 as it is
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(*NORMALISATIONS[normalisation]),
        ]
    )
