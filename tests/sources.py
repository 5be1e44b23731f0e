"""Sources of the figures that prose quotes: functions without arguments, each one figure."""

import json
import re
from collections.abc import Callable
from functools import partial

import nbformat
import pandas as pd
import torch
from test_bad_files import TABLES as BAD_INPUT
from torchvision.models import get_model_weights

import paperlib as pl
from paperlib.metrics.overlap import mutual_information
from reproduction.banks import load_bank
from reproduction.claims import CLAIMS
from reproduction.paths import NOTEBOOKS, ROOT
from reproduction.rules import REPRODUCED
from reproduction.tiers import IMAGES_PER_CLASS, TIERS

FIGURES, DATA = ROOT / "figures", ROOT / "data"
IMAGENET = {"train": 1_281_167, "val": 50_000}  # images: Russakovsky et al. 2015
IMAGENET_FILTERS = {"resnet18": 512, "resnet50": 2048}
# What a source is in the table: a function of nothing that gives one figure
Source = Callable[[], float]


def _of_claim(key: str, field: str) -> float:
    return json.loads((FIGURES / "claims" / f"{key}.json").read_text())[field]


def _column(name: str, column: str, where: dict) -> pd.Series:
    """A column of a table in `figures/`, or in `data/` by a name that begins so."""
    folder = DATA if name.startswith("data/") else FIGURES
    rows = pd.read_csv(folder / f"{name.removeprefix('data/')}.csv")
    for key, value in where.items():
        rows = rows[rows[key] == value]
    return rows[column]


def _of_table(name: str, column: str, where: dict, end: Callable | None) -> float:
    found = _column(name, column, where)
    return float(end(found) if end else found.item())


def refitted() -> float:
    """ResNet-20's accuracy with five influential filters per class, refitted."""
    train, test = (load_bank("resnet20").split(split) for split in ("train", "test"))
    return pl.accuracy(pl.refit(train, pl.influential(train, k=5)), test).value


def four_need() -> float:
    """Filters within a point in the paper's four networks, which the claim on all runs mentions."""
    return float(
        json.loads((FIGURES / "claims" / "few-filters.json").read_text())["reason"].split()[-1]
    )


def lost_by_the_cut() -> float:
    """Points that five filters per class lose, the mean of all training runs."""
    return _column("06_dimension_and_depth", "points lost at k = 5", {}).mean()


def number_of(verdict: str = "") -> int:
    """How many claims have a verdict; all of them if it is left out."""
    verdicts = _column("claims", "verdict", {})
    return int((verdicts == verdict).sum()) if verdict else len(verdicts)


def partly_by_the_interval() -> int:
    """Claims that are partly reproduced though their value alone meets the rule."""
    rows = pd.read_csv(FIGURES / "claims.csv").query("verdict == 'partly'")
    values = zip(rows["claim"], rows["value"], strict=True)
    return sum(CLAIMS[key].rule.decide(value, value, value) == REPRODUCED for key, value in values)


def _printed(notebook: str, column: str, row: str, beside: str) -> float:
    """A cell of the one table in a notebook's outputs that has this column and these two rows."""
    (path,) = NOTEBOOKS.glob(f"{notebook}_*.ipynb")
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            lines = output.get("data", {}).get("text/plain", "").splitlines()
            header, *rows = [re.split(r"\s{2,}", line.strip()) for line in lines] or [[]]
            by_name = {values[1]: values[1:] for values in rows if len(values) > 1}
            if column in header and {row, beside} <= by_name.keys():
                found.append(float(by_name[row][header.index(column)]))
    (value,) = found
    return value


def _said(notebook: str, words: str) -> float:
    """What the one match of `words` in a notebook's printed outputs holds in its brackets."""
    (path,) = NOTEBOOKS.glob(f"{notebook}_*.ipynb")
    outputs = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    (found,) = re.findall(words, "\n".join(outputs))
    return float(found)


def self_information() -> float:
    """I(a; a) in nats of a subset of 5 of 64 filters, its entropy."""
    return mutual_information(torch.arange(64)[None] < 5).item()


