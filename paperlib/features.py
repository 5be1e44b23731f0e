"""Images in, `FeatureBank` out: features of whole datasets, through shards on the disk.

python -m paperlib.features --model resnet20 --dataset imagefolder:PATH --out bank.safetensors

Interrupt it as you like and give the same command again: it goes on where it was. On several GPUs
or machines put `torchrun --nproc-per-node N -m` in place of `python -m`.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock

from paperlib.bank import SPLIT_CODES, FeatureBank
from paperlib.classes import without_empty_classes
from paperlib.datasets import load_dataset
from paperlib.distributed import process_rank, processes
from paperlib.extraction import choose_device, extract_features
from paperlib.models import CHECKPOINTS, load_model, residual_blocks, sha256_of
from paperlib.paths import ROOT, data_folder
from paperlib.resumable import SHARD_SIZE, TIMEOUT, extract_statistics, save_features
from paperlib.tiers import IMAGES_PER_CLASS, choose_networks

__all__ = [
    "choose_device",
    "extract_features",
    "extract_statistics",
    "load_bank",
    "load_banks",
    "main",
    "make_bank",
    "save_features",
]


def make_bank(
    network: str,
    dataset: str,
    out: str | Path,
    *,
    splits: Sequence[str] = tuple(SPLIT_CODES),
    blocks: Sequence[str] = (),
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    skip_unreadable: bool = False,
    per_class: Mapping[str, int] | int | None = None,
    shard_size: int = SHARD_SIZE,
    timeout: float = TIMEOUT,
    progress: bool = True,
) -> FeatureBank:
    """Extract a published network's features over a named dataset and save them to `out`.

    The one code path behind the command line and `load_bank`; `blocks=["auto"]` keeps every
    residual block but the last, whose pooled output is the features; `per_class` limits the images
    of each class, for all splits or by split.  Raises OSError where `out` cannot be written and
    what `load_model`, `load_dataset` and `save_features` raise.
    """
    _check_writable(Path(out).parent)
    limits = per_class if isinstance(per_class, Mapping) else dict.fromkeys(splits, per_class)
    with processes(choose_device(device), timeout) as group:
        pretrained = group.in_turn(lambda: load_model(network))
        load = partial(
            load_dataset,
            dataset,
            transform=pretrained.transform,
            skip_unreadable=skip_unreadable,
        )
        datasets = group.in_turn(
            lambda: {split: load(split, per_class=limits.get(split)) for split in splits}
        )
        origin = {
            "network": network,
            "checkpoint_sha256": pretrained.checkpoint_sha256,
            "dataset": _public_name(dataset),
            "transform": repr(pretrained.transform),
        } | ({"images_per_class": per_class} if per_class else {})
        return save_features(
            pretrained.model,
            datasets,
            out,
            blocks=residual_blocks(pretrained.model)[:-1] if list(blocks) == ["auto"] else blocks,
            device=device,
            batch_size=batch_size,
            workers=workers,
            shard_size=shard_size,
            timeout=timeout,
            progress=progress,
            metadata=origin,
        )


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


def load_bank(
    network: str, tier: str = "embedded", device: str = "auto", data: str = ""
) -> FeatureBank:
    """The bank of a network in a tier; the other tiers make it on first use and keep it in `build`.

    - `embedded` reads the committed banks;
    - `cifar10` runs the published checkpoint over all 60,000 images, downloaded once;
    - `imagenet` runs torchvision's NAME[:WEIGHTS] over the folder `data`, `IMAGES_PER_CLASS` of
      each split; classes of which the folder has no train images are left out.

    Raises ValueError for an unknown tier, a network that the tier does not hold, or no `data`.
    """
    networks = choose_networks(tier, [network])
    if tier == "embedded":
        return FeatureBank.load(data_folder() / "banks" / f"{networks[0]}.safetensors")
    if tier == "imagenet" and not data:
        raise ValueError("tier imagenet needs `data`, a folder with train/ and val/ by WordNet id")
    place = Path(data).expanduser().resolve().name if tier == "imagenet" else ""
    name = f"{network.replace(':', '-')}.safetensors"
    path = ROOT / "build" / tier / place / "banks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # notebooks that run side by side need the same bank
        if not path.exists() and tier == "cifar10":
            make_bank(network, "cifar10", path, device=device)
        elif not path.exists():
            origin = (f"torchvision:{network}", f"imagenet:{data}")
            make_bank(*origin, path, device=device, per_class=IMAGES_PER_CLASS)
    bank = FeatureBank.load(path)
    return without_empty_classes(bank) if tier == "imagenet" else bank


def load_banks(
    tier: str, networks: Sequence[str] = (), device: str = "auto", data: str = ""
) -> dict[str, FeatureBank]:
    """The banks of some networks of a tier by name, or of all of them; see `load_bank`."""
    return {name: load_bank(name, tier, device, data) for name in choose_networks(tier, networks)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paperlib.features",
        description="Run a network over images and save its penultimate features as a bank.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    networks = ", ".join([*CHECKPOINTS, "torchvision:NAME[:WEIGHTS]", "timm:NAME"])
    parser.add_argument("--model", required=True, dest="network", help=networks)
    parser.add_argument(
        "--dataset", required=True, help="cifar10, imagefolder:PATH or imagenet:PATH"
    )
    parser.add_argument("--out", required=True, type=Path, help="the bank, a .safetensors file")
    parser.add_argument("--splits", nargs="+", choices=SPLIT_CODES, default=list(SPLIT_CODES))
    parser.add_argument(
        "--blocks",
        nargs="+",
        default=[],
        metavar="NAME",
        help="modules whose pooled outputs to keep; auto: the residual blocks below the features",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--batch-size", type=int, default=128, help="images per forward pass")
    parser.add_argument("--workers", type=int, help="loader processes; 0 on the CPU, 8 on a GPU")
    parser.add_argument(
        "--shard-size", type=int, default=SHARD_SIZE, help="images kept safe at a time"
    )
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT, help="seconds to wait for another process"
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="skip and count bad files")
    parser.add_argument("--per-class", type=int, help="so many images of each class; all if unset")
    parser.add_argument(
        "--quiet", dest="progress", action="store_false", default=True, help="no progress bar"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make a bank from the command line and print what it holds; 2 on bad input."""
    arguments = _parser().parse_args(argv)
    try:
        bank = make_bank(**vars(arguments))
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 2
    if process_rank() > 0:
        return 0
    fit = bank.head_fit()
    print(f"{bank}, {bank.metadata['skipped']} images skipped")
    for split in arguments.splits:
        correct = bank.correct()[bank.split_codes == SPLIT_CODES[split]]
        print(f"{split:>5}: {correct.sum()}/{len(correct)} = {correct.double().mean():.2%} correct")
    print(f" head: residual {fit.residual:.1e}, agreement {fit.agreement:.2%}")
    print(f"saved: {arguments.out} (SHA-256 {sha256_of(arguments.out)})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
