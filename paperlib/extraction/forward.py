"""Run a network over images and catch what reaches its final layer."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from paperlib.bank import SPLIT_CODES, FeatureBank, LinearHead
from paperlib.extraction.cpus import usable_cpus
from paperlib.extraction.hooks import captured_inputs, named_blocks, pooled_outputs
from paperlib.extraction.images import as_images, class_names
from paperlib.extraction.inference import inference_copy, is_half, micro_batches
from paperlib.extraction.options import PRECISIONS, ExtractOptions, choose_device
from paperlib.networks.head import FinalLayer, split_head

CUDA = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]  # of the object in the module's place
    torch.backends.cudnn.rnn,
)
# TF32 would put a GPU's features 1e-3 off the CPU's; a search for kernels could choose others when
# an interrupted run goes on, and so change its last bits
EXACT = [(backend, "fp32_precision", "ieee") for backend in CUDA] + [
    (torch.backends.cudnn, "benchmark", False),
    (torch.backends.cudnn, "deterministic", True),
]
SAME = "same"  # of the rows of a batch: whether its logits are the head's
LOADERS = 8  # processes that load images for a GPU, at most


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Float32 in full, the same bits every time; torch's settings come back."""
    before = [getattr(backend, name) for backend, name, _ in EXACT]
    try:
        for backend, name, value in EXACT:
            setattr(backend, name, value)
        yield
    finally:
        for (backend, name, _), value in zip(EXACT, before, strict=True):
            setattr(backend, name, value)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, exact float32; all modes and torch's settings come back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with exact_arithmetic(), torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def _other_heads(model: nn.Module) -> str:
    linear = [name for name, module in model.named_modules() if isinstance(module, FinalLayer)]
    return f"nn.Linear modules to choose `head` from: {', '.join(linear)}"


