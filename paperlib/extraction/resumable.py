"""Features of datasets of any size: in shards, by several processes if there are.

A shard is a fixed range of images, whoever extracts it and whenever, and a batch never straddles
two: an interrupted run, or one of several processes, gives the numbers of an uninterrupted one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from tqdm import tqdm

from paperlib.bank import FeatureBank
from paperlib.extraction.distributed import Processes, processes
from paperlib.extraction.features import collected, versions
from paperlib.extraction.fingerprint import fingerprint
from paperlib.extraction.forward import Extraction, Span
from paperlib.extraction.options import ExtractOptions
from paperlib.extraction.shards import ShardFolder
from paperlib.store import holds_bank


def save_features(
    model: nn.Module,
    images: Mapping[str, object],
    out: str | Path,
    options: ExtractOptions | None = None,
    *,
    metadata: dict | None = None,
) -> FeatureBank:
    """The bank of `extract_features`, byte for byte, saved to `out` by way of shards.

    Every `options.shard_size` images (rounded down to whole batches) are a file in `out` +
    ".parts". A call that was killed, or failed, goes on from these when repeated; the folder goes
    when the bank is whole. Under torchrun the processes share the shards, which all machines must
    see.

    Raises what `extract_features` raises, ShardError where the shards there have another
    `fingerprint` or another process is at them, LostProcessError where another process of the group
    is killed or silent for `options.timeout` seconds, and OSError for a full disk and where `out`
    is a file but no bank; what is finished stays.
    """
    out = Path(out).expanduser()
    _check_target(out)
    job = Extraction(model, images, options)
    made = (metadata or {}) | {"versions": versions()}
    shard_size = job.options.images_per_shard
    settings = made | fingerprint(job) | {"shard_size": shard_size}
    spans = job.spans(shard_size)
    folder = ShardFolder(out.with_name(f"{out.name}.parts"), len(spans), settings)
    with processes(job.device, job.options.timeout) as group, ExitStack() as held:
        group.on_rank_zero(lambda: held.enter_context(folder.locked()))  # for the whole group
        missing = group.on_rank_zero(folder.open)
        try:
            group.gather_all(folder.check_manifest)
            _fill(folder, job, spans, missing, group)
            group.on_rank_zero(
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
        group.on_rank_zero(folder.discard)
    return bank


def _check_target(out: Path) -> None:
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the bank's name must be UTF-8, not {str(out)!a}") from error
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder; name a file for the bank")
    if out.exists() and not holds_bank(out):
        raise FileExistsError(f"{out} is there and is no bank: delete it, or name another file")


def _progress_bar(job: Extraction, left: int, group: Processes) -> tqdm:
    total, shown = sum(job.counts.values()), job.options.progress and group.rank == 0
    return tqdm(total=total, initial=total - left, unit="image", disable=not shown)


def _fill(
    folder: ShardFolder,
    job: Extraction,
    spans: Sequence[Span],
    missing: Sequence[int],
    group: Processes,
) -> None:
    """Write the missing shards, one by every process at a time, until there are none left."""
    mine, size = group.share(missing), job.options.batch_size
    batches = job.rows([b for i in mine if i is not None for b in spans[i].cut(size)])
    bar = _progress_bar(job, sum(spans[i].size for i in missing), group)
    with bar, job.running():
        for index in mine:
            span = None if index is None else spans[index]
            done = group.gather_all(partial(_write_shard, folder, job, index, span, batches, bar))
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
    rows, skipped = collected(batches, len(span.cut(job.options.batch_size)), bar)
    if rows:
        job.bank(rows, {})
    folder.write(index, rows, skipped)
    return span.size
