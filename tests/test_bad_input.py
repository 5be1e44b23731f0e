"""Bad input, one row a case: what is called, and the words that its message must hold.

Whoever calls must learn what is bad and what would do, in the words of the package; an exception
from deep inside a library counts as obscure and fails here.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
)

import paperlib as pl
from experiments.training.recipe import Recipe
from paperlib.bank import FeatureBank, LinearHead
from paperlib.extraction.options import ExtractOptions, choose_device
from paperlib.filters.counting import class_statistics, frequency_histogram
from paperlib.filters.mass import features_for_mass, response_mass
from paperlib.filters.ranking import influential_filters, resampled_filters
from paperlib.filters.scores import contrast, mean_activation, random_subsets, weight_magnitude
from paperlib.filters.sweeps import size_grid
from paperlib.filters.tensors import membership
from paperlib.heads.accuracy import correct_by_k
from paperlib.heads.decomposed import DecomposedHead
from paperlib.heads.refit import least_squares_refit, mean_fill, softmax_refit
from paperlib.heads.selection import backward_selection, forward_selection
from paperlib.metrics.ablation import replace_features
from paperlib.metrics.cards import cards_of
from paperlib.metrics.collapse import class_scatter
from paperlib.metrics.manifold import (
    components_for_variance,
    decisions_by_dimension,
    principal_components,
    random_directions,
    two_nn,
)
from paperlib.metrics.purity import top_image_shares
from paperlib.metrics.selectivity import psi, selectivity_index
from paperlib.networks.by_name import load_network
from paperlib.networks.cifar import CifarResNet
from paperlib.networks.datasets import load_dataset
from paperlib.networks.head import split_head
from paperlib.stats import (
    bootstrap_means,
    half_sample_draws,
    mean_interval,
    power_law_exponent,
    rank_correlation,
)
from reproduction.paths import ROOT

N, D, C = 12, 6, 3
X = torch.rand(N, D, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % C
W, B = torch.rand(C, D, generator=torch.Generator().manual_seed(1)), torch.zeros(C)
SUBSETS = [torch.tensor([0, 1])] * C
HEAD = LinearHead(W, B)
NAN, INF = float("nan"), float("inf")


def with_value(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[0] = value
    return tensor


def bank(**changes):
    given = {"features": X, "logits": X @ W.T + B, "labels": Y, "stored_head": HEAD}
    return FeatureBank(**given | changes)


def statistics():
    return class_statistics(X, Y, C, D)


def endless():
    metadata = {}
    return metadata | {"within": metadata.setdefault("self", metadata)}


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])


NET = nn.Sequential(nn.Flatten(), nn.Linear(D, C))
PAIR = (X, Y)
IMAGES = TensorDataset(X, Y)
WEIGHTED = WeightedRandomSampler([1.0] * N, N)
QUIET = {"progress": False, "device": "cpu"}


def described(**attributes):
    """The images as a dataset with other attributes."""
    images = TensorDataset(X, Y)
    vars(images).update(attributes)
    return images


def uncopied():
    """A network of lower precision that holds a tensor with a history, which has no deep copy."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(D, C)).bfloat16()
    model.scale = 2 * model[1].weight
    return model


def extract(images, model=NET, **options):
    return pl.extract(model, train=images, **QUIET | options)


