"""Files that appear whole or not at all."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
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
    with whole_file(path) as file:
        file.write(text.encode())