def _forward(model: nn.Module, head: FinalLayer, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features `[n, D]`, logits `[n, C]`, and a bool on the device: are these the head's?"""
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
    slack = 1e-3 if expected.dtype == torch.float32 else 2e-2
    same = torch.isclose(logits.float(), expected.float(), rtol=slack, atol=slack, equal_nan=True)
    return features.float(), logits.float(), same.all()


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

    `images` are those of each split, "train" or "test", in any form that `as_images` takes.
    Raises ValueError for a model whose output is not a linear layer's, a bad device, unknown
    splits or blocks (naming the valid ones), and classes that do not fit; TypeError for images in
    a form that cannot be taken.
    """

    def __init__(
        self, model: nn.Module, images: Mapping[str, object], options: ExtractOptions | None = None
    ):
        self.options = options or ExtractOptions()
        self.device = choose_device(self.options.device)
        workers = self.options.workers
        if workers is None:
            workers = 0 if self.device.type == "cpu" else min(LOADERS, usable_cpus())
        self.workers = workers
        if unknown := sorted(set(images) - set(SPLIT_CODES)):
            raise ValueError(f"unknown splits {unknown}; choose from {', '.join(SPLIT_CODES)}")
        self.images = {split: as_images(given) for split, given in images.items()}
        self.lower = PRECISIONS[self.options.precision] in (torch.bfloat16, torch.float16)
        # A GPU likes channels last in lower precision only
        channels_last = self.device.type == "cpu" or self.lower or is_half(model)
        self.model = inference_copy(model, self.options.blocks, channels_last=channels_last)
        self.head_name, self.final = split_head(self.model, self.options.head)
        if self.options.precision == "float32":
            if self.model is model and any(w.dtype != torch.float32 for w in model.parameters()):
                raise ValueError(
                    "precision 'float32' would change this network, which deepcopy cannot copy; "
                    "give its float32 version, or choose precision 'auto'"
                )
            self.model.float()
        datasets = {split: images.dataset for split, images in self.images.items()}
        self.class_names = class_names(datasets, self.final.out_features)
        self.blocks = named_blocks(self.model, self.options.blocks)

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of every split."""
        return {split: len(images) for split, images in self.images.items()}

    def spans(self, size: int) -> list[Span]:
        """All images in spans of `size`; no span holds images of two splits."""
        return [span for split, n in self.counts.items() for span in Span(split, 0, n).cut(size)]

    def head(self) -> LinearHead:
        """A copy of the final layer, on the CPU; zeros where it has no bias."""
        weight, own = self.final.weight.detach(), self.final.bias
        bias = weight.new_zeros(len(weight)) if own is None else own.detach()
        return LinearHead(*(t.to("cpu", torch.float32, copy=True) for t in (weight, bias)))

    @contextmanager
    def running(self) -> Iterator[None]:
        """The network on its device and in evaluation mode; it comes back as it was."""
        home = self.final.weight.device
        precision = PRECISIONS[self.options.precision]
        # Off, too: a caller's autocast would round features that are asked for in full
        cast = torch.autocast(self.device.type, precision, enabled=self.lower)
        try:
            self.model.to(self.device)
            with evaluation_mode(self.model), cast:
                yield
        finally:
            self.model.to(home)

    def _loaded(self, batches: Sequence[Span]) -> Iterator[tuple[str, list, int]]:
        """The split of every batch, its images and labels (if any), and how many were skipped."""
        for split, spans in groupby(batches, key=lambda batch: batch.split):
            loader = DataLoader(
                self.images[split].dataset,
                batch_sampler=(list(range(span.start, span.stop)) for span in spans),
                num_workers=self.workers,
                collate_fn=self.images[split].collate,
                pin_memory=self.device.type == "cuda",
            )
            for batch, skipped in loader:
                yield split, batch, skipped

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        """Features, logits and pooled blocks of some images, on their way to the CPU, by name."""
        images = images.to(self.device, self.final.weight.dtype, non_blocking=True)
        with pooled_outputs(self.blocks) as outputs:
            features, logits, same = _forward(self.model, self.final, images)
        rows = {"features": features, "logits": logits, SAME: same[None]}
        rows |= {f"blocks/{name}": block.half() for name, block in outputs.items()}
        return {name: tensor.to("cpu", non_blocking=True) for name, tensor in rows.items()}

    def _launched(self, split: str, batch: list) -> dict[str, Tensor]:
        """The rows of a batch; from a GPU they are still on their way."""
        if not batch:
            return {}
        x, labels = batch
        parts = [self._features(part) for part in micro_batches(x, self.device)]
        rows = parts[0]
        if len(parts) > 1:  # on the CPU only: nothing may touch what has not arrived
            rows = {name: torch.cat([part[name] for part in parts]) for name in rows}
        codes = torch.full((len(labels),), SPLIT_CODES[split], dtype=torch.uint8)
        return rows | {"labels": labels, "split": codes}

    def _checked(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        if rows and not rows.pop(SAME).all():
            raise ValueError(
                "something follows the final nn.Linear: its output is not the network's; "
                + _other_heads(self.model)
            )
        return rows

    def rows(self, batches: Sequence[Span]) -> Iterator[tuple[dict[str, Tensor], int]]:
        """What a bank keeps of every batch, by tensor name, and how many images were skipped.

        To be gone through within `running()`; a batch without readable images gives no tensors.
        A GPU computes one batch while the rows of the one before travel.
        """
        waiting: tuple | None = None
        for split, batch, skipped in self._loaded(batches):
            rows = self._launched(split, batch)
            if self.device.type != "cuda":
                yield self._checked(rows), skipped
                continue
            arrival = torch.cuda.current_stream(self.device).record_event()
            if waiting:
                yield self._received(*waiting)
            waiting = rows, skipped, arrival
        if waiting:
            yield self._received(*waiting)

    def _received(
        self, rows: dict[str, Tensor], skipped: int, arrival: torch.cuda.Event
    ) -> tuple[dict[str, Tensor], int]:
        arrival.synchronize()
        return self._checked(rows), skipped

    def bank(self, rows: Mapping[str, Tensor], metadata: dict) -> FeatureBank:
        """A checked bank of the rows of some images, with the network's head."""
        return FeatureBank(
            rows["features"],
            rows["logits"],
            rows["labels"],
            rows["split"],
            class_names=self.class_names,
            stored_head=self.head(),
            blocks={name: rows[f"blocks/{name}"] for name in self.blocks},
            metadata=metadata,
        )
