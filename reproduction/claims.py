"""The record of claims: a notebook measures, the claim's rule decides, the scorecard collects."""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import TypeVar

import pandas as pd

from paperlib.store import write_text
from reproduction.rules import NOT_TESTABLE, RULES, Claim, Rule, with_interval

T = TypeVar("T")


def read_claims(path: Path) -> dict[str, Claim]:
    """The claims of a TOML file by key, one table each, in the file's order.

    Raises ValueError, with claim and field, for a field that is missing, unknown or of another
    type, and for a rule of a kind that is not in `RULES`.
    """
    claims = {}
    for key, table in tomllib.loads(path.read_text()).items():
        if isinstance(rule := table.get("rule"), dict):
            table["rule"] = _read_rule(rule, f"claim {key!r}, rule")
        claims[key] = _filled(Claim, table, f"claim {key!r}")
    return claims


def _read_rule(table: dict, owner: str) -> Rule:
    kind = table.pop("kind", None)
    if kind not in RULES:
        raise ValueError(f"{owner}: unknown kind {kind!r}; choose from {', '.join(RULES)}")
    return _filled(RULES[kind], table, f"{owner},")


def _filled(make: Callable[..., T], table: dict, owner: str) -> T:
    """`make(**table)`, where the table has the parameters of `make` and no others."""
    types = {name: parameter.annotation for name, parameter in signature(make).parameters.items()}
    for name in types | table:
        if name not in table:
            raise ValueError(f"{owner} lacks the field {name!r}")
        if name not in types:
            raise ValueError(f"{owner} has an unknown field {name!r}; known are {', '.join(types)}")
        if not isinstance(table[name], int | float if types[name] is float else types[name]):
            raise ValueError(f"{owner} has {table[name]!r} for the field {name!r}")
    return make(**table)


CLAIMS = read_claims(Path(__file__).with_name("claims.toml"))


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
    """All recorded claims of a figures folder, one row each, in the order of `CLAIMS`."""
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
