"""Banks of named networks over named images: the way from the command line to a file."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from paperlib.bank import SPLIT_CODES, FeatureBank
from paperlib.extraction.distributed import processes
from paperlib.extraction.fingerprint import files_sha256
from paperlib.extraction.options import ExtractOptions, choose_device
from paperlib.extraction.resumable import save_features
from paperlib.networks.by_name import load_network
from paperlib.networks.datasets import load_dataset
from paperlib.networks.head import residual_blocks


def make_bank(
    network: str,
    dataset: str,
    out: str | Path,
    options: ExtractOptions | None = None,
    *,
    splits: Sequence[str] = tuple(SPLIT_CODES),
    skip_unreadable: bool = False,
    per_class: Mapping[str, int] | int | None = None,
) -> FeatureBank:
    """Extract a named network's features over a named dataset and save them to `out`.

    `options.blocks=["auto"]` keeps every residual block but the last, whose pooled output is the
    features; `per_class` limits the images of each class, for all splits or by split.  Raises
    OSError where `out` cannot be written and what `load_network`, `load_dataset` and
    `save_features` raise.
    """
    options = options or ExtractOptions()
    out = Path(out).expanduser()
    _check_writable(out.parent)
    limits = per_class if isinstance(per_class, Mapping) else dict.fromkeys(splits, per_class)
    with processes(choose_device(options.device), options.timeout) as group:
        pretrained = group.in_turn(lambda: load_network(network))
        load = partial(
            load_dataset,
            dataset,
            transform=pretrained.transform,
            skip_unreadable=skip_unreadable,
        )
        images = group.in_turn(
            lambda: {split: load(split, per_class=limits.get(split)) for split in splits}
        )
        if list(options.blocks) == ["auto"]:
            options = replace(options, blocks=residual_blocks(pretrained.model)[:-1])
        origin = {
            "network": network,
            "checkpoint_sha256": pretrained.checkpoint_sha256,
            "dataset": _public_name(dataset),
            "transform": repr(pretrained.transform),
            "files_sha256": {split: files_sha256(each) for split, each in images.items()},
        } | ({"images_per_class": per_class} if per_class else {})
        return save_features(pretrained.model, images, out, options, metadata=origin)


def _check_writable(folder: Path) -> None:
    """Before the long work: raise OSError where no file can be written into a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write into the output folder {folder}: {error}") from error


def _public_name(dataset: str) -> str:
    """A dataset's name without the folders above it, which are nobody's business."""
    kind, colon, path = dataset.partition(":")
    return kind + colon + Path(path).resolve().name if path else kind
