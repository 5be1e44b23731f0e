"""Costs by hand and by the published counts, and implementations that must agree."""

import pytest
import torch
import torchvision
from torch import nn

from paperlib.filters.scores import random_subsets
from paperlib.heads.decomposed import DecomposedHead
from paperlib.networks.cifar import CifarResNet
from reproduction.cost import (
    head_cost,
    head_implementations,
    interleaved_times,
    multiply_accumulates,
)


def test_head_cost_by_hand():
    dense = nn.Linear(64, 10)
    assert head_cost(dense) == (640, 10, 0, 640)
    assert head_cost(dense).parameters == 650
    assert head_cost(nn.Linear(64, 10, bias=False)).parameters == 640
    (five,) = random_subsets(10, 64, 5, draws=1)
    cut = head_cost(DecomposedHead(dense.weight, dense.bias, five))
    assert cut == (50, 10, 50, 50)
    assert cut.parameters == 60
    uneven = [torch.tensor([0]), torch.tensor([3, 1, 2])]
    assert head_cost(DecomposedHead(torch.rand(2, 4), torch.rand(2), uneven)).macs == 4
    with pytest.raises(TypeError, match="not Conv2d"):
        head_cost(nn.Conv2d(1, 1, 1))


def test_multiply_accumulates_by_hand_and_as_published():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 25, 7))
    assert multiply_accumulates(layers, (3, 5, 5)) == 4 * 25 * 27 + 700
    with torch.device("meta"):
        cifar, imagenet = CifarResNet(20).eval(), torchvision.models.resnet50().eval()
    # He et al. 2016 count 0.27 M parameters for ResNet-20, torchvision 4.09 G MACs for ResNet-50
    assert round(sum(p.numel() for p in cifar.parameters()) / 1e6, 2) == 0.27
    assert multiply_accumulates(cifar, (3, 32, 32)) == 40_551_040
    assert round(multiply_accumulates(imagenet, (3, 224, 224)) / 1e9, 2) == 4.09


@pytest.mark.parametrize("batch", [1, 7])
def test_all_implementations_give_the_decomposed_logits(batch):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(6, 20, generator=generator), torch.randn(6, generator=generator)
    (subsets,) = random_subsets(6, 20, 4, draws=1)
    x = torch.rand(batch, 20, generator=generator)
    expected = DecomposedHead(weight, bias, subsets)(x).detach()
    heads = head_implementations(weight, bias, subsets)
    assert torch.allclose(heads.pop("dense")(x), x @ weight.T + bias, atol=1e-5)
    assert len(heads) == 5
    for name, head in heads.items():
        assert head(x).shape == (batch, 6), name
        assert torch.allclose(head(x), expected, atol=1e-5), name


def test_implementations_refuse_subsets_of_different_sizes():
    with pytest.raises(ValueError, match="one size"):
        head_implementations(torch.rand(2, 4), torch.rand(2), [torch.arange(1), torch.arange(2)])


def test_calls_take_turns_and_threads_come_back():
    order, threads = [], torch.get_num_threads()

    def call(name):
        order.append((name, torch.get_num_threads()))

    calls = {"a": lambda: call("a"), "b": lambda: call("b")}
    times = interleaved_times(calls, rounds=3, seconds=1e-6)
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}
    assert all(second > 0 for each in times.values() for second in each)
    assert {used for _, used in order} == {1} and torch.get_num_threads() == threads
    turns = [name for i, (name, _) in enumerate(order) if i == 0 or name != order[i - 1][0]]
    assert turns == ["a", "b"] * 4  # a warm-up, then three rounds
