"""Where the study's notebooks, data and figures are: in a clone."""

import os
from pathlib import Path

from reproduction.tiers import check_tier

ROOT = Path(__file__).resolve().parents[1]
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
