"""Figures in prose are those of the tables and claims; `tests/quoted.py` says which of which."""

import re
from functools import cache

import nbformat
import pytest
from quoted import EXCEPTIONS, QUOTED

from reproduction.paths import NOTEBOOKS, ROOT

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBER = rf"-?\d+(?:,\d{{3}})*(?:\.\d+)?|{'|'.join(WORDS)}"
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.]*\w)")
FILES = [
    "README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
    *(f"notebooks/{path.name}" for path in sorted(NOTEBOOKS.glob("*.ipynb"))),
]
# Tables that a program writes into a page: whole they are compared with their JSON elsewhere, in
# `test_benchmarks` and `test_attack`
WRITTEN = re.compile(r"<!-- (benchmarks|attacks) -->.*?<!-- /\1 -->", re.DOTALL)


@cache
def prose(file):
    """Text on one line; of a notebook its markdown cells, of a link its words alone."""
    (path,) = ROOT.glob(f"{file}*")
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"\]\([^)]*\)", "]", WRITTEN.sub("", text))
    return " ".join(text.replace("**", "").split())


def pattern(sentence):
    return re.compile(re.escape(sentence).replace(r"\{\}", f"({NUMBER})").replace(r"\ ", " "))


def agrees(quoted, value):
    if quoted in WORDS:
        quoted = str(WORDS.index(quoted))
    decimals = len(quoted.partition(".")[2])
    return abs(float(quoted.replace(",", "")) - value) <= 0.5 * 10**-decimals + 1e-9


def uncovered(file, text):
    """Decimals of a text that stand in no sentence of the table and are no exception."""
    rows = [sentence for name, sentence, _ in QUOTED if file.startswith(name)]
    known = [pattern(sentence) for sentence in rows] + [re.compile(e) for e in EXCEPTIONS]
    spans = [match.span() for each in known for match in each.finditer(text)]
    return [
        f"{found[0]} in {text[max(0, found.start() - 70) : found.end() + 30]!r}"
        for found in DECIMAL.finditer(text)
        if not any(start <= found.start() and found.end() <= end for start, end in spans)
    ]


NAMES = [f"{file}: {sentence[:50]}" for file, sentence, _ in QUOTED]  # the same in every process


@pytest.mark.parametrize(("file", "sentence", "sources"), QUOTED, ids=NAMES)
def test_quoted_figures_are_those_of_their_source(file, sentence, sources):
    found = list(pattern(sentence).finditer(prose(file)))
    assert found, f"{file} no longer says {sentence!r}: change its row in tests/quoted.py"
    for match in found:
        for quoted, source in zip(match.groups(), sources, strict=True):
            value = source()
            wrong = f"{file}: {sentence!r} says {quoted}, its source {value:.6g}"
            assert agrees(quoted, value), wrong


@pytest.mark.parametrize("file", FILES)
def test_every_decimal_is_covered(file):
    """Of the README, the docs and the notebooks: in the table, or an exception for a reason."""
    bare = uncovered(file, prose(file))
    assert not bare, f"{file}: no row in tests/quoted.py for {bare}"


def test_wrong_and_new_figures_are_found():
    assert agrees("8.8", 8.75) and agrees("1,832", 1832.4) and agrees("54", 54.02)
    assert not agrees("8.9", 8.75) and not agrees("-8.8", 8.75)
    assert agrees("five", 5) and not agrees("five", 6)
    assert uncovered("README.md", "Random filters lose 3.14 points.")
    assert not uncovered("README.md", "See arXiv 2112.07719, Python 3.11 and v1.2.3.")
