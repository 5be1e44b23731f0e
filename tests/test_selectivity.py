"""Psi and the selectivity index by hand, and block features against the network itself."""

import numpy as np
import pytest
import torch
from torch import nn

from paperlib.__main__ import main
from paperlib.api import extract
from paperlib.bank import FeatureBank
from paperlib.filters.sums import class_means
from paperlib.metrics.selectivity import bootstrap_class_means, psi, selectivity_index
from paperlib.networks.cifar import CifarResNet, untrained_model
from paperlib.networks.head import residual_blocks
from paperlib.store import BankError


def test_psi_by_hand():
    x = torch.tensor([[1.0, 1, 1, 1], [0, 8, 0, 0], [4, 3, 2, 1], [0, 0, 0, 0]])
    half = psi(x, 0.5)
    assert half[:3].tolist() == [0.5, 0.75, 0.5]  # 2, 1 and 2 of 4 filters
    assert half[3].isnan()
    assert psi(x, 0.4)[:3].tolist() == [0.5, 0.75, 0.75]
    with pytest.raises(ValueError, match="non-negative"):
        psi(x - 1, 0.5)


def test_class_means_and_index_by_hand():
    x = torch.tensor([[3.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    means = class_means(x, torch.tensor([0, 0, 1, 2]), 3)
    assert means.tolist() == [[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    index = selectivity_index(means)
    # (2 - 0.5) / (2 + 0.5); no preference; a dead filter
    assert index.tolist() == pytest.approx([0.6, 0.0, 0.0], abs=1e-6)
    assert selectivity_index(torch.tensor([[5.0], [0.0]])).item() == pytest.approx(1, abs=1e-6)
    assert selectivity_index(torch.stack([means, 10 * means]))[1].tolist() == pytest.approx(
        index.tolist(), abs=1e-6
    )


def test_bootstrap_spread_is_the_standard_error():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(400, 2, generator=generator)
    labels = torch.arange(400) % 2
    draws = bootstrap_class_means(x, labels, 2, draws=2000, seed=1)
    assert draws.shape == (2000, 2, 2)
    assert torch.allclose(draws.mean(dim=0), class_means(x, labels, 2), atol=2e-3)
    expected = torch.stack([x[labels == c].double().std(dim=0) for c in (0, 1)]) / np.sqrt(200)
    assert torch.allclose(draws.std(dim=0), expected, rtol=0.1)
    # The same images whatever the features: one column alone sees the same resamples
    alone = bootstrap_class_means(x[:, 1:], labels, 2, draws=2000, seed=1)
    assert torch.allclose(draws[:, :, 1:], alone)


def test_bad_input_is_named():
    x = torch.rand(4, 2)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        bootstrap_class_means(x, torch.tensor([0, 1, 2, 0]), 2)
    with pytest.raises(ValueError, match="at least 2 classes"):
        selectivity_index(torch.rand(1, 5))
    with pytest.raises(ValueError, match="non-negative"):
        selectivity_index(torch.tensor([[1.0], [-1.0]]))


def test_selectivity_of_the_committed_bank_falls_to_chance_with_shuffled_labels(resnet20):
    test = resnet20.split("test")
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    true = selectivity_index(class_means(test.features, test.labels, 10)).mean()
    shuffled = selectivity_index(class_means(test.features, test.labels[order], 10)).mean()
    assert true > 0.4
    assert shuffled < 0.2


@pytest.fixture
def small_images():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(10, 3, 8, 8, generator=generator)
    return list(zip(images, torch.arange(10).tolist(), strict=True))


def test_blocks_are_the_pooled_outputs_and_the_last_one_is_the_features(small_images):
    model = untrained_model("resnet20", 0)
    names = residual_blocks(model)
    assert names == [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    bank = extract(model, train=small_images, blocks=names, batch_size=4, progress=False)
    assert [block.shape[1] for block in bank.blocks.values()] == [16] * 3 + [32] * 3 + [64] * 3
    assert all(block.dtype == torch.float16 for block in bank.blocks.values())
    assert torch.equal(bank.blocks["layer3.2"], bank.features.half())
    x = torch.stack([image for image, _ in small_images])
    with torch.inference_mode():
        first = model.layer1[0](torch.relu(model.bn1(model.conv1(x)))).mean(dim=(2, 3))
    assert torch.allclose(bank.blocks["layer1.0"].float(), first, rtol=2e-3)


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


class Twice(nn.Module):
    """Calls one module two times, so that its output is ambiguous."""

    def __init__(self):
        super().__init__()
        self.inner, self.linear = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(self.inner(self.inner(x.mean(dim=(2, 3)))))


@pytest.mark.parametrize(
    ("make", "blocks", "message"),
    [
        (lambda: CifarResNet(8), ["layer9"], r"no module \['layer9'\]; choose from conv1, bn1"),
        (Twice, ["inner"], r"block 'inner' \(Linear\) runs twice"),
        (lambda: nn.Sequential(nn.Flatten(1, 2), nn.Flatten(), nn.Linear(192, 2)), ["0"], "gave"),
    ],
)
def test_bad_blocks_are_named_and_leave_no_hooks(small_images, make, blocks, message):
    model = make()
    with pytest.raises(ValueError, match=message):
        extract(model, train=small_images, blocks=blocks, progress=False)
    assert hooks(model) == 0


def test_blocks_that_overflow_float16_are_refused():
    x = torch.rand(4, 2)
    with pytest.raises(BankError, match="blocks/a hold NaN or infinity, first in row 1"):
        blocks = {"a": torch.tensor([[1.0], [1e5], [1.0], [1.0]]).half()}
        FeatureBank(x, x, [0, 1, 0, 1], blocks=blocks)


def test_untrained_networks_follow_their_seed_and_leave_the_callers_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (untrained_model("resnet20", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one.conv1.weight, same.conv1.weight)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)
    assert not one.training


def test_networks_without_residual_blocks_say_so():
    with pytest.raises(ValueError, match="Sequential has no residual blocks"):
        residual_blocks(nn.Sequential(nn.Linear(2, 2)))


def test_command_line_keeps_blocks(assets, tmp_path, capsys):
    source = assets / "data" / "imagenette-sample"
    small = tmp_path / "images"
    for split in ("train", "test"):
        for folder in sorted((source / split.replace("test", "val")).iterdir()):
            (small / split / folder.name).mkdir(parents=True)
            photo = sorted(folder.iterdir())[0]
            (small / split / folder.name / photo.name).symlink_to(photo)
    out = tmp_path / "bank.safetensors"
    arguments = [
        "extract",
        "--network",
        "resnet20",
        "--dataset",
        f"imagefolder:{small}",
        "--out",
        str(out),
    ]
    assert main([*arguments, "--quiet", "--blocks", "auto"]) == 0
    bank = FeatureBank.load(out)
    assert list(bank.blocks) == residual_blocks(CifarResNet(20))[:-1]
    assert bank.blocks["layer2.0"].shape == (20, 32)
    assert main([*arguments, "--quiet", "--blocks", "layer4"]) == 2
    assert "has no module ['layer4']; choose from conv1" in capsys.readouterr().err
