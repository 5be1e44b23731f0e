"""CIFAR ResNets, checkpoints checked by SHA-256, and the head of any classifier."""

import hashlib
import io
import shutil
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models as torchvision_models

from paperlib.networks import assets as asset_files
from paperlib.networks.by_name import find_checkpoint, load_network
from paperlib.networks.cifar import BasicBlock, CifarResNet
from paperlib.networks.cifar_runs import RUNS
from paperlib.networks.datasets import load_dataset
from paperlib.networks.head import split_head
from paperlib.networks.strips import CifarStrips


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """No assets and an empty cache, so that a checkpoint has to be downloaded."""
    monkeypatch.delenv("PAPERLIB_ASSETS", raising=False)
    monkeypatch.setenv("PAPERLIB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (56, 853_018), (110, 1_727_962)])
def test_parameter_counts_are_those_of_he_et_al(depth, parameters):
    """He et al. 2016, table 6: 0.27, 0.85 and 1.7 million."""
    model = CifarResNet(depth)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_shortcut_subsamples_and_pads_with_zeros_on_both_sides():
    x = torch.rand(1, 16, 4, 4)
    shortcut = BasicBlock(16, 32, stride=2).shortcut(x)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert shortcut[:, :8].abs().sum() == shortcut[:, 24:].abs().sum() == 0


def test_bad_depth_and_network_are_named(empty_cache):
    with pytest.raises(ValueError, match=r"6n \+ 2 .* not 21"):
        CifarResNet(21)
    with pytest.raises(ValueError, match="unknown network 'resnet99'; choose from resnet20, "):
        find_checkpoint("resnet99")


def test_checkpoints_load_strictly(assets):
    for network in ("resnet20", "resnet56"):
        loaded = load_network(network)
        assert not loaded.model.training
        assert loaded.checkpoint_sha256.startswith(RUNS[network].sha256)


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if ":" in name])
def test_runs_of_others_load_and_classify(assets, name):
    """Every tensor of every file finds its place: most of 100 test images are right."""
    if not (assets / "data" / "cifar10").is_dir():
        pytest.skip("the assets hold no cifar10")
    loaded = load_network(name)
    images = load_dataset("cifar10", "test", loaded.transform)
    some = [images[i] for i in range(100)]
    x, y = torch.stack([x for x, _ in some]), torch.tensor([y for _, y in some])
    with torch.inference_mode():
        assert (loaded.model(x).argmax(dim=1) == y).sum() >= 85
    assert loaded.checkpoint_sha256 == RUNS[name].sha256


def test_runs_are_named(empty_cache):
    with pytest.raises(ValueError, match="resnet20 has no run 'segra'; choose from akamaster"):
        load_network("resnet20:segra")
    with pytest.raises(ValueError, match="not a network of our training"):
        load_network(f"trained:{__file__}")


