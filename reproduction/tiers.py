"""The tiers a notebook can run on: which images, which networks, and how fine a sweep may be."""

from collections.abc import Sequence

TIERS = {
    "embedded": ("resnet20", "resnet32", "resnet44", "resnet56"),
    "cifar10": ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    "imagenet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
}
# The network of each tier that the paper's authors published subsets for, and the filters per class
# of the smallest of these.
PAPER_NETWORK = {"embedded": "resnet20", "cifar10": "resnet20", "imagenet": "resnet50"}
PAPER_K = {"embedded": 5, "cifar10": 5, "imagenet": 50}
# Of ImageNet's 1.28 million train and 50,000 val images: banks of a gigabyte, notebooks of minutes.
IMAGES_PER_CLASS = {"train": 100, "test": 10}
# Notebooks of CIFAR-10 alone: its blocks, its published oddities, its stored comparisons, its runs.
CIFAR_ONLY = ("07", "09", "11", "12")
# What `paperlib reproduce` passes to the notebooks of a tier where the user does not.  A repeat
# costs a hundred times more on ImageNet, whose ten times as many test images need fewer of them.
TIER_PARAMETERS = {"imagenet": {"network": "resnet50", "k": 50, "repeats": 5}}


def check_tier(tier: str) -> None:
    """Raise ValueError for an unknown tier."""
    if tier not in TIERS:
        raise ValueError(f"unknown tier {tier!r}; choose from {', '.join(TIERS)}")


def check_list(networks: Sequence[str]) -> None:
    """Raise ValueError unless names of networks come as a list; text is a sequence of letters."""
    if not isinstance(networks, list | tuple):
        raise ValueError(f'networks must be a list such as ["resnet20"], not {networks!r}')


def choose_networks(tier: str, networks: Sequence[str] = ()) -> tuple[str, ...]:
    """The networks of a tier, or those given; in the imagenet tier any of torchvision's.

    Raises ValueError for an unknown tier, a network that the tier does not hold, or no list.
    """
    check_tier(tier)
    check_list(networks)
    for network in networks:
        if tier != "imagenet" and network not in TIERS[tier]:
            choices = ", ".join(TIERS[tier])
            raise ValueError(f"unknown network {network!r} in tier {tier}; choose from {choices}")
    return tuple(networks) or TIERS[tier]


def depth_of(network: str) -> int:
    """The number of layers that a ResNet's name tells: 56 for "resnet56", 18 for "resnet18:random".

    Raises ValueError for a name that tells none.
    """
    digits = network.partition(":")[0].removeprefix("resnet")
    if not digits.isdigit():
        raise ValueError(f"the name {network!r} tells no depth; use ResNets, such as resnet18")
    return int(digits)
