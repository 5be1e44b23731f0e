"""Shared fixtures: the assets beside the project, small random data, and the committed banks."""

import os
from pathlib import Path

import pytest
import torch

from paperlib.bank import FeatureBank, LinearHead
from reproduction.banks import load_bank


@pytest.fixture(scope="session")
def assets() -> Path:
    """Images and checkpoints that are never committed; see `PAPERLIB_ASSETS` in the README."""
    folder = os.environ.get("PAPERLIB_ASSETS")
    if not folder:
        pytest.skip("PAPERLIB_ASSETS is unset: no images or checkpoints to test with")
    return Path(folder)


@pytest.fixture(scope="session")
def resnet20() -> FeatureBank:
    return load_bank("resnet20", device="cpu")


@pytest.fixture
def small_bank() -> FeatureBank:
    """60 images, 6 filters, 3 classes, made from a random head."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(60, 6, generator=generator)
    head = LinearHead(torch.randn(3, 6, generator=generator), torch.randn(3, generator=generator))
    return FeatureBank(
        features,
        features @ head.weight.T + head.bias,
        torch.arange(60) % 3,
        (torch.arange(60) >= 40).to(torch.uint8),
        ["ant", "bee", "cow"],
        metadata={"network": "small"},
    )
