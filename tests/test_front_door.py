"""The README's ten lines, as printed there, on a network with random weights and every form."""

import copy
import re
import sys

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)
from torchvision import transforms
from torchvision.datasets import ImageFolder

import paperlib as pl
from paperlib.extraction.images import as_images, class_names
from paperlib.store import BankError
from reproduction.paths import ROOT

CLASSES, PER_CLASS = 3, {"train": 20, "test": 8}
TO_TENSOR = transforms.ToTensor()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny photos: a bright patch, whose place and colour tell the class."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, number in PER_CLASS.items():
        for c in range(CLASSES):
            (root / split / f"class{c}").mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)
                pixels[8 * c : 8 * c + 12, 4:28, c] = 255
                Image.fromarray(pixels).save(root / split / f"class{c}" / f"{i:02d}.png")
    return root


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=CLASSES)
    return network.train()  # as a user may hand it over


class Pairs(Dataset):
    """A dataset that knows no more than it must."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def stacked(images):
    return torch.stack([x for x, _ in images]), torch.tensor([y for _, y in images])


FORMS = {
    "ImageFolder": lambda images: images,
    "map-style dataset": Pairs,
    "TensorDataset": lambda images: TensorDataset(*stacked(images)),
    "(X, y) tensors": stacked,
    "(X, y) arrays": lambda images: tuple(part.numpy() for part in stacked(images)),
    "DataLoader": lambda images: DataLoader(images, batch_size=7, shuffle=True),
}


def ten_lines():
    """The Python block of the README that uses the front door."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (block,) = [block for block in blocks if "pl.extract(" in block]
    return block


LOADERS = {  # and the images that each draws from
    "a sampler of some": ({"sampler": SubsetRandomSampler([5, 1, 3])}, [1, 3, 5]),
    "batches of some": (
        {"batch_sampler": BatchSampler(SubsetRandomSampler([5, 1, 3]), 2, False)},
        [1, 3, 5],
    ),
    "the first in order": ({"sampler": SequentialSampler(range(4))}, [0, 1, 2, 3]),
    "the first in batches": (
        {"batch_sampler": BatchSampler(SequentialSampler(range(4)), 2, True)},
        [0, 1, 2, 3],
    ),
    "all at random": ({"shuffle": True, "drop_last": True}, [0, 1, 2, 3, 4, 5]),
}


def test_labels_may_be_a_list_or_a_column():
    """A Series of pandas is such a column."""
    x, column = (
        torch.rand(3, 2),
        type("Column", (), {"__array__": lambda *_, **__: np.arange(3)})(),
    )
    for y in ([0, 1, 2], column):
        assert [int(label) for _, label in as_images((x, y)).dataset] == [0, 1, 2]


def test_classes_that_become_one_are_named_together():
    images = TensorDataset(torch.rand(3, 2), torch.arange(3))
    images.classes, images.target_transform = ["ant", "bee", "cow"], [0, 0, 1].__getitem__
    assert class_names({"train": images}, 2) == ["ant/bee", "cow"]


@pytest.mark.parametrize("form", LOADERS)
def test_of_a_loader_the_images_that_its_sampler_draws_from(form):
    options, drawn = LOADERS[form]
    images = as_images(DataLoader(TensorDataset(torch.rand(6, 2), torch.arange(6)), **options))
    assert [int(images.dataset[i][1]) for i in range(len(images))] == drawn


@pytest.mark.parametrize("form", FORMS)
def test_the_ten_lines_of_the_readme(form, folder, model):
    images = {split: ImageFolder(folder / split, TO_TENSOR) for split in PER_CLASS}
    given = {f"{split}_images": FORMS[form](some) for split, some in images.items()}
    scope = {"model": model} | given
    exec(ten_lines(), scope)
    bank, subsets = scope["bank"], scope["subsets"]
    assert bank.features.shape == (CLASSES * 28, 512)
    assert torch.equal(bank.labels[:60], torch.arange(60) // 20)
    assert [len(filters) for filters in subsets] == [5] * CLASSES
    assert model.fc is scope["head"] and model.training
    model.eval()
    x, y = stacked(images["test"])
    right = 100 * (model(x).argmax(dim=1) == y).double().mean().item()
    found = pl.accuracy(scope["head"], bank)
    assert found.value == pytest.approx(right) and found.low <= found.value <= found.high
    assert found.value > 50  # random features tell such classes apart


def test_every_form_gives_the_same_bank(folder, model):
    images = ImageFolder(folder / "test", TO_TENSOR)
    banks = [
        pl.extract(model, test=as_form(images), device="cpu", progress=False)
        for as_form in FORMS.values()
    ]
    for bank in banks[1:]:
        assert torch.equal(bank.features, banks[0].features)
        assert torch.equal(bank.labels, banks[0].labels)
    assert banks[0].class_names == ["class0", "class1", "class2"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("photos/", "images cannot be a str; give an ImageFolder or any other map-style"),
        ({"x": 1}, "images cannot be a dict; give an ImageFolder"),
        (7, "images cannot be a int; give an ImageFolder"),
        (torch.zeros(4, 3, 8, 8), r"an item must be \(image, label\), not a Tensor"),
    ],
)
def test_other_images_are_refused_with_what_can_be_given(images, message, model):
    with pytest.raises((TypeError, ValueError), match=message):
        pl.extract(model, train=images, progress=False)


def test_options_are_named(model, folder):
    images = ImageFolder(folder / "test", TO_TENSOR)
    with pytest.raises(TypeError, match=r"unknown options \['batch'\]; choose from head, blocks"):
        pl.extract(model, test=images, batch=4)
    with pytest.raises(ValueError, match="unknown precision 'int8'; choose from auto, float32"):
        pl.extract(model, test=images, precision="int8")
    with pytest.raises(ValueError, match="no images: give `train`, `test` or both"):
        pl.extract(model)


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_precisions_agree(precision, model, folder):
    """A bfloat16 network as it is, turned up to float32; a float32 one under autocast."""
    images = ImageFolder(folder / "test", TO_TENSOR)
    exact = pl.extract(model, test=images, device="cpu", progress=False)
    given = model if precision == "bfloat16" else model.to(torch.bfloat16)
    before = given.fc.weight.dtype
    bank = pl.extract(given, test=images, precision=precision, device="cpu", progress=False)
    assert bank.features.dtype == torch.float32
    assert given.fc.weight.dtype == before  # the user's network is left as it is
    assert (bank.features - exact.features).abs().max() < 0.05 * exact.features.abs().max()


def test_some_of_the_classes_by_target_transform(folder):
    """A folder of three classes and a network of ten: labels are the network's, warned once."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    own = {0: 4, 1: 7, 2: 9}
    images = {
        f"{split}": ImageFolder(folder / split, TO_TENSOR, target_transform=own.get)
        for split in PER_CLASS
    }
    bank = pl.extract(model, **images, device="cpu", progress=False)
    assert bank.num_classes == 10 and bank.labels.unique().tolist() == [4, 7, 9]
    assert bank.class_names[4] == "class0"
    train = bank.split("train")
    with pytest.warns(
        UserWarning, match=r"\(7 of 10: 0, 1, 2, 3, 5, \.\.\.\); bank\.without_empty"
    ):
        subsets = pl.influential(train, k=5)
    assert [len(filters) for filters in subsets] == [
        5 if c in own.values() else 512 for c in range(10)
    ]
    assert pl.refit(train, subsets).weight.shape == (10, 512)
    left = bank.without_empty_classes()
    assert left.num_classes == 3 and [len(s) for s in pl.influential(left, k=5)] == [5] * 3


def test_without_the_target_transform_the_classes_are_compared(folder):
    model = torchvision.models.resnet18(num_classes=10)
    with pytest.raises(ValueError, match=r"3 classes .* tells 10 apart.*target_transform"):
        pl.extract(model, train=ImageFolder(folder / "train", TO_TENSOR), progress=False)


def test_the_rest_of_the_front_door(folder, model, tmp_path):
    images = {split: ImageFolder(folder / split, TO_TENSOR) for split in PER_CLASS}
    bank = pl.extract(model, **images, out=tmp_path / "bank.safetensors", progress=False)
    assert torch.equal(pl.FeatureBank.load(tmp_path / "bank.safetensors").features, bank.features)
    subsets = pl.backward_selection(bank, k=3)
    assert [len(filters) for filters in subsets] == [3] * CLASSES
    assert torch.equal(
        pl.decompose(bank, subsets).kept[1], torch.cat([s.sort()[0] for s in subsets])
    )
    control = pl.random_baseline(bank.split("train"), bank.split("test"), k=3, draws=3)
    again = pl.random_baseline(bank.split("train"), bank.split("test"), k=3, draws=3)
    assert control == again and control.low <= control.value <= control.high
    (card,) = pl.class_cards(bank, subsets, classes=[1]).values()
    assert [row.filter for row in card] == subsets[1].tolist()
    assert pl.accuracy(pl.refit(bank, subsets), bank).value >= control.low
    with pytest.raises(BankError, match="this bank holds none"):
        pl.influential(bank.split("test"))


def small_bank(**changes):
    """Two classes by two features, told apart by the first."""
    features = torch.eye(2).repeat(8, 1)
    given = {"stored_head": (torch.eye(2), torch.zeros(2)), "class_names": ["a", "b"]}
    return pl.FeatureBank(features, features, torch.arange(16) % 2, **given | changes)


def test_accuracy_takes_heads_as_they_come():
    bank = small_bank()
    assert pl.accuracy(bank.head, bank) == (100, 100, 100)
    dense = nn.Linear(2, 2, bias=False)
    dense.weight.data = torch.eye(2)
    for dtype in (torch.float64, torch.bfloat16):
        assert pl.accuracy(copy.deepcopy(dense).to(dtype), bank).value == 100
    trains = nn.Sequential(nn.Dropout(0.9), dense)
    assert pl.accuracy(trains, bank).value == 100
    assert trains.training and trains[0].training


def test_cards_go_by_name():
    bank, subsets = small_bank(class_names=["crane", "crane"]), [[0], [1]]
    assert list(pl.class_cards(bank, subsets)) == ["crane (0)", "crane (1)"]
    assert list(pl.class_cards(bank, subsets, ["crane (1)"])) == ["crane (1)"]
    (rows,) = pl.class_cards(small_bank(), [[0], []], ["a"]).values()
    assert [(row.filter, row.named_by) for row in rows] == [(0, 1.0)]


def test_a_control_needs_no_names():
    named, unnamed = small_bank(), small_bank(class_names=[])
    assert pl.random_baseline(named, unnamed, k=2, draws=1).value == 100


def test_a_model_without_a_linear_layer_is_named():
    with pytest.raises(ValueError, match=r"nn\.Linear"):
        pl.extract(nn.Sequential(nn.Flatten()), train=(torch.zeros(2, 3), np.zeros(2, int)))


@pytest.mark.skipif(sys.platform == "win32", reason="typing stubs are read from the clone")
def test_the_package_is_typed():
    assert (ROOT / "paperlib" / "py.typed").read_text() == ""


def test_class_names_that_are_numbers_in_text_order_are_warned_of():
    images = TensorDataset(torch.rand(24, 3, 2, 2), torch.arange(24) % 12)
    images.classes = sorted(map(str, range(12)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12))
    with pytest.warns(UserWarning, match="'10' has label 2; name the folders 000, 001"):
        pl.extract(model, train=images, progress=False, device="cpu")


def test_a_callers_autocast_changes_no_feature():
    x, y = torch.rand(8, 3, 4, 4), torch.arange(8) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 3))
    plain = pl.extract(model, train=(x, y), progress=False, device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        again = pl.extract(model, train=(x, y), progress=False, device="cpu")
    assert torch.equal(plain.features, again.features)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images = torch.rand(9, 3, 2, 2), torch.arange(9) % 3
    pl.extract(model, train=images, out="~/bank.st", progress=False, device="cpu")
    assert (tmp_path / "bank.st").exists() and not (tmp_path / "~").exists()
