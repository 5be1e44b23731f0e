"""The tiers a notebook can run on: which images, and which networks there are features of."""

TIERS = {
    "embedded": ("resnet20", "resnet32", "resnet44", "resnet56"),
    "cifar10": ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
}
