"""Two processes give the bank of one; when one dies the other says so."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from interrupted import SETTINGS, Images, tiny_model
from PIL import Image

from paperlib.__main__ import main
from paperlib.api import extract
from paperlib.extraction.distributed import Processes, processes
from paperlib.extraction.options import choose_device
from reproduction.paths import ROOT

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
BOUND = 100  # seconds: far more than a slow machine needs, far less than for ever


def start_two(*arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "interrupted.py"), *map(str, arguments)],
            env=ENVIRONMENT | group | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What two processes left before the second was killed, and the first one's last words."""
    folder = tmp_path_factory.mktemp("group")
    first, second = start_two("group", folder)
    words, problems = first.communicate(timeout=BOUND)
    second.communicate(timeout=BOUND)
    assert words, problems
    return folder, json.loads(words), second.returncode


def test_two_processes_make_the_bank_of_one(shared, tmp_path):
    bank = extract(tiny_model(), train=Images(23), batch_size=2, device="cpu", progress=False)
    alone = bank.save(tmp_path / "alone.safetensors")
    assert (shared[0] / "shared.safetensors").read_bytes() == alone.read_bytes()


def test_survivor_of_a_kill_says_so_and_a_rerun_goes_on(shared):
    folder, words, killed = shared
    assert killed == -signal.SIGKILL
    assert words["error"] == "LostProcessError"
    assert "another of the 2 processes was killed or gives no answer" in words["message"]
    assert "3 of 6 shards are safe in" in words["notes"][0]
    images, out = Images(23), folder / "killed.safetensors"
    extract(tiny_model(), train=images, out=out, **SETTINGS)
    assert images.loaded == list(range(12, 23))
    assert out.read_bytes() == (folder / "shared.safetensors").read_bytes()


def test_a_group_is_told_of_another_writer(tmp_path):
    """Only process 0 takes the lock; the other learns of it."""
    folder = tmp_path / "shared.safetensors.parts"
    folder.mkdir()
    with FileLock(folder / ".lock"):
        (_, problems), (words, _) = (
            each.communicate(timeout=BOUND) for each in start_two("group", tmp_path)
        )
    assert "ShardError: another process is writing to" in problems
    assert "process 0 of 2 failed: ShardError: another process" in json.loads(words)["message"]
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_silent_process_is_given_up_after_the_timeout(tmp_path):
    first, second = start_two("silent", tmp_path)
    try:
        words, problems = first.communicate(timeout=BOUND)
        assert words, problems
        assert "Timed out waiting 3000ms" in json.loads(words)["message"]
    finally:
        second.kill()
        second.communicate()


def test_torchrun_makes_the_bank_of_one_process(assets, tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    for index in range(20):
        folder = tmp_path / "images" / "test" / f"class{index % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")
    command = [
        "extract",
        "--network",
        "resnet20",
        "--dataset",
        f"imagefolder:{tmp_path / 'images'}",
    ]
    command += ["--splits", "test", "--batch-size", "4", "--shard-size", "4", "--device", "cpu"]
    alone, shared = tmp_path / "alone.safetensors", tmp_path / "shared.safetensors"
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert main([*command, "--quiet", "--out", str(alone)]) == 0
    finally:
        torch.set_num_threads(threads)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", "-m", "paperlib"]
    done = subprocess.run(
        [*torchrun, *command, "--out", str(shared)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert done.returncode == 0, done.stderr
    assert shared.read_bytes() == alone.read_bytes()
    assert done.stdout.count("saved: ") == 1
    assert "20/20" in done.stderr
    assert not Path(f"{shared}.parts").exists()


def test_one_process_is_a_group_of_one():
    with processes(torch.device("cpu"), timeout=1) as group:
        assert group == Processes(rank=0, size=1)
        assert group.gather_all(lambda: 5) == [5]
        assert group.in_turn(lambda: 7) == 7
        assert group.share("abc") == ["a", "b", "c"]
        with pytest.raises(KeyError, match="unchanged"):
            group.gather_all(lambda: {}["unchanged"])
    assert Processes(1, 2).share("abc") == ["b", None]


def test_each_process_has_its_own_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    nothing = torch.zeros(0)
    monkeypatch.setattr(torch, "empty", lambda *_, device: nothing)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # as under SLURM
    assert choose_device("cuda") == torch.device("cuda:0")
