"""Long jobs killed at random moments: the same command must end with the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]


class Job(NamedTuple):
    """A command that writes `result` into the folder that is its last argument."""

    command: list[str]
    result: str
    folder: Path

    def start(self, folder: Path) -> subprocess.Popen:
        """Run it on one thread, silently."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        out = self.result.format(folder=folder)
        command = [sys.executable, "-m", "paperlib", *self.command, "--device", "cpu", "--quiet"]
        return subprocess.Popen([*command, "--out", out], cwd=ROOT, env=environment, **quiet)


def jobs(folder: Path) -> dict[str, Job]:
    """Extraction in shards of four images, and training for three epochs, on tiny images."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 12), ("test", 4)):
        for c in range(3):
            (folder / "images" / split / f"class{c}").mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                path = folder / "images" / split / f"class{c}" / f"{i}.png"
                Image.fromarray(pixels).save(path)
    images = f"imagefolder:{folder / 'images'}"
    network = folder / "first" / "resnet8-seed0-decay0.0001-epochs3.safetensors"
    train = ["train", "--depth", "8", "--epochs", "3", "--batch-size", "8", "--dataset", images]
    training = Job(train, "{folder}", folder)
    training.start(folder / "first").wait()
    extract = ["extract", "--network", f"trained:{network}", "--dataset", images]
    extract += ["--batch-size", "2", "--shard-size", "4"]
    return {
        "extraction": Job(extract, "{folder}/bank.safetensors", folder),
        "training": training,
    }


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.safetensors")}


def killed(job: Job, times: int, seed: int = 0) -> str:
    """Kill the job at `times` random moments, finish it each time, compare with a whole run."""
    rng = random.Random(seed)
    whole, other = job.folder / "whole", job.folder / "killed"
    for folder in (whole, other):
        shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    assert job.start(whole).wait() == 0
    duration, expected = time.monotonic() - started, _bytes_of(whole)
    died = same = 0
    for _ in range(times):
        shutil.rmtree(other, ignore_errors=True)
        process = job.start(other)
        time.sleep(duration * rng.uniform(0.4, 1.0))  # the first part is imports
        process.send_signal(signal.SIGKILL)
        died += process.wait() != 0
        assert job.start(other).wait() == 0
        same += _bytes_of(other) == expected
    return f"{times} kills, {died} while it ran, {same} ended with the same bytes"
