"""The tiers a notebook can run on: which images, which networks, and how fine a sweep may be."""

from collections.abc import Sequence

TIERS = {
    "embedded": ("resnet20", "resnet32", "resnet44", "resnet56"),
    "cifar10": ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    "imagenet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
}
# The network of each tier that the paper's authors published subsets for, and the fewest filters
# a class of these.
PAPER_NETWORK = {"embedded": "resnet20", "cifar10": "resnet20", "imagenet": "resnet50"}
# Of ImageNet's 1.28 million train images a tenth keeps a bank near two gigabytes.
IMAGES_PER_CLASS = {"train": 100, "test": 50}
EVERY_SIZE_UP_TO = 64  # filters; wider layers are swept on a grid
GRID_RATIO = 1.25  # between neighbours of the grid


def choose_networks(tier: str, networks: Sequence[str] = ()) -> tuple[str, ...]:
    """The networks of a tier, or those given; in the imagenet tier any of torchvision's.

    Raises ValueError for an unknown tier, or a network that the tier does not hold.
    """
    if tier not in TIERS:
        raise ValueError(f"unknown tier {tier!r}; choose from {', '.join(TIERS)}")
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


def size_grid(largest: int, *included: int) -> list[int]:
    """Numbers from 1 to `largest` to sweep: all of them up to 64, then a quarter more each time.

    `included` are added to the grid.
    """
    sizes = {size for size in included if 1 <= size <= largest}
    size = 0
    while size < largest:
        size = size + 1 if size < EVERY_SIZE_UP_TO else min(largest, int(size * GRID_RATIO))
        sizes.add(size)
    return sorted(sizes)
