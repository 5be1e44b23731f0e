"""The ImageNet tier: labels by WordNet id, and notebooks on networks of other shapes."""

import os
import shutil

import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights

from paperlib.__main__ import main
from paperlib.bank import FeatureBank, LinearHead
from paperlib.extraction.fingerprint import files_sha256
from paperlib.networks.datasets import imagenet_ids, load_dataset
from paperlib.store import BankError
from reproduction import runner
from reproduction.banks import load_bank, load_banks
from reproduction.paths import ROOT
from reproduction.published import published_subsets
from reproduction.tiers import choose_networks, depth_of

NAMES = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
# Ten well-known ids and what torchvision calls the output that belongs to each
KNOWN = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


@pytest.fixture
def folder(tmp_path):
    """Three of the 1000 classes, four images of each in train and two in val."""
    for split, number in (("train", 4), ("val", 2)):
        for wordnet_id in ("n03888257", "n01440764", "n02102040"):
            (tmp_path / split / wordnet_id).mkdir(parents=True)
            for i in range(number):
                image = Image.new("RGB", (40, 40), (60 * i, 90, 30))
                image.save(tmp_path / split / wordnet_id / f"{i}.JPEG")
    return tmp_path


def test_ids_are_sorted_and_fit_torchvisions_names():
    ids = imagenet_ids()
    assert len(set(ids)) == 1000 and ids == sorted(ids)
    assert {wordnet_id: NAMES[ids.index(wordnet_id)] for wordnet_id in KNOWN} == KNOWN


def test_some_folders_get_the_labels_of_all(folder):
    images = load_dataset(f"imagenet:{folder}", "train")
    assert sorted({label for _, label in images}) == [0, 217, 701]
    assert [images.classes[c] for c in (0, 217, 701)] == ["tench", "English springer", "parachute"]
    assert len(load_dataset(f"imagenet:{folder}", "test")) == 6


def test_images_per_class_are_evenly_spaced(folder):
    images = load_dataset(f"imagenet:{folder}", "train", per_class=2)
    assert [path[-6:] for path, _ in images.samples] == ["0.JPEG", "2.JPEG"] * 3
    assert images.targets == [0, 0, 217, 217, 701, 701]
    assert len(load_dataset(f"imagenet:{folder}", "train", per_class=99)) == 12
    with pytest.raises(ValueError, match="images per class must be at least 1, not 0"):
        load_dataset(f"imagenet:{folder}", "train", per_class=0)


def test_bad_folders_are_named(folder):
    (folder / "train" / "cats").mkdir()
    with pytest.raises(ValueError, match=r"not among the 1000 WordNet ids .*\['cats'\]"):
        load_dataset(f"imagenet:{folder}", "train")
    shutil.rmtree(folder / "val")
    (folder / "val").mkdir()
    (folder / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"has no class folders: expected .*ILSVRC2012"):
        load_dataset(f"imagenet:{folder}", "test")
    with pytest.raises(ValueError, match="tier imagenet needs `data`"):
        load_bank("resnet50", "imagenet")


def test_networks_of_a_tier():
    assert choose_networks("imagenet", ["densenet121"]) == ("densenet121",)
    assert choose_networks("embedded")[0] == "resnet20"
    assert (depth_of("resnet152"), depth_of("resnet18:random")) == (152, 18)
    with pytest.raises(ValueError, match="'vgg16' tells no depth"):
        depth_of("vgg16")


def test_published_subsets_are_found_where_the_user_has_them(monkeypatch, tmp_path, assets):
    assert list(published_subsets("resnet20")) == [5, 10, 20]
    (subsets,) = published_subsets("resnet50").values()
    assert len(subsets) == 1000 and {len(set(filters)) for filters in subsets} == {50}
    some = published_subsets("resnet50", [0, 701])[50]
    assert some == [subsets[0], subsets[701]]
    monkeypatch.setenv("PAPERLIB_ASSETS", str(tmp_path))
    assert published_subsets("resnet50") == published_subsets("vgg16") == {}


