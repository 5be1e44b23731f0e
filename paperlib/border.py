"""What may become a part of a bank: taken as it is meant, or refused by its name."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from paperlib.store import TYPE_NAMES, BankError


def real_numbers(name: str, values: object) -> Tensor:
    """A dense tensor from a tensor, an array, a table of pandas or nested lists of real numbers."""
    if np.ma.is_masked(values):
        raise BankError(f"{name} must not be masked; leave out what is")
    is_table = hasattr(values, "__array__") and not isinstance(values, Tensor | np.ndarray)
    try:
        given = torch.as_tensor(np.array(values) if is_table else values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BankError(
            f"{name} must be a tensor, an array or lists of numbers: {error}"
        ) from error
    if given.layout != torch.strided or given.is_meta:
        kind = "meta" if given.is_meta else given.layout
        raise BankError(f"{name} must be a dense tensor with values, not {kind}")
    if given.is_complex():
        raise BankError(f"{name} must be real numbers, not {given.dtype}")
    return given.detach()


def whole_numbers(name: str, values: object, dtype: torch.dtype) -> Tensor:
    """Integers of a type, from any numbers that are whole and fit."""
    given = real_numbers(name, values)
    if given.dtype == torch.bool:
        raise BankError(f"{name} must be whole numbers, not {given.dtype}")
    integers = given.to(dtype)
    if not torch.equal(integers.to(given.dtype), given):
        odd = given[integers.to(given.dtype) != given][0].item()
        raise BankError(f"{name} must be whole numbers from 0, found {odd:g}")
    return integers


def weight_and_bias(given: object) -> list[Tensor]:
    """The two float32 tensors of a head that is given as a pair."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        found = f"{len(given)} parts" if isinstance(given, tuple | list) else type(given).__name__
        raise BankError(f"a head must be a pair (weight [C, D], bias [C]), got {found}")
    return [real_numbers("the head", part).float() for part in given]


def pooled_blocks(given: object) -> dict[str, Tensor]:
    """Outputs `[N, D_l]` of blocks by name, of any floating type that a file can hold."""
    if not isinstance(given, Mapping):
        raise BankError(f"blocks must be a dict of tensors, not {type(given).__name__}")
    blocks = {}
    for name, values in given.items():
        if not isinstance(name, str) or not name:
            raise BankError(f"names of blocks must be strings that are not empty, found {name!r}")
        block = real_numbers(f"blocks/{name}", values)
        if block.ndim != 2 or not block.is_floating_point() or block.dtype not in TYPE_NAMES:
            found = f"{list(block.shape)} {block.dtype}"
            raise BankError(f"blocks/{name} must be [N, D] floating point, got {found}")
        blocks[name] = block
    return blocks


def names_of_classes(given: object) -> list[str]:
    """A list of strings; a single string is no list of its letters."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise BankError(f"class names must be a list of strings, not {type(given).__name__}")
    names = list(given)
    if odd := [name for name in names if not isinstance(name, str)]:
        raise BankError(f"class names must be strings, found {odd[0]!r}")
    return names


def vouch(features: Tensor, largest: float | None) -> None:
    """Note that features were checked, and the largest |feature|, until they change in place."""
    if largest is not None and not features.is_inference():  # which count no changes
        features._largest = (features._version, largest)  # type: ignore[attr-defined]


def vouched(features: Tensor) -> float | None:
    """What `vouch` noted, or None: a bank's features are not read again to be checked."""
    version, largest = getattr(features, "_largest", (None, None))
    return largest if version is not None and version == features._version else None
