"""`python -m experiments runs`: the data of notebook 06 made anew, from checkpoints and images."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from paperlib.bank import FeatureBank
from paperlib.extraction.make import make_bank
from paperlib.extraction.options import ExtractOptions
from paperlib.networks.cifar_runs import RUNS
from paperlib.networks.trained import read_record
from paperlib.store import write_text
from reproduction.paths import ROOT, data_folder
from reproduction.run_sizes import sizes_of, table_of_sizes
from reproduction.runs import TrainingRun, run_path

TEST_IMAGES = 1000  # the first
DEEPEST = 56  # layers of the deepest network whose runs are compared
TRAINED_TABLE = "trained_runs.csv"
EXAMPLES = """examples:
  python -m experiments runs                            data/runs/ from the published checkpoints
  python -m experiments runs resnet20 resnet20:dans     two of them
  python -m experiments runs --images 50000 --table sizes.csv
                                                        no files: what all train images say
  python -m experiments runs --trained build/trained    data/trained_runs.csv of our own networks

The images are CIFAR-10's first N train images and its first 1,000 test images.  Two dozen runs of
10,000 images take some 15 minutes of two CPU cores, of 50,000 five times that; features are kept in
build/runs/, and a run that is there is not extracted again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m experiments runs` takes."""
    parser.add_argument("runs", nargs="*", help="names such as resnet20:segura (all)")
    parser.add_argument("--images", type=int, default=10_000, help="train images (%(default)s)")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="write their sizes as CSV instead of the files"
    )
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help="made by `train`")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def run(arguments: argparse.Namespace) -> int:
    """Make the files and say where they are; 2 on bad input."""
    options = {"images": arguments.images, "device": arguments.device}
    try:
        if arguments.images < 1:
            raise ValueError(f"--images must be at least 1, not {arguments.images}")
        if arguments.trained:
            print(f"saved: {_measure_trained(arguments.trained, **options)}")
            return 0
        known = [name for name, run in RUNS.items() if run.depth <= DEEPEST]
        if unknown := sorted(set(arguments.runs) - set(known)):
            raise ValueError(f"no runs {unknown}; choose from {', '.join(known)}")
        runs = (TrainingRun.of(name, _bank_of(name, **options)) for name in arguments.runs or known)
        if arguments.table:
            table = table_of_sizes(runs)
            write_text(arguments.table, table.to_csv(index=False, float_format="%.6g"))
            print(f"saved: {arguments.table}")
            return 0
        for made in runs:
            print(f"saved: {made.save(run_path(made.name))}")
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _bank_of(network: str, images: int, device: str) -> FeatureBank:
    """The bank of a network over CIFAR-10, kept in `build/runs`."""
    file = Path(network.rpartition(":")[2]).stem if network.startswith("trained:") else network
    path = ROOT / "build" / "runs" / str(images) / f"{file.replace(':', '-')}.safetensors"
    if path.exists():
        return FeatureBank.load(path)
    return make_bank(
        network, f"cifar10:{images},{TEST_IMAGES}", path, ExtractOptions(device=device)
    )


def _measure_trained(folder: Path, **options) -> Path:
    """A table of our own training runs: recipe, accuracy and sizes of each."""
    files = sorted(p for p in folder.glob("*.safetensors") if not p.stem.endswith(".state"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no network whose training is finished")
    rows = []
    for file in files:
        record = read_record(file)
        bank = _bank_of(f"trained:{file}", **options)
        sizes = sizes_of(TrainingRun.of(file.stem, bank))
        last = {f"final {name}": value for name, value in record["history"][-1].items()}
        last.pop("final epoch")
        rows.append(record["recipe"] | last | sizes | {"device": record["device"]})
    path = data_folder() / TRAINED_TABLE
    write_text(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
    return path
