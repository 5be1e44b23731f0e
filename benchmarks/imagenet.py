"""Seconds and memory of the notebooks on synthetic features of ImageNet's size.

    python -m benchmarks.imagenet [NOTEBOOK ...]

Half an hour and 3 GB on disk, under build/.  Writes results/imagenet/notebooks.json and the table
in docs/imagenet.md.  Drawn features stand in for the images and for a GPU's hours; their accuracy
means nothing, their shape is that of ResNet-18, 34 and 50 on 110,000 images of 1000 classes.
"""

import argparse
import json
import multiprocessing
import resource
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from papermill import inspect_notebook

from benchmarks.measure import machine
from benchmarks.pages import write_between
from paperlib.bank import SPLIT_CODES, FeatureBank, LinearHead
from paperlib.extraction.fingerprint import files_sha256
from paperlib.networks.datasets import imagenet_ids, load_dataset
from paperlib.store import write_text
from reproduction.parameters import parameters_for
from reproduction.paths import ROOT
from reproduction.runner import Outcome, find_notebooks, run_notebook
from reproduction.tiers import IMAGES_PER_CLASS, TIER_PARAMETERS

NOTEBOOKS = ("00", "01", "02", "03", "04", "05", "06", "08", "10")
WIDTHS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048}
COMPARED = {"06": list(WIDTHS)}  # depth needs several networks; the others get ResNet-50 alone
IMAGES = ROOT / "build" / "synthetic"  # empty files: only their names are read
BANKS = ROOT / "build" / "imagenet" / IMAGES.name / "banks"
RESULTS = Path(__file__).parent / "results" / "imagenet" / "notebooks.json"
PAGE = ROOT / "docs" / "imagenet.md"
CHUNK = 5000  # images drawn at a time


def make_folder() -> None:
    """As many empty files as the tier takes images of each class and split."""
    for split, folder in (("train", "train"), ("test", "val")):
        for wordnet_id in imagenet_ids():
            place = IMAGES / folder / wordnet_id
            place.mkdir(parents=True, exist_ok=True)
            for n in range(IMAGES_PER_CLASS[split]):
                (place / f"{n:03}.JPEG").touch()


def make_bank(network: str) -> None:
    """Features of an image: its class's profile and some of another's, times random numbers.

    x_nj = e_nj (p[y_n, j] + 2 u_n p[z_n, j]), with e exponential, u uniform, p log-normal
    """
    splits = {split: load_dataset(f"imagenet:{IMAGES}", split) for split in SPLIT_CODES}
    labels = torch.cat([torch.tensor(one.targets) for one in splits.values()])
    codes = [torch.full((len(one),), SPLIT_CODES[split]) for split, one in splits.items()]
    num_classes, num_filters = len(imagenet_ids()), WIDTHS[network]
    generator = torch.Generator().manual_seed(list(WIDTHS).index(network))
    profile = torch.randn(num_classes, num_filters, generator=generator).exp()
    weight = profile / profile.norm(dim=1, keepdim=True)
    head = LinearHead(6 * (weight - weight.mean(dim=0)), torch.zeros(num_classes))
    features = torch.empty(len(labels), num_filters)
    logits = torch.empty(len(labels), num_classes)
    parts = zip(*(one.split(CHUNK) for one in (labels, features, logits)), strict=True)
    for own, x, out in parts:
        other = profile[torch.randint(num_classes, own.shape, generator=generator)]
        other *= 2 * torch.rand(len(own), 1, generator=generator)
        x.exponential_(generator=generator).mul_(profile[own] + other)
        torch.addmm(head.bias, x, head.weight.T, out=out)
    digests = {split: files_sha256(one) for split, one in splits.items()}
    bank = FeatureBank(
        features,
        logits,
        labels,
        torch.cat(codes).to(torch.uint8),
        splits["train"].classes,
        head,
        metadata={"network": network, "synthetic": True, "files_sha256": digests},
    )
    BANKS.mkdir(parents=True, exist_ok=True)
    bank.save(BANKS / f"{network}.safetensors")


def run_and_weigh(source: Path, folder: Path, parameters: dict) -> tuple[Outcome, float]:
    """Run one notebook; also the GB that its kernel held at its peak, mapped files included."""
    outcome = run_notebook(source, folder, parameters)
    return outcome, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6  # KB on Linux


def measure(names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, float]]]:
    """Each notebook's number, seconds and peak memory, one after the other.

    Raises RuntimeError for a notebook that fails.
    """
    folder = ROOT / "build" / "imagenet" / f"{IMAGES.name}-notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (source,) = find_notebooks([name])
        networks = COMPARED.get(name, ["resnet50"])
        given = {"tier": "imagenet", "data": str(IMAGES), "networks": json.dumps(networks)}
        given = {key: text for key, text in given.items() if key in inspect_notebook(source)}
        work = parameters_for([source], given, TIER_PARAMETERS["imagenet"])
        # A process of its own for each, whose one child is the kernel
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            outcome, peak = pool.submit(run_and_weigh, source, folder, work[source]).result()
        if outcome.error:
            raise RuntimeError(f"{outcome.path}: {outcome.error}")
        yield name, {"seconds": round(outcome.seconds), "peak_gb": round(peak, 1)}


def table(result: dict) -> str:
    """Markdown: seconds and peak memory, a column for each notebook."""
    about, rows = result["machine"], result["notebooks"]
    lines = [
        f"{about['device']}, {about['threads']} of {about['cpus']} CPUs used, "
        f"torch {about['versions']['torch']}:",
        "",
        f"| notebook | {' | '.join(rows)} |",
        f"|---|{'---|' * len(rows)}",
        f"| seconds | {' | '.join(str(row['seconds']) for row in rows.values())} |",
        f"| GB at peak | {' | '.join(str(row['peak_gb']) for row in rows.values())} |",
    ]
    return "\n".join(lines) + "\n"


def publish() -> None:
    """Write the table of the stored results into docs/imagenet.md, between its marks."""
    write_between(PAGE, "benchmarks", table(json.loads(RESULTS.read_text())))


def main() -> None:
    """Make what is missing of the banks, measure, keep, publish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imagenet", description=__doc__)
    parser.add_argument(
        "notebooks", nargs="*", default=NOTEBOOKS, help="(all) " + " ".join(NOTEBOOKS)
    )
    names = tuple(parser.parse_args().notebooks)
    if unknown := set(names) - set(NOTEBOOKS):
        parser.error(f"not measured: {sorted(unknown)}; choose from {', '.join(NOTEBOOKS)}")
    make_folder()
    for network in WIDTHS:
        if not (BANKS / f"{network}.safetensors").exists():
            make_bank(network)
    kept = json.loads(RESULTS.read_text())["notebooks"] if RESULTS.exists() else {}
    for name, found in measure(names):
        print(f"{name}: {found['seconds']} s, {found['peak_gb']} GB", flush=True)
        kept[name] = found
        result = {"machine": machine("cpu"), "notebooks": dict(sorted(kept.items()))}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        write_text(RESULTS, json.dumps(result, indent=1) + "\n")
    publish()


if __name__ == "__main__":
    main()
