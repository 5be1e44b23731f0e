"""The front door: banks in; subsets, heads and figures out.

Filters are chosen and heads are fitted on train images; what is measured is measured on test
images, where the bank has any.
"""

import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from paperlib.bank import SPLIT_CODES, FeatureBank, LinearHead
from paperlib.extraction.features import extract_features
from paperlib.extraction.forward import evaluation_mode
from paperlib.extraction.images import as_images
from paperlib.extraction.options import ExtractOptions
from paperlib.extraction.resumable import save_features
from paperlib.filters.counting import class_statistics
from paperlib.filters.ranking import empty_classes, subsets_with_dense_rows
from paperlib.filters.scores import random_subsets
from paperlib.filters.sums import column_means
from paperlib.filters.sweeps import influential_by_k, size_grid, sweep_statistics
from paperlib.filters.tensors import Subsets, subset_tensors
from paperlib.heads.accuracy import AccuracyCurve, correct_by_k
from paperlib.heads.decomposed import DecomposedHead
from paperlib.heads.finetune import finetune_network
from paperlib.heads.refit import softmax_refit
from paperlib.heads.selection import RANKINGS
from paperlib.metrics.ablation import accuracy_after_ablation
from paperlib.metrics.cards import FilterRow, cards_of
from paperlib.networks.head import split_head
from paperlib.stats import Interval, mean_interval
from paperlib.store import BankError

FREQUENCY = "frequency"  # the paper's ranking


def extract(
    model: nn.Module,
    *,
    train: object = None,
    test: object = None,
    out: str | Path | None = None,
    **options,
) -> FeatureBank:
    """Run a classifier over images, on the GPU where there is one, and keep what its head sees.

    x = the input `[N, D]` of the final nn.Linear, logits = x W^T + b `[N, C]`

    `train` and `test` are an ImageFolder or any map-style dataset of (image, label), a
    TensorDataset, a pair (X, y) of tensors or arrays, or a DataLoader of one of these.  With `out`
    the bank is saved there by way of shards, so that an interrupted call goes on where it was.
    `options` are those of `ExtractOptions`: head, blocks, device, precision, batch_size, ...

    Raises ValueError or TypeError for images, options or a model that cannot be taken, naming
    those that can.
    """
    known = [field.name for field in fields(ExtractOptions)]
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(f"unknown options {unknown}; choose from {', '.join(known)}")
    given = {"train": train, "test": test}
    images = {split: some for split, some in given.items() if some is not None}
    if not images:
        raise ValueError("no images: give `train`, `test` or both")
    chosen = ExtractOptions(**options)
    if out is None:
        return extract_features(model, images, chosen)
    return save_features(model, images, out, chosen)


def frequency_histogram(bank: FeatureBank, k: int = 5) -> Tensor:
    """How often each filter is among the k largest features of an image, per class.

    H_k[c, j] = #{train images of class c whose k largest features include j}, `[C, D] int32`

    Raises ValueError for a bad k and BankError where there are no train images.
    Source: the paper's frequency histogram, arXiv 2112.07719.
    """
    train = _train_images(bank)
    (counts,) = class_statistics(train.features, train.labels, train.num_classes, [k]).histogram
    return counts


def influential(bank: FeatureBank, k: int | float = 5) -> Subsets:
    """The k filters that are most often among the strongest of each class's train images.

    I_c(k) = the k filters j with the highest H_k[c, j], ties to the larger mean feature; for a
    share k in (0, 1) the fewest filters that hold that share of the class's response

    Returns C tensors `[k_c] int64`, most influential first.  Classes without train images keep
    all D filters, and a warning says so.  Raises ValueError for a bad k and BankError where there
    are no train images.  Source: arXiv 2112.07719.
    """
    train = _train_images(bank)
    sizes = 1 if isinstance(k, float) else [k]
    statistics = class_statistics(train.features, train.labels, train.num_classes, sizes)
    _warn_of(empty_classes(statistics.images))
    return subsets_with_dense_rows(statistics, k)


