"""Features of whole datasets, held in memory."""

from collections.abc import Iterator, Mapping
from itertools import islice

import torch
import torchvision
from torch import Tensor, nn
from tqdm import tqdm

import paperlib
from paperlib.bank import FeatureBank
from paperlib.extraction.forward import Extraction
from paperlib.extraction.options import ExtractOptions


def collected(
    batches: Iterator[tuple[dict[str, Tensor], int]], count: int | None, bar: tqdm
) -> tuple[dict[str, Tensor], int]:
    """The next `count` batches (None: all) as one, and how many images they skipped."""
    kept, skipped = [], 0
    for rows, unreadable in islice(batches, count):
        if rows:
            kept.append(rows)
        skipped += unreadable
        bar.update(len(rows.get("labels", ())) + unreadable)
    names = kept[0] if kept else ()
    with torch.inference_mode(False):  # autograd would refuse tensors made in inference mode
        return {name: torch.cat([rows[name] for rows in kept]) for name in names}, skipped


def extract_features(
    model: nn.Module,
    images: Mapping[str, object],
    options: ExtractOptions | None = None,
    *,
    metadata: dict | None = None,
) -> FeatureBank:
    """Penultimate features x and logits x W^T + b of every image, in the dataset's order.

    `images` are those of each split, {"train": ..., "test": ...}, in any form that `as_images`
    takes: (image [3, H, W] float, label) each.  Items that are None are left out and counted in
    `metadata["skipped"]`.  `options.blocks` are kept as `blocks[name]: [N, D_l] float16`.  A copy
    of the model computes them, with its batch norms folded (`inference_copy`); the model itself
    is left as it is.

    Everything is held in memory; `save_features` works through shards on the disk instead.
    Raises what `Extraction` raises, and ValueError for no images.
    """
    job = Extraction(model, images, options)
    total = sum(job.counts.values())
    bar = tqdm(total=total, unit="image", disable=not job.options.progress)
    with bar, job.running():
        rows, skipped = collected(job.rows(job.spans(job.options.batch_size)), None, bar)
    if not rows:
        raise ValueError("the dataset holds no readable images")
    return job.bank(rows, (metadata or {}) | {"skipped": skipped, "versions": versions()})


def versions() -> dict[str, str]:
    """The versions of the packages that determine what is extracted."""
    packages = (paperlib, torch, torchvision)
    return {package.__name__: package.__version__ for package in packages}
