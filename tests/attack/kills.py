"""Long jobs killed at random moments: the same command must end with the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]


class Job(NamedTuple):
    """A command, in which `{folder}` stands for where it writes, and the files that count."""

    command: str
    files: tuple[str, ...]
    folder: Path
    prepare: Callable[[Path], object] = lambda folder: folder.mkdir(exist_ok=True)

    def start(self, folder: Path) -> subprocess.Popen:
        """Run it on one thread, silently, as a group of processes of its own."""
        self.prepare(folder)
        clone = folder if (folder / "paperlib").exists() else ROOT
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": clone, "PAPERLIB_DATA": ROOT / "data"}
        words = [word.format(folder=folder) for word in self.command.split()]
        return subprocess.Popen(
            [sys.executable, "-m", "experiments" if words[0] == "train" else "paperlib", *words],
            env=os.environ | {name: str(value) for name, value in environment.items()},
            cwd=clone,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def written(self, folder: Path) -> dict[str, bytes]:
        """The files that count, by name."""
        found = (path for pattern in self.files for path in folder.glob(pattern))
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _clone(folder: Path) -> None:
    """What `paperlib reproduce` needs: it writes to `build/` of the clone that it is in."""
    for name in ("paperlib", "reproduction", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)


def jobs(folder: Path) -> dict[str, Job]:
    """Extraction in shards of four images, three epochs of training, a notebook."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 12), ("test", 4)):
        for c in range(3):
            (folder / "images" / split / f"class{c}").mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                path = folder / "images" / split / f"class{c}" / f"{i}.png"
                Image.fromarray(pixels).save(path)
    images = f"--dataset imagefolder:{folder / 'images'} --device cpu --quiet"
    train = f"train --depth 8 --epochs 3 --batch-size 8 {images} --out {{folder}}"
    training = Job(train, ("*.safetensors",), folder)
    training.start(folder / "first").wait()
    (network,) = (folder / "first").glob("*.safetensors")
    extract = f"extract --network trained:{network} {images} --batch-size 2 --shard-size 4"
    reproduce = "reproduce 04"
    results = tuple(f"build/embedded/figures/{name}" for name in ("*.csv", "claims/*.json"))
    return {
        "extraction": Job(f"{extract} --out {{folder}}/bank.safetensors", ("**/*",), folder),
        "training": training,
        "reproduce": Job(reproduce, results, folder, _clone),
    }


def killed(job: Job, times: int, seed: int = 0, seconds: float = float("inf")) -> dict[str, int]:
    """Kill the job at `times` random moments, finish it each time, compare with a whole run.

    Fewer times where `seconds` are over.  *same* counts the runs that ended with the same bytes.
    """
    rng = random.Random(seed)
    whole, other = job.folder / "whole", job.folder / "killed"
    started = time.monotonic()
    for _ in range(2):  # the first also compiles, and takes longer than those to kill
        shutil.rmtree(whole, ignore_errors=True)
        begun = time.monotonic()
        assert job.start(whole).wait() == 0
        duration = time.monotonic() - begun
    expected = job.written(whole)
    assert expected
    found = {"kills": 0, "while it ran": 0, "same": 0}
    while found["kills"] < times and time.monotonic() - started < seconds:
        shutil.rmtree(other, ignore_errors=True)
        process = job.start(other)
        time.sleep(duration * rng.uniform(0.4, 1.0))  # the first part is imports
        os.killpg(process.pid, signal.SIGKILL)
        found["kills"] += 1
        found["while it ran"] += process.wait() != 0
        assert job.start(other).wait() == 0
        found["same"] += job.written(other) == expected
    return found
