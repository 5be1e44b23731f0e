"""Extraction: features are the head's input, whatever the batch size; nothing is left behind."""

import shutil

import pytest
import torch
from PIL import Image
from torch import nn

from paperlib.__main__ import main
from paperlib.api import extract
from paperlib.bank import FeatureBank, LinearHead
from paperlib.extraction.forward import Extraction
from paperlib.extraction.options import choose_device
from paperlib.heads.accuracy import correct_by_k
from paperlib.heads.decomposed import DecomposedHead
from paperlib.networks.cifar import CifarResNet
from reproduction.banks import load_bank


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = CifarResNet(20)
    network(torch.rand(64, 3, 32, 32))  # running statistics, so that eval mode is not degenerate
    return network.eval()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(23, 3, 32, 32, generator=generator)
    return [(image, i % 10) for i, image in enumerate(x)]


@pytest.fixture
def folder(tmp_path):
    """Ten classes of two flat images each, and one broken file."""
    for split in ("train", "test"):
        for c in range(10):
            (tmp_path / split / f"class{c}").mkdir(parents=True)
            for i in range(2):
                image = Image.new("RGB", (40, 36), (80 * i, 20 * c, 90))
                image.save(tmp_path / split / f"class{c}" / f"{i}.png")
    (tmp_path / "train" / "class3" / "1.png").write_bytes(b"broken")
    return tmp_path


def test_bank_holds_what_reaches_the_head(model, images):
    bank = extract(model, train=images, progress=False)
    x = torch.stack([image for image, _ in images])
    with torch.no_grad():
        assert torch.allclose(bank.logits, model(x), atol=1e-4)
    assert bank.features.shape == (23, 64)
    assert bank.features.min() >= 0
    assert bank.labels.tolist() == [label for _, label in images]
    assert bank.head_fit().residual < 1e-4
    assert torch.equal(bank.head.weight, model.linear.weight)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_changes_nothing(model, images, batch_size):
    reference = extract(model, train=images, progress=False).features
    features = extract(model, train=images, batch_size=batch_size, progress=False).features
    assert (features - reference).abs().max() <= 1e-4 * reference.abs().max()


def test_worker_processes_keep_the_order(model, images):
    reference = extract(model, train=images, progress=False)
    parallel = extract(model, train=images, batch_size=4, workers=2, progress=False)
    assert torch.equal(parallel.labels, reference.labels)
    assert torch.allclose(parallel.features, reference.features, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_features_equal_cpu_features(model, images):
    cpu, gpu = (
        extract(model, train=images, device=device, progress=False).features
        for device in ("cpu", "cuda")
    )
    assert (cpu - gpu).abs().max() <= 1e-4 * cpu.abs().max()


def test_two_splits_make_one_bank(model, images):
    bank = extract(model, train=images[:9], test=images[9:], progress=False)
    assert (len(bank.split("train")), len(bank.split("test"))) == (9, 14)


def test_model_comes_back_as_it_was_even_after_an_error(model, images):
    model.train()
    try:
        extract(model, train=images, progress=False)
        with pytest.raises(RuntimeError):
            extract(model, train=[(torch.rand(5, 32, 32), 0)], progress=False)
        assert all(module.training for module in model.modules())
        assert not model.linear._forward_pre_hooks
    finally:
        model.eval()


def test_features_can_be_trained_on(model, images):
    """They must not stay inference tensors, which autograd refuses."""
    features = extract(model, train=images, progress=False).features
    weight = torch.zeros(64, requires_grad=True)
    (features @ weight).sum().backward()
    assert weight.grad.abs().sum() > 0


def test_what_follows_the_head_is_noticed(images):
    follows = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.Softmax(dim=1))
    with pytest.raises(ValueError, match="something follows the final nn"):
        extract(follows, train=images, progress=False)
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"not the \[n, C\] output of its final"):
        extract(wrong, train=images, head="1", progress=False)
    pixelwise = nn.Sequential(nn.Linear(32, 4))
    with pytest.raises(ValueError, match=r"must see one \[n, D\] tensor"):
        extract(pixelwise, train=images, progress=False)


def test_blocks_keep_what_an_operation_in_place_overwrites(images):
    torch.manual_seed(0)
    layers = nn.Linear(3072, 6), nn.ReLU(inplace=True), nn.Linear(6, 10)
    bank = extract(nn.Sequential(nn.Flatten(), *layers), train=images, blocks=["1"], progress=False)
    assert bank.features.min() == 0 and bank.blocks["1"].min() < 0


