"""CIFAR ResNets of our own training: weights, recipe and history in one safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from paperlib.networks.cifar import CifarResNet
from paperlib.store import record_sha256

RECORD_KEY = "experiments.training"  # the recipe and what came of it, as JSON in the file's header
PREFIX = "model."  # of the weights' names, beside which the optimiser's state may stand


def read_record(path: str | Path) -> dict:
    """Recipe, normalisation, images, device, versions and history of a trained network.

    Raises FileNotFoundError, and ValueError for another file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no trained network at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()[RECORD_KEY])
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a network of our training: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path}: the record is a {type(record).__name__}, not a JSON object")
    return record


def check_digest(path: str | Path, tensors: Mapping[str, Tensor], record: dict) -> None:
    """Raise ValueError where tensors or record are not those that were written."""
    said = {key: value for key, value in record.items() if key != "sha256"}
    if record.get("sha256") != record_sha256(tensors, said):
        raise ValueError(f"{path} does not match its SHA-256: the file was altered")


def load_trained(path: str | Path) -> tuple[CifarResNet, str]:
    """The network of a file, in eval mode, and its normalisation; errors as `read_record`."""
    record = read_record(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    check_digest(path, tensors, record)
    state = {n.removeprefix(PREFIX): t for n, t in tensors.items() if n.startswith(PREFIX)}
    model = CifarResNet(record["recipe"]["depth"], num_classes=len(state["linear.bias"]))
    model.load_state_dict(state)
    return model.eval(), record["normalisation"]
