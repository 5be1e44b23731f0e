"""Networks by name: the published CIFAR ResNets, and any classifier of torchvision or timm."""

from pathlib import Path

import torch
from torchvision import transforms

from paperlib.networks.assets import fetch_checkpoint, sha256_of
from paperlib.networks.cifar import CifarResNet
from paperlib.networks.zoo import PretrainedNetwork, load_from_zoo

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
ZOO_NAMES = ("torchvision:NAME[:WEIGHTS | :random]", "timm:NAME[:random]")
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


def find_checkpoint(network: str) -> Path:
    """The checkpoint file of a network: from the assets, the cache, or downloaded to the cache.

    Raises ValueError for an unknown network, and RuntimeError where the file's SHA-256 does not
    start with the eight characters in its name.
    """
    if network not in CHECKPOINTS:
        choices = ", ".join([*CHECKPOINTS, *ZOO_NAMES])
        raise ValueError(f"unknown network {network!r}; choose from {choices}")
    return fetch_checkpoint(CHECKPOINT_URL + CHECKPOINTS[network])


def load_network(network: str) -> PretrainedNetwork:
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
