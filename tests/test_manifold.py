"""Dimensions against shapes whose dimension is known, and the C - 1 bound as an identity."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.metrics.manifold import (
    alignment,
    between_class_share,
    components_for_variance,
    decision_directions,
    decisions_by_dimension,
    neighbour_distances,
    participation_ratio,
    principal_components,
    random_directions,
    two_nn,
)
from paperlib.stats import smallest_within


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def in_space(points, width, seed=1):
    """Points of few dimensions, turned at random into a wider space."""
    basis = random_directions(width, draws=1, seed=seed)[0][:, : points.shape[1]]
    return (points @ basis.T).float()


def test_components_of_known_variances():
    scale = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    x = torch.cat([torch.diag(scale), -torch.diag(scale)]) + torch.tensor([5.0, 6.0, 7.0])
    variances, directions, centre = principal_components(x)
    assert variances.tolist() == pytest.approx([18 / 6, 8 / 6, 2 / 6])
    assert centre.tolist() == pytest.approx([5, 6, 7])
    assert directions.abs().numpy() == pytest.approx(np.eye(3), abs=1e-12)
    uncentred = principal_components(x, centred=False)
    assert uncentred.variances.sum().item() == pytest.approx(28 / 6 + 25 + 36 + 49)
    assert uncentred.centre.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("variances", "ratio", "needed"),
    [([4, 4, 4, 4], 4.0, 2), ([1, 0, 0, 0], 1.0, 1), ([3, 1, 0, 0], 1.6, 1), ([0, 0, 0], 0.0, 0)],
)
def test_effective_dimension_by_hand(variances, ratio, needed):
    spectrum = torch.tensor(variances, dtype=torch.float64)
    assert participation_ratio(spectrum) == pytest.approx(ratio)
    assert components_for_variance(spectrum, 0.5) == needed


def test_a_share_reached_exactly_is_reached():
    equal = torch.full((10,), 0.1, dtype=torch.float64)
    assert [components_for_variance(equal, r / 10) for r in range(1, 11)] == list(range(1, 11))


def test_variance_is_not_lost_by_turning():
    x = gaussian(500, 5) * torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    turned = principal_components(in_space(x, 20)).variances
    assert turned[:5].numpy() == pytest.approx(principal_components(x).variances.numpy(), rel=1e-5)
    assert turned[5:].max() < 1e-9


def test_fewer_images_than_filters_fill_one_direction_less_than_images():
    x = gaussian(40, 100).half().float()
    assert components_for_variance(principal_components(x).variances, 1) == 39


@pytest.mark.parametrize("d", [1, 2, 5])
def test_two_nn_finds_the_dimension_of_a_cube(d):
    cube = torch.rand(3000, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64)
    found = two_nn(in_space(cube, 12))
    assert found.dimension == pytest.approx(d, rel=0.08)
    assert found.duplicates == 0


def test_two_nn_sees_a_curved_sheet_that_components_do_not():
    t, height = gaussian(3000, 2).unbind(dim=1)
    sheet = torch.stack([t.cos(), t.sin(), (2 * t).cos(), (2 * t).sin(), 0.3 * height], dim=1)
    assert two_nn(sheet.float()).dimension == pytest.approx(2, rel=0.1)
    assert components_for_variance(principal_components(sheet).variances, 0.99) > 3


def test_two_nn_is_the_published_fit():
    x = gaussian(400, 4).float()
    r1, r2 = neighbour_distances(x).T.numpy()
    mu = np.sort(r2 / r1)[:360]
    a, b = np.log(mu), -np.log(1 - np.arange(1, 361) / 400)
    assert two_nn(x).dimension == pytest.approx((a @ b) / (a @ a))


def test_copies_are_dropped_and_counted():
    x = gaussian(300, 3).float()
    found = two_nn(torch.cat([x, x[:40], x[:5]]))
    assert found.duplicates == 45
    assert found.dimension == pytest.approx(two_nn(x).dimension)


def test_neighbours_equal_brute_force_across_blocks_and_near_copies(monkeypatch):
    monkeypatch.setattr("paperlib.metrics.manifold.ROWS_AT_ONCE", 7)
    x = gaussian(30, 4) + 100
    x[3] = x[20] + 1e-9
    brute = torch.stack([(x - row).norm(dim=1).sort().values[1:3] for row in x])
    assert neighbour_distances(x).numpy() == pytest.approx(brute.numpy(), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(1, 20), st.integers(0, 10_000))
def test_the_bound_is_an_identity_for_any_head(classes, width, seed):
    """Projecting on the row space of W - mean W changes no difference of logits."""
    weight, bias, x = gaussian(classes, width, seed), gaussian(1, classes)[0], gaussian(50, width)
    inside = decision_directions(weight)
    assert inside.shape == (width, min(classes - 1, width))
    assert (inside.T @ inside).numpy() == pytest.approx(np.eye(inside.shape[1]), abs=1e-9)
    logits, projected = x @ weight.T + bias, x @ inside @ inside.T @ weight.T + bias
    softmax, again = logits.softmax(dim=1), projected.softmax(dim=1)
    assert again.numpy() == pytest.approx(softmax.numpy(), abs=1e-9)
    picked = decisions_by_dimension(x, weight, bias, inside, x.mean(dim=0))
    assert torch.equal(picked[-1], logits.argmax(dim=1))


def test_a_head_of_lower_rank_decides_in_fewer_dimensions():
    weight = torch.tensor([[1.0, 0.0, 5.0], [-1.0, 0.0, 5.0], [0.0, 0.0, 5.0]])
    inside = decision_directions(weight)
    assert inside.abs().flatten().tolist() == pytest.approx([1, 0, 0])
    assert decision_directions(torch.ones(4, 3)).shape == (3, 0)


def test_decisions_by_dimension_equal_explicit_projection():
    x, weight, bias, centre = gaussian(40, 6), gaussian(4, 6), gaussian(1, 4)[0], gaussian(1, 6)[0]
    directions = random_directions(6, draws=1, seed=3)[0]
    found = decisions_by_dimension(x, weight, bias, directions, centre)
    assert found.shape == (7, 40) and len(found[0].unique()) == 1
    for r in range(7):
        kept = directions[:, :r]
        projected = centre + (x - centre) @ kept @ kept.T
        assert torch.equal(found[r], (projected @ weight.T + bias).argmax(dim=1))


def test_resnet20_decides_on_nine_components(resnet20):
    train, test = resnet20.split("train"), resnet20.split("test")
    _, directions, centre = principal_components(train.features)
    picked = decisions_by_dimension(test.features, *test.head, directions, centre)
    correct = (picked == test.labels).sum(dim=1)
    assert (correct[9].item(), correct[10].item(), correct[64].item()) == (777, 776, 776)
    assert smallest_within(100 * correct.double() / len(test)) == 9


def test_random_directions_are_orthonormal_seeded_and_differ():
    bases = random_directions(8, draws=3, seed=5)
    assert (bases.mT @ bases).numpy() == pytest.approx(np.stack([np.eye(8)] * 3), abs=1e-12)
    assert torch.equal(bases, random_directions(8, draws=3, seed=5))
    assert not torch.equal(bases[0], bases[1])


def test_alignment_of_same_orthogonal_tilted_and_random_subspaces():
    axes = torch.eye(4, dtype=torch.float64)
    assert alignment(axes[:, :2], axes[:, [1, 0]]) == pytest.approx(1)
    assert alignment(axes[:, :2], axes[:, 2:]) == pytest.approx(0)
    tilted = torch.stack([axes[0], (axes[1] + axes[2]) / 2**0.5], dim=1)
    assert alignment(axes[:, :2], tilted) == pytest.approx(0.75)
    pairs = random_directions(32, draws=200)[:, :, :4]
    by_chance = np.mean([alignment(a, b) for a, b in pairs.view(100, 2, 32, 4)])
    assert by_chance == pytest.approx(4 / 32, abs=0.02)


def test_between_class_share_by_hand():
    x = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
    assert between_class_share(x, torch.tensor([0, 0, 1, 1]), 2) == pytest.approx(100 / 104)
    assert between_class_share(x, torch.tensor([0, 1, 1, 0]), 3) == pytest.approx(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: principal_components(torch.zeros(3)), r"finite and \[N, D\], got \[3\]"),
        (lambda: principal_components(torch.full((3, 2), torch.nan)), "must be finite"),
        (lambda: principal_components(torch.zeros(1, 2)), "at least 2 images are needed, got 1"),
        (lambda: components_for_variance(torch.ones(3), 0.0), r"in \(0, 1\], not 0.0"),
        (lambda: two_nn(torch.zeros(50, 3)), "at least 20 images are needed, got 1"),
        (lambda: alignment(torch.eye(3), torch.eye(3)[:, :2]), r"two \[D, r\]"),
        (
            lambda: decisions_by_dimension(
                torch.ones(5, 3), torch.ones(2, 3), torch.ones(2), torch.eye(4), torch.ones(3)
            ),
            r"directions must be \[D, R\] and centre \[D\], got \[4, 4\] and \[3\]",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_decisions_at_some_ranks_are_those_of_the_whole_sweep(resnet20):
    _, directions, centre = principal_components(resnet20.features)
    data = (resnet20.features[:500], *resnet20.head, directions, centre)
    some = decisions_by_dimension(*data, ranks=[0, 3, 9, 64])
    assert torch.equal(some, decisions_by_dimension(*data)[[0, 3, 9, 64]])
