"""Random generators of a seed that is checked: PyTorch would take -1, NumPy names no seed."""

from numbers import Integral

import numpy as np
import torch


def check_whole(name: str, value: int, least: int) -> None:
    """Raise ValueError unless a value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _check_seed(seed: int) -> None:
    check_whole("seed", seed, 0)
    if seed >= 2**64:
        raise ValueError(f"seed must be below 2**64, not {seed}")


def numpy_generator(seed: int) -> np.random.Generator:
    """NumPy's generator.  Raises ValueError unless 0 <= seed < 2^64, a whole number."""
    _check_seed(seed)
    return np.random.default_rng(seed)


def torch_generator(seed: int) -> torch.Generator:
    """PyTorch's generator on the CPU.  Raises ValueError as `numpy_generator` does."""
    _check_seed(seed)
    return torch.Generator().manual_seed(seed)