def test_imagenette_runs_the_imagenet_path(assets, tmp_path, capsys):
    """800 photos of ten classes through a network of 1000 outputs, from the command line."""
    folder, out = assets / "data" / "imagenette-sample", tmp_path / "bank.safetensors"
    command = [
        "extract",
        "--network",
        "torchvision:mobilenet_v3_small:random",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert main([*command, "--dataset", f"imagefolder:{folder}", "--out", str(out)]) == 2
    assert "have 10 classes" in capsys.readouterr().err and not out.exists()
    assert main([*command, "--dataset", f"imagenet:{folder}", "--out", str(out)]) == 0
    bank = FeatureBank.load(out)
    assert (len(bank.split("train")), len(bank.split("test"))) == (400, 400)
    assert bank.features.shape == (800, 1024) and bank.num_classes == 1000
    assert {bank.class_names[c] for c in bank.labels.unique().tolist()} == set(KNOWN.values())
    assert torch.bincount(bank.labels, minlength=1000)[[0, 217, 701]].tolist() == [80, 80, 80]


@pytest.fixture
def data(tmp_path):
    """A data folder whose banks are there already: 12 of 1000 classes, layers of 80 and 96."""
    name = f"test-{os.getpid()}"
    for split in ("train", "val"):
        for c in range(0, 12 * 83, 83):
            (tmp_path / name / split / imagenet_ids()[c]).mkdir(parents=True)
            (tmp_path / name / split / imagenet_ids()[c] / "0.JPEG").write_bytes(b"not read")
    images = {s: load_dataset(f"imagenet:{tmp_path / name}", s) for s in ("train", "test")}
    origin = {split: files_sha256(some) for split, some in images.items()}
    banks = ROOT / "build" / "imagenet" / name / "banks"
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(12) * 83
    labels = classes[torch.arange(12 * 30) % 12]
    for network, width in (("resnet18", 80), ("resnet34", 80), ("resnet101", 96)):
        centres = 2 * torch.rand(1000, width, generator=generator) ** 4
        noise = torch.rand(len(labels), width, generator=generator)
        features = centres[labels] + noise
        head = LinearHead(centres - centres.mean(dim=0), -centres.square().sum(dim=1) / 2)
        codes = (torch.arange(len(labels)) >= 240).to(torch.uint8)
        logits = features @ head.weight.T + head.bias
        bank = FeatureBank(features, logits, labels, codes, list(NAMES), head)
        bank.metadata = {"network": network, "files_sha256": origin}
        bank.save(banks / f"{network}.safetensors")
    yield tmp_path / name
    shutil.rmtree(banks.parent)


def test_notebooks_take_the_imagenet_tier(data, tmp_path, monkeypatch):
    """Every claim's notebook completes on three networks of two widths."""
    loaded = load_banks("imagenet", ["resnet18"], data=str(data))["resnet18"]
    assert loaded.num_classes == 12 and loaded.metadata["classes_kept"][1] == 83
    elsewhere = tmp_path / "elsewhere" / data.name  # another folder of the same name
    for split in ("train", "val"):
        (elsewhere / split / imagenet_ids()[0]).mkdir(parents=True)
        (elsewhere / split / imagenet_ids()[0] / "1.JPEG").write_bytes(b"")
    with pytest.raises(BankError, match=r"was not made of the images that .*elsewhere"):
        load_banks("imagenet", ["resnet18"], data=str(elsewhere))
    monkeypatch.setenv("PAPERLIB_FIGURES", "")  # the runner sets it; pytest puts it back
    networks = ["resnet18", "resnet34", "resnet101"]
    given = {"tier": "imagenet", "data": str(data), "networks": networks, "network": "resnet18"}
    given |= {"k": 7, "draws": 3, "repeats": 2, "rounds": 1}
    notebooks = runner.find_notebooks(["00", "01", "02", "03", "04", "05", "06", "08", "10"])
    declared = {path: runner.papermill.inspect_notebook(path) for path in notebooks}
    work = {path: {n: given[n] for n in names if n in given} for path, names in declared.items()}
    outcomes = list(runner.run_all(work, tmp_path / "out", jobs=2))
    assert [f"{o.name}: {o.error}" for o in outcomes if o.error] == []
