"""Claims, and the rules that turn a figure with its 95 % interval into a verdict.

A rule is written before the figure.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Rule:
    """A rule in words and as a function of (value, low, high) to a verdict."""

    text: str
    decide: Callable[[float, float, float], str]


@dataclass(frozen=True)
class Claim:
    """A claim in our words, the published figure and where it stands, and how it is decided."""

    statement: str
    published: str
    source: str
    notebook: str
    quantity: str
    rule: Rule


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


RULES = {rule.__name__: rule for rule in (contains, at_most, at_least, proportional)}


def with_interval(record: Mapping) -> str:
    """`value [low, high]`, all with the decimals that give the largest three digits."""
    numbers = [record[name] for name in ("value", "low", "high")]
    largest = max((abs(number) for number in numbers if math.isfinite(number)), default=0)
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 2
    value, low, high = (f"{number:.{decimals}f}" for number in numbers)
    return f"{value} [{low}, {high}]"
