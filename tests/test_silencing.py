"""One filter silenced at a time: decisions, repairs and new errors, by hand and one by one."""

import pytest
import torch

from paperlib.filters.scores import random_subsets
from paperlib.filters.tensors import membership
from paperlib.heads.decomposed import DecomposedHead
from paperlib.metrics.ablation import decisions_when_silenced, new_errors, repairs

# Each class reads its own filter, and filter 2 adds to both; class 0 also keeps filter 2
WEIGHT = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
BIAS = torch.zeros(2)
MEMBER = torch.tensor([[True, False, True], [False, True, False]])
FEATURES = torch.tensor([[3.0, 1, 0], [3, 1, 0], [0, 1, 2], [0, 1, 2], [0, 3, 0]])
LABELS = torch.tensor([0, 0, 1, 1, 1])


def test_decisions_by_hand():
    silenced = decisions_when_silenced(FEATURES, WEIGHT, BIAS)
    assert silenced.tolist() == [[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]


def test_repairs_by_hand():
    decisions = (FEATURES @ WEIGHT.T).argmax(dim=1)  # 0 0 0 0 1: images 2 and 3 are wrong
    silenced = decisions_when_silenced(FEATURES, WEIGHT, BIAS)
    found = repairs(silenced, decisions, LABELS, MEMBER)
    assert found.wrong.tolist() == [0, 0, 1, 1, 0]
    # Without filter 2 both are right, and nothing that was decided 0 breaks
    assert (
        found.repaired.tolist() == found.readable.tolist() == found.net.tolist() == [0, 0, 1, 1, 0]
    )
    only = repairs(
        silenced, decisions, LABELS, torch.tensor([[True, False, False], MEMBER[1].tolist()])
    )
    assert not only.repaired.any()


def test_a_filter_that_breaks_more_than_it_repairs_is_no_reading():
    """Image 2 is repaired by filter 0, without which the two right decisions fall as well."""
    features = torch.tensor([[3.0, 1, 0], [3, 1, 0], [3, 1, 0]])
    labels = torch.tensor([0, 0, 1])
    silenced = decisions_when_silenced(features, WEIGHT, BIAS)
    found = repairs(silenced, torch.zeros(3).long(), labels, MEMBER)
    assert found.repaired.tolist() == [0, 0, 1] and not (found.readable | found.net).any()


def test_new_errors_by_hand():
    decisions = (FEATURES @ WEIGHT.T).argmax(dim=1)
    found = new_errors(decisions_when_silenced(FEATURES, WEIGHT, BIAS), decisions, LABELS, MEMBER)
    # Filter 0 breaks images 0 and 1 of its class, filter 1 breaks image 4 of its own
    assert found.all.tolist() == found.own.tolist() == [1, 1, 0, 0, 1]
    # Of the three right decisions two are class 0's
    assert found.chance.tolist() == pytest.approx([2 / 3, 2 / 3, 0, 0, 1 / 3])


def test_one_by_one():
    """Against loops over images and filters that read as the definitions do."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(80, 6, generator=generator).double()
    weight, bias = torch.randn(3, 6, generator=generator).double(), torch.zeros(3).double()
    labels = (x @ weight.T).argmax(dim=1)  # the dense head's decisions
    (subsets,) = random_subsets(3, 6, 2, draws=1, seed=6)
    head = DecomposedHead(weight, bias, subsets).weight.detach()
    member, kept = membership(subsets, 6), torch.cat(subsets).unique().tolist()
    decisions = (x @ head.T).argmax(dim=1)
    silenced = decisions_when_silenced(x, head, bias)

    def without(j, n):
        y = x[n].clone()
        y[j] = 0
        return (head @ y).argmax().item()

    assert silenced.tolist() == [[without(j, n) for n in range(80)] for j in range(6)]
    right = [n for n in range(80) if decisions[n] == labels[n]]
    found = repairs(silenced, decisions, labels, member)
    for n in range(80):
        p, y = decisions[n].item(), labels[n].item()
        alike = [m for m in range(80) if decisions[m] == p and m != n]
        errors = [m for m in alike if labels[m] != p]
        fixes = [j for j in subsets[p].tolist() if p != y and without(j, n) == y]
        assert found.repaired[n] == bool(fixes)
        good = net = False
        for j in fixes:
            fixed = sum(without(j, m) == labels[m] for m in errors)
            held = [m for m in alike if labels[m] == p]
            broken = sum(without(j, m) != p for m in held)
            good |= bool(fixed / max(len(errors), 1) >= broken / max(len(held), 1))
            net |= bool(1 + fixed >= broken)
        assert (found.readable[n], found.net[n]) == (good, net)
    assert 0 < found.readable.sum() < found.repaired.sum() < found.wrong.sum()

    harm = new_errors(silenced, decisions, labels, member)
    for n in range(80):
        broken = [j for j in kept if n in right and without(j, n) != labels[n]]
        own = [j for j in broken if j in subsets[labels[n]].tolist()]
        chance = [sum(bool(member[labels[m], j]) for m in right) / len(right) for j in broken]
        assert (harm.all[n], harm.own[n]) == (len(broken), len(own))
        assert harm.chance[n].item() == pytest.approx(sum(chance))
