"""How far features have collapsed onto the means of their classes."""

from typing import NamedTuple

import torch
from torch import Tensor

from paperlib.filters.sums import class_means, scatter_about


class Scatter(NamedTuple):
    """Covariance within the classes and between their means, both `[D, D] float64`."""

    within: Tensor
    between: Tensor


def class_scatter(features: Tensor, labels: Tensor, num_classes: int) -> Scatter:
    """Split the variation of features into that within classes and that between them.

    W = 1/N sum_n (x_n - m_{y_n})(x_n - m_{y_n})^T,  B = 1/C sum_c (m_c - m)(m_c - m)^T, with m_c
    the mean features of class c and m the mean of the C' classes that have images

    features: [N, D] float, labels: [N] int64; in squared feature units.  Raises ValueError on bad
    shapes, values or labels.  Source: Papyan, Han & Donoho 2020, doi 10.1073/pnas.2015509117.
    """
    means = class_means(features, labels, num_classes)
    within = scatter_about(features, labels, means) / len(features)
    seen = means[torch.bincount(labels, minlength=num_classes) > 0]
    apart = seen - seen.mean(dim=0)
    return Scatter(within, apart.T @ apart / len(apart))


def collapse_ratio(scatter: Scatter) -> float:
    """Within- over between-class scatter: it falls to 0 as features collapse onto class means.

    tr W / tr B;  infinite where the class means are one point.  Source: as `class_scatter`; a
    trace ratio instead of its tr(W B^+) / C, which weighs directions that hardly vary as much.
    """
    between = scatter.between.trace().item()
    return scatter.within.trace().item() / between if between > 0 else float("inf")
