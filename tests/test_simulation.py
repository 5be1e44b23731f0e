"""Counting filters that are on: thresholds against every candidate, votes by hand."""

import pytest
import torch

from paperlib.metrics.simulatability import named_by_counting, on_thresholds

# Class 0 keeps filters 0 and 1, class 1 keeps 2, class 2 keeps 1
MEMBER = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 1, 0]]).bool()


def test_thresholds_by_hand():
    features = torch.tensor([[3.0, 5, 1], [2, 4, 0], [0, 1, 7], [1, 3, 1]])
    decisions = torch.tensor([0, 0, 1, 2])
    # Filter 0: own 3, 2 above 1; filter 1: own 5, 4, 3 above 1; filter 2: own 7 above 1
    assert on_thresholds(features, decisions, MEMBER).tolist() == [1, 1, 1]


def test_thresholds_are_the_best_of_all():
    generator = torch.Generator().manual_seed(0)
    features = (4 * torch.rand(60, 3, generator=generator)).round(decimals=1)  # ties
    decisions = torch.randint(3, (60,), generator=generator)
    found = on_thresholds(features, decisions, MEMBER)
    own = MEMBER[decisions]
    for j in range(3):
        x, mine = features[:, j].double(), own[:, j]

        def tells(t, x=x, mine=mine):
            on = x > t
            return (on[mine].double().mean() - on[~mine].double().mean()).item()

        best = max(tells(t) for t in [-1.0, *x.tolist()])
        assert tells(found[j]) == pytest.approx(best)


def test_a_filter_of_every_class_is_always_on_and_one_of_no_image_never():
    features = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    member = torch.tensor([[True, False], [True, False], [True, True]])
    always, never = on_thresholds(features, torch.tensor([0, 1]), member).tolist()
    assert always == -torch.inf and never == 3


def test_votes_by_hand():
    thresholds = torch.tensor([1.0, 1.0, 1.0])
    features = torch.tensor([[2.0, 2, 0], [2, 0, 2], [0, 2, 0], [0, 0, 0]])
    # Shares on: (1, 0, 1), (1/2, 1, 0), (1/2, 0, 1), (0, 0, 0)
    named = [named_by_counting(features, thresholds, MEMBER, torch.full((4,), c)) for c in range(3)]
    assert torch.stack(named).T.tolist() == [
        [0.5, 0, 0.5],
        [0, 1, 0],
        [0, 0, 1],
        [pytest.approx(1 / 3)] * 3,
    ]


def test_families_of_subsets_are_those_one_by_one():
    generator = torch.Generator().manual_seed(0)
    features = (4 * torch.rand(50, 6, generator=generator)).round()
    decisions = torch.randint(3, (50,), generator=generator)
    families = torch.rand(2, 4, 3, 6, generator=generator) < 0.5
    thresholds = on_thresholds(features, decisions, families)
    named = named_by_counting(features, thresholds, families, decisions)
    assert thresholds.shape == (2, 4, 6) and named.shape == (2, 4, 50)
    for i, j in ((0, 0), (0, 3), (1, 2)):
        alone = on_thresholds(features, decisions, families[i, j])
        assert torch.equal(thresholds[i, j], alone)
        assert torch.equal(
            named[i, j], named_by_counting(features, alone, families[i, j], decisions)
        )


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2, found 0\.\.3"):
        on_thresholds(torch.rand(2, 3), torch.tensor([0, 3]), MEMBER)
