"""CIFAR ResNets with their published checkpoints, and the head of any classifier."""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import transforms
from torchvision.models import resnet

from paperlib.checkpoints import fetch_checkpoint, sha256_of
from paperlib.zoo import PretrainedNetwork, load_from_zoo

# github.com/akamaster/pytorch_resnet_cifar10 (BSD 2-clause).  The eight characters before the
# suffix are the start of the file's SHA-256.
CHECKPOINT_URL = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
CHECKPOINTS = {
    "resnet20": "resnet20-12fca82f.th",
    "resnet32": "resnet32-d509ac18.th",
    "resnet44": "resnet44-014dd654.th",
    "resnet56": "resnet56-4bfd9763.th",
    "resnet110": "resnet110-1d1ed7c2.th",
    "resnet1202": "resnet1202-f3b1deed.th",
}
# The checkpoints were trained on images normalised with the ImageNet constants, so we use those;
# the paper's authors evaluated with the CIFAR constants.
CIFAR_TRANSFORM = transforms.Compose(
    [
        transforms.Resize(32),  # leaves an image of 32 x 32 as it is
        transforms.CenterCrop(32),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a parameter-free shortcut (option A of He et al. 2016)."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.new_channels = width - width_in

    def shortcut(self, x: Tensor) -> Tensor:
        """Every `stride`-th pixel, with zero channels added in equal halves on both sides."""
        if not self.new_channels:
            return x
        x = x[:, :, :: self.stride, :: self.stride]
        before = self.new_channels // 2
        return F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for 32 x 32 images: three stages of n blocks, 16/32/64 filters.

    He et al. 2016, section 4.2, doi 10.1109/CVPR.2016.90.  Module names are those of the
    published checkpoints, so that these load strictly.
    """

    def __init__(self, depth: int, num_classes: int = 10):
        super().__init__()
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise ValueError(f"depth must be 6n + 2 with n >= 1 (20, 32, 44, ...), not {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(width_in, width, stride)
        return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # [N, 16, 32, 32]
        x = self.layer3(self.layer2(self.layer1(x)))  # [N, 64, 8, 8]
        features = x.mean(dim=(2, 3))  # [N, 64], global average pooling
        return self.linear(features)  # [N, num_classes]


def find_checkpoint(network: str) -> Path:
    """The checkpoint file of a network: from the assets, the cache, or downloaded to the cache.

    Raises ValueError for an unknown network, and RuntimeError where the file's SHA-256 does not
    start with the eight characters in its name.
    """
    if network not in CHECKPOINTS:
        choices = ", ".join([*CHECKPOINTS, "torchvision:NAME[:WEIGHTS]", "timm:NAME"])
        raise ValueError(f"unknown network {network!r}; choose from {choices}")
    return fetch_checkpoint(CHECKPOINT_URL + CHECKPOINTS[network])


def load_model(network: str) -> PretrainedNetwork:
    """A classifier in eval mode with its published weights, loaded strictly and without pickle.

    A CIFAR ResNet by its bare name, others as `load_from_zoo` names them.  Raises what
    `find_checkpoint` and `load_from_zoo` raise.
    """
    if ":" in network:
        return load_from_zoo(network)
    path = find_checkpoint(network)
    saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    model = CifarResNet(depth=int(network.removeprefix("resnet")))
    model.load_state_dict({key.removeprefix("module."): value for key, value in saved.items()})
    return PretrainedNetwork(network, model.eval(), CIFAR_TRANSFORM, sha256_of(path))


def untrained_model(network: str, seed: int) -> CifarResNet:
    """A CIFAR ResNet with PyTorch's initial weights, drawn from `seed`, in eval mode.

    Its batch norms still hold mean 0 and variance 1, whatever the data: set them with
    `torch.optim.swa_utils.update_bn` before comparing with a trained network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CifarResNet(depth=int(network.removeprefix("resnet"))).eval()


def residual_blocks(model: nn.Module) -> list[str]:
    """Names of the residual blocks of a CIFAR or torchvision ResNet, from input to output.

    Raises ValueError for a network without such blocks.
    """
    kinds = (BasicBlock, resnet.BasicBlock, resnet.Bottleneck)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    if not names:
        raise ValueError(f"{type(model).__name__} has no residual blocks; name its blocks instead")
    return names


class Head(NamedTuple):
    """The final linear layer and the name under which the network holds it."""

    name: str
    module: nn.Linear


def split_head(model: nn.Module, name: str | None = None) -> Head:
    """The final `nn.Linear` of a classifier: the one named, or the last one registered.

    Extraction verifies on real images that its output is the network's output.  Raises
    ValueError that lists the modules looked at where there is no such layer.
    """
    modules = {key: module for key, module in model.named_modules() if key}
    linear = [key for key, module in modules.items() if isinstance(module, nn.Linear)]
    if name is None and linear:
        name = linear[-1]
    if name not in linear:
        wanted = "no nn.Linear" if name is None else f"no nn.Linear named {name!r}"
        looked_at = linear or [f"{key} ({type(m).__name__})" for key, m in modules.items()]
        raise ValueError(
            f"{type(model).__name__} has {wanted}; modules looked at: {', '.join(looked_at[-30:])}"
        )
    return Head(name, modules[name])
