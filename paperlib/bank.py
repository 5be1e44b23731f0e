"""`FeatureBank`: the features, logits and labels of a network, in one checked safetensors file."""

import math
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.border import (
    names_of_classes,
    pooled_blocks,
    real_numbers,
    vouch,
    vouched,
    weight_and_bias,
    whole_numbers,
)
from paperlib.store import BankError, TensorStream, read_bank, write_bank


class LinearHead(NamedTuple):
    """`weight: [C, D] float32` and `bias: [C] float32` of the final layer."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Logits x W^T + b, from features `[..., D]` to `[..., C]`."""
        return F.linear(x, self.weight, self.bias)

    def to(self, device: torch.device | str) -> Self:
        """The same layer on a device."""
        return self._replace(weight=self.weight.to(device), bias=self.bias.to(device))


class HeadFit(NamedTuple):
    """How well the affine head explains the logits of a bank.

    `residual` is the largest |x W^T + b - logit|, in logits; `agreement` is the share of images
    for which the affine head picks the same class as the logits.
    """

    residual: float
    agreement: float


def affine_map(features: Tensor, logits: Tensor) -> LinearHead:
    """The affine map from features to logits by least squares, in float64.

    W, b = argmin sum_n |x_n W^T + b - logits_n|^2, of smallest norm where several fit

    features: [N, D] float, logits: [N, C] float.  Solved on the CPU wherever they are: gelsd, the
    driver for a rank-deficient design, exists there only, and devices agree to the last bit.
    """
    design = F.pad(features.cpu().double(), (0, 1), value=1.0)
    solution = torch.linalg.lstsq(design, logits.cpu().double(), driver="gelsd").solution
    head = LinearHead(solution[:-1].T.float().contiguous(), solution[-1].float())
    return head.to(features.device)


SPLIT_CODES = {"train": 0, "test": 1}
MIN_AGREEMENT = 0.95  # below this share the logits are not the head's: the bank is refused
MAX_RESIDUAL = 0.05  # of the logits' spread, root mean square: softmax values agree in class alone
ROWS_AT_ONCE = 16384  # images checked together: a bank may be as large as the memory


def _largest(name: str, values: Tensor) -> float:
    """The largest |value| of `[N, D]`, 0 without any; BankError that names a row with NaN."""
    largest = 0.0
    for start in range(0, len(values), ROWS_AT_ONCE):
        part = values[start : start + ROWS_AT_ONCE]
        here = torch.stack(part.aminmax()).abs().max().item()  # NaN where a value is
        if not math.isfinite(here):
            row = start + int((~part.isfinite().all(dim=1)).nonzero()[0])
            raise BankError(f"{name} hold NaN or infinity, first in row {row}")
        largest = max(largest, here)
    return largest


def _kind_of(logits: Tensor) -> str:
    """What logits that are no affine map of the features may be, as the end of a message."""
    some = logits[:ROWS_AT_ONCE].double()
    if (some >= 0).all() and (some.sum(dim=1) - 1).abs().max() < 1e-3:
        return "; they look like softmax probabilities: give the logits before the softmax"
    if some.logsumexp(dim=1).abs().max() < 1e-3:
        return "; they look like log-softmax values: give the logits before it"
    return ""


