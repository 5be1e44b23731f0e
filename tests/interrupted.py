"""Programs that the tests start and kill: a tiny extraction, alone or in a group of two.

python tests/interrupted.py everywhere FOLDER STRIDE  killed at every STRIDE-th moment, resumed
python tests/interrupted.py group FOLDER              one of two processes; the second kills itself
python tests/interrupted.py silent FOLDER             one of two processes; the second falls asleep
python tests/interrupted.py alone FOLDER              one process
python tests/interrupted.py paused FOLDER             the same, waiting at an image for FOLDER/go
"""

import itertools
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from paperlib import store
from paperlib.extraction.distributed import processes

SETTINGS = {"batch_size": 2, "shard_size": 4, "device": "cpu", "progress": False}


class Images(torch.utils.data.Dataset):
    """Random images of three classes; `kill_at` is the index that kills whoever loads it."""

    classes = ("ant", "bee", "cow")

    def __init__(self, count, seed=0, kill_at=None):
        self.x = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
        self.kill_at, self.loaded = kill_at, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        if index == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.loaded.append(index)
        return None if index == 3 else (self.x[index], index % 3)


def tiny_model():
    """12 inputs, 5 filters, 3 classes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))


def count_down_to_kill(moments):
    """Kill this process at the n-th file operation, piece written or image loaded from now."""
    left = itertools.count(moments - 1, -1)

    def step():
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def call(*args, **keywords):
            step()
            return function(*args, **keywords)

        return call

    for name in ("mkdir", "fsync", "replace", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    Images.__getitem__ = counted(Images.__getitem__)
    pieces = store.TensorStream.pieces

    def stepping(self):
        for piece in pieces(self):
            step()
            yield piece

    store.TensorStream.pieces = stepping


def killed_everywhere(folder, stride):
    """Kill a run at moments 1, 1 + stride, ...; resume each and compare with a whole run."""
    from paperlib.api import extract

    torch.set_num_threads(1)  # nothing to lose when forking
    splits = {"train": Images(6), "test": Images(3, seed=1)}
    whole = folder / "whole.safetensors"
    extract(tiny_model(), **splits, out=whole, **SETTINGS)
    for moment in itertools.count(1, stride):
        out = folder / str(moment) / "bank.safetensors"
        if (child := os.fork()) == 0:
            count_down_to_kill(moment)
            extract(tiny_model(), **splits, out=out, **SETTINGS)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
        extract(tiny_model(), **splits, out=out, **SETTINGS)
        assert out.read_bytes() == whole.read_bytes(), moment
        assert list(out.parent.iterdir()) == [out], moment
        shutil.rmtree(out.parent)
    print(json.dumps({"kills": (moment - 1) // stride}))


def group_of_two(folder):
    """A bank by both processes, then a bank during which the second is killed."""
    from paperlib.api import extract

    rank, images = int(os.environ["RANK"]), Images(23)
    with processes(torch.device("cpu"), timeout=60):
        extract(tiny_model(), train=images, out=folder / "shared.safetensors", **SETTINGS)
        # Shard 3 (images 12 to 15) is the second one of the second process
        images = Images(23, kill_at=13 if rank == 1 else None)
        extract(tiny_model(), train=images, out=folder / "killed.safetensors", **SETTINGS)


def alone(folder, pause):
    """One bank by one process, which may wait at its 14th image."""
    from paperlib.api import extract

    class Waiting(Images):
        def __getitem__(self, index):
            if pause and index == 13:
                print("paused", flush=True)
                while not (folder / "go").exists():
                    time.sleep(0.01)
            return super().__getitem__(index)

    extract(tiny_model(), train=Waiting(23), out=folder / "bank.safetensors", **SETTINGS)


def silent(folder):
    """Both processes join, then the second one sleeps."""
    rank = int(os.environ["RANK"])
    (folder / str(rank)).touch()
    while not (folder / str(1 - rank)).exists():  # starting up may take longer than the timeout
        time.sleep(0.01)
    with processes(torch.device("cpu"), timeout=3) as group:
        group.gather_all(lambda: None)
        group.gather_all(lambda: time.sleep(60 * rank))


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["everywhere", folder, stride]:
                killed_everywhere(Path(folder), int(stride))
            case ["group", folder]:
                group_of_two(Path(folder))
            case ["silent", folder]:
                silent(Path(folder))
            case ["alone" | "paused" as mode, folder]:
                alone(Path(folder), mode == "paused")
    except RuntimeError as error:
        notes = getattr(error, "__notes__", [])
        print(json.dumps({"error": type(error).__name__, "message": str(error), "notes": notes}))
