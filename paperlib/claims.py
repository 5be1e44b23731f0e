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


@dataclass(frozen=True)
class Claim:
    """A claim in our words, the published figure and where it stands, and how it is decided."""

    statement: str
    published: str
    source: str
    notebook: str
    quantity: str
    rule: Rule


CLAIMS = {
    "baseline-accuracy": Claim(
        "The network and its features are the paper's",
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
}


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def record_claim(
    folder: Path, key: str, value: float, low: float, high: float, reason: str
) -> dict:
    """Decide a claim by its rule from a figure and its 95 % interval, and store the record.

    `folder` is the figures folder of the tier; the record is `claims/<key>.json` below it.
    `reason` says in one line what differs and why.  Raises ValueError for an unknown claim.
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
        "verdict": claim.rule.decide(value, low, high),
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
