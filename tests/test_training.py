"""Training: learns, is the same for a seed, and goes on after a kill as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from experiments.__main__ import main as experiments_main
from experiments.training.batches import Batches
from experiments.training.recipe import Recipe
from experiments.training.train import TrainingError, train
from paperlib.__main__ import main
from paperlib.bank import FeatureBank
from paperlib.networks.by_name import load_network
from paperlib.networks.datasets import load_dataset
from paperlib.networks.trained import load_trained
from reproduction.paths import ROOT
from tests.pretend_cuda import pretended_gpu

CPU = torch.device("cpu")
TINY = {"depth": 8, "epochs": 3, "batch_size": 16, "learning_rate": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of 32 x 32 images, told apart by their brightest channel."""
    root, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    for split, number in (("train", 21), ("test", 7)):
        for c in range(3):
            (root / split / f"class{c}").mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 150, (32, 32, 3), dtype=np.uint8)
                pixels[..., c] += 100
                Image.fromarray(pixels).save(root / split / f"class{c}" / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def images(folder):
    return [load_dataset(f"imagefolder:{folder}", split) for split in ("train", "test")]


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "net.safetensors"
    return train(Recipe(**TINY), *images, out, CPU, progress=False)


def test_it_learns_and_says_how(whole, images):
    record = json.loads(whole.with_suffix(".json").read_text())
    losses = [row["loss"] for row in record["history"]]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert record["recipe"]["depth"] == 8 and record["images"] == {"train": 63, "test": 21}
    assert record["history"][-1]["test accuracy, %"] > 60
    model, normalisation = load_trained(whole)
    assert model.linear.out_features == 3 and normalisation == "CIFAR"
    x, y = next(Batches(images[1], CPU).in_order())
    with torch.inference_mode():
        accuracy = 100 * (model(x).argmax(dim=1) == y).double().mean().item()
    assert accuracy == pytest.approx(record["history"][-1]["test accuracy, %"], abs=1e-3)
    assert not whole.with_suffix(".state.safetensors").exists()


def test_a_trained_network_is_extracted_by_name(whole, folder, tmp_path):
    """Its transform is the training's: the bank's accuracy is the record's."""
    out = tmp_path / "bank.safetensors"
    command = ["extract", "--network", f"trained:{whole}", "--dataset", f"imagefolder:{folder}"]
    assert main([*command, "--out", str(out), "--device", "cpu", "--quiet"]) == 0
    record = json.loads(whole.with_suffix(".json").read_text())
    found = 100 * FeatureBank.load(out).split("test").correct().double().mean().item()
    assert found == pytest.approx(record["history"][-1]["test accuracy, %"], abs=1e-3)
    assert load_network(f"trained:{whole}").checkpoint_sha256


def test_training_on_the_pretended_gpu_is_the_cpus(whole, images, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "pretended")
    out = tmp_path / "there.safetensors"
    with pretended_gpu():
        train(Recipe(**TINY), *images, out, torch.device("cuda"), progress=False)
    there, here = load_file(out), load_file(whole)
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name], tensor) for name, tensor in here.items())


def test_the_seed_decides(whole, images, tmp_path):
    again = train(Recipe(**TINY), *images, tmp_path / "again.safetensors", CPU, progress=False)
    assert again.read_bytes() == whole.read_bytes()
    recipe = Recipe(**TINY, seed=1)
    other = train(recipe, *images, tmp_path / "other.safetensors", CPU, progress=False)
    assert other.read_bytes() != whole.read_bytes()


@pytest.mark.parametrize("killed_in", [1, 2])
def test_a_kill_in_any_epoch_loses_no_more_than_it(whole, images, tmp_path, monkeypatch, killed_in):
    out = tmp_path / "net.safetensors"
    epoch_of = Batches.epoch

    def die(self, seed, epoch, size):
        if epoch == killed_in:
            raise KeyboardInterrupt
        return epoch_of(self, seed, epoch, size)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Batches, "epoch", die)
        train(Recipe(**TINY), *images, out, CPU, progress=False)
    assert out.with_suffix(".state.safetensors").exists() and not out.exists()
    with pytest.raises(TrainingError, match=r"belongs to another recipe.*'weight_decay': 0\.0001"):
        train(Recipe(**TINY, weight_decay=1e-3), *images, out, CPU, progress=False)
    assert train(Recipe(**TINY), *images, out, CPU, progress=False).read_bytes() == (
        whole.read_bytes()
    )


