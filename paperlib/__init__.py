"""Which filters of a deep CNN decide a class.

    import paperlib as pl

    bank = pl.extract(model, train=train_images, test=test_images)
    subsets = pl.influential(bank, k=5)
    head = pl.refit(bank, subsets)
    pl.accuracy(head, bank), pl.random_baseline(bank.train, bank.test, k=5)
    pl.put_head(model, head)

After "Decomposing the Deep: Finding Class Specific Filters in Deep CNNs" (arXiv 2112.07719, doi
10.1007/s00521-023-08441-z).  The names of `__all__` are the front door: banks in; filters, heads
and figures out.  What they are made of is in the rooms, each documented under its own name:
`pl.filters`, `pl.heads`, `pl.metrics`, `pl.networks`, `pl.stats` and `pl.store`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.3.0"

# Where each name of the front door lives; imported when first used, because torchvision is slow
_HOMES = {
    "AccuracyCurve": "paperlib.heads.accuracy",
    "DecomposedHead": "paperlib.heads.decomposed",
    "FeatureBank": "paperlib.bank",
    "Interval": "paperlib.stats",
    "LinearHead": "paperlib.bank",
    "ablate": "paperlib.api",
    "accuracy": "paperlib.api",
    "accuracy_curve": "paperlib.api",
    "backward_selection": "paperlib.api",
    "class_cards": "paperlib.api",
    "decompose": "paperlib.api",
    "extract": "paperlib.api",
    "fine_tune": "paperlib.api",
    "frequency_histogram": "paperlib.api",
    "influential": "paperlib.api",
    "load_dataset": "paperlib.networks.datasets",
    "load_network": "paperlib.networks.by_name",
    "put_head": "paperlib.api",
    "random_baseline": "paperlib.api",
    "random_filters": "paperlib.api",
    "rank": "paperlib.api",
    "refit": "paperlib.api",
}
_ROOMS = ("filters", "heads", "metrics", "networks", "stats", "store")
_RENAMED = {  # until 0.4
    "cards": "class_cards",
    "random_control": "random_baseline",
    "recommended": "backward_selection",
}

if TYPE_CHECKING:
    from paperlib.api import (
        ablate,
        accuracy,
        accuracy_curve,
        backward_selection,
        class_cards,
        decompose,
        extract,
        fine_tune,
        frequency_histogram,
        influential,
        put_head,
        random_baseline,
        random_filters,
        rank,
        refit,
    )
    from paperlib.bank import FeatureBank, LinearHead
    from paperlib.heads.accuracy import AccuracyCurve
    from paperlib.heads.decomposed import DecomposedHead
    from paperlib.networks.by_name import load_network
    from paperlib.networks.datasets import load_dataset
    from paperlib.stats import Interval

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f"paperlib.{name}")
    if name in _RENAMED:
        raise AttributeError(f"paperlib.{name} is now paperlib.{_RENAMED[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module 'paperlib' has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_HOMES[name]), name))


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_ROOMS])
