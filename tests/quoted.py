"""Where each figure that prose quotes comes from: one row a sentence.

A sentence holds `{}` for each figure; line breaks count as spaces. Behind it stands a source for
each `{}`: a claim's value and interval, a cell of a table in `figures/`, what the authors
published, or a measurement that is made here. A figure is right if it is the source's value to the
decimals that it is quoted with.
"""

import json
from collections.abc import Callable
from functools import partial

import pandas as pd

import paperlib as pl
from paperlib.study import published
from paperlib.study.banks import load_bank
from paperlib.study.paths import ROOT

FIGURES = ROOT / "figures"
Source = Callable[[], float]


def _of_claim(key: str, field: str) -> float:
    return json.loads((FIGURES / "claims" / f"{key}.json").read_text())[field]


def _of_table(name: str, column: str, where: dict) -> float:
    rows = pd.read_csv(FIGURES / f"{name}.csv")
    for key, value in where.items():
        rows = rows[rows[key] == value]
    (found,) = rows[column]
    return found


def _refitted() -> float:
    """ResNet-20's accuracy with five influential filters a class, refitted."""
    train, test = (load_bank("resnet20").split(split) for split in ("train", "test"))
    return pl.accuracy(pl.refit(train, pl.influential(train, k=5)), test).value


def _four_need() -> float:
    """Filters within a point in the paper's four networks, which the claim on all runs mentions."""
    return float(
        json.loads((FIGURES / "claims" / "few-filters.json").read_text())["reason"].split()[-1]
    )


def _lost_by_the_cut() -> float:
    """Points that five filters a class lose, the mean of all training runs."""
    return pd.read_csv(FIGURES / "06_dimension_and_depth.csv")["points lost at k = 5"].mean()


def _number_of(verdict: str = "") -> int:
    """How many claims have a verdict; all of them if it is left out."""
    verdicts = pd.read_csv(FIGURES / "claims.csv")["verdict"]
    return int((verdicts == verdict).sum()) if verdict else len(verdicts)


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
    return [partial(_of_table, table, column, where)]


def theirs(value: float) -> list[Source]:
    """A figure of the paper, as `paperlib.study.published` has it."""
    return [lambda: value]


