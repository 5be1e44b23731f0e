"""Rankings that search, on classes whose filters are known, and their derivatives."""

import pytest
import torch
import torch.nn.functional as F

from paperlib.filters.scores import random_subsets
from paperlib.filters.tensors import largest_filters
from paperlib.heads.decomposed import DecomposedHead
from paperlib.heads.refit import softmax_refit
from paperlib.heads.selection import _derivatives, backward_selection, forward_selection
from reproduction.comparison import FREQUENCY, QUICK_RANKINGS, SLOW_RANKINGS, Sample, subsets_by_k

ALL = QUICK_RANKINGS | SLOW_RANKINGS


@pytest.fixture(scope="module")
def known():
    """Class c lifts filters 2c and 2c + 1, and its weights are there; the last filter is dead."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    features = torch.rand(400, 10, generator=generator)
    weight = torch.randn(4, 10, generator=generator) / 20
    for j, lift in ((0, 2.0), (1, 1.5)):
        features[torch.arange(400), 2 * labels + j] += lift
        weight[torch.arange(4), 2 * torch.arange(4) + j] = lift
    features[:, -1] = 0.0
    return Sample(features, labels, weight, torch.zeros(4))


@pytest.mark.parametrize("name", ALL)
def test_every_ranking_finds_the_filters_of_a_class(name, known):
    chosen = ALL[name](known, 2)
    assert [sorted(s.tolist()) for s in chosen] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("name", ALL)
def test_every_ranking_lists_each_filter_once(name, known):
    for subset in ALL[name](known, 10):
        assert sorted(subset.tolist()) == list(range(10))


@pytest.mark.parametrize("name", [n for n in ALL if n != FREQUENCY])
def test_smaller_subsets_are_the_start_of_larger_ones(name, known):
    at_once = subsets_by_k(name, known, (1, 3))
    for k, subsets in at_once.items():
        assert [s.tolist() for s in subsets] == [s.tolist() for s in ALL[name](known, k)]


def test_derivatives_are_those_of_the_loss(known):
    """Against autograd; the curvature after the bias has moved along, so by Schur complement."""
    head = DecomposedHead(known.weight.double(), known.bias.double(), [torch.arange(10)] * 4)
    x, y = known.features.double(), known.labels
    gradient, curvature = _derivatives(head, x, y)

    def loss(row):  # the weights and the bias of class 2
        weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
        weight[2], bias[2] = row[:-1], row[-1]
        return F.cross_entropy(x @ weight.T + bias, y)

    at = torch.cat([head.weight[2], head.bias[2:3]]).detach()
    hessian = torch.autograd.functional.hessian(loss, at)
    expected = hessian.diagonal()[:-1] - hessian[:-1, -1] ** 2 / hessian[-1, -1]
    assert torch.allclose(curvature[2], expected, atol=1e-10)
    assert torch.allclose(gradient[2], torch.autograd.functional.jacobian(loss, at)[:-1])


def train_loss(head, bank):
    return F.cross_entropy(head(bank.features), bank.labels).item()


def test_searches_beat_random_subsets_on_a_real_bank(resnet20):
    """The loss that they minimise must come out lower than that of any of 20 random draws."""
    rows = torch.arange(0, 6000, 6)
    x, y = resnet20.features[rows], resnet20.labels[rows]
    fit = lambda subsets: softmax_refit(*resnet20.head, subsets, x, y)  # noqa: E731
    loss = lambda subsets: F.cross_entropy(fit(subsets)(x), y).item()  # noqa: E731
    best = min(loss(subsets) for subsets in random_subsets(10, 64, 3))
    assert loss(forward_selection(x, y, 10, 3)) < best
    assert loss(backward_selection(*resnet20.head, x, y, 3)) < best


def test_forward_selection_takes_the_best_single_filter():
    """With one round and two classes, the gain picks the filter that lowers the loss most."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(200) % 2
    x = torch.rand(200, 5, generator=generator) + y[:, None] * torch.tensor([0.1, 0.0, 0.6, 0.3, 0])
    losses = torch.tensor(
        [
            F.cross_entropy(
                softmax_refit(torch.zeros(2, 5), torch.zeros(2), [torch.tensor([j])] * 2, x, y)(x),
                y,
            ).detach()
            for j in range(5)
        ]
    )
    best = largest_filters(-losses[None], 1).item()
    assert [s.tolist() for s in forward_selection(x, y, 2, 1)] == [[best]] * 2


def test_bad_input_is_named(known):
    with pytest.raises(ValueError, match="k must be a whole number from 1 to 10, not 11"):
        forward_selection(known.features, known.labels, 4, 11)
    with pytest.raises(ValueError, match="unknown ranking 'best'; choose from frequency"):
        subsets_by_k("best", known, (1,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_searches_and_refit_on_the_gpu_equal_those_on_the_cpu(known):
    moved = Sample(*(tensor.cuda() for tensor in known))
    for name in ("forward selection", "backward selection", "matching pursuit"):
        found, expected = ALL[name](moved, 5), ALL[name](known, 5)
        assert [s.tolist() for s in found] == [s.tolist() for s in expected], name
    heads = [
        softmax_refit(s.weight, s.bias, expected, s.features, s.labels) for s in (moved, known)
    ]
    assert torch.allclose(heads[0].weight.cpu(), heads[1].weight, atol=1e-4)
