"""ResNets for 32 x 32 images (He et al. 2016, section 4.2, doi 10.1109/CVPR.2016.90)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ZeroPadding(nn.Module):
    """Shortcut of option A: every `stride`-th pixel, zero channels in equal halves on both sides.

    x: [N, width_in, H, W] to [N, width, H / stride, W / stride]; no parameters.
    """

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.before = (width - width_in) // 2
        self.after = width - width_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def projection(width_in: int, width: int, stride: int) -> nn.Sequential:
    """Shortcut of option B: a 1 x 1 convolution and a batch norm."""
    conv = nn.Conv2d(width_in, width, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


SHORTCUTS = {"A": ZeroPadding, "B": projection}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is the identity where the width stays.

    He et al. 2016, section 3.3; `option` is "A" (zero padding) or "B" (projection).
    """

    def __init__(self, width_in: int, width: int, stride: int, option: str = "A"):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        same = width == width_in
        self.shortcut = nn.Identity() if same else SHORTCUTS[option](width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for 32 x 32 images: three stages of n blocks, 16/32/64 filters.

    He et al. 2016, section 4.2, doi 10.1109/CVPR.2016.90.  Module names are those of the
    published checkpoints, so that these load strictly.  Raises ValueError for another depth or
    option.
    """

    def __init__(self, depth: int, num_classes: int = 10, option: str = "A"):
        super().__init__()
        if option not in SHORTCUTS:
            raise ValueError(f"option must be A or B, not {option!r}")
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise ValueError(f"depth must be 6n + 2 with n >= 1 (20, 32, 44, ...), not {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1, option)
        self.layer2 = self._stage(16, 32, blocks, 2, option)
        self.layer3 = self._stage(32, 64, blocks, 2, option)
        self.linear = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(width_in: int, width: int, blocks: int, stride: int, option: str) -> nn.Sequential:
        first = BasicBlock(width_in, width, stride, option)
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
