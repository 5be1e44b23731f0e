"""Images in, `FeatureBank` out: run a network once and keep what reaches its final layer.

python -m paperlib.features --model resnet20 --dataset imagefolder:PATH --out bank.safetensors
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

import paperlib
from paperlib.bank import SPLIT_CODES, FeatureBank, LinearHead
from paperlib.datasets import load_dataset
from paperlib.inference import inference_copy, micro_batches
from paperlib.models import CHECKPOINTS, load_model, residual_blocks, sha256_of, split_head
from paperlib.paths import ROOT, data_folder
from paperlib.tiers import TIERS


def choose_device(device: str = "auto") -> torch.device:
    """The named device; "auto" is the GPU where there is one, else the CPU.

    Raises ValueError for a device that torch does not know or cannot use here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used ({reason}); try auto or cpu") from error
    return torch.device(device)


@contextmanager
def captured_inputs(head: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the input of every call of `head`; the hook is removed whatever happens."""
    inputs: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        yield inputs
    finally:
        hook.remove()


def _pool(name: str, pooled: dict[str, Tensor], module: nn.Module, _, output: Tensor) -> None:
    """Forward hook: keep `[n, D_l, H, W]` averaged over positions, or `[n, D_l]` as it is."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 4):
        found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"block {name!r} must give [n, D] or [n, D, H, W]; it gave {found}")
    if name in pooled:
        raise ValueError(f"block {name!r} ({type(module).__name__}) runs twice in a forward pass")
    pooled[name] = output.float().mean(dim=(2, 3)) if output.ndim == 4 else output.float()


@contextmanager
def pooled_outputs(blocks: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect the pooled output `[n, D_l]` of every block; hooks are removed whatever happens."""
    pooled: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, module in blocks.items():
            hooks.enter_context(module.register_forward_hook(partial(_pool, name, pooled)))
        yield pooled


def _named_blocks(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    modules = {name: module for name, module in model.named_modules() if name}
    if unknown := sorted(set(names) - set(modules)):
        valid = ", ".join(modules)
        raise ValueError(f"{type(model).__name__} has no module {unknown}; choose from {valid}")
    return {name: modules[name] for name in names}


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients and full float32 convolutions; each module's mode comes back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        # TF32 would put a GPU's features 1e-3 off the CPU's
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        for module in training:
            module.training = True


def _collate_readable(batch: list) -> tuple[list, int]:
    """Stack a batch without the images that the dataset skipped (None), and count those."""
    readable = [item for item in batch if item is not None]
    return default_collate(readable) if readable else [], len(batch) - len(readable)


def _batches(
    datasets: Mapping[str, Dataset], batch_size: int, workers: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, int, int]]:
    """Images on the device, their labels, the code of their split, and how many were skipped."""
    for split, images in datasets.items():
        loader = DataLoader(
            images,
            batch_size,
            num_workers=workers,
            collate_fn=_collate_readable,
            pin_memory=device.type == "cuda",
        )
        for (x, y), skipped in ((batch or (None, []), skipped) for batch, skipped in loader):
            yield x, y, SPLIT_CODES[split], skipped


def _forward(model: nn.Module, head: nn.Linear, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features `[n, D]` and logits `[n, C]` of one batch, checked against each other."""
    with captured_inputs(head) as inputs:
        logits = model(images)
    if len(inputs) != 1 or inputs[0].ndim != 2:
        shapes = [list(x.shape) for x in inputs]
        raise ValueError(f"the head must see one [n, D] tensor per batch; it saw {shapes}")
    (features,) = inputs
    expected = F.linear(features, head.weight, head.bias)
    if not isinstance(logits, Tensor) or logits.shape != expected.shape:
        raise ValueError("the network's output is not the [n, C] output of its final nn.Linear")
    if not torch.allclose(logits, expected, rtol=1e-3, atol=1e-3):
        raise ValueError("something follows the final nn.Linear: its output is not the network's")
    return features.float().cpu(), logits.float().cpu()


def _shared_classes(datasets: Mapping[str, Dataset], num_classes: int) -> list[str]:
    """The class names of all splits, checked against each other and the width of the head."""
    named = {split: list(getattr(images, "classes", [])) for split, images in datasets.items()}
    first = next(iter(named.values()))
    for split, names in named.items():
        if names != first:
            raise ValueError(f"the splits have different classes: {named}")
        if names and len(names) != num_classes:
            raise ValueError(
                f"the {split} images have {len(names)} classes ({', '.join(names[:10])}), "
                f"the network tells {num_classes} apart"
            )
    return first


def extract_features(
    model: nn.Module,
    dataset: Dataset | Mapping[str, Dataset],
    *,
    head: str | None = None,
    blocks: Sequence[str] = (),
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    progress: bool = True,
    metadata: dict | None = None,
) -> FeatureBank:
    """Penultimate features x and logits x W^T + b of every image, in the dataset's order.

    `dataset` yields (image [3, H, W] float32, label); a mapping {"train": ..., "test": ...} makes
    one bank of both splits, a bare dataset counts as train.  Items that are None are left out and
    counted in `metadata["skipped"]`.  `head` names the final layer where it is not the last
    nn.Linear.  `blocks` names modules whose outputs are kept too, averaged over positions, as
    `blocks[name]: [N, D_l] float16`.  `workers` defaults to 0 on the CPU and up to 8 on a GPU.
    A copy of the model computes them, with its batch norms folded (`inference_copy`); the model
    itself is left as it is.

    Raises ValueError for a model whose output is not a linear layer's, no images, a bad device or
    an unknown block (naming the valid ones).
    """
    target = choose_device(device)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if workers is None:
        workers = 0 if target.type == "cpu" else min(8, os.cpu_count() or 1)
    datasets = dataset if isinstance(dataset, Mapping) else {"train": dataset}
    if unknown := sorted(set(datasets) - set(SPLIT_CODES)):
        raise ValueError(f"unknown splits {unknown}; choose from {', '.join(SPLIT_CODES)}")
    model = inference_copy(model, keep=blocks, device=target)
    final = split_head(model, head).module
    class_names = _shared_classes(datasets, final.out_features)
    home = final.weight.device
    modules = _named_blocks(model, blocks)
    rows, pooled, skipped = [], {name: [] for name in modules}, 0
    bar = tqdm(total=sum(map(len, datasets.values())), unit="image", disable=not progress)
    try:
        model.to(target)
        with bar, evaluation_mode(model):
            loaded = _batches(datasets, batch_size, workers, target)
            for x, y, code, unreadable in micro_batches(loaded, target):
                skipped += unreadable
                if len(y):
                    with pooled_outputs(modules) as outputs:
                        batch = _forward(model, final, x.to(target, non_blocking=True))
                    for name, kept in pooled.items():
                        kept.append(outputs[name].half().cpu())
                    rows.append((*batch, y, torch.full((len(y),), code, dtype=torch.uint8)))
                bar.update(len(y) + unreadable)
    finally:
        model.to(home)
    if not rows:
        raise ValueError("the dataset holds no readable images")
    features, logits, labels, codes = (torch.cat(column) for column in zip(*rows, strict=True))
    weight = final.weight.detach().float().cpu()
    bias = torch.zeros(len(weight)) if final.bias is None else final.bias.detach().float().cpu()
    return FeatureBank(
        features,
        logits,
        labels,
        codes,
        class_names=class_names,
        stored_head=LinearHead(weight, bias),
        blocks={name: torch.cat(kept) for name, kept in pooled.items()},
        metadata=(metadata or {}) | {"skipped": skipped, "versions": _versions()},
    )


def _versions() -> dict[str, str]:
    packages = (paperlib, torch, torchvision)
    return {package.__name__: package.__version__ for package in packages}


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
    progress: bool = True,
) -> FeatureBank:
    """Extract a published network's features over a named dataset and save them to `out`.

    The one code path behind the command line and `load_bank`; `blocks=["auto"]` keeps every
    residual block but the last, whose pooled output is the features.  Raises what `load_model`,
    `load_dataset` and `extract_features` raise, and writes nothing in that case.
    """
    pretrained = load_model(network)
    datasets = {
        split: load_dataset(dataset, split, pretrained.transform, skip_unreadable=skip_unreadable)
        for split in splits
    }
    origin = {
        "network": network,
        "checkpoint_sha256": pretrained.checkpoint_sha256,
        "dataset": _public_name(dataset),
        "transform": repr(pretrained.transform),
    }
    bank = extract_features(
        pretrained.model,
        datasets,
        blocks=residual_blocks(pretrained.model)[:-1] if list(blocks) == ["auto"] else blocks,
        device=device,
        batch_size=batch_size,
        workers=workers,
        progress=progress,
        metadata=origin,
    )
    bank.save(out)
    return bank


