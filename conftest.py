"""Notebooks under test write their figures and claims to a folder of the session, not the clone."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    folder = tempfile.TemporaryDirectory(prefix="paperlib-figures-")
    os.environ["PAPERLIB_FIGURES"] = folder.name
    # The scorecard reads the claims of the other notebooks, which may not be part of this session
    shutil.copytree(Path(__file__).parent / "figures" / "claims", Path(folder.name) / "claims")
    config.add_cleanup(folder.cleanup)
