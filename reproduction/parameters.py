"""Parameters of the notebooks as a command line gives them: text, read as the notebook's own."""

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import papermill

from paperlib.extraction.options import choose_device
from paperlib.seeds import check_whole
from reproduction.tiers import check_tier

PATHS = ("data", "bank_file", "images")  # parameters that name one
LEAST = {"seed": 0}  # the other whole numbers count something, from 1
KINDS = {bool: "true or false", list: 'a list such as ["resnet20"] or [3, 5]'}
CHECKS: dict[str, Callable[[str], object]] = {"tier": check_tier, "device": choose_device}


def parameters_for(
    notebooks: Sequence[Path], texts: Mapping[str, str], defaults: Mapping = MappingProxyType({})
) -> dict[Path, dict]:
    """What to pass to each notebook: the parameters that its `parameters` cell declares.

    `defaults` are those of a tier, which no notebook need declare.  Raises ValueError for a
    parameter that none of the notebooks declares, and for a value that one cannot take.
    """
    declared = {path: papermill.inspect_notebook(path) for path in notebooks}
    known = sorted({name for names in declared.values() for name in names})
    if unknown := sorted(set(texts) - set(known)):
        raise ValueError(f"unknown parameters {unknown}; choose from {', '.join(known)}")
    work = {}
    for path, names in declared.items():
        given = {
            name: _read(name, texts[name], ast.literal_eval(one["default"]), path.stem)
            for name, one in names.items()
            if name in texts
        }
        # What is drawn must be among what is loaded
        first = {"network": given["networks"][0]} if given.get("networks") else {}
        usual = {name: one for name, one in ({**defaults, **first}).items() if name in names}
        work[path] = usual | given
    return work


def _read(name: str, text: str, own: object, notebook: str) -> Any:
    """A parameter as a value of the type of the notebook's own; raises ValueError otherwise."""
    try:
        if isinstance(own, str):
            CHECKS.get(name, str)(text)
            return _absolute(text) if text and name in PATHS else text
        value = _value(text)
        if isinstance(own, int) and not isinstance(own, bool):
            check_whole(name, value, LEAST.get(name, 1))
        elif type(value) is not type(own):
            raise ValueError(f"{name} must be {KINDS[type(own)]}, not {value!r}")
    except ValueError as error:
        raise ValueError(f"notebook {notebook}: {error}") from error
    return value


def _value(text: str) -> Any:
    """A number, true/false or list where the text reads as JSON, else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _absolute(text: str) -> str:
    """A path, or one behind a kind ("imagefolder:PATH"), from the root: notebooks run elsewhere.

    The name of a data set that is no path, "cifar10" or "cifar10:N", stays as it is.
    """
    if text.partition(":")[0] == "cifar10":
        return text
    kind, colon, path = text.rpartition(":")
    return f"{kind}{colon}{Path(path).expanduser().resolve()}"
