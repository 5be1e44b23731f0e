"""The copy that extraction runs: the same outputs, folded where nobody can see the difference."""

import pytest
import torch
import torchvision
from torch import nn

from paperlib.api import extract
from paperlib.extraction.inference import inference_copy, micro_batches


def with_statistics(model, shape=(8, 3, 64, 64)):
    """A model whose batch norms hold statistics of noise, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(shape, generator=generator))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(
    ("name", "left"), [("resnet18", 0), ("mobilenet_v2", 0), ("densenet121", 62)]
)
def test_same_outputs_with_fewer_batch_norms(name, left):
    torch.manual_seed(0)
    model = with_statistics(torchvision.models.get_model(name, num_classes=10))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    copy = inference_copy(model.train())
    assert norms(copy) == left and model.training and not copy.training
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval()(x)
        assert (copy(x) - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_outputs_of_kept_modules_stay():
    model = with_statistics(torchvision.models.resnet18(num_classes=10))
    assert norms(inference_copy(model)) == 0
    assert norms(inference_copy(model, keep=["layer1.0"])) == 0  # holds its norms itself
    assert norms(inference_copy(model, keep=["conv1", "layer1.0.conv2"])) == 2
    images = [(image, 0) for image in torch.rand(4, 3, 64, 64)]
    blocks = ["conv1", "layer1.0", "layer1.0.bn1", "layer2"]
    bank = extract(model, train=images, blocks=blocks, progress=False, device="cpu")
    seen = {}
    for block in blocks:
        model.get_submodule(block).register_forward_hook(
            lambda _, args, output, block=block: seen.update({block: output.mean((2, 3))})
        )
    with torch.no_grad():
        model(torch.stack([image for image, _ in images]))
    for block in blocks:
        assert torch.allclose(bank.blocks[block].float(), seen[block], atol=2e-3), block


class Shared(nn.Module):
    """One convolution before two batch norms: neither may be folded."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.first, self.second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.first(x) + self.second(x)


READ = {  # what a forward pass reads outside the call of its own module, and the norms that stay
    "conv.weight": (lambda model: model.conv.weight.mean(), 1),
    "conv.bias": (lambda model: model.conv.bias.mean(), 1),
    "norm.weight": (lambda model: model.norm.weight.mean(), 0),
    "norm.running_var": (lambda model: model.norm.running_var.mean(), 0),
    "norm.eps": (lambda model: model.norm.eps, 0),
}


class Reading(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.conv, self.norm, self.read = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), read

    def forward(self, x):
        return self.norm(self.conv(x)) + self.read(self)


@pytest.mark.parametrize("name", READ)
def test_what_is_read_elsewhere_stays(name):
    read, left = READ[name]
    model = with_statistics(Reading(read))
    copy, x = inference_copy(model), torch.rand(2, 3, 8, 8)
    assert norms(copy) == left and torch.allclose(copy(x), model(x), atol=1e-5)


class Branching(nn.Sequential):
    """Control flow that depends on the data, which cannot be traced."""

    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


def test_what_cannot_be_folded_is_left():
    assert norms(inference_copy(Shared().eval())) == 2
    model = with_statistics(Branching(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    copy = inference_copy(model)
    x = torch.rand(2, 3, 8, 8)
    assert norms(copy) == 1 and torch.allclose(copy(x), model(x), atol=1e-5)

    class Uncopied(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("holds a file")

    model = Uncopied(2, 2)
    assert inference_copy(model) is model


def test_micro_batches_keep_the_order():
    large = torch.rand(9, 3, 224, 224)
    parts = micro_batches(large, torch.device("cpu"))
    assert [len(part) for part in parts] == [4, 4, 1]
    assert torch.equal(torch.cat(parts), large)
    assert len(micro_batches(large, torch.device("meta"))) == 1
