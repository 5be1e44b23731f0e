"""Classifiers by name: the head of every family, weights that are checked, and clear refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib.api import extract
from paperlib.networks.by_name import load_network
from paperlib.networks.head import split_head

# The smallest member of each family, the pixels it needs, and the name of its head.
FAMILIES = {
    "resnet18": (32, "fc"),
    "resnext50_32x4d": (32, "fc"),
    "wide_resnet50_2": (32, "fc"),
    "densenet121": (32, "classifier"),
    "efficientnet_b0": (32, "classifier.1"),
    "efficientnet_v2_s": (32, "classifier.1"),
    "mobilenet_v2": (32, "classifier.1"),
    "mobilenet_v3_small": (32, "classifier.3"),
    "vgg11": (32, "classifier.6"),
    "convnext_tiny": (32, "classifier.2"),
    "regnet_y_400mf": (32, "fc"),
    "inception_v3": (75, "fc"),
    "googlenet": (32, "fc"),
}


@pytest.fixture(scope="module")
def table():
    """Lines of the families' table, which the last of them prints."""
    return ["network              head          features  logits - model(x)  x W + b - logits"]


@pytest.mark.parametrize("name", FAMILIES)
def test_head_of_every_family(name, table, capsys):
    """bank.logits = model(x) and features @ W.T + b = logits, with random weights."""
    pixels, head_name = FAMILIES[name]
    model = load_network(f"torchvision:{name}:random").model
    assert not any("aux" in key.lower() for key, _ in model.named_modules())
    assert split_head(model).name == head_name
    x = torch.rand(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    bank = extract(model, train=[(image, 0) for image in x], device="cpu", progress=False)
    with torch.inference_mode():
        expected = model(x)
    scale = max(1.0, expected.abs().max().item())
    output = (bank.logits - expected).abs().max().item() / scale
    affine = F.linear(bank.features, *bank.head) - bank.logits
    linear = affine.abs().max().item() / scale
    width = bank.num_filters
    table.append(f"{name:<20} {head_name:<13} {width:>8} {output:>18.1e} {linear:>17.1e}")
    if name == list(FAMILIES)[-1]:
        with capsys.disabled():
            print("\n" + "\n".join(table))
    assert output <= 1e-4 and linear <= 1e-4
    assert expected.std() > 0


def test_random_weights_are_seeded_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    one, two = (load_network("torchvision:resnet18:random") for _ in range(2))
    assert torch.equal(one.model.fc.weight, two.model.fc.weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert one.checkpoint_sha256 == "" and not one.model.training
    assert one.transform.crop_size == [224]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("torchvision:resnet51", r"torchvision has no 'resnet51'; the closest are .*resnet50"),
        ("torchvision:", r"torchvision has no ''; the closest are alexnet"),
        (
            "torchvision:resnet18:IMAGENET1K_V2",
            "resnet18 has no weights 'IMAGENET1K_V2'; choose from IMAGENET1K_V1, DEFAULT, random",
        ),
        ("keras:vgg16", r"unknown network 'keras:vgg16'; choose from .* torchvision:NAME"),
        (
            "resnet18",
            r"unknown network 'resnet18'; .* torchvision:NAME\[:WEIGHTS \| :random\], timm:NAME",
        ),
    ],
)
def test_bad_names_are_named(network, message):
    with pytest.raises(ValueError, match=message):
        load_network(network)


def forge_weights(folder, monkeypatch, state, honest=True):
    """ResNet-18's file of weights in an assets folder, with a name that fits its SHA-256 or not."""
    from torchvision.models import ResNet18_Weights

    from paperlib.networks.assets import sha256_of

    (folder / "checkpoints").mkdir()
    torch.save(state, folder / "weights")
    digest = sha256_of(folder / "weights")[:8] if honest else "00000000"
    name = f"resnet18-{digest}.pth"
    (folder / "weights").rename(folder / "checkpoints" / name)
    weights = ResNet18_Weights.IMAGENET1K_V1
    monkeypatch.setattr(
        weights,
        "_value_",
        weights.value.__class__(
            f"https://example.invalid/{name}", weights.value.transforms, weights.value.meta
        ),
    )
    monkeypatch.setenv("PAPERLIB_ASSETS", str(folder))


def test_weights_come_from_the_assets_first(tmp_path, monkeypatch):
    state = load_network("torchvision:resnet18:random").model.state_dict()
    state["fc.bias"] = torch.arange(1000.0)
    forge_weights(tmp_path, monkeypatch, state)
    before = torch.hub.get_dir()
    loaded = load_network("torchvision:resnet18")
    assert torch.equal(loaded.model.fc.bias, torch.arange(1000.0))
    assert len(loaded.checkpoint_sha256) == 64 and not loaded.model.training
    assert torch.hub.get_dir() == before


def test_wrong_weights_are_refused(tmp_path_factory, monkeypatch):
    """Another file than the name says, another network's weights, and a pickle with code in it."""
    state = load_network("torchvision:resnet18:random").model.state_dict()
    forge_weights(tmp_path_factory.mktemp("altered"), monkeypatch, state, honest=False)
    with pytest.raises(RuntimeError, match=r"SHA-256 starts with .*, expected 00000000"):
        load_network("torchvision:resnet18")
    forge_weights(tmp_path_factory.mktemp("other"), monkeypatch, nn.Linear(2, 2).state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        load_network("torchvision:resnet18")
    forge_weights(tmp_path_factory.mktemp("code"), monkeypatch, nn.Linear(2, 2))
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_network("torchvision:resnet18")


def test_timm_networks_by_name():
    pytest.importorskip("timm")
    loaded = load_network("timm:resnet10t:random")
    x = torch.rand(2, 3, 64, 64)
    bank = extract(loaded.model, train=[(image, 0) for image in x], progress=False)
    with torch.inference_mode():
        assert torch.allclose(bank.logits, loaded.model(x), atol=1e-4)
    with pytest.raises(ValueError, match="timm has no 'resnet10q'; the closest are"):
        load_network("timm:resnet10q")


def test_missing_timm_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'paperlib\[timm\]'"):
        load_network("timm:resnet18")