def gigabytes(network: str, images: int = 1000 * sum(IMAGES_PER_CLASS.values())) -> float:
    """A bank of the imagenet tier: features and logits of 1000 classes in float32."""
    return 4e-9 * images * (IMAGENET_FILTERS[network] + 1000)


def gigabytes_of_weights() -> float:
    weights = (get_model_weights(name)["IMAGENET1K_V1"] for name in TIERS["imagenet"])
    return 4e-9 * sum(each.meta["num_params"] for each in weights)


def of_scale(key: str) -> float:
    """Of the refit at the size of ImageNet's head."""
    return json.loads((DATA / "better_subsets.json").read_text())["scale"][key]


def _fine_tuning() -> pd.DataFrame:
    """Percent of the test images that each run has right: full, cut, fine-tuned."""
    rows = pd.read_csv(DATA / "fine_tuning.csv").set_index("run")
    columns = ["full correct", "cut correct", "fine-tuned correct"]
    return 100 * rows[columns].div(rows["test images"], axis=0)


def fine_tuned(run: str) -> float:
    """Test accuracy of a run after an epoch of fine-tuning, in %."""
    return _fine_tuning().loc[run, "fine-tuned correct"]


def fine_tuned_runs() -> int:
    return len(_fine_tuning())


def largest_loss_after_fine_tuning() -> float:
    rows = _fine_tuning()
    return (rows["full correct"] - rows["fine-tuned correct"]).max()


def runs() -> int:
    """The training runs of others that claims on networks in general rest on."""
    return len(_column("01_runs", "name", {}))


def against_chance() -> list[float]:
    """p of every network, size and measure of notebook 04, of which it draws four by three."""
    return _column("04_four_networks", "p", {}).tolist()


def bad_input() -> int:
    """Cases of bad input in the tests' tables."""
    return sum(map(len, BAD_INPUT.values()))


def limit(key: str) -> float:
    """What the interval of a claim must keep within, by its rule."""
    return float(re.search(r"at or (?:below|above) (\S+)", CLAIMS[key].rule.text)[1])


def claim(key: str) -> list[Source]:
    """The value of a claim."""
    return [partial(_of_claim, key, "value")]


def interval(key: str) -> list[Source]:
    """The interval of a claim: low, high."""
    return [partial(_of_claim, key, field) for field in ("low", "high")]


def whole(key: str) -> list[Source]:
    """Value, low and high of a claim."""
    return claim(key) + interval(key)


def cell(table: str, column: str = "value", /, **where) -> list[Source]:
    """A cell of `figures/<table>.csv`, in the one row of which `where` is true."""
    return [partial(_of_table, table, column, where, None)]


def over(end: Callable, table: str, column: str = "value", /, **where) -> list[Source]:
    """The least, the most or the mean of such cells, `end`, over the rows that `where` leaves."""
    return [partial(_of_table, table, column, where, end)]


def printed(notebook: str, column: str, *, row: str, beside: str) -> list[Source]:
    """A cell of a table that a notebook prints, told by its row and another one."""
    return [partial(_printed, notebook, column, row, beside)]


def said(notebook: str, *words: str) -> list[Source]:
    """Figures that a notebook prints: each the bracket of a pattern that matches once."""
    return [partial(_said, notebook, each) for each in words]


def theirs(*values: float) -> list[Source]:
    """Figures of others, such as those of `reproduction.published`, and constants."""
    return [partial(float, value) for value in values]


def needed_at(depth: int, end: Callable) -> list[Source]:
    """Filters within a point over the runs of the common recipe at a depth."""
    where = {"recipe": "common", "depth": depth}
    return over(end, "06_dimension_and_depth", "filters within 1 point", **where)


def in_the_dense_head(how: str) -> list[Source]:
    """The share of the dense head's errors that can be read, by the same filters and by all."""
    names = ("dense head, the same filters", "dense head, all filters")
    return [one for name in names for one in cell("12_errors", **{"name": name, "error is": how})]


def of_ten_outputs(end: Callable, r: int) -> list[Source]:
    """Accuracy with r components over the three ImageNet networks."""
    return over(end, "05_imagenet", outputs="ten", subspace="components", r=r)
