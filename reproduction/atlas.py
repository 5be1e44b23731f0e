"""`paperlib atlas`: an interactive page on the filters of every training run, for any browser.

The page computes decisions itself, from the stored features and head of a run.  It also works
from the file system, where browsers refuse modules and `fetch`: so its scripts are classic ones,
and its data are scripts that each assign one object.
"""

import argparse
import json
import sys
from base64 import b64encode
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from paperlib.filters.tensors import largest_filters
from paperlib.metrics.cards import logit_shares
from paperlib.networks.cifar_runs import PAPERS_RUN, RUNS
from paperlib.networks.datasets import load_dataset
from paperlib.store import atomic_write, write_text
from reproduction.paths import ROOT, data_folder
from reproduction.runs import TrainingRun, load_runs, run_path

PAGE = Path(__file__).with_name("atlas_page")
IMAGES = "atlas_images.png"
PICTURED = 20  # test images of each class that the page shows, the first
EXAMPLES = """examples:
  paperlib atlas                      build/atlas/index.html, to be opened in a browser
  paperlib atlas --out site/atlas     into another folder
  paperlib atlas --draw-images        first draw data/atlas_images.png anew from CIFAR-10"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `paperlib atlas` takes."""
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "atlas", help="(%(default)s)")
    parser.add_argument("--draw-images", action="store_true", help="draw the thumbnails anew")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is; 2 on bad input."""
    try:
        if arguments.draw_images:
            print(f"saved: {draw_images(data_folder() / IMAGES)}")
        print(f"saved: {write_atlas(arguments.out)}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_atlas(out: Path) -> Path:
    """Write the page with the data of all training runs; returns its index.html.

    Every file appears whole or not at all, with the same bytes every time.  Raises
    FileNotFoundError where runs or images are missing, and ValueError where runs do not fit.
    """
    runs = load_runs()
    if not runs:
        raise FileNotFoundError(f"no training runs in {data_folder() / 'runs'}")
    write_text(out / "data" / "index.js", f"atlas.index = {json.dumps(_index(runs), indent=1)};\n")
    for name, run in runs.items():
        record = json.dumps(_record(run), indent=1)
        write_text(_script(out, name), f"atlas.runs[{json.dumps(name)}] = {record};\n")
    for file in (*sorted(PAGE.iterdir()), data_folder() / IMAGES):
        with atomic_write(out / file.name) as copy:
            copy.write(file.read_bytes())
    return out / "index.html"


def pictured_images(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """`[C, PICTURED] int64`: the first test images of each class; labels: [N] int64."""
    return torch.stack([(labels == c).nonzero().flatten()[:PICTURED] for c in range(num_classes)])


def draw_images(path: Path) -> Path:
    """Draw the pictured test images of CIFAR-10 as one lossless PNG, a row per class."""
    images = load_dataset("cifar10", "test")
    chosen = pictured_images(torch.tensor(images.targets), len(images.classes))
    pixels = np.stack([np.concatenate(images.data[row], axis=1) for row in chosen.numpy()])
    with atomic_write(path) as file:
        Image.fromarray(np.concatenate(pixels)).save(file, "png", optimize=True)
    return path


def _script(out: Path, name: str) -> Path:
    return out / "data" / run_path(name).with_suffix(".js").name


def _index(runs: dict[str, TrainingRun]) -> dict:
    """What the page shows of every run before its data are loaded, and what they share."""
    tests = [run.bank.split("test") for run in runs.values()]
    first = tests[0]
    for name, test in zip(runs, tests, strict=True):
        same = test.class_names == first.class_names and torch.equal(test.labels, first.labels)
        if not same:
            raise ValueError(f"run {name} was tested on other images than {next(iter(runs))}")
    origins = {}
    for name in runs:
        origin = RUNS[name]
        origins[name] = {
            "script": f"data/{_script(Path(), name).name}",
            "depth": origin.depth,
            "author": origin.run,
            "paper": origin.run == PAPERS_RUN and origin.depth == 20,
            "repository": origin.repository,
            "licence": origin.licence,
        }
    return {
        "classes": first.class_names,
        "labels": first.labels.tolist(),
        "pictured": pictured_images(first.labels, first.num_classes).flatten().tolist(),
        "columns": PICTURED,
        "runs": origins,
    }


def _record(run: TrainingRun) -> dict:
    """A run as JSON, arrays as base64 of little-endian numbers; core.js says what each is."""
    test, counted = run.bank.split("test"), run.statistics
    if counted.ks != tuple(range(1, test.num_filters + 1)):
        raise ValueError(f"run {run.name} was not counted at every k from 1 to {test.num_filters}")
    place = largest_filters(counted.totals, test.num_filters).argsort(dim=1)
    arrays = {
        "features": (test.features, "<f2"),  # they were rounded to it when the run was saved
        "weight": (test.head.weight, "<f4"),
        "bias": (test.head.bias, "<f4"),
        "histogram": (counted.histogram, "<u2"),
        "place": (place, "u1"),
        "shares": (logit_shares(test.head.weight, counted.means), "<f4"),
    }
    encoded = {name: _base64(tensor, dtype) for name, (tensor, dtype) in arrays.items()}
    return {"images": counted.images.tolist()} | encoded


def _base64(tensor: torch.Tensor, dtype: str) -> str:
    array = tensor.numpy()
    if np.issubdtype(array.dtype, np.integer) and array.max() > np.iinfo(dtype).max:
        raise ValueError(f"{array.max()} does not fit {np.dtype(dtype)}")
    return b64encode(array.astype(dtype).tobytes()).decode()
