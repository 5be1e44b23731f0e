"""The length of an explanation, by hand and against every subset or order tried in turn."""

from itertools import combinations

import pytest
import torch

from paperlib.filters.scores import random_subsets
from paperlib.heads.decomposed import DecomposedHead
from paperlib.metrics import explanation
from paperlib.metrics.explanation import contributions_until_settled, sufficient_contributions

# Contributions of one image: class 0 adds 4 + 3 - 1, class 1 adds 5 - 1 + 1
FEATURES = torch.tensor([[1.0, 1.0, 1.0]])
WEIGHT = torch.tensor([[4.0, 3.0, -1.0], [5.0, -1.0, 1.0]])


@pytest.fixture
def heads():
    """Random features with a dense head and one cut to two filters per class."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(40, 5, generator=generator).round(decimals=1)  # ties, zeros
    weight = torch.randn(3, 5, generator=generator)
    bias = torch.randn(3, generator=generator) / 4
    (subsets,) = random_subsets(3, 5, 2, draws=1)
    return features, bias, (weight, DecomposedHead(weight, bias, subsets).weight.detach())


def test_lengths_by_hand():
    bias = torch.zeros(2)
    # 6 against 5: 4 + 3 beats the rival's 5, 4 alone does not
    assert sufficient_contributions(FEATURES, WEIGHT, bias).tolist() == [2]
    # By size 5, 4, 3, then ones (class 0's -1 first): 1, 1, 0, 0, 0, 0
    assert contributions_until_settled(FEATURES, WEIGHT, bias).tolist() == [3]


def test_nothing_is_needed_where_the_biases_decide():
    bias = torch.tensor([9.0, 0.0])
    assert sufficient_contributions(FEATURES, WEIGHT, bias).tolist() == [0]
    assert contributions_until_settled(FEATURES, WEIGHT, bias).tolist() == [0]


def test_all_contributions_reach_a_rival_that_ties():
    weight = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    assert sufficient_contributions(FEATURES, weight, torch.zeros(2)).tolist() == [3]


def test_sufficient_is_the_smallest_of_all_subsets(heads):
    features, bias, weights = heads
    for weight in weights:
        found = sufficient_contributions(features, weight, bias)
        for x, length in zip(features, found.tolist(), strict=True):
            logits = weight.double() @ x.double() + bias.double()
            c = logits.argmax().item()
            rival = max(logits[r].item() for r in range(3) if r != c)
            own = (weight[c].double() * x.double()).tolist()
            enough = [
                n
                for n in range(6)
                for chosen in combinations(own, n)
                if bias[c].item() + sum(chosen) >= rival - 1e-9
            ]
            assert length == min(enough)


def test_settled_is_where_a_reader_could_have_stopped(heads, monkeypatch):
    features, bias, weights = heads
    monkeypatch.setattr(explanation, "AT_ONCE", 500)  # several passes
    for weight in weights:
        found = contributions_until_settled(features, weight, bias)
        for x, length in zip(features.double(), found.tolist(), strict=True):
            terms = [
                (abs(w * x[j].item()), c, w * x[j].item())
                for c, row in enumerate(weight.double().tolist())
                for j, w in enumerate(row)
                if w
            ]
            running, decided = bias.double().clone(), [bias.argmax().item()]
            for _, c, term in sorted(terms, key=lambda one: -one[0]):
                running[c] += term
                decided.append(running.argmax().item())
            assert all(one == decided[-1] for one in decided[length:])
            assert length == 0 or decided[length - 1] != decided[-1]


def test_a_decomposed_head_reads_no_more_than_it_keeps(heads):
    features, bias, (_, cut) = heads
    assert contributions_until_settled(features, cut, bias).max() <= 6
    assert sufficient_contributions(features, cut, bias).max() <= 2