@dataclass(eq=False)
class FeatureBank:
    """Penultimate features with their logits and labels; any framework can make one.

    features: [N, D] float32, logits: [N, C] float32, labels: [N] int64,
    split_codes: [N] uint8 (0 train, 1 test; all train if left out).  `stored_head` is needed only
    where N < D + 1; otherwise the head is recovered from features and logits.  `metadata` holds
    what is known of the origin (network, dataset, transform, versions, ...), as JSON values.

    Raises BankError where shapes, labels or values do not fit.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    split_codes: Tensor = None  # type: ignore[assignment]  # left out, it becomes zeros
    class_names: list[str] = field(default_factory=list)
    stored_head: LinearHead | None = None
    blocks: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = real_numbers("features", self.features).float()
        self.logits = real_numbers("logits", self.logits).float()
        self.labels = whole_numbers("labels", self.labels, torch.int64)
        if self.split_codes is None:
            self.split_codes = torch.zeros_like(self.labels)
        self.split_codes = whole_numbers("split codes", self.split_codes, torch.uint8)
        if self.stored_head is not None:
            self.stored_head = LinearHead(*weight_and_bias(self.stored_head))
        self.blocks = pooled_blocks(self.blocks)
        self._check_shapes()
        names = names_of_classes(self.class_names)
        self.class_names = names or [str(c) for c in range(self.num_classes)]
        self._check_values()

    @property
    def num_filters(self) -> int:
        """D, the width of the penultimate layer."""
        return self.features.shape[1]

    @property
    def num_classes(self) -> int:
        """C, the number of logits."""
        return self.logits.shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        network = self.metadata.get("network", "unnamed network")
        return f"FeatureBank({network}: N={len(self)}, D={self.num_filters}, C={self.num_classes})"

    def _check_shapes(self) -> None:
        if self.features.ndim != 2 or self.logits.ndim != 2 or self.labels.ndim != 1:
            raise BankError(
                "features must be [N, D], logits [N, C] and labels [N]; got "
                f"{list(self.features.shape)}, {list(self.logits.shape)}, {list(self.labels.shape)}"
            )
        if 0 in self.features.shape[1:] or 0 in self.logits.shape[1:]:
            raise BankError(
                f"a bank needs filters and classes, got {self.features.shape[1]} filters and "
                f"{self.logits.shape[1]} classes"
            )
        if self.split_codes.ndim != 1:
            raise BankError(f"split codes must be [N], got {list(self.split_codes.shape)}")
        rows = {"features": self.features, "logits": self.logits, "split": self.split_codes}
        n = len(self.labels)
        for name, tensor in (
            rows.items() | {f"blocks/{k}": v for k, v in self.blocks.items()}.items()
        ):
            if len(tensor) != n:
                raise BankError(f"{name} has {len(tensor)} rows, labels have {n}")
        if n == 0:
            raise BankError("the bank holds no images")
        if self.stored_head is not None:
            expected = ([self.num_classes, self.num_filters], [self.num_classes])
            found = tuple(list(t.shape) for t in self.stored_head)
            if found != expected:
                raise BankError(f"head has shapes {found}, features and logits need {expected}")

    def _check_values(self) -> None:
        if len(self.class_names) != self.num_classes:
            raise BankError(f"{len(self.class_names)} class names for {self.num_classes} logits")
        if not isinstance(self.metadata, dict):
            raise BankError(f"metadata must be a dict, not {type(self.metadata).__name__}")
        low, high = self.labels.min().item(), self.labels.max().item()
        if low < 0 or high >= self.num_classes:
            raise BankError(f"labels must lie in 0..{self.num_classes - 1}, found {low}..{high}")
        if self.split_codes.max() > max(SPLIT_CODES.values()):
            raise BankError(f"split holds {self.split_codes.max()}; known codes are {SPLIT_CODES}")
        if self.stored_head and not all(part.isfinite().all() for part in self.stored_head):
            raise BankError("the head holds NaN or infinity")
        vouch(self.features, _largest("features", self.features))
        _largest("logits", self.logits)
        for key, block in self.blocks.items():
            _largest(f"blocks/{key}", block)

    @cached_property
    def head(self) -> LinearHead:
        """The final layer: stored, or the affine map from features to logits by least squares.

        W, b = argmin sum_n |x_n W^T + b - logits_n|^2, in float64; filters that are constant
        over the bank get the minimum-norm weight.  Raises BankError where N < D + 1, and where
        the logits are not those of any such layer.
        """
        if self.stored_head is not None:
            self._fit_of(self.stored_head)
            return self.stored_head
        if len(self) < self.num_filters + 1:
            raise BankError(
                f"{len(self)} images cannot determine a head over {self.num_filters} filters; "
                "store head.weight and head.bias in the bank"
            )
        head = affine_map(self.features, self.logits)
        self._fit_of(head)
        return head

    def head_fit(self) -> HeadFit:
        """The integrity check: residual and agreement of the head with the stored logits.

        A float32 network leaves a residual near 1e-5; a quantised one leaves its quantisation
        step.  Raises BankError where the head picks another class for over 5 % of the images.
        """
        return self._fit_of(self.head)

    def _fit_of(self, head: LinearHead) -> HeadFit:
        largest, squares, agreeing = 0.0, 0.0, 0
        chunks = zip(*(t.split(ROWS_AT_ONCE) for t in (self.features, self.logits)), strict=True)
        for features, stored in chunks:
            logits = head(features)
            residual = (logits - stored).double()
            largest = max(largest, residual.abs().max().item())
            squares += residual.square().sum().item()
            agreeing += int((logits.argmax(1) == stored.argmax(1)).sum())
        agreement, typical = agreeing / len(self), math.sqrt(squares / self.logits.numel())
        spread = self.logits.double().std(correction=0).item()
        if agreement < MIN_AGREEMENT or typical > MAX_RESIDUAL * spread:
            raise BankError(
                f"the affine head picks the class of the logits for {agreement:.1%} of the images "
                f"(at least {MIN_AGREEMENT:.0%} needed) and misses them by {typical:.3g} "
                f"(at most {MAX_RESIDUAL:.0%} of their spread, {spread:.3g}); largest residual "
                f"{largest:.3g}{_kind_of(self.logits)}"
            )
        return HeadFit(largest, agreement)

    def to(self, device: torch.device | str) -> Self:
        """The bank on a device, with its head; itself where it is there."""
        if torch.empty(0, device=device).device == self.features.device:
            return self
        moved = self._with(
            features=self.features.to(device),
            logits=self.logits.to(device),
            labels=self.labels.to(device),
            split_codes=self.split_codes.to(device),
            stored_head=self.stored_head and self.stored_head.to(device),
            blocks={name: block.to(device) for name, block in self.blocks.items()},
        )
        if "head" in vars(self):  # what was recovered once is not recovered again
            vars(moved)["head"] = self.head.to(device)
        return moved

    def _with(self, **parts) -> Self:
        """A bank of other tensors, which come from this one: they are not checked again."""
        new = copy(self)
        for name in ("head", "train", "test"):  # what follows from the tensors
            vars(new).pop(name, None)
        vars(new).update(parts)
        if "head" in vars(self) and new.stored_head is not None:  # checked with these logits
            vars(new)["head"] = new.stored_head
        vouch(new.features, vouched(self.features))
        return new

    @cached_property
    def train(self) -> Self:
        """The images of the train split, as `split("train")` gives them."""
        return self.split("train")

    @cached_property
    def test(self) -> Self:
        """The images of the test split, as `split("test")` gives them."""
        return self.split("test")

    def split(self, name: str) -> Self:
        """The images of the "train" or the "test" split, with the whole bank's head.

        Shares the bank's memory where these images lie side by side, as extraction leaves them.
        Raises BankError for an unknown or an empty split.
        """
        chosen = self._rows_of(name).nonzero().flatten()
        if not len(chosen):
            raise BankError(f"the bank holds no {name} images")
        first, last = chosen[[0, -1]].tolist()
        rows = slice(first, last + 1) if last - first < len(chosen) else chosen
        return self._with(
            features=self.features[rows],
            logits=self.logits[rows],
            labels=self.labels[rows],
            split_codes=self.split_codes[rows],
            stored_head=self.head,
            blocks={key: block[rows] for key, block in self.blocks.items()},
        )

    def _rows_of(self, split: str) -> Tensor:
        if split not in SPLIT_CODES:
            raise BankError(f"unknown split {split!r}; choose from {', '.join(SPLIT_CODES)}")
        return self.split_codes == SPLIT_CODES[split]

    def classes_with_images(self, split: str = "train") -> list[int]:
        """The classes of which the bank holds images of a split, in order."""
        return self.labels[self._rows_of(split)].unique().tolist()

    def without_empty_classes(self) -> Self:
        """The bank without the classes that have no train images: no logits, weights, images.

        What is left is a bank of C' classes, numbered anew in the same order, whose head tells
        these apart; `metadata["classes_kept"]` holds their old numbers.  A bank with images of
        every class comes back as it is.  Raises BankError where no class has train images.
        """
        kept = self.classes_with_images("train")
        if len(kept) == self.num_classes:
            return self
        if not kept:
            raise BankError("the bank holds no train images, so no class can be kept")
        number = self.labels.new_full((self.num_classes,), -1)
        number[kept] = torch.arange(len(kept), device=number.device)
        rows = number[self.labels] >= 0
        return self._with(
            features=self.features[rows],
            logits=self.logits[rows][:, kept],
            labels=number[self.labels[rows]],
            split_codes=self.split_codes[rows],
            class_names=[self.class_names[c] for c in kept],
            stored_head=LinearHead(*(part[kept] for part in self.head)),
            blocks={name: block[rows] for name, block in self.blocks.items()},
            metadata=self.metadata | {"classes_kept": kept},
        )

    def correct(self) -> Tensor:
        """`[N] bool`: whether the full network's largest logit is the label's."""
        return self.logits.argmax(dim=1) == self.labels

    def _tensors(self) -> dict[str, Tensor]:
        named = {
            "features": self.features,
            "logits": self.logits,
            "labels": self.labels,
            "split": self.split_codes,
        }
        if self.stored_head is not None:
            named |= {"head.weight": self.stored_head.weight, "head.bias": self.stored_head.bias}
        named |= {f"blocks/{key}": block for key, block in self.blocks.items()}
        return named

    def save(self, path: str | Path) -> Path:
        """Write the bank as one safetensors file; the file appears whole or not at all.

        Raises BankError for what `load` would refuse: no head, or one that the logits are not of.
        """
        path = Path(path)
        self.head_fit()
        columns = {name: TensorStream.of(tensor) for name, tensor in self._tensors().items()}
        write_bank(path, columns, self.class_names, self.metadata)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Map a bank into memory and check it: schema, checksum, shapes, values and head.

        Raises FileNotFoundError, or BankError that names the file and what is wrong with it.
        """
        path = Path(path)
        try:
            header, tensors = read_bank(path)
            bank = cls._from_tensors(header, tensors)
            bank.head_fit()
        except BankError as error:
            raise BankError(f"{path}: {error}") from error
        return bank

    @classmethod
    def _from_tensors(cls, header: dict, tensors: dict[str, Tensor]) -> Self:
        head = None
        if "head.weight" in tensors:
            head = LinearHead(tensors["head.weight"], tensors["head.bias"])
        return cls(
            tensors["features"],
            tensors["logits"],
            tensors["labels"],
            tensors["split"],
            header.get("class_names", []),
            head,
            {k.removeprefix("blocks/"): t for k, t in tensors.items() if k.startswith("blocks/")},
            header.get("metadata", {}),
        )
