"""Features and statistics of datasets of any size: in shards, by several processes if there are.

A shard is a fixed range of images, whoever extracts it and whenever, and a batch never straddles
two: an interrupted run, or one of several processes, gives the numbers of an uninterrupted one.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.datasets import DatasetFolder
from tqdm import tqdm

from paperlib.bank import FeatureBank
from paperlib.distributed import Processes, processes
from paperlib.extraction import Extraction, Span, collected, versions
from paperlib.filters import ClassStatistics, class_statistics
from paperlib.shards import ShardFolder
from paperlib.tensorfile import Column, content_sha256

SHARD_SIZE = 2048  # images: 25 MB of a ResNet-50 on ImageNet, some minutes of a CPU
TIMEOUT = 1800.0  # seconds that a process waits for the others at the end of each shard


def save_features(
    model: nn.Module,
    dataset: Dataset | Mapping[str, Dataset],
    out: str | Path,
    *,
    head: str | None = None,
    blocks: Sequence[str] = (),
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    shard_size: int = SHARD_SIZE,
    timeout: float = TIMEOUT,
    progress: bool = True,
    metadata: dict | None = None,
) -> FeatureBank:
    """The bank of `extract_features`, byte for byte, saved to `out` by way of shards.

    Every `shard_size` images (rounded down to whole batches) are a file in `out` + ".parts". A
    call that was killed, or failed, goes on from these when repeated; the folder goes when the
    bank is whole. Under torchrun the processes share the shards, which all machines must see.

    Raises what `extract_features` raises, ShardError where the shards there were made with other
    settings, LostProcessError where another process is killed or silent for `timeout` seconds,
    and OSError for a full disk; what is finished stays.
    """
    out = Path(out)
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder; name a file for the bank")
    job = Extraction(
        model,
        dataset,
        head=head,
        blocks=blocks,
        device=device,
        batch_size=batch_size,
        workers=workers,
    )
    made = (metadata or {}) | {"versions": versions()}
    shard_size = _whole_batches(shard_size, batch_size)
    settings = made | _fingerprint(job) | {"shard_size": shard_size}
    spans = job.spans(shard_size)
    folder = ShardFolder(out.with_name(f"{out.name}.parts"), len(spans), settings)
    with processes(job.device, timeout) as group:
        missing = group.from_first(folder.open)
        try:
            group.together(folder.check_manifest)
            _fill(folder, job, spans, missing, group, progress)
            group.from_first(
                lambda: folder.join(
                    out, job.head(), job.class_names, lambda skipped: made | {"skipped": skipped}
                )
            )
        except Exception as error:
            if finished := folder.finished():
                error.add_note(
                    f"{finished} of {len(spans)} shards are safe in {folder.path}; "
                    "the same command goes on from there"
                )
            elif group.rank == 0:
                folder.discard()
            raise
        bank = FeatureBank.load(out)
        group.from_first(folder.discard)
    return bank


def _whole_batches(shard_size: int, batch_size: int) -> int:
    return max(1, shard_size // batch_size) * batch_size


def _fingerprint(job: Extraction) -> dict:
    """What two runs must share for their shards to belong to one bank."""
    weights = {k: Column.of(v) for k, v in job.model.state_dict().items() if isinstance(v, Tensor)}
    return {
        "images": job.images,
        "files_sha256": {split: _files_sha256(images) for split, images in job.datasets.items()},
        "class_names": job.class_names,
        "weights_sha256": content_sha256(weights),
        "head": job.head_name,
        "blocks": list(job.blocks),
        "device": job.device.type,
        "batch_size": job.batch_size,
    }


def _files_sha256(images: Dataset) -> str | None:
    """Digest of the names and labels of an image folder; None for other datasets."""
    if not isinstance(images, DatasetFolder):
        return None
    listed = (f"{path.removeprefix(str(images.root))} {y}\n" for path, y in images.samples)
    return sha256("".join(listed).encode()).hexdigest()


def _progress_bar(job: Extraction, left: int, shown: bool) -> tqdm:
    total = sum(job.images.values())
    return tqdm(total=total, initial=total - left, unit="image", disable=not shown)


def _fill(
    folder: ShardFolder,
    job: Extraction,
    spans: Sequence[Span],
    missing: Sequence[int],
    group: Processes,
    progress: bool,
) -> None:
    """Write the missing shards, one by every process at a time, until there are none left."""
    mine = group.share(missing)
    batches = job.rows([b for i in mine if i is not None for b in spans[i].cut(job.batch_size)])
    bar = _progress_bar(job, sum(spans[i].size for i in missing), progress and group.rank == 0)
    with bar, job.running():
        for index in mine:
            span = None if index is None else spans[index]
            done = group.together(partial(_write_shard, folder, job, index, span, batches, bar))
            bar.update(sum(done) - done[group.rank])


def _write_shard(
    folder: ShardFolder,
    job: Extraction,
    index: int | None,
    span: Span | None,
    batches: Iterator[tuple[dict[str, Tensor], int]],
    bar: tqdm,
) -> int:
    """Extract one shard, check it as the bank it is part of, and store it: its images."""
    if index is None or span is None:
        return 0
    rows, skipped = collected(batches, len(span.cut(job.batch_size)), bar)
    if rows:
        job.bank(rows, {})
    folder.write(index, rows, skipped)
    return span.size


def extract_statistics(
    model: nn.Module,
    dataset: Dataset | Mapping[str, Dataset],
    *,
    ks: int | Sequence[int],
    head: str | None = None,
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    shard_size: int = SHARD_SIZE,
    timeout: float = TIMEOUT,
    progress: bool = True,
) -> ClassStatistics:
    """The `class_statistics` of a dataset's features, in memory that does not grow with it.

    Give the train split; `ks` is k_max or a grid of k; `shard_size` images are held at a time.
    Under torchrun every process takes its share of the images, and all get the sum, which equals
    that of a single process.  Nothing is written, so a killed run starts again.  Raises what
    `extract_features` and `class_statistics` raise, and LostProcessError.
    """
    job = Extraction(
        model, dataset, head=head, device=device, batch_size=batch_size, workers=workers
    )
    shape = (job.final.in_features, job.final.out_features)
    spans = job.spans(_whole_batches(shard_size, batch_size))
    statistics = class_statistics(torch.zeros(0, shape[0]), torch.zeros(0).long(), shape[1], ks)
    with processes(job.device, timeout) as group:
        mine = group.share(spans)
        batches = job.rows([b for span in mine if span for b in span.cut(batch_size)])
        bar = _progress_bar(job, sum(job.images.values()), progress and group.rank == 0)

        def count(span: Span | None) -> int:
            nonlocal statistics
            if span is None:
                return 0
            rows, _ = collected(batches, len(span.cut(batch_size)), bar)
            if rows:
                statistics += class_statistics(rows["features"], rows["labels"], shape[1], ks)
            return span.size

        with bar, job.running():
            for span in mine:
                done = group.together(partial(count, span))
                bar.update(sum(done) - done[group.rank])
        return group.all_reduced(statistics)
