"""The record of claims: a notebook measures, the claim's rule decides, the scorecard collects."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from paperlib.store import write_text
from reproduction.registry import CLAIMS
from reproduction.rules import NOT_TESTABLE, with_interval


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
    write_text(Path(folder) / "claims" / f"{key}.json", json.dumps(record, indent=1) + "\n")
    return record


def summary(record: Mapping) -> str:
    """A record as five aligned lines: statement, published, ours with interval, rule, verdict."""
    lines = {
        "claim": record["statement"],
        "published": record["published"],
        "ours": f"{with_interval(record)}: {record['quantity']}",
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
        ours = f"{with_interval(row)}: {row['quantity']}"
        verdict = f"**{row['verdict']}**"
        lines.append(f"| {link} | {row['published']} | {ours} | {verdict} | {row['reason']} |")
    return "\n".join(lines) + "\n"