ACCURACY, MI = published.RESNET20_ACCURACY, published.RESNET20_MUTUAL_INFORMATION
FOUR_REFITTED = [
    source
    for column in ("value", "low", "high")
    for source in cell("02_accuracy_lost", column, k=5, head="softmax refit")
]
PAPERS_REFITTED = [
    source
    for column in ("points lost", "low", "high")
    for source in cell(
        "11_runs", column, k=5, head="softmax refit", ranking="frequency (the paper's)"
    )
]
BY_K = partial(cell, "01_accuracy_by_k", network="resnet20", k=5)
README, NOTEBOOKS = "README.md", "notebooks/"
QUOTED: list[tuple[str, str, list[Source]]] = [
    # README
    (
        README,
        "it still classifies {} % of the test images instead of {} %. Five random filters give {}",
        BY_K(subsets="influential") + cell("00_accuracy", name="resnet20") + BY_K(subsets="random"),
    ),
    (README, "the network untouched, gives {} %", [_refitted]),
    (README, "runs the cut costs {} points", [_lost_by_the_cut]),
    (
        README,
        "Of {} claims {} are reproduced, {} partly, {} not",
        [partial(_number_of, v) for v in ("", "reproduced", "partly", "not reproduced")],
    ),
    (README, "ours {} [{}, {}]: filters a class for accuracy within 1 point", whole("few-filters")),
    (README, "within a point, over 24 training runs | {} [{}, {}]", whole("few-filters")),
    (README, "(not the paper's networks) | {} [{}, {}]", whole("few-filters-imagenet")),
    (README, "have over 5 random ones | {} [{}, {}]", whole("frequency-finds-them")),
    (
        README,
        "points still lost ({} in its own networks) | {} [{}, {}]",
        FOUR_REFITTED[:1] + whole("finetuning-restores"),
    ),
    (
        README,
        "each at its mean ({} with noise): points | {} [{}, {}]",
        claim("essential-filters") + whole("essential-at-their-mean"),
    ),
    (README, "any head needs 9 at most) | {} [{}, {}]", whole("decision-dimension")),
    (README, "exponent, 1 if so | {} [{}, {}]", whole("filters-proportional-to-depth")),
    (README, "depth and accuracy held fixed | {} [{}, {}]", whole("collapse-sets-filters")),
    (README, "filters of positive weight) | {} [{}, {}]", whole("countable-decisions")),
    (README, "multiplications in the head | {} [{}, {}]", whole("cheaper-head")),
    # Notebooks, in order
    (NOTEBOOKS + "00", "The paper's network classifies {} %", theirs(ACCURACY["full network"])),
    (
        NOTEBOOKS + "00",
        "has {} % right here too (95 % interval {} to {} %",
        whole("baseline-accuracy"),
    ),
    (NOTEBOOKS + "01", "if they are well chosen: {} ({} to {}) filters", whole("few-filters")),
    (NOTEBOOKS + "01", "networks are kind cases, with {}", [_four_need]),
    (NOTEBOOKS + "01", "accuracy is {} points above that of 5", claim("frequency-finds-them")),
    (
        NOTEBOOKS + "02",
        "still classifies {} % of the test images, against {} % with all 64, and brings back {} to "
        "{} % with one epoch",
        theirs(ACCURACY["decomposed, k = 5"])
        + theirs(ACCURACY["full network"])
        + [
            source
            for end in ACCURACY["decomposed, k = 5, one epoch of fine-tuning"]
            for source in theirs(end)
        ],
    ),
    (NOTEBOOKS + "02", "Yes for the cut: {} % ({} to {} %)", whole("decomposed-accuracy")),
    (NOTEBOOKS + "02", "loss of {} points ({} to {}) in the paper's four", FOUR_REFITTED),
    (NOTEBOOKS + "02", "24 training runs it leaves {} ({} to {})", whole("finetuning-restores")),
    (
        NOTEBOOKS + "03",
        "noise on 5 filters costs {} points ({} to {}) more",
        whole("essential-filters"),
    ),
    (
        NOTEBOOKS + "03",
        "still cost {} points ({} to {}) more",
        whole("essential-at-their-mean"),
    ),
    (
        NOTEBOOKS + "04",
        "{} nats for its own subsets of ResNet-20, {} nats",
        theirs(MI["paper"]) + theirs(MI["CSG, lowest gates"]),
    ),
    (
        NOTEBOOKS + "04",
        "have {} times as many filters in common as chance gives ({} to {})",
        whole("overlap-at-chance"),
    ),
    (NOTEBOOKS + "05", "In {} of 64 ({} to {}), on average", whole("decision-dimension")),
    (
        NOTEBOOKS + "05",
        "accuracy is {} points above that on nine random",
        claim("low-dimensional-decisions"),
    ),
    (
        NOTEBOOKS + "06",
        "participation ratio, with exponent {}.",
        cell("06_relation_to_depth", "exponent", measure="participation ratio"),
    ),
    (NOTEBOOKS + "07", "the block's position is {})", claim("concentration-rises")),
    (NOTEBOOKS + "07", "adds {} to its rise", claim("concentration-is-learnt")),
    (NOTEBOOKS + "07", "rises by {} more than in untrained", claim("class-selectivity-is-learnt")),
    (NOTEBOOKS + "08", "needs {} ({} to {}) times fewer multiplications", whole("cheaper-head")),
    (
        NOTEBOOKS + "08",
        "the paper's ResNet-20 {} times",
        cell("08_training_runs", "times fewer", run="resnet20"),
    ),
    (NOTEBOOKS + "11", "loses {} points ({} to {})", whole("beyond-points-lost")),
    (NOTEBOOKS + "11", "same way lose {} ({} to {})", PAPERS_REFITTED),
    (
        NOTEBOOKS + "12",
        "{} % of the 50 test images that excite it most",
        [lambda: 100 - claim("pure-filters")[0]()],
    ),
]
# Decimals that no table holds, and why: they are no results
EXCEPTIONS = {
    r"arXiv\W{1,2}\d{4}\.\d{5}": "address of a paper",
    r"10\.\d{4,}/\S+": "address of a paper (doi)",
    r"(Python|PyTorch|paperlib) \d+\.\d+(\.\d+)?": "a version",
}
