"""ResNets for 32 x 32 images (He et al. 2016, section 4.2, doi 10.1109/CVPR.2016.90)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def untrained_model(network: str, seed: int) -> CifarResNet:
    """A CIFAR ResNet with PyTorch's initial weights, drawn from `seed`, in eval mode.

    Its batch norms still hold mean 0 and variance 1, whatever the data: set them with
    `torch.optim.swa_utils.update_bn` before comparing with a trained network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CifarResNet(depth=int(network.removeprefix("resnet"))).eval()
