"""Rankings by a score, by hand and on classes whose filters are known."""

import pytest
import torch
from scipy import stats

from paperlib.filters import scores
from reproduction import rankings

WEIGHT = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0]])


def test_random_subsets_are_seeded_and_uniform():
    draws = scores.random_subsets(3, 8, 2, draws=2000, seed=1)
    again = scores.random_subsets(3, 8, 2, draws=2000, seed=1)
    assert torch.equal(torch.stack(draws[5]), torch.stack(again[5]))
    chosen = torch.stack([torch.stack(draw) for draw in draws])  # [draws, C, k]
    assert (chosen[:, :, 0] != chosen[:, :, 1]).all()
    share = torch.bincount(chosen.flatten(), minlength=8) / (2000 * 3)
    assert (share - 2 / 8).abs().max() < 0.03
    with pytest.raises(ValueError, match="k must be a whole number from 1 to 8, not 9"):
        scores.random_subsets(3, 8, 9)


def test_scores_by_hand():
    means = torch.tensor([[3.0, 1.0, 2.0], [1.0, 5.0, 1.0]])
    assert [s.tolist() for s in scores.weight_magnitude(WEIGHT, 2)] == [[1, 0], [2, 0]]
    assert [s.tolist() for s in scores.mean_activation(means, 2)] == [[0, 2], [1, 0]]
    # W * means: [3, 2, 1], [-1, 0, 3]
    assert [s.tolist() for s in scores.mean_contribution(WEIGHT, means, 2)] == [[0, 1], [2, 1]]


def test_weight_times_std_by_hand():
    features = torch.tensor([[0.0, 5.0, 1.0], [4.0, 5.0, 2.0]])  # std 2, 0, 0.5
    # |W| std: [2, 0, .25], [2, 0, 1.5]
    assert [s.tolist() for s in scores.weight_times_std(WEIGHT, features, 3)] == [[0, 2, 1]] * 2


def test_contrast_by_hand():
    means = torch.tensor([[3.0, 1.0, 2.0], [1.0, 5.0, 1.0]])
    mean = torch.tensor([2.0, 3.0, 1.5])  # differences [1, -2, .5], [-1, 2, -.5]
    # W * differences: [1, -4, .25], [1, 0, -1.5]
    chosen = scores.contrast(WEIGHT, means, mean, 3)
    assert [s.tolist() for s in chosen] == [[0, 2, 1], [0, 1, 2]]


def known_filters(num_filters=12):
    """Class c lifts filters 2c and 2c + 1, the first the more; the last filter is dead."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    features = torch.rand(300, num_filters, generator=generator)
    features[torch.arange(300), 2 * labels] += 2.0
    features[torch.arange(300), 2 * labels + 1] += 1.0
    features[:, -1] = 0.0
    return features, labels


@pytest.mark.parametrize("ranking", [rankings.anova_f, rankings.feature_information])
def test_one_vs_rest_scores_find_the_filters_of_a_class(ranking):
    features, labels = known_filters()
    chosen = ranking(features, labels, 3, 12)
    assert [sorted(s[:2].tolist()) for s in chosen] == [[0, 1], [2, 3], [4, 5]]
    assert [s[-1].item() for s in chosen] == [11] * 3  # dead filters last, without a warning


def test_anova_f_orders_as_scipy_does():
    features, labels = known_filters()
    mine, rest = features[labels == 1, :-1].double(), features[labels != 1, :-1].double()
    expected = torch.from_numpy(stats.f_oneway(mine, rest).statistic).argsort(descending=True)
    assert torch.equal(rankings.anova_f(features, labels, 3, 11)[1], expected)


def test_a_class_without_images_is_named():
    features, labels = known_filters()
    with pytest.raises(ValueError, match="class 3 has none or all of the images"):
        rankings.anova_f(features, labels, 4, 2)
