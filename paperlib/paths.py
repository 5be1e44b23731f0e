"""Where things are: the clone, its banks and figures, and the assets that are never committed."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"


def data_folder() -> Path:
    """What notebooks read by default, `banks/` and small tables: `PAPERLIB_DATA`, or `data/`."""
    return Path(os.environ.get("PAPERLIB_DATA", ROOT / "data"))


def cache_folder() -> Path:
    """Downloads live in `PAPERLIB_CACHE`, or in `paperlib` under the user's cache folder."""
    if folder := os.environ.get("PAPERLIB_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "paperlib"


def find_asset(relative: str) -> Path | None:
    """First hit for `relative` in the folder named by `PAPERLIB_ASSETS`, then in the cache.

    Raises FileNotFoundError where `PAPERLIB_ASSETS` names a folder that does not exist.
    """
    folders = [cache_folder()]
    if assets := os.environ.get("PAPERLIB_ASSETS"):
        if not Path(assets).is_dir():
            raise FileNotFoundError(f"PAPERLIB_ASSETS names {assets!r}, which is not a folder")
        folders.insert(0, Path(assets))
    return next((hit for f in folders if (hit := f / relative).exists()), None)


def figures_folder(tier: str = "embedded") -> Path:
    """Where the notebooks of a tier write figures, tables and claims; `PAPERLIB_FIGURES` wins.

    The embedded tier writes the committed `figures/`; every other tier writes below `build/`,
    so that a run on other data never overwrites what the README shows.
    """
    if folder := os.environ.get("PAPERLIB_FIGURES"):
        return ROOT / folder
    return ROOT / "figures" if tier == "embedded" else ROOT / "build" / tier / "figures"
