"""Which filters of a deep CNN decide a class.

    import paperlib as pl

    bank = pl.extract(model, train=train_images, test=test_images)
    train, test = bank.split("train"), bank.split("test")
    subsets = pl.influential(train, k=5)
    head = pl.refit(train, subsets)
    pl.accuracy(head, test), pl.random_control(train, test, k=5)

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
    "extract": "paperlib.analysis",
    "influential": "paperlib.analysis",
    "recommended": "paperlib.analysis",
    "decompose": "paperlib.analysis",
    "refit": "paperlib.analysis",
    "accuracy": "paperlib.analysis",
    "random_control": "paperlib.analysis",
    "cards": "paperlib.analysis",
    "DecomposedHead": "paperlib.heads.decomposed",
    "FeatureBank": "paperlib.banks.bank",
    "Interval": "paperlib.measures.intervals",
    "load_dataset": "paperlib.networks.datasets",
    "load_network": "paperlib.networks.named",
}

if TYPE_CHECKING:
    from paperlib.analysis import (
        accuracy,
        cards,
        decompose,
        extract,
        influential,
        random_control,
        recommended,
        refit,
    )
    from paperlib.banks.bank import FeatureBank
    from paperlib.heads.decomposed import DecomposedHead
    from paperlib.measures.intervals import Interval
    from paperlib.networks.datasets import load_dataset
    from paperlib.networks.named import load_network

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
    "random_control",
    "recommended",
    "refit",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'paperlib' has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_HOMES[name]), name))


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