def test_the_head_may_be_called_by_keyword(images):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3072, 10)

        def forward(self, x):
            return self.fc(input=x.flatten(1))

    bank = extract(Named(), train=images, progress=False)
    assert torch.equal(bank.features, torch.stack([x.flatten() for x, _ in images]))


def test_mixed_channel_counts_are_named(model):
    mixed = [(torch.rand(3, 32, 32), 0), (torch.rand(1, 32, 32), 1)]
    with pytest.raises(ValueError, match=r"differ in shape \(\[1, 32, 32\], \[3, 32, 32\]\)"):
        extract(model, train=mixed, progress=False)


def test_refused_heads_come_with_the_modules_found(images):
    two = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.ReLU(), nn.Linear(4, 10))
    with pytest.raises(ValueError, match=r"nn\.Linear modules to choose `head` from: 1, 3"):
        extract(two, train=images, head="1", progress=False)
    with pytest.raises(ValueError, match=r"no nn\.Linear; modules looked at: 0 \(Conv2d\)"):
        extract(nn.Sequential(nn.Conv2d(3, 10, 32)), train=images, progress=False)


def test_unwritable_output_is_noticed_before_the_work(tmp_path, capsys):
    """A file stands where the folder should be; the network and images are not even looked for."""
    (tmp_path / "banks").write_text("precious")
    out = tmp_path / "banks" / "bank.safetensors"
    assert main(["extract", "--network", "nowhere", "--dataset", "nothing", "--out", str(out)]) == 2
    assert "cannot write into the output folder" in capsys.readouterr().err
    assert (tmp_path / "banks").read_text() == "precious"


def test_bank_and_head_must_tell_the_same_classes_apart(model, images):
    bank = extract(model, train=images, progress=False)
    short = (bank.head.weight[:9], bank.head.bias[:9])
    with pytest.raises(ValueError, match=r"head has shapes \(\[9, 64\], \[9\]\), .* need"):
        FeatureBank(bank.features, bank.logits, bank.labels, stored_head=LinearHead(*short))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.8, found 0\.\.9"):
        correct_by_k(bank.features, bank.labels, *short, {1: [torch.tensor([0])] * 9})
    with pytest.raises(ValueError, match="10 subsets for a head of 9 classes"):
        DecomposedHead(*short, [torch.tensor([0])] * 10)


def test_bad_arguments_are_named(model, images):
    with pytest.raises(ValueError, match="device 'warp' cannot be used"):
        choose_device("warp")
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, not 0"):
        extract(model, train=images, batch_size=0)
    with pytest.raises(ValueError, match=r"unknown splits \['dev'\]; choose from train, test"):
        Extraction(model, {"dev": images})
    with pytest.raises(ValueError, match="no readable images"):
        extract(model, train=[None, None], progress=False)
    with pytest.raises(ValueError, match="unknown tier 'imagenet99'; choose from embedded"):
        load_bank("resnet20", tier="imagenet99")
    with pytest.raises(ValueError, match="unknown network 'vgg' in tier embedded; choose from"):
        load_bank("vgg")


def test_command_line_makes_a_bank(assets, folder, tmp_path, capsys):
    out = tmp_path / "banks" / "bank.safetensors"
    arguments = ["extract", "--model", "resnet20", "--dataset", f"imagefolder:{folder}"]
    arguments += ["--out", str(out)]
    arguments += ["--batch-size", "2", "--shard-size", "2"]
    assert main([*arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "1.png" in error and "3 of 20 shards are safe in" in error
    assert not out.exists()
    assert main([*arguments, "--quiet", "--skip-unreadable", "--device", "cpu"]) == 0
    assert "1 images skipped" in capsys.readouterr().out
    bank = FeatureBank.load(out)
    assert len(bank) == 39
    assert list(out.parent.iterdir()) == [out]
    assert bank.metadata["dataset"] == f"imagefolder:{folder.name}"
    assert main(["extract", "--network", "lenet", "--dataset", "cifar10", "--out", str(out)]) == 2
    assert "unknown network 'lenet'; choose from resnet20" in capsys.readouterr().err


def test_classes_must_fit_the_head(assets, folder, tmp_path, capsys):
    shutil.rmtree(folder / "test" / "class9")
    out = tmp_path / "bank.safetensors"
    command = [
        "extract",
        "--network",
        "resnet20",
        "--dataset",
        f"imagefolder:{folder}",
        "--out",
        str(out),
    ]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "the test images have 9 classes (class0, " in error and "tells 10 apart" in error


def test_progress_bar_counts_images(model, images, capsys):
    extract(model, train=images)
    shown = capsys.readouterr().err
    assert "23/23" in shown and "image/s" in shown
