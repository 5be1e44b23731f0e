"""Every ranking and every head by name, so that they can be compared on the same images."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Self

import pandas as pd
import torch
from torch import Tensor

from paperlib.bank import FeatureBank
from paperlib.filters.counting import class_statistics
from paperlib.filters.ranking import influential_filters
from paperlib.filters.tensors import Subsets
from paperlib.heads import selection
from paperlib.heads.decomposed import DecomposedHead
from paperlib.heads.refit import least_squares_refit, mean_fill, softmax_refit
from reproduction import rankings


class Sample(NamedTuple):
    """Train images and the head: features [N, D], labels [N], weight [C, D], bias [C]."""

    features: Tensor
    labels: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, bank: FeatureBank) -> Self:
        """The train images of a bank, with the bank's head."""
        return cls(bank.train.features, bank.train.labels, *bank.head)


def _frequency(s: Sample, k: int) -> Subsets:
    return influential_filters(class_statistics(s.features, s.labels, len(s.weight), k), k)


def _by_name(name: str, s: Sample, k: int) -> Subsets:
    return selection.RANKINGS[name](*s, k)


FREQUENCY = "frequency (the paper's)"  # the one whose subsets are not nested in k
SEARCHES = ("forward selection", "backward selection")  # of the library's rankings, shown last
# Up to a quarter of a second for 8,000 images and 64 filters.
QUICK_RANKINGS: dict[str, Callable[[Sample, int], Subsets]] = {
    FREQUENCY: _frequency,
    **{name: partial(_by_name, name) for name in selection.RANKINGS if name not in SEARCHES},
    "ANOVA F": lambda s, k: rankings.anova_f(s.features, s.labels, len(s.weight), k),
    "matching pursuit": lambda s, k: rankings.orthogonal_matching_pursuit(s.features, s.weight, k),
    **{name: partial(_by_name, name) for name in SEARCHES},
}
# Five to twenty seconds.
SLOW_RANKINGS: dict[str, Callable[[Sample, int], Subsets]] = {
    "mutual information": lambda s, k: rankings.feature_information(
        s.features, s.labels, len(s.weight), k
    ),
    "L1 logistic": lambda s, k: rankings.l1_logistic(s.features, s.labels, len(s.weight), k),
}
HEADS: dict[str, Callable[[Sample, Subsets], DecomposedHead]] = {
    "plain": lambda s, subsets: DecomposedHead(s.weight, s.bias, subsets),
    "mean fill": lambda s, subsets: mean_fill(s.weight, s.bias, subsets, s.features),
    "least squares": lambda s, subsets: least_squares_refit(s.weight, s.bias, subsets, s.features),
    "softmax refit": lambda s, subsets: softmax_refit(
        s.weight, s.bias, subsets, s.features, s.labels
    ),
}


def subsets_by_k(
    name: str, sample: Sample, ks: Sequence[int], stored: pd.DataFrame | None = None
) -> dict[int, Subsets]:
    """The subsets of a ranking for several k; of a slow one from a table, where one is given.

    stored: columns ranking, class, filters ("3 17 ..."), of one network.  Raises ValueError for an
    unknown ranking.
    """
    known = QUICK_RANKINGS | SLOW_RANKINGS
    if name not in known:
        raise ValueError(f"unknown ranking {name!r}; choose from {', '.join(known)}")
    if name == FREQUENCY:  # not nested: each k has a histogram of its own
        return {k: _frequency(sample, k) for k in ks}
    if name in SLOW_RANKINGS and stored is not None:
        rows = stored[stored["ranking"] == name].sort_values("class")
        longest = [torch.tensor([int(j) for j in text.split()]) for text in rows["filters"]]
    else:
        longest = known[name](sample, max(ks))
    return {k: [filters[:k] for filters in longest] for k in ks}
