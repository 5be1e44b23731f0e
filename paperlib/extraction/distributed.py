"""Several processes, on one machine or many, that share the work and agree on how it went.

They are started by torchrun, which tells each its rank; a process on its own is a group of one.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from paperlib.filters.sums import ClassSums

T = TypeVar("T")
Statistics = TypeVar("Statistics", bound=ClassSums)


class LostProcessError(RuntimeError):
    """Another process of the group was killed, or did not answer in time."""


def process_rank() -> int:
    """The rank that torchrun gave this process; 0 without torchrun."""
    return int(os.environ.get("RANK", 0))


@dataclass(frozen=True)
class Processes:
    """This process's place in its group: `rank` of `size`, `local_rank` on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def gather_all(self, work: Callable[[], T]) -> list[T]:
        """Do `work` in every process, wait for all, and give everyone all results, by rank.

        Where it fails in one process it fails in all: that one raises its own error, the others
        RuntimeError that quotes it.  Raises LostProcessError where a process was killed or stays
        away for longer than the group's timeout.
        """
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        message = f"{type(failure).__name__}: {failure}" if failure else None
        try:
            with self._waiting():
                outcomes = self._gather((result, message))
        finally:
            if failure is not None:
                raise failure
        for rank, (_, message) in enumerate(outcomes):
            if message:
                raise RuntimeError(f"process {rank} of {self.size} failed: {message}")
        return [result for result, _ in outcomes]

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = re.sub(r"^\[\S+\] ", "", str(error)).partition(". ")[0]
            raise LostProcessError(
                f"another of the {self.size} processes was killed or gives no answer ({reason})"
            ) from error

    def _gather(self, outcome: tuple) -> list[tuple]:
        if self.size == 1:
            return [outcome]
        outcomes: list = [None] * self.size
        dist.all_gather_object(outcomes, outcome)
        return outcomes

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """Do `work` in process 0 only and give everyone its result."""
        return self.gather_all(lambda: [work()] if self.rank == 0 else [])[0][0]

    def in_turn(self, load: Callable[[], T]) -> T:
        """Do `load` in one process of each machine, then in the others: downloads do not clash."""
        loaded: list[T] = []
        self.gather_all(lambda: None if self.local_rank else loaded.append(load()))
        return loaded[0] if loaded else load()

    def share(self, tasks: Sequence[T]) -> list[T | None]:
        """This process's tasks, one a round; None in a last round with too few for all."""
        rounds = -(-len(tasks) // self.size)
        mine = list(tasks[self.rank :: self.size])
        return mine + [None] * (rounds - len(mine))


@contextmanager
def processes(device: torch.device, timeout: float) -> Iterator[Processes]:
    """Join the group that torchrun started (or that is already joined), and leave it at the end.

    What they exchange lies on the CPU, and gloo carries it; `timeout` is in seconds, for each wait.
    Raises RuntimeError where the others cannot be reached.
    """
    joined = dist.is_initialized()
    if not joined and int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not joined:
        dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))
    local = int(os.environ.get("LOCAL_RANK", dist.get_rank()))
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), local)
    finally:
        if not joined:
            dist.destroy_process_group()
