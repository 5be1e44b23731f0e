"""Bank files: the tensors of a bank in one safetensors file, with a header that is checked."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from paperlib.banks.tensorfile import Column, content_sha256, write_tensors

SCHEMA_VERSION = 2  # 1, which other programs may write, has no digest, or one of the tensors alone
HEADER_KEY = "paperlib"  # the one key of the safetensors metadata: all of ours, as JSON
DTYPES = {
    "features": torch.float32,
    "logits": torch.float32,
    "labels": torch.int64,
    "split": torch.uint8,
}
OPTIONAL_DTYPES = {"head.weight": torch.float32, "head.bias": torch.float32}


class BankError(ValueError):
    """A bank that cannot be used; the message names the file, the tensor and what is wrong."""


def write_bank(
    path: Path, columns: Mapping[str, Column], class_names: list[str], metadata: dict
) -> None:
    """Write the tensors of a bank, given in chunks, with the header that `load` checks."""
    header = {
        "schema_version": SCHEMA_VERSION,
        "content_sha256": content_sha256(columns),
        "class_names": class_names,
        "metadata": metadata,
    }
    try:  # as it will be read: numbers as keys become strings, which sort otherwise
        header = json.loads(json.dumps(header, allow_nan=False))
        header["header_sha256"] = _header_sha256(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise BankError(f"metadata must hold JSON values only: {error}") from error
    # One key, because safetensors writes several in an order that changes between runs
    write_tensors(path, columns, {HEADER_KEY: json.dumps(header, sort_keys=True)})


def holds_bank(path: Path) -> bool:
    """Whether a file says that it is a bank; its content is not checked."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return HEADER_KEY in (file.metadata() or {})
    except SafetensorError:
        return False


def read_bank(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """The header and the tensors of a bank file, mapped into memory; schema and digest checked.

    Raises FileNotFoundError, or BankError that says what is wrong with the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no feature bank at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
            if not isinstance(header, dict):
                raise BankError(f"its header is a {type(header).__name__}, not a JSON object")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise BankError(
            "it is not a whole safetensors file (truncated, or a pickle or another "
            f"format, which paperlib does not open): {error}"
        ) from error
    _check_schema(header, tensors)
    return header, tensors


def _header_sha256(header: dict) -> str:
    """Digest of all of a header but itself: what the tensors' digest does not cover."""
    covered = {key: value for key, value in header.items() if key != "header_sha256"}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def _check_schema(header: dict, tensors: dict[str, Tensor]) -> None:
    version = header.get("schema_version")
    if type(version) is not int or version not in range(1, SCHEMA_VERSION + 1):
        raise BankError(f"schema version is {version}, this paperlib reads up to {SCHEMA_VERSION}")
    if missing := sorted(set(DTYPES) - set(tensors)):
        raise BankError(f"missing tensors: {', '.join(missing)}")
    if ("head.weight" in tensors) != ("head.bias" in tensors):
        raise BankError("head.weight and head.bias must be stored together")
    for name, dtype in (DTYPES | OPTIONAL_DTYPES).items():
        if name in tensors and tensors[name].dtype != dtype:
            raise BankError(f"{name} is {tensors[name].dtype}, expected {dtype}")
    digest = content_sha256({name: Column.of(tensor) for name, tensor in tensors.items()})
    if header.get("content_sha256", digest) != digest:
        raise BankError("the tensors do not match their SHA-256: the file was altered")
    known = header.get("header_sha256")
    if (version > 1 or known is not None) and known != _header_sha256(header):
        raise BankError("the header does not match its SHA-256: the file was altered")