def rank(bank: FeatureBank, k: int = 5, by: str = FREQUENCY) -> Subsets:
    """The k filters of each class by another ranking: `frequency` is the paper's, `influential`.

    The others are those of `heads.selection.RANKINGS`: mean activation, weight magnitude, contrast,
    backward selection and so on.  Returns C tensors `[k] int64`, the most important first; classes
    without train images keep all D filters, and a warning says so.  Raises ValueError for an
    unknown ranking or a bad k, BankError where there are no train images.
    """
    if by == FREQUENCY:
        return influential(bank, k)
    if by not in RANKINGS:
        raise ValueError(f"unknown ranking {by!r}; choose from {', '.join([FREQUENCY, *RANKINGS])}")
    train = _train_images(bank)
    subsets = RANKINGS[by](train.features, train.labels, *train.head, k)
    images = torch.bincount(train.labels, minlength=train.num_classes)
    _warn_of(empty_classes(images))
    everything = torch.arange(train.num_filters, device=train.features.device)
    return [own if n else everything for own, n in zip(subsets, images.tolist(), strict=True)]


def backward_selection(bank: FeatureBank, k: int = 5) -> Subsets:
    """The k filters of each class that a refitted head misses most: better than `influential`.

    From the full head, half of the filters that are left are dropped in each round; the choice of
    notebook 11, meant for `refit`.  Returns and raises as `rank` does.
    """
    return rank(bank, k, by="backward selection")


def random_filters(
    bank: FeatureBank, k: int = 5, *, draws: int = 20, seed: int = 0
) -> list[Subsets]:
    """`draws` independent choices of k filters per class, uniform without replacement.

    Raises ValueError for a bad k, draws or seed.
    """
    shape, device = (bank.num_classes, bank.num_filters), bank.features.device
    return random_subsets(*shape, k, draws=draws, seed=seed, device=device)


def decompose(bank: FeatureBank, subsets: Subsets) -> DecomposedHead:
    """The network's own head, cut to each class's filters; nothing is fitted.

    logit_c = b_c + sum_{j in I_c} W[c, j] x_j, from features `[N, D]` to logits `[N, C]`

    Raises ValueError for subsets that do not fit the head.  Source: arXiv 2112.07719.
    """
    return DecomposedHead(*bank.head, subsets)


def refit(bank: FeatureBank, subsets: Subsets, *, l2: float = 1e-3) -> DecomposedHead:
    """The head of `decompose`, its kept weights and biases fitted to the train labels.

    min over (w, b) of mean_n -log softmax(logits_n)[y_n] + l2 / 2 |w|^2

    The network stays as it is, and so do the rows of classes without train images.  Raises
    ValueError for subsets that do not fit and a negative l2, BankError without train images.
    """
    train = _train_images(bank)
    return softmax_refit(*train.head, subsets, train.features, train.labels, l2=l2)


def put_head(model: nn.Module, head: nn.Module, name: str | None = None) -> nn.Module:
    """Put a head where a network has its final layer, in place; returns the network.

    The layer is the one of this name, or the last linear one, as `extract` takes it.  Raises
    ValueError for a network without such a layer and for a head of other features or classes.
    """
    found = split_head(model, name)
    old, new = (
        (getattr(each, "in_features", None), getattr(each, "out_features", None))
        for each in (found.module, head)
    )
    if old != new:
        raise ValueError(
            f"the layer {found.name} maps {old[0]} features to {old[1]} logits, "
            f"the head {new[0]} to {new[1]}"
        )
    model.set_submodule(found.name, head)
    return model


