"""What notebook 11 quotes and is too slow to repeat there; writes `data/better_subsets*`.

    pip install -e '.[peer]'
    python experiments/better_subsets.py peer rankings crossvalidation scale

A quarter of an hour on one thread, `scale` on two.  No test image is looked at.
"""

import argparse
import contextlib
import io
import json
import platform
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from paperlib.bank import FeatureBank
from paperlib.filters.scores import contrast
from paperlib.heads.refit import softmax_refit
from reproduction.banks import load_bank
from reproduction.comparison import HEADS, QUICK_RANKINGS, SLOW_RANKINGS, Sample, subsets_by_k
from reproduction.paths import data_folder
from reproduction.tiers import TIERS

NETWORKS = TIERS["embedded"]
KS = (1, 2, 3, 5, 10)
FOLDS = 5
STRENGTHS = (1e-4, 1e-3, 1e-2)  # of the refit's l2 penalty
PARTS = ("peer", "rankings", "crossvalidation", "scale")
PEER = {"max_lr": 0.1, "nepochs": 2000, "alpha": 0.99, "k": 100, "epsilon": 1e-3, "lookbehind": 3}


def sample(bank: FeatureBank, rows: Tensor | None = None) -> Sample:
    """The images of a bank (or some of them) with the bank's head."""
    chosen = slice(None) if rows is None else rows
    return Sample(bank.features[chosen], bank.labels[chosen], *bank.head)


def timed(function: Callable, repeats: int = 1) -> tuple[object, float]:
    """The result of a call and its seconds of processor time, the mean of several."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        result = function()
        seconds.append(time.process_time() - started)
    return result, float(np.mean(seconds))


def slow_rankings(train: dict[str, FeatureBank]) -> tuple[pd.DataFrame, dict]:
    """Subsets of the slow rankings, and their seconds on each network."""
    rows, seconds = [], {}
    for name, ranking in SLOW_RANKINGS.items():
        seconds[name] = []
        for network, bank in train.items():
            subsets, spent = timed(lambda b=bank, r=ranking: r(sample(b), max(KS)))
            seconds[name].append(spent)
            for c, filters in enumerate(subsets):
                rows.append((network, name, c, " ".join(map(str, filters.tolist()))))
        print(f"{name}: {seconds[name]} s", flush=True)
    return pd.DataFrame(rows, columns=["network", "ranking", "class", "filters"]), seconds


def time_quick(train: dict[str, FeatureBank]) -> dict[str, dict[str, list[float]]]:
    """Seconds of the quick rankings and of the heads on each network, by k."""
    ranking_times, head_times = {}, {}
    samples = [sample(bank) for bank in train.values()]
    for k in (3, 5):
        for name, ranking in QUICK_RANKINGS.items():
            ranking_times[f"{name}, k = {k}"] = [
                timed(lambda s=s, r=ranking, k=k: r(s, k), 5)[1] for s in samples
            ]
        for label, head in HEADS.items():
            chosen = [(s, QUICK_RANKINGS["backward selection"](s, k)) for s in samples]
            head_times[f"{label}, k = {k}"] = [
                timed(lambda s=s, c=c, h=head: h(s, c), 5)[1] for s, c in chosen
            ]
    return {"quick rankings, s": ranking_times, "heads, s": head_times}


def folds(labels: Tensor) -> Tensor:
    """`[N]`: the fold of each image; every class is spread evenly over the folds."""
    generator = torch.Generator().manual_seed(0)
    fold = torch.empty_like(labels)
    for c in labels.unique():
        mine = (labels == c).nonzero().flatten()
        mine = mine[torch.randperm(len(mine), generator=generator)]
        fold[mine] = torch.arange(len(mine)) % FOLDS
    return fold


def cross_validate(train: dict[str, FeatureBank]) -> pd.DataFrame:
    """Quick ranking, strength and k against accuracy and log loss on held-out train images."""
    rows = []
    for network, bank in train.items():
        fold = folds(bank.labels)
        for held_out in range(FOLDS):
            inner, outer = sample(bank, fold != held_out), sample(bank, fold == held_out)
            chosen = {name: subsets_by_k(name, inner, (3, 5)) for name in QUICK_RANKINGS}
            for name, k in product(chosen, (3, 5)):
                subsets = chosen[name][k]
                for l2 in STRENGTHS:
                    head = softmax_refit(*inner[2:], subsets, inner.features, inner.labels, l2=l2)
                    logits = head(outer.features).double()
                    right = (logits.argmax(dim=1) == outer.labels).sum().item()
                    loss = torch.nn.functional.cross_entropy(logits, outer.labels).item()
                    images = len(outer.labels)
                    rows.append((network, held_out, name, k, l2, right, images, loss))
        print(f"cross-validated on {network}", flush=True)
    columns = ["network", "fold", "ranking", "k", "l2", "correct", "images", "log loss"]
    return pd.DataFrame(rows, columns=columns)


class Batches:
    """Shuffled batches (x, y, index), as glm_saga wants them; faster than a DataLoader."""

    def __init__(self, features: Tensor, labels: Tensor, size: int = 512, seed: int = 0):
        self.features, self.labels, self.size = features, labels, size
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        order = torch.randperm(len(self.labels), generator=self.generator)
        for i in order.split(self.size):
            yield self.features[i], self.labels[i], i


def peer(train: dict[str, FeatureBank]) -> tuple[pd.DataFrame, dict]:
    """glm_saga's heads where its path first reaches k filters per class, and seconds until then."""
    from glm_saga.elasticnet import glm_saga  # the optional extra

    rows, seconds = [], {f"k = {k}": [] for k in KS} | {"whole path": []}
    for network, bank in train.items():
        mean, std = bank.features.mean(dim=0), bank.features.std(dim=0).clamp(min=1e-6)
        linear = torch.nn.Linear(bank.num_filters, bank.num_classes)
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        batches = Batches((bank.features - mean) / std, bank.labels)
        size = {"n_ex": len(bank), "n_classes": bank.num_classes}
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            result, total = timed(
                lambda x=linear, b=batches, s=size: glm_saga(x, b, do_zero=False, **s, **PEER)
            )
        path = result["path"]
        wall = np.cumsum([step["time"] for step in path])
        spent = total * wall / wall[-1]  # processor time, as for every other method
        filters = [(step["weight"].abs() > 1e-5).sum().item() / len(step["bias"]) for step in path]
        for k in KS:
            at = int(np.argmax(np.array(filters) >= k))  # at least k: in the peer's favour
            weight = torch.where(path[at]["weight"].abs() > 1e-5, path[at]["weight"], 0.0) / std
            bias = path[at]["bias"] - weight @ mean
            seconds[f"k = {k}"].append(spent[at])
            for c, j in weight.nonzero().tolist():
                rows.append((network, k, c, j, weight[c, j].item()))
            rows += [(network, k, c, -1, value) for c, value in enumerate(bias.tolist())]
        seconds["whole path"].append(spent[-1])
        print(f"glm_saga on {network}: {spent[-1]:.1f} s", flush=True)
    table = pd.DataFrame(rows, columns=["network", "k", "class", "filter", "weight"])
    return table, seconds


