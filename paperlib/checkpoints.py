"""Files of weights: from the assets, the cache or their public address, checked by SHA-256."""

import hashlib
from pathlib import Path

import torch

from paperlib.paths import cache_folder, find_asset


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_checkpoint(url: str) -> Path:
    """The file behind an address that ends in `name-<first digits of its SHA-256>.<suffix>`.

    Looked for under `checkpoints/` in the assets and in the cache, else downloaded to the cache.
    Raises RuntimeError where the SHA-256 does not start with the digits in the name.
    """
    name = url.rpartition("/")[2]
    expected = Path(name).stem.rpartition("-")[2]
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
