"""How a network is run over images: what every way of extracting has in common."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real

import torch

from paperlib.seeds import check_whole

SHARD_SIZE = 2048  # images: 25 MB of a ResNet-50 on ImageNet, some minutes of a CPU
TIMEOUT = 1800.0  # seconds that a process waits for the others at the end of each shard
PRECISIONS = {
    "auto": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How a network is run over images.

    - `head`: name of the final layer, where it is not the last `nn.Linear`;
    - `blocks`: names of modules whose outputs are kept too, averaged over positions;
    - `device`: "auto" (the GPU where there is one), "cpu", "cuda", "cuda:1", ...;
    - `precision`: "auto" is the network's own, with float32 in full (no TF32); "float32" turns a
      network of lower precision up; "bfloat16" and "float16" use autocast;
    - `batch_size`: images per forward pass;
    - `workers`: loader processes; if None, 0 on the CPU and up to 8 on a GPU;
    - `shard_size`: images kept safe at a time, where a bank is written to the disk;
    - `timeout`: seconds to wait for another process; `progress`: show a bar.

    Raises ValueError for what is not a whole number from 1 and for an unknown precision.
    """

    head: str | None = None
    blocks: Sequence[str] = ()
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 128
    workers: int | None = None
    shard_size: int = SHARD_SIZE
    timeout: float = TIMEOUT
    progress: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            choices = ", ".join(PRECISIONS)
            raise ValueError(f"unknown precision {self.precision!r}; choose from {choices}")
        check_whole("batch_size", self.batch_size, 1)
        check_whole("shard_size", self.shard_size, 1)
        if self.workers is not None:
            check_whole("workers", self.workers, 0)
        if not (isinstance(self.timeout, Real) and self.timeout > 0):
            raise ValueError(f"timeout must be above 0 seconds, not {self.timeout!r}")
        if isinstance(self.blocks, str) or not isinstance(self.blocks, Collection):
            raise ValueError(f"blocks must be a list of names of modules, not {self.blocks!r}")

    @property
    def images_per_shard(self) -> int:
        """`shard_size`, rounded down to whole batches: no batch straddles two shards."""
        return max(1, self.shard_size // self.batch_size) * self.batch_size


def choose_device(device: str = "auto") -> torch.device:
    """The named device; "auto" is the GPU where there is one, else the CPU.

    Under torchrun "auto" and "cuda" are each process's own GPU, `cuda:LOCAL_RANK`.  Raises
    ValueError for a device that torch does not know or cannot use here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{_own_gpu()}"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen).cpu()  # "meta" has nothing to bring back
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used ({reason}); try auto or cpu") from error
    return chosen


def _own_gpu() -> int:
    """The GPU of this process: torchrun's local rank, unless each process sees a single one."""
    own = int(os.environ.get("LOCAL_RANK", 0))
    return own if own < max(1, torch.cuda.device_count()) else 0
