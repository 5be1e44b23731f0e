"""Files that are never committed: looked up, or downloaded once, and checked by SHA-256."""

import hashlib
import os
from pathlib import Path
from urllib.request import urlopen

from paperlib.store import atomic_write

LARGEST_DOWNLOAD = 4 * 2**30  # bytes; the largest weights in torchvision have 2.6 GB
TIMEOUT = 60  # seconds without a byte


def cache_folder() -> Path:
    """Downloads live in `PAPERLIB_CACHE`, or in `paperlib` under the user's cache folder."""
    if folder := os.environ.get("PAPERLIB_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "paperlib"


def find_asset(relative: str) -> Path | None:
    """First hit for `relative` in the folder named by `PAPERLIB_ASSETS`, then in the cache.

    Raises FileNotFoundError where `PAPERLIB_ASSETS` names a folder that does not exist.
    """
    folders = [cache_folder()]
    if assets := os.environ.get("PAPERLIB_ASSETS"):
        if not Path(assets).is_dir():
            raise FileNotFoundError(f"PAPERLIB_ASSETS names {assets!r}, which is not a folder")
        folders.insert(0, Path(assets))
    return next((hit for f in folders if (hit := f / relative).exists()), None)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: Path, expected: str, largest: int = LARGEST_DOWNLOAD) -> None:
    """Fetch a file over https, at most `largest` bytes, whose SHA-256 starts with `expected`.

    It appears at `path` whole and checked, or not at all.  Raises ValueError for another protocol,
    RuntimeError for a file that is too large or not the expected one, OSError from the network.
    """
    digest, size = hashlib.sha256(), 0
    _check_https(url)
    try:
        with urlopen(url, timeout=TIMEOUT) as answer, atomic_write(path) as file:
            _check_https(answer.url)  # where redirects led to
            while block := answer.read(2**20):
                size += len(block)
                if size > largest:
                    raise RuntimeError(f"{url} is larger than {largest:,} bytes: not downloaded")
                digest.update(block)
                file.write(block)
            _check_sha256(url, digest.hexdigest(), expected)
    except OSError as error:
        raise OSError(f"cannot download {url} to {path}: {error}") from error


def _check_https(url: str) -> None:
    if not url.startswith("https://"):
        raise ValueError(f"downloads are over https only, not {url}")


def _check_sha256(name: str | Path, digest: str, expected: str) -> None:
    if not expected or not digest.startswith(expected):
        found = digest[: len(expected) or None]
        raise RuntimeError(f"{name}: SHA-256 starts with {found}, expected {expected or 'one'}")


def fetch_checkpoint(url: str, expected: str, name: str = "") -> Path:
    """The file behind an address, whose SHA-256 starts with `expected`.

    Looked for as `checkpoints/NAME` in the assets and in the cache, else downloaded to the cache;
    `name` is the last part of the address if it is empty.  Raises RuntimeError where the SHA-256
    starts with other digits, and what `download` raises.
    """
    name = name or url.rpartition("/")[2]
    path = find_asset(f"checkpoints/{name}")
    if path is None:
        path = cache_folder() / "checkpoints" / name
        download(url, path, expected)
    else:
        _check_sha256(path, sha256_of(path), expected)
    return path
