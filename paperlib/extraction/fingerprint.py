"""What two runs must share for their shards to belong to one bank; no image is loaded for it."""

import re
from collections.abc import Iterator
from hashlib import sha256

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.datasets import DatasetFolder

from paperlib.extraction.forward import Extraction
from paperlib.store import TensorStream, content_sha256

# What a dataset may hold in memory: a TensorDataset its tensors, torchvision's pixels and labels
HELD = ("tensors", "data", "targets", "labels")


def fingerprint(job: Extraction) -> dict:
    """The network, its images and the options, as JSON values.

    Image files are known by their names, and what else a dataset loads by its length.
    """
    weights = {
        k: TensorStream.of(v) for k, v in job.model.state_dict().items() if isinstance(v, Tensor)
    }
    records = {split: _record(images.dataset) for split, images in job.images.items()}
    keys = next(iter(records.values()), {})
    return {key: {split: record[key] for split, record in records.items()} for key in keys} | {
        "images": job.counts,
        "class_names": job.class_names,
        "weights_sha256": content_sha256(weights),
        "layers_sha256": _sha256(job.model),
        "head": job.head_name,
        "blocks": list(job.blocks),
        "device": job.device.type,
        "precision": job.options.precision,
        "batch_size": job.options.batch_size,
    }


def files_sha256(images: Dataset) -> str | None:
    """Digest of the names and labels of an image folder; None for other datasets."""
    if not isinstance(images, DatasetFolder):
        return None
    listed = (f"{path.removeprefix(str(images.root))} {y}\n" for path, y in images.samples)
    return sha256("".join(listed).encode()).hexdigest()


def _record(images: Dataset) -> dict:
    indices = []
    while isinstance(images, Subset):
        indices.append([int(i) for i in images.indices])
        images = images.dataset
    transforms = [getattr(images, name, None) for name in ("transform", "target_transform")]
    return {
        "files_sha256": files_sha256(images),
        "subset_sha256": _sha256(indices),
        "items_sha256": _sha256(images if isinstance(images, list | tuple) else None),
        "transforms": [_plain(transform) for transform in transforms],
    } | {f"{name}_sha256": _sha256(getattr(images, name, None)) for name in HELD}


def _sha256(value: object) -> str:
    digest = sha256()
    for piece in _pieces(value):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(value: object) -> Iterator[bytes | memoryview]:
    """The bytes of tensors and arrays, however deep in lists; the words for all else."""
    if isinstance(value, Tensor | np.ndarray):
        yield f"{value.dtype} {list(value.shape)} ".encode()
    if isinstance(value, Tensor):
        yield from TensorStream.of(value).pieces()
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    elif isinstance(value, list | tuple) and not all(isinstance(part, int) for part in value):
        yield f"{len(value)} parts ".encode()
        for part in value:
            yield from _pieces(part)
    else:
        yield f"{_plain(value)}\n".encode()


def _plain(value: object) -> str:
    """An object in its own words, without addresses in memory, which the next process changes."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
