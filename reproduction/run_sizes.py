"""How many filters, features and dimensions a training run needs: one row of figures a run."""

from collections.abc import Iterable

import pandas as pd
import torch

from paperlib.filters.mass import features_for_mass
from paperlib.filters.sweeps import size_grid
from paperlib.filters.tensors import check_k
from paperlib.metrics.collapse import collapse_ratio
from paperlib.metrics.manifold import (
    components_for_variance,
    decisions_by_dimension,
    participation_ratio,
    principal_axes,
    two_nn,
)
from paperlib.stats import smallest_within
from reproduction.runs import TrainingRun

SIZES = (
    "filters within 1 point",
    "features for half the mass",
    "components for 95 %",
    "participation ratio",
    "intrinsic dimension",
    "decision dimension",
)


def sizes_of(run: TrainingRun, k: int = 5) -> dict[str, float]:
    """Six measures of size, accuracies in percent, and what may explain them.

    - *filters within 1 point*: the smallest k whose head, cut to the influential filters of all
      train images, is within a point of the full head on the test images;
    - *features for half the mass* of a train image's response, the mean of the sample;
    - *components for 95 %* of the variance and *participation ratio*, of all train images;
    - *intrinsic dimension*: TwoNN of the sample;
    - *decision dimension*: the fewest principal components within a point on the test images;
    - *collapse ratio*: within- over between-class scatter of all train images;
    - *weight norm*: of the head, relative to sqrt(C).

    Raises ValueError for k outside 1..D.
    """
    train, test = run.bank.split("train"), run.bank.split("test")
    check_k(k, test.num_filters)
    curve = run.curve()

    balanced = run.scatter.within + run.scatter.between  # classes are equally frequent
    axes = principal_axes(balanced, run.statistics.means.mean(dim=0))
    ranks = [0, *size_grid(test.num_filters)]
    centre, directions = axes.centre, axes.directions
    picked = decisions_by_dimension(test.features, *test.head, directions, centre, ranks=ranks)
    by_rank = 100 * (picked == test.labels).double().mean(dim=1)

    full, cut = curve.accuracy[-1].item(), curve.accuracy[curve.ks.index(k)].item()
    return {
        "accuracy, %": full,
        f"points lost at k = {k}": full - cut,
        "filters within 1 point": int(smallest_within(curve.accuracy, curve.ks)),
        "features for half the mass": _half_the_mass(train.features),
        "components for 95 %": components_for_variance(axes.variances, 0.95),
        "participation ratio": participation_ratio(axes.variances),
        "intrinsic dimension": two_nn(train.features).dimension,
        "decision dimension": int(smallest_within(by_rank, ranks)),
        "collapse ratio": collapse_ratio(run.scatter),
        "weight norm": (test.head.weight.norm() / test.num_classes**0.5).item(),
    }


def _half_the_mass(features: torch.Tensor) -> float:
    return features_for_mass(features.clamp(min=0), 0.5).double().mean().item()


def table_of_sizes(runs: Iterable[TrainingRun], k: int = 5) -> pd.DataFrame:
    """One row a run, by name: `sizes_of` each."""
    return pd.DataFrame([{"run": run.name} | sizes_of(run, k) for run in runs])
