"""Notebooks under test write their figures and claims to a folder of the session, not the clone."""

import os
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    folder = tempfile.TemporaryDirectory(prefix="paperlib-figures-")
    os.environ["PAPERLIB_FIGURES"] = folder.name
    config.add_cleanup(folder.cleanup)
