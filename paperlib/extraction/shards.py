"""A folder of shards: extraction that can be killed at any moment and goes on from there.

`manifest.json` holds the settings, `00000.safetensors` and so on the rows of a fixed range of
images each. A file appears whole or not at all, so that what is there can be relied on.
"""

import json
import reprlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from paperlib.bank import LinearHead
from paperlib.store import (
    HEADER_KEY,
    TensorStream,
    atomic_write,
    content_sha256,
    write_bank,
    write_tensors,
)

SCHEMA_VERSION = 1


class ShardError(ValueError):
    """Shards that cannot be used; the message names the folder or file and what is wrong."""


class Shard(NamedTuple):
    """One shard on the disk: how many images it holds and how many it left out."""

    path: Path
    rows: int
    skipped: int

    def tensors(self) -> dict[str, Tensor]:
        """The rows of the shard by tensor name, mapped into memory."""
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


class Chunks:
    """One tensor of several shards, read shard by shard each time it is gone through."""

    def __init__(self, shards: list[Shard], name: str):
        self.shards, self.name = shards, name

    def __iter__(self) -> Iterator[Tensor]:
        for shard in self.shards:
            with safe_open(shard.path, framework="pt") as file:
                yield file.get_tensor(self.name)


class ShardFolder:
    """Shards 0..count-1 of one extraction, with the `settings` (JSON values) that made them."""

    def __init__(self, path: Path, count: int, settings: Mapping):
        self.path, self.count = path, count
        settings = {"schema_version": SCHEMA_VERSION, "shards": count} | dict(settings)
        self.settings = json.loads(json.dumps(settings))
        self.manifest = path / "manifest.json"
        self.lock = path / ".lock"

    def file(self, index: int) -> Path:
        """Where a shard is, or will be."""
        return self.path / f"{index:05d}.safetensors"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other processes out of it; the system unlocks it if we die.

        Raises ShardError where another process is in it or a file in its place, OSError where
        nothing can be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ShardError(f"{self.path} is no folder, and shards belong there; move it away")
        self.path.mkdir(parents=True, exist_ok=True)
        busy = f"another process is writing to {self.path}: wait for it, or write elsewhere"
        lock = FileLock(self.lock, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise ShardError(busy) from error
        try:
            if not self.lock.exists():  # deleted by whoever has finished in the meantime
                raise ShardError(busy)
            yield
        finally:
            lock.release()

    def check_manifest(self) -> None:
        """Raise ShardError unless the folder's manifest is here and holds these settings."""
        try:
            found = json.loads(self.manifest.read_text())
        except FileNotFoundError as error:
            raise ShardError(
                f"{self.manifest} is missing: every machine must see the same folder"
            ) from error
        except ValueError as error:
            raise ShardError(f"{self.manifest} is not JSON ({error}); delete the folder") from error
        names = sorted(found.keys() | self.settings.keys())
        if differ := [name for name in names if found.get(name) != self.settings.get(name)]:
            changes = "; ".join(
                f"{name} was {reprlib.repr(found.get(name))}, "
                f"is now {reprlib.repr(self.settings.get(name))}"
                for name in differ
            )
            raise ShardError(
                f"{self.path} holds shards made with other settings ({changes}): "
                "return to those to go on, or delete the folder to start again"
            )

    def open(self) -> list[int]:
        """Start in the folder, which is `locked`, or go on with it: the shards that are missing.

        Shards that are not whole are reported by a warning, deleted, and count as missing.
        Raises ShardError for a folder made with other settings or that holds other files.
        """
        if not self.manifest.exists():
            ours = {".tmp", self.lock.name}
            if others := [p.name for p in self.path.iterdir() if not ours & {p.suffix, p.name}]:
                raise ShardError(f"{self.path} holds {others[:5]} but no manifest; move it away")
            with atomic_write(self.manifest) as file:
                file.write(json.dumps(self.settings, indent=1).encode())
        self.check_manifest()
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        for index in self._present():
            try:
                read_shard(self.file(index))
            except ShardError as error:
                warnings.warn(f"{error}; its images are extracted again", stacklevel=2)
                self.file(index).unlink()
        return sorted(set(range(self.count)) - self._present())

    def _present(self) -> set[int]:
        # By listing: network file systems remember for a while that a file was not there
        names = {path.name for path in self.path.glob("*.safetensors")}
        return {index for index in range(self.count) if self.file(index).name in names}

    def write(self, index: int, rows: Mapping[str, Tensor], skipped: int) -> None:
        """Store the rows of a shard; raises OSError where the disk is full."""
        columns = {name: TensorStream.of(tensor) for name, tensor in rows.items()}
        header = {
            "rows": len(rows["labels"]) if rows else 0,
            "skipped": skipped,
            "content_sha256": content_sha256(columns),
        }
        write_tensors(self.file(index), columns, {HEADER_KEY: json.dumps(header, sort_keys=True)})

    def finished(self) -> int:
        """How many shards there are."""
        return len(self._present())

    def join(
        self,
        out: Path,
        head: LinearHead,
        class_names: list[str],
        metadata: Callable[[int], dict],
    ) -> None:
        """Write the bank of all shards to `out`, holding one shard in memory at a time.

        `metadata` makes the bank's metadata from the number of images skipped.  Raises ShardError
        for a missing shard, ValueError where all images were skipped.
        """
        if missing := sorted(set(range(self.count)) - self._present()):
            raise ShardError(f"{self.path} lacks {len(missing)} shards, first number {missing[0]}")
        shards = [read_shard(self.file(index)) for index in range(self.count)]
        full = [shard for shard in shards if shard.rows]
        if not full:
            raise ValueError("the dataset holds no readable images")
        rows = sum(shard.rows for shard in full)
        columns = {
            name: TensorStream(tensor.dtype, [rows, *tensor.shape[1:]], Chunks(full, name))
            for name, tensor in full[0].tensors().items()
        }
        columns |= {
            "head.weight": TensorStream.of(head.weight),
            "head.bias": TensorStream.of(head.bias),
        }
        skipped = sum(shard.skipped for shard in shards)
        # Within the folder first, so that no litter stays beside the bank after a kill
        whole = self.path / "bank.safetensors"
        write_bank(whole, columns, class_names, metadata(skipped))
        whole.replace(out)

    def discard(self) -> None:
        """Delete what this class wrote, the manifest last, so that a kill meanwhile is harmless."""
        own = [*self.path.glob("*.safetensors"), *self.path.glob(".*.tmp"), self.manifest]
        for path in [*own, self.lock]:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody's own files are in there
            self.path.rmdir()


def read_shard(path: Path) -> Shard:
    """Check a shard: all of it there, and the tensors those that were written.

    Raises FileNotFoundError, or ShardError that names the file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
    except (SafetensorError, ValueError) as error:
        raise ShardError(f"shard {path} is not whole ({error})") from error
    shard = Shard(path, header.get("rows", 0), header.get("skipped", 0))
    columns = {name: TensorStream.of(tensor) for name, tensor in shard.tensors().items()}
    if header.get("content_sha256") != content_sha256(columns):
        raise ShardError(f"shard {path} was altered: its tensors do not match their SHA-256")
    return shard
