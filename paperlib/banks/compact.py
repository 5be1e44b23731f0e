"""Small files of our own beside banks: tensors of any type and a JSON record, with a digest."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from paperlib.banks.atomic import whole_file
from paperlib.banks.files import BankError
from paperlib.banks.tensorfile import record_sha256


def write_compact(path: Path, key: str, tensors: Mapping[str, Tensor], record: dict) -> Path:
    """Write tensors, and under `key` a record of JSON values; the same bytes every time."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    record = record | {"sha256": record_sha256(tensors, record)}
    with whole_file(path) as file:
        file.write(save(tensors, {key: json.dumps(record, sort_keys=True)}))
    return path


def read_compact(path: Path, key: str, what: str) -> tuple[dict[str, Tensor], dict]:
    """What `write_compact` wrote; `what` names it in errors.

    Raises FileNotFoundError, or BankError for another file or an altered one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()[key])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stated = record.pop("sha256")
    except (SafetensorError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise BankError(f"{path} holds no {what}: {error}") from error
    if stated != record_sha256(tensors, record):
        raise BankError(f"{path} does not match its SHA-256: the file was altered")
    return tensors, record
