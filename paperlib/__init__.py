"""Which filters of a deep CNN decide a class.

    import paperlib as pl

    bank = pl.extract(model, train=train_images, test=test_images)
    train, test = bank.split("train"), bank.split("test")
    subsets = pl.influential(train, k=5)
    head = pl.refit(train, subsets)
    pl.accuracy(head, test), pl.random_baseline(train, test, k=5)

After "Decomposing the Deep: Finding Class Specific Filters in Deep CNNs" (arXiv 2112.07719, doi
10.1007/s00521-023-08441-z).  The names below are the front door; what they are made of is in the
rooms `networks`, `extraction`, `banks`, `subsets`, `heads` and `measures`.  `study` reproduces the
paper.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

# Where each name of the front door lives; imported when first used, because torchvision is slow
_HOMES = {
    "extract": "paperlib.api",
    "influential": "paperlib.api",
    "recommended": "paperlib.api",
    "decompose": "paperlib.api",
    "refit": "paperlib.api",
    "accuracy": "paperlib.api",
    "random_baseline": "paperlib.api",
    "cards": "paperlib.api",
    "DecomposedHead": "paperlib.heads.decomposed",
    "FeatureBank": "paperlib.bank",
    "Interval": "paperlib.stats",
    "load_dataset": "paperlib.networks.datasets",
    "load_network": "paperlib.networks.by_name",
}

if TYPE_CHECKING:
    from paperlib.api import (
        accuracy,
        cards,
        decompose,
        extract,
        influential,
        random_baseline,
        recommended,
        refit,
    )
    from paperlib.bank import FeatureBank
    from paperlib.heads.decomposed import DecomposedHead
    from paperlib.networks.by_name import load_network
    from paperlib.networks.datasets import load_dataset
    from paperlib.stats import Interval

__all__ = [
    "DecomposedHead",
    "FeatureBank",
    "Interval",
    "accuracy",
    "cards",
    "decompose",
    "extract",
    "influential",
    "load_dataset",
    "load_network",
    "random_baseline",
    "recommended",
    "refit",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'paperlib' has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_HOMES[name]), name))


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