def test_sigkill_and_the_same_command(folder, tmp_path):
    """From the command line, with one thread: killed once it has saved, the run ends the same."""
    options = ["--depth", "8", "--epochs", "3", "--batch-size", "16", "--device", "cpu", "--quiet"]
    command = [sys.executable, "-m", "experiments", "train", *options]
    command += ["--dataset", f"imagefolder:{folder}", "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    name = "resnet8-seed0-decay0.0001-epochs3"
    run = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, str(tmp_path / "killed")], **run) as process:
        state = tmp_path / "killed" / f"{name}.state.safetensors"
        while not state.exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    for folder_name in ("killed", "whole", "whole"):  # the third finds the run finished
        done = subprocess.run([*command, str(tmp_path / folder_name)], check=True, **run)
        assert f"{name}.safetensors" in done.stdout
    files = [tmp_path / where / f"{name}.safetensors" for where in ("killed", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def windows(pixels):
    """Every crop of every padded image, as it is and mirrored, with where it comes from."""
    for i, image in enumerate(pixels):
        for flip, top, left in product((False, True), range(9), range(9)):
            window = image[top : top + 32, left : left + 32]
            yield (i, flip, top), window.flip(1) if flip else window


def test_crops_and_flips_are_windows_of_the_image(images):
    """Every training image is its original, moved by at most four pixels, perhaps mirrored."""
    batches = Batches(images[0], CPU, images=6)
    seen = set()
    for x, _ in batches.epoch(seed=0, epoch=0, size=63):
        raw = (x.permute(0, 2, 3, 1) * batches.std + batches.mean).round().to(torch.uint8)
        for image in raw:
            hits = [
                where for where, window in windows(batches.pixels) if torch.equal(window, image)
            ]
            assert hits
            seen.add(hits[0])
    assert {i for i, *_ in seen} == set(range(6))
    assert {flip for _, flip, _ in seen} == {False, True} and len({t for *_, t in seen}) > 2


def test_the_rate_follows_the_schedule():
    cosine = Recipe(epochs=10, schedule="cosine")
    assert cosine.rate(0, 5) == pytest.approx(0.1 / 5)
    assert cosine.rate(25, 5) == pytest.approx(0.05)
    assert cosine.rate(49, 5) < 0.001
    steps = Recipe(epochs=8, schedule="steps")
    assert [round(steps.rate(epoch, 1), 6) for epoch in range(8)] == [0.1] * 4 + [0.01] * 2 + [
        0.001
    ] * 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "linear"}, "unknown schedule 'linear'; choose from cosine, steps"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
    ],
)
def test_bad_recipes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**given)


def test_bad_input_is_named_on_the_command_line(folder, tmp_path, capsys):
    command = ["train", "--dataset", f"imagefolder:{folder}", "--out", str(tmp_path), "--quiet"]
    assert experiments_main([*command, "--depth", "21", "--device", "cpu"]) == 2
    assert "depth must be 6n + 2" in capsys.readouterr().err
    Image.new("RGB", (40, 30)).save(folder / "train" / "class0" / "wide.png")
    try:
        assert experiments_main([*command, "--depth", "8", "--device", "cpu"]) == 2
    finally:
        (folder / "train" / "class0" / "wide.png").unlink()
    assert "images must be 32 x 32 pixels, found 40 x 30" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_an_infinite_loss_stops_the_run(images, tmp_path):
    recipe = Recipe(**TINY | {"learning_rate": 1e30})
    with pytest.raises(
        TrainingError, match=r"resnet8-seed0.* diverges in epoch .*a lower learning"
    ):
        train(recipe, *images, tmp_path / "net.safetensors", CPU, progress=False)


@pytest.mark.filterwarnings("ignore")
def test_a_last_step_that_spoils_the_network_is_noticed(images, tmp_path):
    """One step in all: its loss is taken before the weights are lost."""
    recipe = Recipe(**TINY | {"learning_rate": 1e30, "epochs": 1, "batch_size": 1000})
    with pytest.raises(TrainingError, match=r"its loss is [0-9.]+, its test accuracy nan"):
        train(recipe, *images, tmp_path / "net.safetensors", CPU, progress=False)
    assert not list(tmp_path.iterdir())


def test_the_largest_seed_can_be_drawn_from(images):
    batches = Batches(images[0], CPU, 4)
    assert len(next(batches.epoch(2**64 - 1, 3, 4))[1]) == 4
