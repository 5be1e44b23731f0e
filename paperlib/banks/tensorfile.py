"""Safetensors files written piece by piece, whole or not at all, and the digest of their content.

The library's own `save_file` needs every tensor in memory at once; a bank of ImageNet does not
fit. The bytes written here are those it would write.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from paperlib.banks.atomic import whole_file

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


class Column(NamedTuple):
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


def content_sha256(columns: Mapping[str, Column]) -> str:
    """Hexadecimal SHA-256 over the name, type, shape and bytes of every tensor, by name."""
    digest = hashlib.sha256()
    for name, column in sorted(columns.items()):
        digest.update(f"{name} {column.dtype} {column.shape}".encode())
        for piece in column.pieces():
            digest.update(piece)
    return digest.hexdigest()


def record_sha256(tensors: Mapping[str, Tensor], record: dict) -> str:
    """SHA-256 over tensors and over everything that a record, of JSON values, says of them."""
    columns = {name: Column.of(tensor) for name, tensor in tensors.items()}
    text = content_sha256(columns) + json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_tensors(path: Path, columns: Mapping[str, Column], metadata: dict[str, str]) -> None:
    """Write a safetensors file with no more than one chunk in memory.

    Raises OSError where the disk is full or `path` cannot be written; nothing is left then.
    """
    order = list(TYPE_NAMES)
    columns = dict(sorted(columns.items(), key=lambda item: (order.index(item[1].dtype), item[0])))
    header: dict = {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape, _) in columns.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        kind = TYPE_NAMES[dtype]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for column in columns.values():
            for piece in column.pieces():
                file.write(piece)
        if file.tell() != 8 + len(text) + end:
            raise ValueError(f"{path}: the chunks do not add up to the shapes of their tensors")