CASES = {
    # Banks
    "bank: features of one dimension": (lambda: bank(features=X[0]), r"features must be \[N, D\]"),
    "bank: labels of two dimensions": (lambda: bank(labels=Y[:, None]), r"labels \[N\]"),
    "bank: fewer logits": (lambda: bank(logits=X[:5] @ W.T), "logits has 5 rows, labels have 12"),
    "bank: fewer labels": (lambda: bank(labels=Y[:5]), "rows, labels have 5"),
    "bank: no images": (
        lambda: bank(features=X[:0], logits=X[:0] @ W.T, labels=Y[:0]),
        "holds no images",
    ),
    "bank: no filters": (
        lambda: bank(features=X[:, :0], stored_head=None),
        "needs filters and classes, got 0 filters",
    ),
    "bank: no classes": (
        lambda: bank(logits=X[:, :0], stored_head=None),
        "needs filters and classes.* 0 classes",
    ),
    "bank: fractional labels": (lambda: bank(labels=Y + 0.5), "whole numbers from 0, found 0.5"),
    "bank: NaN labels": (lambda: bank(labels=with_value(Y.float(), NAN)), "whole numbers"),
    "bank: bool labels": (lambda: bank(labels=Y > 0), "labels must be whole numbers, not .*bool"),
    "bank: complex labels": (lambda: bank(labels=Y + 0j), "labels must be real numbers"),
    "bank: negative labels": (lambda: bank(labels=Y - 1), r"labels must lie in 0\.\.2, found -1"),
    "bank: labels too large": (
        lambda: bank(labels=Y + 1),
        r"labels must lie in 0\.\.2, found 1\.\.3",
    ),
    "bank: split code -1": (lambda: bank(split_codes=-torch.ones(N)), "split codes must be whole"),
    "bank: split code 0.5": (lambda: bank(split_codes=0.5 * torch.ones(N)), "split codes must be"),
    "bank: split code 2": (lambda: bank(split_codes=[2] * N), "split holds 2; known codes are"),
    "bank: split codes too few": (lambda: bank(split_codes=[0]), "split has 1 rows"),
    "bank: NaN features": (lambda: bank(features=with_value(X, NAN)), "features hold NaN .* row 0"),
    "bank: infinite logits": (
        lambda: bank(logits=with_value(X @ W.T, INF)),
        "logits hold NaN or inf",
    ),
    "bank: too few names": (lambda: bank(class_names=["a"]), "1 class names for 3 logits"),
    "bank: names are numbers": (lambda: bank(class_names=[1, 2, 3]), "must be strings, found 1"),
    "bank: metadata is a list": (lambda: bank(metadata=[1]), "metadata must be a dict, not list"),
    "bank: block of other length": (lambda: bank(blocks={"b": X[:3]}), "blocks/b has 3 rows"),
    "bank: NaN block": (lambda: bank(blocks={"b": with_value(X, NAN)}), "blocks/b hold NaN"),
    "bank: head of another shape": (lambda: bank(stored_head=(W.T, B)), "head has shapes"),
    "bank: NaN head": (lambda: bank(stored_head=(with_value(W, NAN), B)), "head holds NaN"),
    "bank: unknown split": (
        lambda: bank().split("val"),
        "unknown split 'val'; choose from train, test",
    ),
    "bank: empty split": (lambda: bank().split("test"), "holds no test images"),
    "bank: saved without a head that fits": (
        lambda: bank(stored_head=(-W, B)).save("never.safetensors"),
        "the affine head picks the class of the logits for",
    ),
    "bank: saved with too few images for a head": (
        lambda: bank(features=X[:3], logits=X[:3] @ W.T, labels=Y[:3], stored_head=None).save(
            "never.safetensors"
        ),
        "3 images cannot determine a head over 6 filters; store head",
    ),
    "bank: too few images for a head": (
        lambda: bank(features=X[:3], logits=X[:3] @ W.T, labels=Y[:3], stored_head=None).head,
        "3 images cannot determine a head over 6 filters; store head",
    ),
    "bank: logits of no linear head": (
        lambda: bank(logits=torch.eye(N)[:, :C] - 5 * torch.eye(N)[:, 3:6], stored_head=None).head,
        "the affine head picks the class of the logits for",
    ),
    "bank: one string of names": (lambda: bank(class_names="abc"), "a list of strings, not str"),
    "bank: a dict of names": (lambda: bank(class_names={"a": 1}), "a list of strings, not dict"),
    "bank: no features": (lambda: bank(features=None), "features must be a tensor, an array or"),
    "bank: ragged features": (lambda: bank(features=[[1.0], [1.0, 2.0]]), "an array or lists of"),
    "bank: complex features": (lambda: bank(features=X + 0j), "features must be real numbers"),
    "bank: sparse features": (
        lambda: bank(features=X.to_sparse()),
        "features must be a dense tensor with values, not torch.sparse_coo",
    ),
    "bank: features without values": (
        lambda: bank(features=X.to("meta")),
        "features must be a dense tensor with values, not meta",
    ),
    "bank: masked features": (
        lambda: bank(features=np.ma.masked_less(X.numpy(), 0.5)),
        "features must not be masked",
    ),
    "bank: a table of text": (
        lambda: bank(features=pd.DataFrame([["a"]] * N)),
        "features must be a tensor, an array or lists of numbers",
    ),
    "bank: text as labels": (lambda: bank(labels="abc"), "labels must be a tensor, an array or"),
    "bank: infinite labels": (lambda: bank(labels=Y + INF), "whole numbers from 0, found inf"),
    "bank: split codes of two dimensions": (
        lambda: bank(split_codes=torch.zeros(N, 1)),
        r"split codes must be \[N\]",
    ),
    "bank: a head of one part": (lambda: bank(stored_head=(W,)), r"a pair \(weight .*got 1 parts"),
    "bank: a module as head": (
        lambda: bank(stored_head=nn.Linear(D, C)),
        r"a pair \(weight .*got Linear",
    ),
    "bank: a list of blocks": (lambda: bank(blocks=[X]), "blocks must be a dict of tensors"),
    "bank: a block of whole numbers": (lambda: bank(blocks={"b": X.long()}), "b must be .* float"),
    "bank: a block of one dimension": (
        lambda: bank(blocks={"b": X[:, 0]}),
        r"blocks/b must be \[N, D\]",
    ),
    "bank: a block without a name": (lambda: bank(blocks={"": X}), "names of blocks must be"),
    "bank: metadata that holds itself": (
        lambda: bank(metadata=endless()).save("never.safetensors"),
        "metadata must hold JSON values only",
    ),
    "bank: NaN in metadata": (
        lambda: bank(metadata={"loss": NAN}).save("never.safetensors"),
        "metadata must hold JSON values only",
    ),
    "bank: classes of an unknown split": (
        lambda: bank().classes_with_images("val"),
        "unknown split 'val'; choose from",
    ),
    "bank: no file": (lambda: FeatureBank.load("gone.safetensors"), "no feature bank at gone"),
    "bank: metadata that is no JSON": (
        lambda: bank(metadata={"network": NET}).save("never.safetensors"),
        "metadata must hold JSON values only",
    ),
    # Counting and ranking
    "count: arrays": (
        lambda: class_statistics(X.numpy(), Y, C, 1),
        "features must be a tensor, not nd",
    ),
    "count: lists": (
        lambda: class_statistics(X, Y.tolist(), C, 1),
        "labels must be a tensor, not list",
    ),
    "count: float labels": (
        lambda: class_statistics(X, Y.float(), C, 1),
        "labels int64, got .*float32",
    ),
    "count: bool labels": (lambda: class_statistics(X, Y > 0, C, 1), "labels int64, got .*bool"),
    "count: uint8 labels": (
        lambda: class_statistics(X, Y.byte(), C, 1),
        "labels int64, got .*uint8",
    ),
    "count: int32 labels": (
        lambda: class_statistics(X, Y.int(), C, 1),
        "labels int64, got .*int32",
    ),
    "count: whole features": (
        lambda: class_statistics(X.long(), Y, C, 1),
        "must be floating point",
    ),
    "count: one dimension": (lambda: class_statistics(X[0], Y, C, 1), r"must be \[N, D\]"),
    "count: fewer labels": (
        lambda: class_statistics(X, Y[:3], C, 1),
        r"labels \[N\]; got \[12, 6\] and \[3\]",
    ),
    "count: NaN": (lambda: class_statistics(with_value(X, NAN), Y, C, 1), "NaN or infinity"),
    "count: infinity": (lambda: class_statistics(with_value(X, -INF), Y, C, 1), "NaN or infinity"),
    "count: labels out of range": (
        lambda: class_statistics(X, Y, 2, 1),
        r"labels must lie in 0\.\.1",
    ),
    "count: k = 0": (lambda: frequency_histogram(X, Y, C, 0), "whole number from 1 to 6, not 0"),
    "count: k above D": (
        lambda: frequency_histogram(X, Y, C, 7),
        "whole number from 1 to 6, not 7",
    ),
    "count: k = 2.0": (lambda: frequency_histogram(X, Y, C, [2.0]), r"whole number .* not 2\.0"),
    "count: k = True": (lambda: frequency_histogram(X, Y, C, [True]), "whole number .* not True"),
    "count: no k": (lambda: frequency_histogram(X, Y, C, []), "whole number from 1 to 6"),
    "count: features that overflow": (
        lambda: class_statistics(1e18 * X.double(), Y, C, 1),
        "too large to be summed exactly .* scale the features down",
    ),
    "count: another width": (
        lambda: statistics().update(X[:, :2], Y),
        "of 6 filters cannot count 2",
    ),
    "count: a list in the list of k": (
        lambda: class_statistics(X, Y, C, [[1, 2]]),
        r"whole number from 1 to 6, not \[1, 2\]",
    ),
    "count: numbers and text as k": (
        lambda: class_statistics(X, Y, C, [1, "2"]),
        "whole number from 1 to 6, not '2'",
    ),
    "count: classes of 3.0": (
        lambda: class_statistics(X, Y, 3.0, 1),
        r"the number of classes must be a whole number of at least 1, not 3\.0",
    ),
    "count: classes of -1": (
        lambda: class_statistics(X, Y, -1, 1),
        "number of classes must be .* not -1",
    ),
    "count: classes of text": (
        lambda: class_statistics(X, Y, "3", 1),
        "number of classes must be .* not '3'",
    ),
    "count: k is text": (
        lambda: frequency_histogram(X, Y, C, "five"),
        "whole number from 1 to 6, not 'five'",
    ),
    "count: k = 2.5": (lambda: frequency_histogram(X, Y, C, 2.5), r"whole number .* not 2\.5"),
    "sweep: k = 0": (lambda: size_grid(64, 0), "k must be a whole number of at least 1, not 0"),
    "sweep: k is text": (lambda: size_grid(64, "5"), "k must be a whole number of .* not '5'"),
    "rank: no images": (
        lambda: influential_filters(class_statistics(X[:0], Y[:0], C, 2), 2),
        "no images were counted",
    ),
    "rank: a class without images": (
        lambda: influential_filters(class_statistics(X, Y, C + 1, 2), 2),
        r"classes without images .*1 of 4: 3.*without_empty_classes",
    ),
    "rank: k not counted": (
        lambda: influential_filters(class_statistics(X, Y, C, [1, 4]), 2),
        r"k = 2 was not counted; choose from \(1, 4\)",
    ),
    "rank: share 0": (lambda: influential_filters(statistics(), 0.0), "between 0 and 1"),
    "rank: share 1.5": (
        lambda: influential_filters(statistics(), 1.5),
        r"between 0 and 1, not 1\.5",
    ),
    "rank: share NaN": (lambda: influential_filters(statistics(), NAN), "between 0 and 1"),
    "rank: resample an empty class": (
        lambda: resampled_filters(X, Y, C + 1, 2),
        "class 3 has no images",
    ),
    "rank: scores of another k": (
        lambda: contrast(W, X[:3].double(), X[0].double(), 9),
        "from 1 to 6, not 9",
    ),
    "rank: random subsets of too many": (lambda: random_subsets(C, D, 7), "from 1 to 6, not 7"),
    "rank: random subsets of seed -1": (
        lambda: random_subsets(C, D, 2, seed=-1),
        "seed must be a whole number of at least 0, not -1",
    ),
    "rank: no random subsets": (
        lambda: random_subsets(C, D, 2, draws=0),
        "draws must be a whole number of at least 1, not 0",
    ),
    "rank: NaN weight": (
        lambda: weight_magnitude(with_value(W, NAN), 2),
        "scores of the filters hold NaN",
    ),
    "rank: NaN mean": (
        lambda: mean_activation(with_value(X[:C], NAN), 2),
        "scores of the filters hold NaN",
    ),
    "rank: resample without draws": (
        lambda: resampled_filters(X, Y, C, 2, draws=0),
        "draws must be a whole number of at least 1, not 0",
    ),
    "rank: resample with seed 1.5": (
        lambda: resampled_filters(X, Y, C, 2, seed=1.5),
        r"seed must be a whole number of at least 0, not 1\.5",
    ),
    "mass: NaN": (lambda: response_mass(with_value(X, NAN)), "NaN|non-negative|finite"),
    "mass: infinity": (lambda: features_for_mass(with_value(X, INF), 0.5), "NaN|finite|infinity"),
    "mass: negative": (lambda: response_mass(X - 1), "non-negative"),
    "mass: fraction 0": (lambda: features_for_mass(X, 0.0), "fraction"),
    "mass: fraction 2": (lambda: features_for_mass(X, 2.0), "fraction"),
    # Subsets and heads
    "subsets: float indices": (
        lambda: membership([torch.tensor([0.5])], D),
        "class 0: filters .* whole",
    ),
    "subsets: bool mask": (
        lambda: membership([torch.ones(D) > 0], D),
        r"class 0: filters must be \[k\]",
    ),
    "subsets: two dimensions": (
        lambda: membership([torch.zeros(1, 1).long()], D),
        r"of shape \[1, 1\]",
    ),
    "subsets: index out of range": (
        lambda: membership([torch.tensor([6])], D),
        r"class 0: .* 0\.\.5",
    ),
    "subsets: negative index": (lambda: membership([torch.tensor([-1])], D), r"class 0: .* 0\.\.5"),
    "subsets: listed twice": (
        lambda: membership([torch.tensor([1, 1])], D),
        "class 0: .* listed twice",
    ),
    "subsets: none": (lambda: membership(None, D), "subsets must be a list.* not NoneType"),
    "subsets: text": (lambda: membership("abc", D), "subsets must be a list.* not str"),
    "subsets: text for a class": (
        lambda: membership(["abc"], D),
        "class 0: filters must be whole numbers, not 'abc'",
    ),
    "head: too few subsets": (
        lambda: DecomposedHead(W, B, SUBSETS[:2]),
        "2 subsets for a head of 3",
    ),
    "head: short bias": (lambda: DecomposedHead(W, B[:1], SUBSETS), r"\[3, 6\] and \[1\]"),
    "head: no bias": (
        lambda: DecomposedHead(W, None, SUBSETS),
        r"a bias \[C\]; got \[3, 6\] and NoneType",
    ),
    "head: weight is a list": (lambda: DecomposedHead(W.tolist(), B, SUBSETS), "got list and"),
    "head: flat weight": (lambda: DecomposedHead(W[0], B, SUBSETS), r"weight \[C, D\]"),
    "head: NaN weight": (lambda: DecomposedHead(with_value(W, NAN), B, SUBSETS), "holds NaN"),
    "head: infinite bias": (
        lambda: DecomposedHead(W, with_value(B, INF), SUBSETS),
        "holds NaN or inf",
    ),
    "head: features of another width": (
        lambda: DecomposedHead(W, B, SUBSETS)(X[:, :4]),
        "the head reads 6 features, got 4",
    ),
    "accuracy: NaN head": (
        lambda: correct_by_k(X, Y, with_value(W, NAN), B, {2: SUBSETS}),
        "head holds NaN",
    ),
    "accuracy: labels of more classes": (
        lambda: correct_by_k(X, Y + 1, W, B, {2: SUBSETS}),
        r"labels must lie in 0\.\.2",
    ),
    "accuracy: another width": (
        lambda: correct_by_k(X[:, :4], Y, W, B, {2: SUBSETS}),
        "the head reads 6 features, got 4",
    ),
    "mean fill: NaN": (lambda: mean_fill(W, B, SUBSETS, with_value(X, NAN)), "features hold NaN"),
    "mean fill: another width": (lambda: mean_fill(W, B, SUBSETS, X[:, :2]), r"must be \[N, 6\]"),
    "mean fill: no images": (lambda: mean_fill(W, B, SUBSETS, X[:0]), "N above 0"),
    "least squares: no bias": (
        lambda: least_squares_refit(W, None, SUBSETS, X),
        r"a bias \[C\]; got \[3, 6\] and NoneType",
    ),
    "least squares: no images": (lambda: least_squares_refit(W, B, SUBSETS, X[:0]), "N above 0"),
    "least squares: infinity": (
        lambda: least_squares_refit(W, B, SUBSETS, with_value(X, INF)),
        "features hold NaN or infinity",
    ),
    "softmax: negative l2": (
        lambda: softmax_refit(W, B, SUBSETS, X, Y, l2=-1.0),
        "l2 must be a number that is not negative, got -1",
    ),
    "softmax: NaN l2": (
        lambda: softmax_refit(W, B, SUBSETS, X, Y, l2=NAN),
        "l2 must be a number that is not negative, got nan",
    ),
    "softmax: l2 of None": (
        lambda: softmax_refit(W, B, SUBSETS, X, Y, l2=None),
        "l2 must be a number .* got None",
    ),
    "softmax: l2 is text": (
        lambda: softmax_refit(W, B, SUBSETS, X, Y, l2="x"),
        "l2 must be a number .* got 'x'",
    ),
    "softmax: float labels": (
        lambda: softmax_refit(W, B, SUBSETS, X, Y.float()),
        "labels int64",
    ),
    "softmax: no images": (lambda: softmax_refit(W, B, SUBSETS, X[:0], Y[:0]), "N above 0"),
    "search: k above D": (lambda: backward_selection(W, B, X, Y, 7), "from 1 to 6, not 7"),
    "search: k = 0": (lambda: forward_selection(X, Y, C, 0), "from 1 to 6, not 0"),
    "cards: unknown class": (
        lambda: cards_of(statistics(), W, SUBSETS, 2, [5]),
        r"classes must lie in 0\.\.2, not \[5\]",
    ),
    "cards: a class of text": (
        lambda: cards_of(statistics(), W, SUBSETS, 2, ["cat"]),
        r"classes must lie in 0\.\.2, not \['cat'\]",
    ),
    "cards: too few subsets": (
        lambda: cards_of(statistics(), W, SUBSETS[:2], 2),
        "2 subsets for a head of 3 classes",
    ),
    "cards: index out of range": (
        lambda: cards_of(statistics(), W, [torch.tensor([9])] * C, 2),
        r"class 0: filters must lie in 0\.\.5",
    ),
    # Measures
    "scatter: float labels": (lambda: class_scatter(X, Y.float(), C), "labels int64"),
    "essentiality: unknown fill": (
        lambda: replace_features(X, torch.ones(N, D) > 0, "median"),
        "median|fill",
    ),
    "bootstrap: seed": (
        lambda: bootstrap_means(X[:, 0], seed=-1),
        "seed must be a whole number of at least 0, not -1",
    ),
    "bootstrap: seed is text": (
        lambda: mean_interval(X[:, 0], seed="0"),
        "seed must be a whole number of at least 0, not '0'",
    ),
    "bootstrap: no draws": (
        lambda: mean_interval(X[:, 0], draws=0),
        "draws must be a whole number of at least 1, not 0",
    ),
    "bootstrap: no values": (lambda: mean_interval([]), "there are no values to resample"),
    "halves: no draws": (
        lambda: half_sample_draws(len, 8, draws=0),
        "draws must be a whole number of at least 1, not 0",
    ),
    "purity: no images": (
        lambda: top_image_shares(X, Y, C, top=0),
        "top must be a whole number of at least 1, not 0",
    ),
    "decisions: ranks beyond the directions": (
        lambda: decisions_by_dimension(X, W, B, torch.eye(D).double(), X[0], ranks=[0, 9]),
        r"ranks must rise, from 0 to 6 at most: \[0, 9\]",
    ),
    "decisions: ranks that fall": (
        lambda: decisions_by_dimension(X, W, B, torch.eye(D).double(), X[0], ranks=[2, 1]),
        r"ranks must rise, .*\[2, 1\]",
    ),
    "directions: seed": (
        lambda: random_directions(D, seed=-1),
        "seed must be a whole number of at least 0, not -1",
    ),
    "components: one image": (lambda: principal_components(X[:1]), "at least 2 images"),
    "components: fraction 2": (
        lambda: components_for_variance(torch.ones(3), 2.0),
        r"in \(0, 1\], not 2",
    ),
    "TwoNN: few images": (lambda: two_nn(X), "at least 20 images are needed, got 12"),
    "TwoNN: infinity": (lambda: two_nn(with_value(torch.rand(30, 2), INF)), "must be finite"),
    "TwoNN: a grid": (
        lambda: two_nn(torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))),
        "no dimension: every image has two nearest",
    ),
    "Psi: fraction 0": (lambda: psi(X, 0.0), "fraction"),
    "selectivity: one class": (lambda: selectivity_index(X[:1].double()), "at least 2 classes"),
    "selectivity: negative": (lambda: selectivity_index(X.double() - 1), "non-negative"),
    "trend: two values": (lambda: rank_correlation([1, 2], [1, 2]), r"must be \[n\], n at least 3"),
    "trend: unequal lengths": (lambda: rank_correlation([1, 2, 3], [1, 2]), r"got \(3,\), \(2,\)"),
    "trend: NaN": (
        lambda: rank_correlation([1, NAN, 3, 4], [1, 2, 3, 4]),
        "values to rank hold NaN",
    ),
    "exponent: zero": (lambda: power_law_exponent([1, 2, 3], [0, 1, 2]), "all positive"),
    # Networks, images, extraction
    "network: unknown": (
        lambda: load_network("lenet"),
        "unknown network 'lenet'; choose from resnet20",
    ),
    "network: empty": (lambda: load_network(""), "unknown network ''; choose from"),
    "network: unknown run": (
        lambda: load_network("resnet32:me"),
        "has no run 'me'; choose from akamaster",
    ),
    "network: unknown in torchvision": (
        lambda: load_network("torchvision:resnet51"),
        "torchvision has no 'resnet51'; the closest are",
    ),
    "network: unknown weights": (
        lambda: load_network("torchvision:resnet18:V9"),
        "has no weights 'V9'; choose from",
    ),
    "network: trained nowhere": (
        lambda: load_network("trained:gone"),
        "no trained network at gone",
    ),
    "network: depth": (lambda: CifarResNet(21), r"depth must be 6n \+ 2"),
    "network: option": (lambda: CifarResNet(20, option="C"), "option must be A or B, not 'C'"),
    "network: no linear layer": (lambda: split_head(nn.Conv2d(3, 3, 1)), r"nn\.Linear"),
    "network: no modules at all": (lambda: split_head(nn.ReLU()), r"nn\.Linear"),
    "dataset: unknown": (
        lambda: load_dataset("mnist", "train"),
        r"unknown dataset 'mnist'; choose cifar10",
    ),
    "dataset: unknown split": (
        lambda: load_dataset("cifar10", "val"),
        "unknown split 'val'; choose from train",
    ),
    "dataset: no folder": (
        lambda: load_dataset("imagefolder:gone", "train"),
        "image folder gone does not",
    ),
    "dataset: cifar10:0": (
        lambda: load_dataset("cifar10:0", "train"),
        "takes a number of train images",
    ),
    "images: text": (lambda: extract("photos"), "images cannot be a str; give an ImageFolder"),
    "images: nothing": (lambda: pl.extract(NET), "no images: give `train`, `test` or both"),
    "images: a stream": (lambda: extract(Endless()), "IterableDataset cannot be resumed"),
    "images: a loader of a stream": (
        lambda: extract(DataLoader(Endless())),
        "a map-style dataset; give an",
    ),
    "images: no labels": (lambda: extract(X), r"an item must be \(image, label\), not a Tensor"),
    "images: fewer labels": (lambda: extract((X, Y[:3])), r"labels \[N\]; got \[12, 6\] and \[3\]"),
    "images: fractional labels": (lambda: extract((X, Y + 0.5)), "label"),
    "images: labels out of range": (lambda: extract((X, Y + 9)), r"label"),
    "images: negative labels": (lambda: extract((X, Y - 5)), r"label"),
    "images: empty": (lambda: extract((X[:0], Y[:0])), "no images|empty|holds no"),
    "images: NaN pixels": (lambda: extract((with_value(X, NAN), Y)), "NaN or infinity"),
    "extract: unknown option": (lambda: extract(PAIR, batch=3), r"unknown options \['batch'\]"),
    "extract: unknown head": (lambda: extract(PAIR, head="fc"), "fc"),
    "extract: unknown block": (lambda: extract(PAIR, blocks=["layer9"]), "layer9"),
    "extract: unknown device": (lambda: extract(PAIR, device="tpu"), "device 'tpu' cannot be used"),
    "extract: a GPU that is not there": (
        lambda: choose_device("cuda:99"),
        "'cuda:99' cannot be used",
    ),
    "extract: batches of 0": (
        lambda: ExtractOptions(batch_size=0),
        "batch_size must be a whole number of at least 1, not 0",
    ),
    "extract: shards of 0": (
        lambda: ExtractOptions(shard_size=0),
        "shard_size must be a whole number",
    ),
    "extract: workers below 0": (
        lambda: ExtractOptions(workers=-1),
        "workers must be a whole number",
    ),
    "extract: precision": (
        lambda: ExtractOptions(precision="int8"),
        "unknown precision 'int8'; choose",
    ),
    "extract: timeout of NaN": (lambda: ExtractOptions(timeout=NAN), "timeout must be above 0"),
    "extract: timeout": (lambda: ExtractOptions(timeout=0), "timeout must be above 0"),
    "extract: not a network": (
        lambda: extract(PAIR, model="resnet"),
        r"a model must be an nn\.Module, not str",
    ),
    # The front door
    "front door: no train images": (
        lambda: pl.influential(bank(split_codes=[1] * N)),
        "this bank holds none",
    ),
    "front door: k": (lambda: pl.influential(bank(), k=0), "whole number from 1 to 6, not 0"),
    "front door: share": (lambda: pl.influential(bank(), k=1.5), r"between 0 and 1, not 1\.5"),
    "front door: k of the recommended": (
        lambda: pl.backward_selection(bank(), k=99),
        "from 1 to 6, not 99",
    ),
    "front door: subsets of another head": (
        lambda: pl.decompose(bank(), SUBSETS[:1]),
        "1 subsets for",
    ),
    "front door: refit": (
        lambda: pl.refit(bank(), SUBSETS, l2=-1),
        "l2 must be a number that is not negative",
    ),
    "front door: random control": (
        lambda: pl.random_baseline(bank(), bank(), k=7),
        "from 1 to 6, not 7",
    ),
    "front door: banks of other classes": (
        lambda: pl.random_baseline(
            bank(class_names=["a", "b", "c"]), bank(class_names=list("cab"))
        ),
        "banks are of different classes: 'a' and 'c'",
    ),
    "front door: banks of other networks": (
        lambda: pl.random_baseline(bank(), bank(features=X[:, :4], stored_head=(W[:, :4], B))),
        "different networks: 6 filters, 3 classes and 4 filters, 3 classes",
    ),
    "front door: k is a list": (
        lambda: pl.influential(bank(), [1, 2]),
        r"whole number from 1 to 6, not \[1, 2\]",
    ),
    "front door: a head of more classes": (
        lambda: pl.accuracy(nn.Linear(D, 10), bank()),
        r"gives logits \[12, 10\], the bank's classes need \[12, 3\]",
    ),
    "front door: a head of other features": (
        lambda: pl.accuracy(nn.Linear(4, C), bank()),
        "the head reads 4 features, the bank has 6",
    ),
    "front door: a decomposed head of other features": (
        lambda: pl.accuracy(DecomposedHead(W[:, :4], B, SUBSETS), bank()),
        "the head reads 4 features, the bank has 6",
    ),
    "front door: a head of NaN": (
        lambda: pl.accuracy(LinearHead(with_value(W, NAN), B), bank()),
        "head's logits hold NaN",
    ),
    "front door: no head": (
        lambda: pl.accuracy(None, bank()),
        "a module or a LinearHead, not NoneType",
    ),
    "front door: refit without subsets": (
        lambda: pl.refit(bank(), None),
        "subsets must be a list.* not NoneType",
    ),
    "front door: card of an unknown name": (
        lambda: pl.class_cards(bank(class_names=["a", "b", "c"]), SUBSETS, ["cat"]),
        r"classes must lie in 0\.\.2, not \['cat'\]",
    ),
    "front door: cards": (lambda: pl.class_cards(bank(), SUBSETS, classes=[9]), r"not \[9\]"),
    "front door: unknown name": (lambda: pl.influental, "no attribute 'influental'"),
    # Training
    "recipe: schedule": (
        lambda: Recipe(schedule="warm"),
        "unknown schedule 'warm'; choose from cosine",
    ),
    "recipe: epochs": (lambda: Recipe(epochs=0), "epochs must be at least 1, not 0"),
    "recipe: batches of 1": (lambda: Recipe(batch_size=1), "batch_size must be at least 2, not 1"),
    "recipe: images": (lambda: Recipe(images=-1), "images must be at least 0"),
    "recipe: rate": (lambda: Recipe(learning_rate=0.0), "learning_rate must be above 0"),
    "recipe: NaN rate": (lambda: Recipe(learning_rate=NAN), "learning_rate must be above 0"),
    "recipe: infinite rate": (lambda: Recipe(learning_rate=INF), "learning_rate must be above 0"),
    "recipe: infinite decay": (lambda: Recipe(weight_decay=INF), "weight_decay must be finite"),
    "recipe: NaN decay": (lambda: Recipe(weight_decay=NAN), "weight_decay must be finite"),
    "recipe: seed": (lambda: Recipe(seed=-1), "seed must be at least 0, not -1"),
    "recipe: decay": (lambda: Recipe(weight_decay=-1.0), "weight_decay must be at least 0"),
    # Found by the attack on extraction
    "images: a loader of given batches": (
        lambda: extract(DataLoader(IMAGES, batch_sampler=[[0, 1], [0, 2]])),
        "a DataLoader with a list may draw images twice",
    ),
    "images: a loader of weighted batches": (
        lambda: extract(DataLoader(IMAGES, batch_sampler=BatchSampler(WEIGHTED, 2, False))),
        "a DataLoader with a WeightedRandomSampler may draw images twice",
    ),
    "images: without pixels": (lambda: extract((X[:, :0], Y)), r"must hold pixels; .* \[12, 0\]"),
    "images: labels are text": (
        lambda: extract((X, ["a"] * N)),
        "labels must be a tensor, an array or",
    ),
    "images: an array of text": (
        lambda: extract((X, np.array(["a"] * N))),
        "labels must be a tensor, an array or",
    ),
    "images: no labels at all": (
        lambda: extract((X, None)),
        "labels must be a tensor, an array or",
    ),
    "images: a label is text": (lambda: extract([(X[0], "a")]), "a label must be .*, not 'a'"),
    "images: a label is None": (lambda: extract([(X[0], None)]), "a label must be .*, not None"),
    "images: a loader of text": (
        lambda: extract(DataLoader(IMAGES, collate_fn=lambda items: (X[:1], ["a"]))),
        "labels must be a tensor, an array or lists of numbers",
    ),
    "images: masked": (
        lambda: extract((np.ma.masked_less(X.numpy(), 0.5), Y)),
        "images must not be masked",
    ),
    "images: masked labels": (
        lambda: extract((X, np.ma.masked_less(Y.numpy(), 1))),
        "labels must not be masked",
    ),
    "classes: a number": (lambda: extract(described(classes=4)), "a list of names, not 4"),
    "classes: a string": (lambda: extract(described(classes="abc")), "a list of names, not 'abc'"),
    "classes: a dict": (lambda: extract(described(classes={0: "a"})), "a list of names, not {0"),
    "classes: one-hot labels": (
        lambda: extract(described(classes=["a", "c"], target_transform=torch.eye(C).__getitem__)),
        "`target_transform` must give whole numbers, not tensor",
    ),
    "extract: batches of 2.5": (lambda: ExtractOptions(batch_size=2.5), r"at least 1, not 2\.5"),
    "extract: batches of text": (lambda: ExtractOptions(batch_size="8"), "at least 1, not '8'"),
    "extract: batches of None": (lambda: ExtractOptions(batch_size=None), "at least 1, not None"),
    "extract: shards of 4.5": (lambda: ExtractOptions(shard_size=4.5), r"shard_size .* not 4\.5"),
    "extract: 1.5 workers": (lambda: ExtractOptions(workers=1.5), r"workers must be .* not 1\.5"),
    "extract: timeout is text": (lambda: ExtractOptions(timeout="x"), "above 0 seconds, not 'x'"),
    "extract: blocks are None": (
        lambda: ExtractOptions(blocks=None),
        "a list of names .* not None",
    ),
    "extract: blocks are a string": (
        lambda: ExtractOptions(blocks="1"),
        "a list of names .* not '1'",
    ),
    "extract: device is None": (lambda: extract(PAIR, device=None), "device None cannot be used"),
    "extract: device meta": (lambda: extract(PAIR, device="meta"), "device 'meta' cannot be used"),
    "extract: a lazy head": (
        lambda: extract(PAIR, model=nn.Sequential(nn.Flatten(), nn.LazyLinear(C))),
        "lazy layers without weights: run it on one batch",
    ),
    "extract: float32 of what cannot be copied": (
        lambda: extract(PAIR, model=uncopied(), precision="float32"),
        "would change this network, which deepcopy cannot copy",
    ),
    "rank: a seed of 65 bits": (lambda: random_subsets(C, D, 2, seed=2**64), r"below 2\*\*64, not"),
    "front door: a seed of 65 bits": (
        lambda: pl.random_baseline(bank(), bank(), seed=2**64),
        r"seed must be below 2\*\*64",
    ),
    "recipe: a seed of 65 bits": (lambda: Recipe(seed=2**64), r"seed must be below 2\*\*64, not"),
}
CLEAR = (ValueError, TypeError, FileNotFoundError, AttributeError)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(case):
    call, words = CASES[case]
    with pytest.raises(CLEAR, match=words) as caught:
        call()
    where = caught.traceback[-1].path
    assert ROOT in where.parents, f"the message comes from {where}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_width_are_counted(dtype):
    found = class_statistics(X.to(dtype), Y, C, 3)
    assert torch.equal(found.histogram, class_statistics(X.to(dtype).double(), Y, C, 3).histogram)


def test_a_bank_takes_what_is_whole():
    """Float labels that are whole, arrays, a NumPy split, a float64 head, an int64 split."""
    given = bank(
        features=X.double().numpy(),
        labels=Y.double().numpy(),
        split_codes=np.array([0, 1] * 6),
        stored_head=(W.double(), B.numpy()),
    )
    assert given.labels.dtype == torch.int64 and given.split_codes.dtype == torch.uint8
    assert given.head.weight.dtype == torch.float32


def test_a_bank_takes_tables():
    given = bank(features=pd.DataFrame(X.numpy()), labels=pd.Series(Y.numpy()))
    assert torch.equal(given.features, X) and torch.equal(given.labels, Y)


def test_such_a_bank_comes_back_from_its_file(tmp_path):
    given = bank(split_codes=torch.tensor([0, 1] * 6), stored_head=(W.double(), B.double()))
    loaded = FeatureBank.load(given.save(tmp_path / "bank.safetensors"))
    assert torch.equal(loaded.split_codes, given.split_codes)
    assert torch.equal(loaded.head.weight, W)