def peak_memory() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def scale(num_classes=1000, num_filters=2048, k=50, images=50_000) -> dict:
    """Contrast ranking and softmax refit on synthetic features the size of ImageNet's."""
    generator = torch.Generator().manual_seed(0)
    shape = (num_classes, num_filters)
    signature = 2.0 * (torch.rand(shape, generator=generator) < 0.03)  # 60 filters per class
    labels = torch.arange(images) % num_classes
    features = torch.empty(images, num_filters)
    for start in range(0, images, 5000):
        rows = slice(start, start + 5000)
        noise = 2 * torch.randn(5000, num_filters, generator=generator)
        features[rows] = (signature[labels[rows]] + noise).relu()
    mean = features.mean(dim=0)
    means = torch.zeros(shape).index_add_(0, labels, features) / (images / num_classes)
    weight = (means - mean) / 10
    bias = -(weight * means).sum(dim=1) / 2
    before = peak_memory()
    started = time.perf_counter()
    subsets = contrast(weight, means, mean, k)
    ranked = time.perf_counter()
    head = softmax_refit(weight, bias, subsets, features, labels)
    ended = time.perf_counter()
    plain = HEADS["plain"](Sample(features, labels, weight, bias), subsets)
    right = [(h(features).argmax(dim=1) == labels).double().mean().item() for h in (plain, head)]
    return {
        "classes": num_classes,
        "filters": num_filters,
        "k": k,
        "images": images,
        "threads": torch.get_num_threads(),
        "ranking, s": round(ranked - started, 1),
        "refit, s": round(ended - ranked, 1),
        "features, MB": round(features.numel() * 4 / 2**20),
        "peak beyond features and head, MB": round(peak_memory() - before),
        "N x C x k floats, MB": round(images * num_classes * k * 4 / 2**20),
        "train accuracy, plain, %": round(100 * right[0], 1),
        "train accuracy, refitted, %": round(100 * right[1], 1),
    }


def environment() -> dict:
    """Processor and the versions that matter."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    packages = ("torch", "scikit-learn", "numpy", "glm_saga")
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    return {"processor": models[0] if models else platform.machine(), "versions": versions}


def write(table: pd.DataFrame, name: str) -> None:
    path = data_folder() / f"better_subsets_{name}.csv"
    table.to_csv(path, index=False, float_format="%.9g", lineterminator="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=PARTS, help="what to do, in this order")
    path = data_folder() / "better_subsets.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    train = {network: load_bank(network, device="cpu").split("train") for network in NETWORKS}
    for part in parser.parse_args().parts:
        torch.set_num_threads(2 if part == "scale" else 1)
        threadpool_limits(1, user_api="blas")  # idle threads of NumPy count as processor time
        if part == "scale":
            record["scale"] = scale()
        elif part == "peer":  # and what it is compared with, in the same run
            table, seconds = peer(train)
            write(table, "peer")
            record |= environment() | {"glm_saga, s": seconds} | time_quick(train)
        elif part == "rankings":
            table, record["slow rankings, s"] = slow_rankings(train)
            write(table, "rankings")
        elif part == "crossvalidation":
            write(cross_validate(train), "crossvalidation")
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
