"""Random generators of a seed that is checked: PyTorch would take -1, NumPy names no seed."""

from numbers import Integral

import numpy as np
import torch


def check_whole(name: str, value: int, least: int) -> None:
    """Raise ValueError unless a value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def numpy_generator(seed: int) -> np.random.Generator:
    """NumPy's generator.  Raises ValueError for a seed that is no whole number of at least 0."""
    check_whole("seed", seed, 0)
    return np.random.default_rng(seed)


def torch_generator(seed: int) -> torch.Generator:
    """PyTorch's generator on the CPU.  Raises ValueError as `numpy_generator` does."""
    check_whole("seed", seed, 0)
    return torch.Generator().manual_seed(seed)
