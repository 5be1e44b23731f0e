"""The banks of a tier: committed ones, or made on first use."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock

from paperlib.bank import SPLIT_CODES, FeatureBank
from paperlib.extraction.fingerprint import files_sha256
from paperlib.extraction.make import make_bank
from paperlib.extraction.options import ExtractOptions, choose_device
from paperlib.networks.datasets import load_dataset
from paperlib.store import BankError
from reproduction import plots
from reproduction.paths import ROOT, data_folder, figures_folder
from reproduction.tiers import IMAGES_PER_CLASS, PAPER_K, PAPER_NETWORK, choose_networks


def load_bank(
    network: str, tier: str = "embedded", device: str = "auto", data: str = ""
) -> FeatureBank:
    """The bank of a network in a tier, on a device: "auto" is the GPU where there is one.

    - `embedded` reads the committed banks, the other tiers make theirs on first use in `build`;
    - `cifar10` runs the published checkpoint over all 60,000 images, downloaded once;
    - `imagenet` runs torchvision's NAME[:WEIGHTS] over the folder `data`, `IMAGES_PER_CLASS` of
      each split; classes of which the folder has no train images are left out.

    Raises ValueError for an unknown tier, a network that the tier does not hold, or no `data`, and
    BankError where the bank kept of a folder was made of other images than the folder now holds.
    """
    networks = choose_networks(tier, [network])
    if tier == "embedded":
        bank = FeatureBank.load(data_folder() / "banks" / f"{networks[0]}.safetensors")
        return bank.to(choose_device(device))
    if tier == "imagenet" and not data:
        raise ValueError("tier imagenet needs `data`, a folder with train/ and val/ by WordNet id")
    place = Path(data).expanduser().resolve().name if tier == "imagenet" else ""
    path = ROOT / "build" / tier / place / "banks" / f"{network.replace(':', '-')}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ExtractOptions(device=device)
    with FileLock(f"{path}.lock"):  # notebooks that run side by side need the same bank
        if not path.exists() and tier == "cifar10":
            make_bank(network, "cifar10", path, options)
        elif not path.exists():
            origin = (f"torchvision:{network}", f"imagenet:{data}")
            make_bank(*origin, path, options, per_class=IMAGES_PER_CLASS)
    bank = FeatureBank.load(path)
    if tier == "imagenet":
        _check_origin(bank, path, data)
        bank = bank.without_empty_classes()
    return bank.to(choose_device(device))


def _check_origin(bank: FeatureBank, path: Path, data: str) -> None:
    """Raise BankError unless the images that the bank was made of are those of the folder."""
    limits = bank.metadata.get("images_per_class") or {}
    found = {split: _files_of(data, split, limits.get(split)) for split in SPLIT_CODES}
    if bank.metadata.get("files_sha256") != found:
        raise BankError(
            f"{path} was not made of the images that {data} holds now (another folder of this "
            "name, or files that came or went since); delete it, or rename the folder"
        )


@cache
def _files_of(data: str, split: str, per_class: int | None) -> str | None:
    return files_sha256(load_dataset(f"imagenet:{data}", split, per_class=per_class))


class Banks(dict[str, FeatureBank]):
    """Banks by the name of their network; a name that is not there is told which are."""

    def __missing__(self, network: str) -> FeatureBank:
        raise ValueError(f"no bank of network {network!r} is loaded; choose from {', '.join(self)}")

    def split(self, split: str) -> "Banks":
        """The same banks, of each the images of one split; see `FeatureBank.split`."""
        return Banks({name: bank.split(split) for name, bank in self.items()})

    def to(self, device: torch.device | str) -> "Banks":
        """The same banks on a device."""
        return Banks({name: bank.to(device) for name, bank in self.items()})


def load_banks(
    tier: str, networks: Sequence[str] = (), device: str = "auto", data: str = ""
) -> Banks:
    """The banks of some networks of a tier by name, or of all of them; see `load_bank`."""
    names = choose_networks(tier, networks)
    return Banks({name: load_bank(name, tier, device, data) for name in names})


class Study(NamedTuple):
    """What a notebook starts from: its tier's banks, and the network that the paper works with.

    `figures` is the folder for its figures and claims; `banks` hold both splits; `paper` is the
    paper's network where it is loaded, else the one that is drawn, and `k` the paper's number of
    filters per class on this tier.
    """

    figures: Path
    banks: Banks
    paper: str
    k: int

    @property
    def train(self) -> Banks:
        """The banks' train images."""
        return self.banks.split("train")

    @property
    def test(self) -> Banks:
        """The banks' test images."""
        return self.banks.split("test")


def start(
    tier: str, network: str, networks: Sequence[str] = (), device: str = "auto", data: str = ""
) -> Study:
    """Begin a notebook: the figures' style, and the banks of a tier by name; see `load_banks`.

    Raises ValueError where `network`, the one that is drawn, is not among those that are loaded,
    and as `load_bank` does.
    """
    plots.use_style()
    banks = load_banks(tier, networks, device, data)
    drawn = PAPER_NETWORK[tier] if PAPER_NETWORK[tier] in banks else network
    banks[network]
    return Study(figures_folder(tier), banks, drawn, PAPER_K[tier])