def fine_tune(
    model: nn.Module, subsets: Subsets, images: object, *, head: str | None = None, **options
) -> nn.Module:
    """A copy of the whole network, trained by the decomposed softmax: the paper's own remedy.

    min over all weights of mean_n -log softmax(b_c + sum_{j in I_c} W[c, j] x_j)[y_n]

    `images` are train images in any form that `extract` takes, `head` names the final layer where
    it is not the last linear one; `options` are those of `heads.finetune_network`: epochs,
    learning_rate, weight_decay, batch_size, device, seed, progress.  Source: arXiv 2112.07719.
    """
    name = split_head(model, head).name
    return finetune_network(model, name, subsets, as_images(images).dataset, **options)


def accuracy(head: nn.Module | LinearHead, bank: FeatureBank) -> Interval:
    """Percent of a bank's images that a head classifies correctly, with its 95 % interval.

    100 / N sum_n [argmax_c logits_nc = y_n]; the interval resamples images

    Of the test images where the bank has any, else of all.  `head` takes features `[N, D]` to
    logits `[N, C]`: a DecomposedHead, an nn.Linear, a bank's own head.  Raises ValueError for a
    head of other features or classes, and for logits that are not finite.
    """
    bank = _measured(bank)
    logits = _logits(head, bank)
    if logits.shape != bank.logits.shape:
        found, needed = list(logits.shape), list(bank.logits.shape)
        raise ValueError(f"the head gives logits {found}, the bank's classes need {needed}")
    if not logits.isfinite().all():
        raise ValueError("the head's logits hold NaN or infinity")
    return mean_interval(100 * (logits.argmax(dim=1) == bank.labels).double())


def random_baseline(
    train: FeatureBank, test: FeatureBank, k: int = 5, *, draws: int = 10, seed: int = 0
) -> Interval:
    """Accuracy in percent of k random filters per class, refitted: mean, lowest and highest.

    What `refit` gains over this is due to the choice of filters.  Raises ValueError for a bad k
    and for banks of different classes or filters, BankError without train images.
    """
    _check_alike(train, test)
    chosen = random_filters(train, k, draws=draws, seed=seed)
    found = [
        accuracy(refit(train, subsets), test).value
        for subsets in tqdm(chosen, delay=2, unit="draw")
    ]
    spread = f"lowest to highest of {draws} random choices"
    return Interval(sum(found) / len(found), min(found), max(found), spread)


def accuracy_curve(bank: FeatureBank, *, by: str = FREQUENCY) -> AccuracyCurve:
    """Accuracy of the decomposed head against the number of filters per class, nothing fitted.

    Every k up to 64, then a grid, from 0 to D; filters are ranked on train images, as `rank` does,
    images are those of `accuracy`.  `curve.smallest_k(within=1.0)` is the fewest filters within a
    point of the full head, `curve.table()` the rows of a figure.  Raises as `rank` does, and
    ValueError for classes without train images.
    """
    train, shown = _train_images(bank), _measured(bank)
    nothing = [torch.empty(0, dtype=torch.int64, device=train.features.device)] * train.num_classes
    if by == FREQUENCY:
        labelled = train.features, train.labels, train.num_classes
        subsets = influential_by_k(sweep_statistics(*labelled))
    else:
        order = rank(bank, train.num_filters, by)
        subsets = {k: [own[:k] for own in order] for k in size_grid(train.num_filters)}
    by_k = {0: nothing} | subsets
    return AccuracyCurve(list(by_k), correct_by_k(shown.features, shown.labels, *shown.head, by_k))


def ablate(
    bank: FeatureBank,
    subsets: Subsets,
    fill: str = "noise",
    *,
    others: bool = False,
    repeats: int = 20,
    seed: int = 0,
) -> Interval:
    """Accuracy in percent once each image loses the features of its own class, or all `others`.

    100 / N sum_n [argmax(W x'_n + b) = y_n], x' with the features in I_{y_n} replaced by N(0, 1)
    noise, by zero, or by their mean over the train images

    Images are those of `accuracy`.  Raises ValueError for an unknown fill and for subsets that do
    not fit.  Source: the paper's essentiality, arXiv 2112.07719.
    """
    shown = _measured(bank)
    means = column_means(_train_images(bank).features) if fill == "mean" else None
    kept = accuracy_after_ablation(
        shown.features,
        shown.labels,
        *shown.head,
        subsets,
        fill,
        others=others,
        means=means,
        repeats=repeats,
        seed=seed,
    )
    return mean_interval(100 * kept)


