"""Files that are never committed: looked up, or downloaded once, and checked by SHA-256."""

import hashlib
import os
from pathlib import Path

import torch


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


def fetch_checkpoint(url: str, expected: str, name: str = "") -> Path:
    """The file behind an address, whose SHA-256 starts with `expected`.

    Looked for as `checkpoints/NAME` in the assets and in the cache, else downloaded to the cache;
    `name` is the last part of the address if it is empty.  Raises RuntimeError where the SHA-256
    starts with other digits.
    """
    name = name or url.rpartition("/")[2]
    path = find_asset(f"checkpoints/{name}")
    if path is None:
        path = cache_folder() / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=expected)
    elif not (digest := sha256_of(path)).startswith(expected):
        raise RuntimeError(
            f"{path}: SHA-256 starts with {digest[: len(expected)]}, expected {expected}"
        )
    return path
