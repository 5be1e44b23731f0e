"""`paperlib extract`: run a network over images and save its penultimate features as a bank."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from paperlib.bank import SPLIT_CODES
from paperlib.extraction.distributed import process_rank
from paperlib.extraction.make import make_bank
from paperlib.extraction.options import PRECISIONS, ExtractOptions
from paperlib.networks.assets import sha256_of
from paperlib.networks.by_name import NAMES

EXAMPLES = """examples:
  paperlib extract --network resnet20 --dataset imagefolder:photos --out bank.safetensors
  paperlib extract --network torchvision:resnet50 --dataset imagenet:2012 --out bank.safetensors
  torchrun --nproc-per-node 4 -m paperlib extract --network resnet20 --dataset cifar10 --out b.st

A folder holds train/<class>/* and test/<class>/* (or val). Interrupt it as you like and give the
same command again: it goes on where it was."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `paperlib extract` takes."""
    default = ExtractOptions()
    networks = ", ".join(NAMES)
    parser.add_argument("--network", "--model", required=True, metavar="NAME", help=networks)
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="cifar10[:N[,M]], imagefolder:PATH or imagenet:PATH",
    )
    parser.add_argument("--out", required=True, type=Path, help="the bank, a .safetensors file")
    parser.add_argument("--splits", nargs="+", choices=SPLIT_CODES, default=list(SPLIT_CODES))
    parser.add_argument("--skip-unreadable", action="store_true", help="skip and count bad files")
    parser.add_argument("--per-class", type=int, help="so many images of each class; all if unset")
    parser.add_argument(
        "--head", metavar="NAME", help="the final layer; the last nn.Linear if unset"
    )
    parser.add_argument(
        "--blocks",
        nargs="+",
        default=[],
        metavar="NAME",
        help="modules whose pooled outputs to keep; auto: the residual blocks below the features",
    )
    parser.add_argument("--device", default=default.device, help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", choices=PRECISIONS, default=default.precision)
    numbers = {
        "batch-size": (int, "images per forward pass"),
        "workers": (int, "loader processes; 0 on the CPU, up to 8 on a GPU if unset"),
        "shard-size": (int, "images kept safe at a time"),
        "timeout": (float, "seconds to wait for another process"),
    }
    for name, (kind, text) in numbers.items():
        value = getattr(default, name.replace("-", "_"))
        shown = text if value is None else f"{text} (%(default)s)"
        parser.add_argument(f"--{name}", type=kind, default=value, help=shown)
    parser.add_argument(
        "--quiet", dest="progress", action="store_false", default=True, help="no progress bar"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make a bank and print what it holds; 2 on bad input."""
    given = vars(arguments)
    try:
        options = ExtractOptions(**{f.name: given.pop(f.name) for f in fields(ExtractOptions)})
        bank = make_bank(**given, options=options)
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 2
    if process_rank() > 0:
        return 0
    fit = bank.head_fit()
    print(f"{bank}, {bank.metadata['skipped']} images skipped")
    for split in arguments.splits:
        correct = bank.correct()[bank.split_codes == SPLIT_CODES[split]]
        print(f"{split:>5}: {correct.sum()}/{len(correct)} = {correct.double().mean():.2%} correct")
    print(f" head: residual {fit.residual:.1e}, agreement {fit.agreement:.2%}")
    print(f"saved: {arguments.out} (SHA-256 {sha256_of(arguments.out)})")
    return 0