def test_strips_are_official_cifar10(assets):
    """Balanced classes, the published mean of the train pixels, labels in official order."""
    if not (assets / "data" / "cifar10").is_dir():
        pytest.skip("the assets hold no cifar10")
    train, test = (load_dataset("cifar10", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (50_000, 10_000)
    for images, number in ((train, 5000), (test, 1000)):
        assert np.bincount(images.targets).tolist() == [number] * 10
    mean = train.data.reshape(-1, 3).mean(axis=0, dtype=np.float64) / 255
    assert mean.round(4).tolist() == [0.4914, 0.4822, 0.4465]
    assert [test.classes[c] for c in test.targets[:4]] == ["cat", "ship", "ship", "airplane"]


def test_strips_without_labels_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no strips train_000\.webp or train_000\.png"
    ):
        CifarStrips(tmp_path, "train")
    Image.new("RGB", (1024, 3)).save(tmp_path / "train_00.png")
    (tmp_path / "train_labels.txt").write_text("1\n2\n")
    with pytest.raises(ValueError, match="3 train images, but 2 labels"):
        CifarStrips(tmp_path, "train")


def test_altered_checkpoint_is_refused(assets, tmp_path, monkeypatch):
    name = "resnet20-12fca82f.th"
    (tmp_path / "checkpoints").mkdir()
    copy = shutil.copyfile(assets / "checkpoints" / name, tmp_path / "checkpoints" / name)
    copy.write_bytes(copy.read_bytes()[:-1] + b"\x00")
    monkeypatch.setenv("PAPERLIB_ASSETS", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"SHA-256 starts with .* expected 12fca82f"):
        find_checkpoint("resnet20")


class Answer(io.BytesIO):
    """What a server sends; `url` is where redirects led to."""

    url = "https://here/resnet20.th"


@pytest.mark.parametrize(
    ("url", "arrived_at", "largest", "error", "words"),
    [
        ("https://here/x", Answer.url, 10**6, RuntimeError, "SHA-256 starts with .*, expected 12f"),
        ("https://here/x", Answer.url, 10, RuntimeError, "x is larger than 10 bytes"),
        ("http://here/x", Answer.url, 10**6, ValueError, "over https only, not http://here/x"),
        ("file:///x", Answer.url, 10**6, ValueError, "over https only, not file:///x"),
        ("https://here/x", "http://other/x", 10**6, ValueError, "only, not http://other/x"),
    ],
)
def test_downloads_are_bounded_and_checked(
    tmp_path, monkeypatch, url, arrived_at, largest, error, words
):
    """No network: the opener is ours."""

    def opened(*_, **__):
        answer = Answer(b"not the checkpoint")
        answer.url = arrived_at
        return answer

    monkeypatch.setattr(asset_files, "urlopen", opened)
    with pytest.raises(error, match=words):
        asset_files.download(url, tmp_path / "file", "12fca82f", largest)
    assert not list(tmp_path.iterdir())


def test_no_network_is_named_with_what_was_wanted(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(asset_files, "urlopen", refused)
    with pytest.raises(OSError, match=r"cannot download https://here/x to .*no route to host"):
        asset_files.download("https://here/x", tmp_path / "file", "12fca82f")


def test_missing_checkpoint_is_downloaded_and_checked(empty_cache, monkeypatch):
    monkeypatch.setattr(asset_files, "urlopen", lambda *_, **__: Answer(b"not the checkpoint"))
    with pytest.raises(RuntimeError, match="expected 12fca82f"):
        find_checkpoint("resnet20")
    assert not any(path.is_file() for path in empty_cache.rglob("*"))
    content = b"a checkpoint"
    monkeypatch.setattr(asset_files, "urlopen", lambda *_, **__: Answer(content))
    digest = hashlib.sha256(content).hexdigest()
    path = asset_files.fetch_checkpoint("https://here/own.th", digest[:8])
    assert path.read_bytes() == content and path.is_relative_to(empty_cache)
    with pytest.raises(RuntimeError, match="expected one"):  # never unchecked
        asset_files.fetch_checkpoint("https://here/other.th", "")


def test_assets_folder_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERLIB_ASSETS", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="PAPERLIB_ASSETS names"):
        find_checkpoint("resnet20")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (CifarResNet(20), "linear"),
        (torchvision_models.resnet18(), "fc"),
        (torchvision_models.mobilenet_v3_small(), "classifier.3"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), "3"),
    ],
)
def test_head_is_the_last_linear_layer(model, name):
    assert split_head(model).name == name


def test_head_errors_list_the_modules():
    convolutional = nn.Sequential(nn.Conv2d(3, 10, 1), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ValueError, match=r"no nn\.Linear; modules looked at: 0 \(Conv2d\), 1"):
        split_head(convolutional)
    two = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    assert split_head(two, "0").module is two[0]
    with pytest.raises(ValueError, match=r"no nn\.Linear named 'fc'; modules looked at: 0, 2"):
        split_head(two, "fc")
