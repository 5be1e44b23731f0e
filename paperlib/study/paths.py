"""Where the study's notebooks, data and figures are: in a clone, not in the installed package."""

import os
from pathlib import Path

from paperlib.study.tiers import check_tier

MARK = Path("notebooks", "00_baseline_accuracy.ipynb")


def find_clone() -> Path:
    """The clone that this package is installed from (editable), or that one works in.

    Raises FileNotFoundError where there is none.
    """
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[2], here, *here.parents):
        if (folder / MARK).is_file():
            return folder
    raise FileNotFoundError(
        "the study's notebooks and data are in a clone of the repository, not in the installed "
        "package: change into a clone, or install from it with `pip install --editable .`"
    )


ROOT = find_clone()
NOTEBOOKS = ROOT / "notebooks"


def data_folder() -> Path:
    """What notebooks read by default, `banks/` and small tables: `PAPERLIB_DATA`, or `data/`."""
    return Path(os.environ.get("PAPERLIB_DATA", ROOT / "data"))


def figures_folder(tier: str = "embedded") -> Path:
    """Where the notebooks of a tier write figures, tables and claims; `PAPERLIB_FIGURES` wins.

    The embedded tier writes the committed `figures/`; every other tier writes below `build/`,
    so that a run on other data never overwrites what the README shows.  Raises ValueError for an
    unknown tier.
    """
    check_tier(tier)
    if folder := os.environ.get("PAPERLIB_FIGURES"):
        return ROOT / folder
    return ROOT / "figures" if tier == "embedded" else ROOT / "build" / tier / "figures"
