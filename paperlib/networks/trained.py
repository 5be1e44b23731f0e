"""CIFAR ResNets of our own training: weights, recipe and history in one safetensors file."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from paperlib.networks.cifar import CifarResNet

RECORD_KEY = "paperlib.training"  # the recipe and what came of it, as JSON in the file's header
PREFIX = "model."  # of the weights' names, beside which the optimiser's state may stand


def read_record(path: str | Path) -> dict:
    """Recipe, normalisation, images, device, versions and history of a trained network.

    Raises FileNotFoundError, and ValueError for a file that `paperlib train` did not make.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no trained network at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()[RECORD_KEY])
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a network that `paperlib train` made: {error}") from error


def load_trained(path: str | Path) -> tuple[CifarResNet, str]:
    """The network of a file, in eval mode, and its normalisation; errors as `read_record`."""
    record = read_record(path)
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(PREFIX)]  # noqa: SIM118
        state = {name.removeprefix(PREFIX): file.get_tensor(name) for name in names}
    model = CifarResNet(record["recipe"]["depth"], num_classes=len(state["linear.bias"]))
    model.load_state_dict(state)
    return model.eval(), record["normalisation"]