def class_cards(
    bank: FeatureBank, subsets: Subsets, classes: Sequence[int | str] | None = None
) -> dict[str, list[FilterRow]]:
    """What is known of each class's filters: how often named, mean feature, weight, logit share.

    By class name, a row for each filter of the subset; all classes if `classes` is None, else
    those with these names or numbers.  A name that several classes bear is followed by the number.
    *named_by* counts among as many of an image's largest features as the smallest subset has.
    Raises ValueError for classes that do not exist, BankError without train images.
    """
    train, subsets = _train_images(bank), subset_tensors(subsets)
    k = min((len(filters) for filters in subsets if len(filters)), default=1)
    names = _distinct(train.class_names)
    chosen: list[Any] | None = None
    if classes is not None:
        chosen = [names.index(c) if c in names else c for c in classes]
    statistics = class_statistics(train.features, train.labels, train.num_classes, [k])
    rows = cards_of(statistics, train.head.weight, subsets, k, chosen)
    return {names[c]: row for c, row in rows.items()}


def _distinct(names: list[str]) -> list[str]:
    """Names of which no two are alike: ImageNet has two cranes, two maillots."""
    return [f"{name} ({c})" if names.count(name) > 1 else name for c, name in enumerate(names)]


def _logits(head: nn.Module | LinearHead, bank: FeatureBank) -> Tensor:
    """A head's logits of all features of a bank, in the head's own precision, in eval mode."""
    if isinstance(head, LinearHead):
        return head(bank.features)
    if not isinstance(head, nn.Module):
        raise ValueError(f"a head must be a module or a LinearHead, not {type(head).__name__}")
    reads = getattr(head, "in_features", bank.num_filters)
    if reads != bank.num_filters:
        raise ValueError(f"the head reads {reads} features, the bank has {bank.num_filters}")
    first = next(head.parameters(), bank.features)
    with evaluation_mode(head):
        return head(bank.features.to(first.dtype))


def _check_alike(one: FeatureBank, other: FeatureBank) -> None:
    """Raise ValueError unless two banks are of the same filters and classes."""
    shapes = [(bank.num_filters, bank.num_classes) for bank in (one, other)]
    if shapes[0] != shapes[1]:
        found = " and ".join(f"{d} filters, {c} classes" for d, c in shapes)
        raise ValueError(f"the banks are of different networks: {found}")
    unnamed = [str(c) for c in range(one.num_classes)]  # what a bank calls them by itself
    if unnamed in (one.class_names, other.class_names):
        return
    for mine, theirs in zip(one.class_names, other.class_names, strict=True):
        if mine != theirs:
            raise ValueError(f"the banks are of different classes: {mine!r} and {theirs!r}")


def _part(bank: FeatureBank, name: str) -> FeatureBank | None:
    """The images of a split, the bank itself where it holds no others; None where it has none."""
    found = int((bank.split_codes == SPLIT_CODES[name]).sum())
    return (bank if found == len(bank) else bank.split(name)) if found else None


def _measured(bank: FeatureBank) -> FeatureBank:
    return _part(bank, "test") or bank


def _train_images(bank: FeatureBank) -> FeatureBank:
    train = _part(bank, "train")
    if train is None:
        raise BankError("filters are chosen on train images, and this bank holds none")
    return train


def _warn_of(which: str) -> None:
    if which:
        warnings.warn(
            f"classes without train images keep all their filters ({which}); "
            "bank.without_empty_classes() leaves them out",
            stacklevel=3,
        )
