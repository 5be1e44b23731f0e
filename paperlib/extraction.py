"""Run a network over images once and keep what reaches its final layer."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

import paperlib
from paperlib.bank import SPLIT_CODES, FeatureBank, LinearHead
from paperlib.hooks import captured_inputs, named_blocks, pooled_outputs
from paperlib.inference import inference_copy, micro_batches
from paperlib.models import split_head


def choose_device(device: str = "auto") -> torch.device:
    """The named device; "auto" is the GPU where there is one, else the CPU.

    Under torchrun "auto" and "cuda" are each process's own GPU, `cuda:LOCAL_RANK`.  Raises
    ValueError for a device that torch does not know or cannot use here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and (own := os.environ.get("LOCAL_RANK")):
        device = f"cuda:{own}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used ({reason}); try auto or cpu") from error
    return torch.device(device)


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
    shapes = {tuple(image.shape) for image, _ in readable}
    if len(shapes) > 1:
        found = ", ".join(str(list(shape)) for shape in sorted(shapes))
        raise ValueError(f"the images of a batch differ in shape ({found}); make them one shape")
    return default_collate(readable) if readable else [], len(batch) - len(readable)


def _other_heads(model: nn.Module) -> str:
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return f"nn.Linear modules to choose `head` from: {', '.join(linear)}"


def _forward(model: nn.Module, head: nn.Linear, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features `[n, D]` and logits `[n, C]` of one batch, checked against each other."""
    with captured_inputs(head) as inputs:
        logits = model(images)
    if len(inputs) != 1 or inputs[0].ndim != 2:
        shapes = [list(x.shape) for x in inputs]
        raise ValueError(
            f"the head must see one [n, D] tensor per batch; it saw {shapes}; {_other_heads(model)}"
        )
    (features,) = inputs
    expected = F.linear(features, head.weight, head.bias)
    if not isinstance(logits, Tensor) or logits.shape != expected.shape:
        raise ValueError(
            "the network's output is not the [n, C] output of its final nn.Linear; "
            + _other_heads(model)
        )
    if not torch.allclose(logits, expected, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise ValueError(
            "something follows the final nn.Linear: its output is not the network's; "
            + _other_heads(model)
        )
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


class Span(NamedTuple):
    """The images `start` to `stop - 1` of a split: a batch, or a shard."""

    split: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of images."""
        return self.stop - self.start

    def cut(self, size: int) -> list[Self]:
        """Consecutive spans of `size` images, the last one with what is left."""
        starts = range(self.start, self.stop, size)
        return [self._replace(start=i, stop=min(i + size, self.stop)) for i in starts]


class Extraction:
    """A network and its images, checked against each other, to be run over any of their spans.

    Arguments and errors are those of `extract_features`.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset | Mapping[str, Dataset],
        *,
        head: str | None = None,
        blocks: Sequence[str] = (),
        device: str = "auto",
        batch_size: int = 128,
        workers: int | None = None,
    ):
        self.device = choose_device(device)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if workers is None:
            workers = 0 if self.device.type == "cpu" else min(8, os.cpu_count() or 1)
        self.datasets = dataset if isinstance(dataset, Mapping) else {"train": dataset}
        if unknown := sorted(set(self.datasets) - set(SPLIT_CODES)):
            raise ValueError(f"unknown splits {unknown}; choose from {', '.join(SPLIT_CODES)}")
        self.model = inference_copy(model, keep=blocks, device=self.device)
        self.batch_size, self.workers = batch_size, workers
        self.head_name, self.final = split_head(self.model, head)
        self.class_names = _shared_classes(self.datasets, self.final.out_features)
        self.blocks = named_blocks(self.model, blocks)

    @property
    def images(self) -> dict[str, int]:
        """The number of images of every split."""
        return {split: len(images) for split, images in self.datasets.items()}

    def spans(self, size: int) -> list[Span]:
        """All images in spans of `size`; no span holds images of two splits."""
        return [span for split, n in self.images.items() for span in Span(split, 0, n).cut(size)]

    def head(self) -> LinearHead:
        """A copy of the final layer, on the CPU; zeros where it has no bias."""
        weight, bias = self.final.weight.detach(), self.final.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        return LinearHead(*(t.to("cpu", torch.float32, copy=True) for t in (weight, bias)))

    @contextmanager
    def running(self) -> Iterator[None]:
        """The network on its device and in evaluation mode; it comes back as it was."""
        home = self.final.weight.device
        try:
            self.model.to(self.device)
            with evaluation_mode(self.model):
                yield
        finally:
            self.model.to(home)

    def _loaded(self, batches: Sequence[Span]) -> Iterator[tuple[str, list, int]]:
        """The split of every batch, its images and labels (if any), and how many were skipped."""
        for split, spans in groupby(batches, key=lambda batch: batch.split):
            loader = DataLoader(
                self.datasets[split],
                batch_sampler=[range(span.start, span.stop) for span in spans],
                num_workers=self.workers,
                collate_fn=_collate_readable,
                pin_memory=self.device.type == "cuda",
            )
            for batch, skipped in loader:
                yield split, batch, skipped

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        """Features, logits and pooled blocks of some images, on the CPU, by tensor name."""
        with pooled_outputs(self.blocks) as outputs:
            images = images.to(self.device, non_blocking=True)
            features, logits = _forward(self.model, self.final, images)
        blocks = {f"blocks/{name}": block.half().cpu() for name, block in outputs.items()}
        return {"features": features, "logits": logits} | blocks

    def rows(self, batches: Sequence[Span]) -> Iterator[tuple[dict[str, Tensor], int]]:
        """What a bank keeps of every batch, by tensor name, and how many images were skipped.

        To be gone through within `running()`; a batch without readable images gives no tensors.
        """
        for split, batch, skipped in self._loaded(batches):
            rows = {}
            if batch:
                x, labels = batch
                parts = [self._features(part) for part in micro_batches(x, self.device)]
                rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
                codes = torch.full((len(labels),), SPLIT_CODES[split], dtype=torch.uint8)
                rows |= {"labels": labels, "split": codes}
            yield rows, skipped

    def bank(self, rows: Mapping[str, Tensor], metadata: dict) -> FeatureBank:
        """A checked bank of the rows of some images, with the network's head."""
        return FeatureBank(
            *(rows[name] for name in ("features", "logits", "labels", "split")),
            class_names=self.class_names,
            stored_head=self.head(),
            blocks={name: rows[f"blocks/{name}"] for name in self.blocks},
            metadata=metadata,
        )


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

    Everything is held in memory; `save_features` works through shards on the disk instead.
    Raises ValueError for a model whose output is not a linear layer's, no images, a bad device or
    an unknown block (naming the valid ones).
    """
    job = Extraction(
        model,
        dataset,
        head=head,
        blocks=blocks,
        device=device,
        batch_size=batch_size,
        workers=workers,
    )
    bar = tqdm(total=sum(job.images.values()), unit="image", disable=not progress)
    with bar, job.running():
        rows, skipped = collected(job.rows(job.spans(batch_size)), None, bar)
    if not rows:
        raise ValueError("the dataset holds no readable images")
    return job.bank(rows, (metadata or {}) | {"skipped": skipped, "versions": versions()})


def versions() -> dict[str, str]:
    """The versions of the packages that determine what is extracted."""
    packages = (paperlib, torch, torchvision)
    return {package.__name__: package.__version__ for package in packages}