def _public_name(dataset: str) -> str:
    """A dataset's name without the folders above it, which are nobody's business."""
    kind, colon, path = dataset.partition(":")
    return kind + colon + Path(path).resolve().name if path else kind


def load_bank(network: str, tier: str = "embedded", device: str = "auto") -> FeatureBank:
    """The bank of a network in a tier; the `cifar10` tier makes it on first use.

    `embedded` reads the committed banks.  `cifar10` runs the published checkpoint over all 60,000
    images (downloaded once) and keeps the bank under `build/cifar10/banks`.

    Raises ValueError for an unknown tier, or a network that the tier does not hold.
    """
    if tier not in TIERS:
        raise ValueError(f"unknown tier {tier!r}; choose from {', '.join(TIERS)}")
    if network not in TIERS[tier]:
        choices = ", ".join(TIERS[tier])
        raise ValueError(f"unknown network {network!r} in tier {tier}; choose from {choices}")
    if tier == "embedded":
        return FeatureBank.load(data_folder() / "banks" / f"{network}.safetensors")
    path = ROOT / "build" / tier / "banks" / f"{network}.safetensors"
    if not path.exists():
        make_bank(network, "cifar10", path, device=device)
    return FeatureBank.load(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paperlib.features",
        description="Run a network over images and save its penultimate features as a bank.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, dest="network", help=", ".join(CHECKPOINTS))
    parser.add_argument("--dataset", required=True, help="cifar10 or imagefolder:PATH")
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
    parser.add_argument("--skip-unreadable", action="store_true", help="skip and count bad files")
    parser.add_argument(
        "--quiet", dest="progress", action="store_false", default=True, help="no progress bar"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make a bank from the command line and print what it holds; 2 on bad input."""
    arguments = _parser().parse_args(argv)
    try:
        bank = make_bank(**vars(arguments))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    fit = bank.head_fit()
    print(f"{bank}, {bank.metadata['skipped']} images skipped")
    for split in arguments.splits:
        correct = bank.split(split).correct()
        print(f"{split:>5}: {correct.sum()}/{len(correct)} = {correct.double().mean():.2%} correct")
    print(f" head: residual {fit.residual:.1e}, agreement {fit.agreement:.2%}")
    print(f"saved: {arguments.out} (SHA-256 {sha256_of(arguments.out)})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
