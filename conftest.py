"""Notebooks under test stay whole, and write figures and claims to a folder of their own."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") == "load":  # `-n 2` would part the cells of a notebook
        config.option.dist = "loadfile"
    if "PAPERLIB_FIGURES" not in os.environ:  # xdist's workers inherit it
        folder = tempfile.TemporaryDirectory(prefix="paperlib-figures-")
        os.environ["PAPERLIB_FIGURES"] = folder.name
        config.add_cleanup(folder.cleanup)
    # The scorecard reads the claims of the other notebooks, which may not be part of this session
    claims = Path(os.environ["PAPERLIB_FIGURES"]) / "claims"
    if not claims.exists():
        shutil.copytree(Path(__file__).parent / "figures" / "claims", claims)
