"""CIFAR ResNets of our own training: weights, recipe and history in one safetensors file."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from paperlib.networks.cifar import CifarResNet

RECORD_KEY = "paperlib.training"  # the recipe and what came of it, as JSON in the file's header
PREFIX = "model."  # of the weights' names, beside which the optimiser's state may stand


def load_trained(path: str | Path) -> tuple[CifarResNet, str]:
    """The network of a file that `paperlib train` made, in eval mode, and its normalisation.

    Raises FileNotFoundError, and ValueError for a file that is not of this kind.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no trained network at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()[RECORD_KEY])
            state = {
                name.removeprefix(PREFIX): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
                if name.startswith(PREFIX)
            }
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a network that `paperlib train` made: {error}") from error
    model = CifarResNet(record["recipe"]["depth"], num_classes=len(state["linear.bias"]))
    model.load_state_dict(state)
    return model.eval(), record["normalisation"]
