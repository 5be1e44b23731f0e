"""The paper's claims: what was published, the rule that decides the verdict, and the record.

A notebook measures and calls `record_claim`; the verdict follows from the claim's rule, never
from the author of the notebook.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Rule:
    """A rule in words and as a function of (value, low, high) to a verdict."""

    text: str
    decide: Callable[[float, float, float], str]


def contains(published: float, margin: float, unit: str) -> Rule:
    """Reproduced where our interval holds the published value; partly where we come close."""

    def decide(value: float, low: float, high: float) -> str:
        if low <= published <= high:
            return REPRODUCED
        return PARTLY if abs(value - published) <= margin else NOT_REPRODUCED

    text = f"the 95 % interval holds {published:g} {unit} (partly: within {margin:g} {unit} of it)"
    return Rule(text, decide)


def at_most(limit: float, partly: float, unit: str) -> Rule:
    """Reproduced where the whole interval lies at or below the limit; partly up to `partly`."""

    def decide(value: float, low: float, high: float) -> str:
        if high <= limit:
            return REPRODUCED
        return PARTLY if value <= partly else NOT_REPRODUCED

    text = f"the 95 % interval ends at or below {limit:g} {unit} (partly: value up to {partly:g})"
    return Rule(text, decide)


def at_least(limit: float, partly: float, unit: str) -> Rule:
    """Reproduced where the whole interval lies at or above the limit; partly down to `partly`."""
    mirrored = at_most(-limit, -partly, unit)
    text = f"the 95 % interval starts at or above {limit:g} {unit} (partly: value from {partly:g})"
    return Rule(text, lambda value, low, high: mirrored.decide(-value, -high, -low))


def proportional() -> Rule:
    """Of an exponent: 1 is proportional, 0 unrelated; an interval with both tells nothing."""

    def decide(value: float, low: float, high: float) -> str:
        if low <= 0 <= high:
            return NOT_TESTABLE if high >= 1 else NOT_REPRODUCED
        if low <= 1 <= high:
            return REPRODUCED
        return PARTLY if low > 0 else NOT_REPRODUCED

    text = (
        "the 95 % interval holds 1 and not 0 (partly: above 0 without 1; not testable: holds both)"
    )
    return Rule(text, decide)


@dataclass(frozen=True)
class Claim:
    """A claim in our words, the published figure and where it stands, and how it is decided."""

    statement: str
    published: str
    source: str
    notebook: str
    quantity: str
    rule: Rule


BEYOND = "beyond the paper: not in it"  # of claims of our own

CLAIMS = {
    "baseline-accuracy": Claim(
        "The full ResNet-20 is as accurate as published",
        "91.71 %",
        "ResNet-20 on the CIFAR-10 test set",
        "00_baseline_accuracy",
        "test accuracy of the full ResNet-20, %",
        contains(91.71, 1.0, "%"),
    ),
    "few-filters": Claim(
        "A handful of filters decides each class",
        "5 of 64 filters a class",
        "abstract; k = 5 for ResNet-20",
        "01_few_filters_decide_each_class",
        "filters a class for accuracy within 1 point of the full head, mean of four networks",
        at_most(16, 32, "of 64 filters"),
    ),
    "frequency-finds-them": Claim(
        "The frequency histogram finds filters that matter",
        "no random baseline published",
        "the frequency histogram",
        "01_few_filters_decide_each_class",
        "accuracy at k = 5 above random subsets, points, mean of four networks",
        at_least(20, 5, "points"),
    ),
    "same-subsets": Claim(
        "Our subsets are the published ones",
        "50 of 50 by definition",
        "published subsets of ResNet-20, k = 5",
        "01_few_filters_decide_each_class",
        "share of published filters found again at k = 5, %",
        at_least(80, 50, "%"),
    ),
    "decomposed-accuracy": Claim(
        "The decomposed head keeps most of the accuracy as it is",
        "88.59 %",
        "ResNet-20 on the CIFAR-10 test set, before fine-tuning",
        "02_decomposed_head_keeps_accuracy",
        "test accuracy with the published subsets, k = 5, %",
        contains(88.59, 1.0, "%"),
    ),
    "finetuning-restores": Claim(
        "Fine-tuning by the decomposed softmax restores the accuracy",
        "0.3 to 0.4 points lost (91.3 to 91.4 %)",
        "ResNet-20 on the CIFAR-10 test set, one epoch",
        "02_decomposed_head_keeps_accuracy",
        "points lost at k = 5 after refitting the head, mean of four networks",
        at_most(1.0, 1.0, "points"),
    ),
    "essential-filters": Claim(
        "The influential filters are essential: noise on them costs more than on all others",
        "no figure published with the subsets",
        "essentiality: features replaced by N(0, 1) noise",
        "03_influential_filters_are_essential",
        "accuracy with noise on all others minus noise on the 5 influential, points, four networks",
        at_least(20, 5, "points"),
    ),
    "essential-beyond-chance": Claim(
        "Influential filters are more essential than as many random ones",
        "no random baseline published",
        "our control of the same claim",
        "03_influential_filters_are_essential",
        "accuracy with noise on 5 random minus noise on the 5 influential, points, four networks",
        at_least(20, 5, "points"),
    ),
    "essential-at-their-mean": Claim(
        "Influential filters stay essential when a replaced feature keeps its mean",
        "only noise is published",
        "our control of the same claim",
        "03_influential_filters_are_essential",
        "accuracy with the mean in all others minus in the 5 influential, points, four networks",
        at_least(20, 5, "points"),
    ),
    "overlap-figure": Claim(
        "The mutual information of the classes' subsets is the published one",
        "34.5378 millinats",
        "ResNet-20, k = 5, self-pairs included",
        "04_filter_subsets_overlap_little",
        "mean mutual information of our own ResNet-20 subsets, self-pairs included, millinats",
        contains(34.5378, 2.0, "millinats"),
    ),
    "overlap-at-chance": Claim(
        "The subsets of different classes overlap little: no more than chance gives",
        "no random baseline published",
        "our control of the same claim",
        "04_filter_subsets_overlap_little",
        "filters that two classes share at k = 5, as a multiple of chance, mean of four networks",
        at_most(1, 2, "times chance"),
    ),
    "overlap-below-csg": Claim(
        "The subsets overlap less than those of CSG, as published (lowest gates)",
        "34.5378 against 37.5091 millinats, self-pairs included",
        "ResNet-20, k = 5",
        "04_filter_subsets_overlap_little",
        "CSG's mean mutual information minus ours, self-pairs left out, millinats",
        at_least(0, 0, "millinats"),
    ),
    "overlap-below-csg-highest": Claim(
        "The subsets overlap less than those of CSG, read by its highest gates",
        "not compared",
        "the authors' CSG checkpoint, k = 5",
        "04_filter_subsets_overlap_little",
        "CSG's mean mutual information minus ours, self-pairs left out, millinats",
        at_least(0, 0, "millinats"),
    ),
    "decision-dimension": Claim(
        "Decisions lie on a low-dimensional manifold",
        "no figure in the abstract; any head of 10 classes decides in 9 at most",
        "abstract",
        "05_decisions_lie_on_a_low_dimensional_manifold",
        "principal components for accuracy within 1 point, mean of the networks",
        at_most(16, 32, "of 64 directions"),
    ),
    "low-dimensional-decisions": Claim(
        "C - 1 principal components decide better than as many random directions",
        "no control published",
        "our control: random subspaces of the same dimension",
        "05_decisions_lie_on_a_low_dimensional_manifold",
        "accuracy on C - 1 principal components above random subspaces, points, mean of networks",
        at_least(20, 5, "points"),
    ),
    "variance-meets-decisions": Claim(
        "The features vary along the directions that the head reads",
        "not stated",
        "our control: what the C - 1 bound leaves of the claim",
        "05_decisions_lie_on_a_low_dimensional_manifold",
        "mean cos^2 of C - 1 principal components with the head's directions, %, mean of networks",
        at_least(80, 50, "%"),
    ),
    "filters-proportional-to-depth": Claim(
        "The number of filters that decide a class is proportional to network depth",
        "proportional: exponent 1",
        "abstract",
        "06_dimension_and_depth",
        "exponent of the smallest k within 1 point against depth, one point a network",
        proportional(),
    ),
    "dimension-proportional-to-depth": Claim(
        "The dimension of the decision manifold is proportional to network depth",
        "proportional: exponent 1",
        "abstract",
        "06_dimension_and_depth",
        "exponent of the decision dimension against depth, one point a network",
        proportional(),
    ),
    "concentration-rises": Claim(
        "From block to block, fewer of the filters carry an image's response",
        "rises along the network, no figure known to us",
        "Psi at the residual blocks",
        "07_selectivity_along_the_network",
        "rank correlation of Psi with the block's position, mean of the networks",
        at_least(0.8, 0.5, "in rank correlation"),
    ),
    "concentration-is-learnt": Claim(
        "Training makes Psi rise along the network",
        "no untrained network published",
        "our control of the same claim",
        "07_selectivity_along_the_network",
        "rise of Psi from first to last block, trained minus untrained, mean of the networks",
        at_least(0.1, 0, "of the filters"),
    ),
    "class-selectivity-is-learnt": Claim(
        "Training makes filters more class-specific from block to block",
        "no untrained network published",
        "the selectivity index of Leavitt & Morcos 2020, our measure of the same claim",
        "07_selectivity_along_the_network",
        "rise of the index from first to last block, trained minus untrained, mean of the networks",
        at_least(0.1, 0, "of the index"),
    ),
    "cheaper-head": Claim(
        "The decomposed head costs less than the dense one",
        "lower computational cost, no figure",
        "abstract",
        "08_decomposed_head_costs_less",
        "times fewer multiply-accumulates in the head alone, 95 % of its decisions kept",
        at_least(2, 1.5, "times"),
    ),
    "beyond-points-lost": Claim(
        "The recommended subsets and refit lose at most 0.7 points with 5 filters a class",
        BEYOND,
        "our aim; the paper's own loss is under 'Fine-tuning by the decomposed softmax'",
        "11_better_subsets",
        "points lost at k = 5 against the full head, mean of four networks",
        at_most(0.7, 0.7, "points"),
    ),
    "beyond-points-lost-3": Claim(
        "The recommended subsets and refit lose at most 1.3 points with 3 filters a class",
        BEYOND,
        "our aim",
        "11_better_subsets",
        "points lost at k = 3 against the full head, mean of four networks",
        at_most(1.3, 1.3, "points"),
    ),
    "beyond-no-training": Claim(
        "Without any training, contrast and mean fill keep more than the paper's head",
        BEYOND,
        "our comparison with the paper's ranking and head",
        "11_better_subsets",
        "accuracy at k = 3 above frequency in the plain head, points, mean of four networks",
        at_least(0, 0, "points"),
    ),
    "beyond-choice-matters": Claim(
        "With 5 filters a class, the refit does not rescue random ones",
        BEYOND,
        "our control",
        "11_better_subsets",
        "refitted accuracy at k = 5 above refitted random subsets, points, mean of four networks",
        at_least(10, 5, "points"),
    ),
    "beyond-peer-accuracy": Claim(
        "The recommended head is not below glm_saga's with as many filters a class",
        BEYOND,
        "our comparison with Wong, Santurkar & Madry 2021, arXiv 2105.04857",
        "11_better_subsets",
        "accuracy above glm_saga's, mean of k = 3 and 5 and of four networks, points",
        at_least(0, 0, "points"),
    ),
    "beyond-peer-time": Claim(
        "The recommended head takes less than a fiftieth of glm_saga's time",
        BEYOND,
        "our comparison with Wong, Santurkar & Madry 2021, arXiv 2105.04857",
        "11_better_subsets",
        "time of glm_saga's path over ours for one head, lesser of k = 3 and 5, times",
        at_least(50, 10, "times"),
    ),
}


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def record_claim(
    folder: Path,
    key: str,
    value: float,
    low: float,
    high: float,
    reason: str,
    *,
    testable: bool = True,
) -> dict:
    """Decide a claim by its rule from a figure and its 95 % interval, and store the record.

    `folder` is the figures folder of the tier; the record is `claims/<key>.json` below it.
    `reason` says in one line what differs and why; `testable` is false on a tier to which the rule
    does not apply, such as a number of CIFAR-10 filters on ImageNet.  Raises ValueError for an
    unknown claim.
    """
    if key not in CLAIMS:
        raise ValueError(f"unknown claim {key!r}; choose from {', '.join(CLAIMS)}")
    claim = CLAIMS[key]
    record = asdict(claim) | {
        "claim": key,
        "value": round(value, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "rule": claim.rule.text,
        "verdict": claim.rule.decide(value, low, high) if testable else NOT_TESTABLE,
        "reason": reason,
    }
    write_atomically(Path(folder) / "claims" / f"{key}.json", json.dumps(record, indent=1) + "\n")
    return record


def summary(record: dict) -> str:
    """A record as five aligned lines: statement, published, ours with interval, rule, verdict."""
    ours = f"{record['value']:.4g} [{record['low']:.4g}, {record['high']:.4g}]"
    lines = {
        "claim": record["statement"],
        "published": record["published"],
        "ours": f"{ours}: {record['quantity']}",
        "rule": record["rule"],
        "verdict": record["verdict"].upper(),
    }
    return "\n".join(f"{name:<10}{text}" for name, text in lines.items())


def scorecard(folder: Path) -> pd.DataFrame:
    """All recorded claims of a figures folder, one row each, in the registry's order."""
    rows = []
    for key in CLAIMS:
        path = Path(folder) / "claims" / f"{key}.json"
        if path.exists():
            rows.append(json.loads(path.read_text()))
    return pd.DataFrame(rows)


def scorecard_markdown(table: pd.DataFrame, notebooks: str) -> str:
    """The scorecard as a Markdown table; `notebooks` is the link to the notebooks' folder."""
    lines = [
        "| claim | published | ours, with 95 % interval | verdict | why it differs |",
        "|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        link = f"[{row['statement']}]({notebooks}/{row['notebook']}.ipynb)"
        ours = f"{row['value']:.4g} [{row['low']:.4g}, {row['high']:.4g}]: {row['quantity']}"
        verdict = f"**{row['verdict']}**"
        lines.append(f"| {link} | {row['published']} | {ours} | {verdict} | {row['reason']} |")
    return "\n".join(lines) + "\n"
