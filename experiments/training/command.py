"""`python -m experiments train`: CIFAR ResNets from scratch, one per combination of settings."""

import argparse
import sys
from itertools import product
from pathlib import Path

from experiments.training.recipe import SCHEDULES, Recipe
from experiments.training.train import TrainingError, train
from paperlib.extraction.options import choose_device
from paperlib.networks.datasets import load_dataset

EXAMPLES = """examples:
  python -m experiments train --depth 20                 100 epochs of CIFAR-10, on a GPU if any
  python -m experiments train --depth 8 14 --seed 0 1 --weight-decay 1e-4 5e-4 --epochs 20
                                                         eight runs, one after another
  paperlib extract --network trained:FILE.safetensors --dataset cifar10 --out bank.safetensors

Each run leaves NAME.safetensors and NAME.json (recipe, accuracy by epoch, versions).  Interrupt it
as you like and give the same command again: finished runs are kept, the unfinished goes on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m experiments train` takes."""
    default = Recipe()
    several = {"nargs": "+", "metavar": "N"}
    parser.add_argument("--depth", type=int, default=[20], help="6n + 2 layers (20)", **several)
    parser.add_argument("--seed", type=int, default=[0], help="(0)", **several)
    parser.add_argument("--weight-decay", type=float, default=[1e-4], help="(1e-4)", **several)
    parser.add_argument("--epochs", type=int, default=[100], help="(100)", **several)
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate)
    parser.add_argument("--batch-size", type=int, default=default.batch_size)
    parser.add_argument("--schedule", choices=SCHEDULES, default=default.schedule)
    parser.add_argument("--images", type=int, default=0, help="the first N train images (all)")
    parser.add_argument("--dataset", default="cifar10", help="cifar10 or imagefolder:PATH")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--out", type=Path, default=Path("build/trained"), help="a folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    """Train what is asked for and say where it is; 2 on bad input."""
    varied = (arguments.depth, arguments.weight_decay, arguments.epochs, arguments.seed)
    fixed = {
        n: getattr(arguments, n) for n in ("learning_rate", "batch_size", "schedule", "images")
    }
    try:
        recipes = [
            Recipe(depth=depth, weight_decay=decay, epochs=epochs, seed=seed, **fixed)
            for depth, decay, epochs, seed in product(*varied)
        ]
        device = choose_device(arguments.device)
        images = [load_dataset(arguments.dataset, split) for split in ("train", "test")]
        for recipe in recipes:
            out = arguments.out / f"{recipe.name}.safetensors"
            if not out.exists():
                train(recipe, *images, out, device, progress=not arguments.quiet)
            print(f"trained: {out}")
    except (ValueError, TypeError, OSError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on after the last whole epoch", file=sys.stderr)
        return 130
    return 0
