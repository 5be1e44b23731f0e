"""Files of ours: whole or not there, in safetensors, with a header and digests that are checked."""

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that appears at `path` complete and on the disk, or not at all.

    The folders above it are made.  Raises OSError that names `path` where it cannot be written.
    """
    # A name of our own, so that of two writers of one file the last wins and neither fails
    writer = f"{os.getpid()}.{threading.get_native_id()}"
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    ours = {None, *map(str, (temporary, *path.parents))}  # None: the file that is being written
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in ours:
            raise
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # not there, as a rule
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all, and the folders above it."""
    with atomic_write(path) as file:
        file.write(text.encode())


# In the order in which safetensors stores tensors: by type, then by name.
TYPE_NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class TensorStream(NamedTuple):
    """A tensor given as chunks of its rows, in order; `chunks` can be gone through repeatedly."""

    dtype: torch.dtype
    shape: list[int]
    chunks: Iterable[Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> Self:
        """The column of one tensor in memory."""
        return cls(tensor.dtype, list(tensor.shape), [tensor])

    def pieces(self) -> Iterator[memoryview]:
        """The bytes of the chunks, one chunk at a time."""
        for chunk in self.chunks:
            yield chunk.detach().cpu().reshape(-1).view(torch.uint8).numpy().data


def content_sha256(streams: Mapping[str, TensorStream]) -> str:
    """Hexadecimal SHA-256 over the name, type, shape and bytes of every tensor, by name."""
    digest = hashlib.sha256()
    for name, column in sorted(streams.items()):
        digest.update(f"{name} {column.dtype} {column.shape}".encode())
        for piece in column.pieces():
            digest.update(piece)
    return digest.hexdigest()


def record_sha256(tensors: Mapping[str, Tensor], record: dict) -> str:
    """SHA-256 over tensors and over everything that a record, of JSON values, says of them."""
    streams = {name: TensorStream.of(tensor) for name, tensor in tensors.items()}
    text = content_sha256(streams) + json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_tensors(
    path: Path, streams: Mapping[str, TensorStream], metadata: dict[str, str]
) -> None:
    """Write a safetensors file with no more than one chunk in memory.

    Raises OSError where the disk is full or `path` cannot be written; nothing is left then.
    """
    order = list(TYPE_NAMES)
    streams = dict(sorted(streams.items(), key=lambda item: (order.index(item[1].dtype), item[0])))
    header: dict = {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape, _) in streams.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        kind = TYPE_NAMES[dtype]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for column in streams.values():
            for piece in column.pieces():
                file.write(piece)
        if file.tell() != 8 + len(text) + end:
            raise ValueError(f"{path}: the chunks do not add up to the shapes of their tensors")


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
    path: Path, streams: Mapping[str, TensorStream], class_names: list[str], metadata: dict
) -> None:
    """Write the tensors of a bank, given in chunks, with the header that `load` checks."""
    header = {
        "schema_version": SCHEMA_VERSION,
        "content_sha256": content_sha256(streams),
        "class_names": class_names,
        "metadata": metadata,
    }
    try:  # as it will be read: numbers as keys become strings, which sort otherwise
        header = json.loads(json.dumps(header, allow_nan=False))
        header["header_sha256"] = _header_sha256(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise BankError(f"metadata must hold JSON values only: {error}") from error
    # One key, because safetensors writes several in an order that changes between runs
    write_tensors(path, streams, {HEADER_KEY: json.dumps(header, sort_keys=True)})


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
    digest = content_sha256({name: TensorStream.of(tensor) for name, tensor in tensors.items()})
    if header.get("content_sha256", digest) != digest:
        raise BankError("the tensors do not match their SHA-256: the file was altered")
    known = header.get("header_sha256")
    if (version > 1 or known is not None) and known != _header_sha256(header):
        raise BankError("the header does not match its SHA-256: the file was altered")


def write_compact(path: Path, key: str, tensors: Mapping[str, Tensor], record: dict) -> Path:
    """Write tensors, and under `key` a record of JSON values; the same bytes every time."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    record = record | {"sha256": record_sha256(tensors, record)}
    with atomic_write(path) as file:
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
