"""Rankings that solve or search against the same written out: tiny problems, step by step.

Fits are checked by a second solver, and every pick by the score of each filter that was left.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import digamma, expit, log_softmax, softmax

from paperlib.heads.selection import backward_selection, forward_selection
from reproduction import rankings

SEEDS = range(8)
L2 = 0.1  # so that the few steps between the rounds of backward selection all but converge
SLACK = 0.01  # of the best score: two solvers stop at slightly different weights


def problem(seed, num_filters=6, num_classes=3, num_images=45):
    """Features `[N, D]` that tell a little of their labels `[N]`; no two values are equal."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    lift = rng.random((num_classes, num_filters)) * (rng.random((num_classes, num_filters)) < 0.5)
    scale = rng.uniform(0.3, 3, num_filters)
    return scale * (rng.random((num_images, num_filters)) + lift[labels]), labels


def information(values, is_class, neighbours=3):
    """I(x; y) in nats by Ross 2014: how far the third neighbour of one's own side is."""
    n, total = len(values), 0.0
    for value, side in zip(values, is_class, strict=True):
        own = sorted(abs(v - value) for v, s in zip(values, is_class, strict=True) if s == side)
        near = sum(abs(v - value) < own[neighbours] for v in values)  # the value itself too
        total += digamma(n) + digamma(neighbours) - digamma(len(own)) - digamma(near)
    return max(0.0, total / n)


@pytest.mark.parametrize("seed", SEEDS)
def test_feature_information_is_its_formula(seed):
    x, y = problem(seed)
    found = rankings.feature_information(torch.tensor(x), torch.tensor(y), 3, x.shape[1])
    for c, filters in enumerate(found):
        score = [information(column, y == c) for column in x.T]
        assert filters.tolist() == sorted(range(len(score)), key=lambda j: (-score[j], j))


def l1_weights(z, sign, strength):
    """argmin over (w, b) of |w|_1 + |b| + strength * sum_n log(1 + exp(-s_n (w z_n + b)))."""
    padded = np.column_stack([z, np.ones(len(z))])
    size = padded.shape[1]

    def loss(parts):  # what is positive and what is negative of each weight
        margin = sign * (padded @ (parts[:size] - parts[size:]))
        slope = -strength * padded.T @ (sign * expit(-margin))
        value = parts.sum() + strength * np.logaddexp(0, -margin).sum()
        return value, 1 + np.concatenate([slope, -slope])

    settings = {"jac": True, "bounds": [(0, None)] * 2 * size, "tol": 1e-14}
    parts = minimize(loss, np.zeros(2 * size), method="L-BFGS-B", **settings).x
    return np.abs(parts[:size] - parts[size:])[:-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_l1_logistic_takes_the_filters_in_the_order_of_entry(seed):
    x, y = problem(seed, num_filters=5)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    found = rankings.l1_logistic(torch.tensor(x), torch.tensor(y), 3, 4)
    for c, filters in enumerate(found):
        sign = np.where(y == c, 1.0, -1.0)
        slopes = np.append(z.T @ sign, sign.sum()) / 2  # of the loss where all weights are zero
        steps = np.geomspace(1, rankings.PATH_RANGE, rankings.PATH_STEPS) / np.abs(slopes).max()
        entered = np.full(x.shape[1], len(steps))
        for step, strength in enumerate(steps):
            entered[(l1_weights(z, sign, strength) > 1e-6) & (entered == len(steps))] = step
            if (entered < len(steps)).all():
                break
        order = entered[filters.tolist()]
        left = np.delete(entered, filters.tolist())
        assert all(a <= b for a, b in pairwise([*order, left.min()]))


def refitted(x, y, member):
    """The decomposed softmax fitted to the kept weights `[C, D] bool`: weights, probabilities."""

    def unpacked(flat):
        weight = np.zeros(member.shape)
        weight[member] = flat[: member.sum()]
        return weight, flat[member.sum() :]

    def loss(flat):
        weight, bias = unpacked(flat)
        rows = log_softmax(x @ weight.T + bias, axis=1)
        error = (np.exp(rows) - np.eye(len(weight))[y]) / len(x)
        slope = np.concatenate([(error.T @ x + L2 * weight)[member], error.sum(axis=0)])
        return L2 / 2 * (weight**2).sum() - rows[np.arange(len(y)), y].mean(), slope

    flat = minimize(loss, np.zeros(member.sum() + len(member)), jac=True, tol=1e-10).x
    weight, bias = unpacked(flat)
    return weight, softmax(x @ weight.T + bias, axis=1)


def slope_and_curvature(x, y, p, c, j):
    """Of the mean loss by the weight of class c on filter j, the bias moving along."""
    spread = p[:, c] * (1 - p[:, c])
    centred = x[:, j] - (spread @ x[:, j]) / spread.sum()
    return ((p[:, c] - (y == c)) * x[:, j]).mean(), (spread * centred**2).mean()


@pytest.mark.parametrize("seed", SEEDS)
def test_forward_selection_is_greedy(seed):
    x, y = problem(seed)
    found = forward_selection(torch.tensor(x), torch.tensor(y), 3, 4, l2=L2)
    picks = torch.stack(found).numpy()
    for taken in range(picks.shape[1]):
        member = np.zeros((3, x.shape[1]), dtype=bool)
        np.put_along_axis(member, picks[:, :taken], True, axis=1)
        _, p = refitted(x, y, member)
        for c, pick in enumerate(picks[:, taken]):
            assert not member[c, pick]
            gain = {}
            for j in np.flatnonzero(~member[c]):
                slope, curvature = slope_and_curvature(x, y, p, c, j)
                gain[j] = slope**2 / (2 * (curvature + L2))
            assert gain[pick] >= (1 - SLACK) * max(gain.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_backward_selection_drops_the_half_that_is_missed_least(seed):
    x, y = problem(seed)
    weight, p = refitted(x, y, np.ones((3, x.shape[1]), dtype=bool))
    bias = np.log(p[0]) - weight @ x[0]  # up to a constant, which a softmax does not see
    given = [torch.tensor(each) for each in (weight, bias, x, y)]
    found = torch.stack(backward_selection(*given, x.shape[1], l2=L2)).numpy()
    left = x.shape[1]
    while left > 1:
        member = np.zeros(weight.shape, dtype=bool)
        np.put_along_axis(member, found[:, :left], True, axis=1)
        weight, p = refitted(x, y, member)
        for c, order in enumerate(found[:, :left]):
            missed = [
                weight[c, j] ** 2 * (slope_and_curvature(x, y, p, c, j)[1] + L2) / 2 for j in order
            ]
            dropped = missed[left // 2 :]
            slack = SLACK * max(missed)
            assert min(missed[: left // 2]) >= dropped[0] - slack
            assert all(a >= b - slack for a, b in pairwise(dropped))
        left //= 2
