"""Training runs in compact files: what the depth claim needs of each, without 50,000 features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch

from paperlib.bank import SPLIT_CODES, FeatureBank, LinearHead
from paperlib.filters.counting import ClassStatistics
from paperlib.filters.sums import carried
from paperlib.filters.sweeps import influential_by_k, sweep_statistics
from paperlib.heads.accuracy import AccuracyCurve, correct_by_k
from paperlib.metrics.collapse import Scatter, class_scatter
from paperlib.networks.cifar_runs import RUNS
from paperlib.store import BankError, read_compact, write_compact
from reproduction.paths import data_folder
from reproduction.tiers import check_list, depth_of

TRAIN_SAMPLE = 2000  # train images whose features are kept, the first; statistics count all
RECORD_KEY = "paperlib.run"


@dataclass(frozen=True)
class TrainingRun:
    """One trained network: a bank of few images, and exact statistics of all train images.

    bank: some train images and all test images; statistics: of all train images, at every k;
    scatter: within and between classes, of all train images.  Features of the bank are rounded to
    float16 in the file; everything else was computed before the rounding.
    """

    name: str
    bank: FeatureBank
    statistics: ClassStatistics
    scatter: Scatter

    @classmethod
    def of(
        cls, name: str, bank: FeatureBank, sample: int = TRAIN_SAMPLE, *, spread: bool = False
    ) -> Self:
        """What is kept of a whole bank: the first train images, or some spread over all of them.

        A bank that is sorted by class needs `spread`, or few classes would be kept.
        """
        train = bank.split("train")
        labelled = (train.features, train.labels, bank.num_classes)
        kept = bank.split_codes == SPLIT_CODES["test"]
        images = (~kept).nonzero().flatten()
        step = max(1, len(images) // sample) if spread else 1
        kept[images[::step][:sample]] = True
        half = bank.features[kept].half().float()
        head = LinearHead(*(part.float() for part in bank.head))
        logits = half @ head.weight.T + head.bias
        rest = (bank.labels[kept], bank.split_codes[kept], bank.class_names, head)
        few = FeatureBank(half, logits, *rest)
        few.metadata = bank.metadata
        return cls(name, few, sweep_statistics(*labelled), class_scatter(*labelled))

    def curve(self) -> AccuracyCurve:
        """Test accuracy against k, for the influential filters of all train images."""
        test = self.bank.test
        nothing = [torch.empty(0, dtype=torch.int64)] * test.num_classes  # a constant decision
        by_k = {0: nothing} | influential_by_k(self.statistics)
        correct = correct_by_k(test.features, test.labels, *test.head, by_k)
        return AccuracyCurve(list(by_k), correct)

    def to(self, device: torch.device | str) -> Self:
        """The same run with its tensors on a device."""
        counted: dict[str, Any] = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self.statistics).items()
        }
        statistics = ClassStatistics(**counted)
        scatter = Scatter(*(part.to(device) for part in self.scatter))
        return replace(self, bank=self.bank.to(device), statistics=statistics, scatter=scatter)

    def save(self, path: Path) -> Path:
        """Write the file, whole or not at all, the same bytes every time."""
        bank, counted = self.bank, self.statistics
        tensors = {
            "features": bank.features.half(),
            "labels": bank.labels.to(torch.int16),
            "split": bank.split_codes,
            "head.weight": bank.head.weight,
            "head.bias": bank.head.bias,
            "images": counted.images,
            "whole": counted.whole,
            "fraction": counted.fraction,
            "histogram": counted.histogram.to(_smallest_type(counted.images)),
            "within": self.scatter.within.float(),
            "between": self.scatter.between.float(),
        }
        record = {"name": self.name, "classes": bank.class_names, "ks": counted.ks}
        return write_compact(path, RECORD_KEY, tensors, record | {"metadata": bank.metadata})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.  Raises FileNotFoundError, or BankError for another file."""
        t, record = read_compact(path, RECORD_KEY, "training run")
        try:
            head = LinearHead(t["head.weight"], t["head.bias"])
            features = t["features"].float()
            logits = features @ head.weight.T + head.bias
            rest = (t["labels"].long(), t["split"], record["classes"], head)
            counts = (t["images"], *carried(t["whole"], t["fraction"]))
            histogram = t["histogram"].to(torch.int32)
            statistics = ClassStatistics(*counts, tuple(record["ks"]), histogram)
        except (KeyError, TypeError) as error:
            raise BankError(f"{path} holds no training run: {error}") from error
        bank = FeatureBank(features, logits, *rest)
        bank.metadata = record["metadata"]
        scatter = Scatter(t["within"].double(), t["between"].double())
        return cls(record["name"], bank, statistics, scatter)


def _smallest_type(images: torch.Tensor) -> torch.dtype:
    return torch.int16 if images.max() <= torch.iinfo(torch.int16).max else torch.int32


def run_path(name: str) -> Path:
    """Where the compact file of a run is: `data/runs/resnet20-segura.safetensors`."""
    return data_folder() / "runs" / f"{name.replace(':', '-')}.safetensors"


def load_runs(names: Sequence[str] = ()) -> dict[str, TrainingRun]:
    """The committed training runs by name, in the order of `cifar_runs.csv`; all if none is named.

    Raises ValueError for a run that is not there, naming those that are, or no list.
    """
    check_list(names)
    known = [name for name in RUNS if run_path(name).exists()]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no training runs {unknown}; choose from {', '.join(known)}")
    return {name: TrainingRun.load(run_path(name)) for name in names or known}


def runs_of(tier: str, banks: Mapping[str, FeatureBank]) -> dict[str, TrainingRun]:
    """The training runs that a claim about networks in general rests on, by name.

    In the embedded tier the committed runs of these networks, `resnet20` standing for its runs by
    all authors; in another tier the banks themselves, one run of each network.  Where the banks
    are.
    """
    if tier != "embedded":
        return {name: TrainingRun.of(name, bank, spread=True) for name, bank in banks.items()}
    home = {name: bank.features.device for name, bank in banks.items()}
    runs = load_runs([name for name in RUNS if name.partition(":")[0] in banks])
    return {name: run.to(home[name.partition(":")[0]]) for name, run in runs.items()}


def origins(names: Sequence[str]) -> pd.DataFrame:
    """One row a run: its name, depth, recipe, and whether the paper's networks began from it."""
    recipes = [RUNS[name].recipe if name in RUNS else "common" for name in names]
    papers = [":" not in name for name in names]
    columns = {"run": list(names), "depth": [depth_of(name) for name in names]}
    return pd.DataFrame(columns | {"recipe": recipes, "the paper's": papers})
