"""The files that the package reads, small, each with what counts as the same content."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.training.recipe import Recipe
from experiments.training.train import _save as save_training
from paperlib.bank import FeatureBank, LinearHead
from paperlib.networks.assets import fetch_checkpoint, sha256_of
from paperlib.networks.cifar import CifarResNet
from paperlib.networks.trained import load_trained
from reproduction.runs import TrainingRun
from tests.attack.mutations import attack


def small_bank() -> FeatureBank:
    """Forty images, five filters, three classes, with a block and metadata."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(40, 5, generator=generator)
    head = LinearHead(torch.randn(3, 5, generator=generator), torch.zeros(3))
    logits = features @ head.weight.T
    codes = (torch.arange(40) >= 30).to(torch.uint8)
    names = ["ant", "bee", "cow"]
    bank = FeatureBank(features, logits, torch.arange(40) % 3, codes, names, head)
    return replace(bank, blocks={"layer": features[:, :2].half()}, metadata={"network": "tiny"})


def _equal(one: FeatureBank, other: FeatureBank) -> bool:
    mine, theirs = one._tensors(), other._tensors()
    return (
        mine.keys() == theirs.keys()
        and all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
        and (one.class_names, one.metadata) == (other.class_names, other.metadata)
    )


def bank(folder: Path, rounds: int, seed: int) -> Counter:
    """A bank of our own making: tensors, class names and metadata must be the original's."""
    original = small_bank()
    path = original.save(folder / "bank.safetensors")
    same = lambda loaded: _equal(loaded, original)  # noqa: E731
    return attack(path, FeatureBank.load, same, (ValueError, FileNotFoundError), rounds, seed)


def training_run(folder: Path, rounds: int, seed: int) -> Counter:
    """The compact file of a training run."""
    path = TrainingRun.of("tiny", small_bank()).save(folder / "run.safetensors")
    original = TrainingRun.load(path)

    def same(loaded: TrainingRun) -> bool:
        counts = (loaded.statistics.histogram, original.statistics.histogram)
        return loaded.name == "tiny" and torch.equal(*counts) and _equal(loaded.bank, original.bank)

    return attack(path, TrainingRun.load, same, (ValueError, FileNotFoundError), rounds, seed)


def trained_network(folder: Path, rounds: int, seed: int) -> Counter:
    """A network of `python -m experiments train`."""
    torch.manual_seed(0)
    model, path = CifarResNet(8, 3), folder / "net.safetensors"
    record = {"recipe": vars(Recipe(depth=8)), "normalisation": "CIFAR", "history": []}
    save_training(path, model, record)
    whole = {name: tensor.clone() for name, tensor in load_trained(path)[0].state_dict().items()}

    def same(loaded: tuple) -> bool:
        return all(torch.equal(t, whole[name]) for name, t in loaded[0].state_dict().items())

    return attack(path, load_trained, same, (ValueError, FileNotFoundError), rounds, seed)


def checkpoint(folder: Path, rounds: int, seed: int) -> Counter:
    """A checkpoint as the published ones: a pickle, opened only after its SHA-256."""
    torch.manual_seed(0)
    model, path = CifarResNet(8), folder / "checkpoints" / "net.th"
    path.parent.mkdir(exist_ok=True)
    torch.save({"state_dict": model.state_dict()}, path)
    known, whole = sha256_of(path), path.read_bytes()

    def load(victim: Path) -> bytes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PAPERLIB_ASSETS", str(folder))
            found = fetch_checkpoint("https://nowhere/", known, victim.name)
        torch.load(found, weights_only=True)
        return found.read_bytes()

    return attack(path, load, lambda loaded: loaded == whole, (RuntimeError,), rounds, seed)


TARGETS = {
    "checkpoint": checkpoint,
    "bank": bank,
    "training run": training_run,
    "trained network": trained_network,
}
