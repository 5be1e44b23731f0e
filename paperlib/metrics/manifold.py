"""How many dimensions features fill, and how many of them the head's decisions need."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from paperlib.filters.sums import class_means, column_means, scatter_about
from paperlib.filters.tensors import row_chunks
from paperlib.seeds import torch_generator

ROWS_AT_ONCE = 2048  # images whose distances are held at once: bounds the memory of a pass
DISCARDED = 0.1  # share of the largest distance ratios that TwoNN's fit leaves out
ROUNDING = 1e-12  # of the total variance, so that a share reached exactly counts as reached


class PrincipalComponents(NamedTuple):
    """`variances [D]` in falling order, `directions [D, D]` (columns) and `centre [D]`, float64."""

    variances: Tensor
    directions: Tensor
    centre: Tensor


class TwoNN(NamedTuple):
    """An intrinsic dimension, and how many images were left out as copies of another."""

    dimension: float
    duplicates: int


def _check_matrix(features: Tensor, min_images: int) -> None:
    if features.ndim != 2 or not torch.isfinite(features).all():
        raise ValueError(f"features must be finite and [N, D], got {list(features.shape)}")
    if len(features) < min_images:
        raise ValueError(f"at least {min_images} images are needed, got {len(features)}")


def principal_components(features: Tensor, *, centred: bool = True) -> PrincipalComponents:
    """Variances and directions of the principal components of a set of images.

    (1 / N) sum_n (x_n - m)(x_n - m)^T = V diag(lambda) V^T, with m the mean, or 0 if not centred

    features: [N, D] float32; variances in squared feature units.  Raises ValueError for fewer than
    two images or values that are not finite.
    """
    _check_matrix(features, 2)
    mean = column_means(features)
    centre = mean if centred else torch.zeros_like(mean)
    one_class = torch.zeros(len(features), dtype=torch.int64, device=features.device)
    return principal_axes(scatter_about(features, one_class, centre[None]) / len(features), centre)


def principal_axes(covariance: Tensor, centre: Tensor) -> PrincipalComponents:
    """The principal components of a covariance `[D, D] float64` about `centre [D] float64`."""
    variances, directions = torch.linalg.eigh(covariance)  # in rising order
    return PrincipalComponents(variances.flip(0).clamp(min=0), directions.flip(1), centre)


def participation_ratio(variances: Tensor) -> float:
    """Effective number of directions: D where all variances are equal, 1 where one has it all.

    PR = (sum_i lambda_i)^2 / sum_i lambda_i^2;  0 where nothing varies.

    variances: [D] float, not negative.
    """
    variances = variances.double()
    total = variances.sum()
    return (total**2 / variances.square().sum()).item() if total > 0 else 0.0


def components_for_variance(variances: Tensor, fraction: float) -> int:
    """The smallest number of principal components that hold a fraction of the variance.

    min {r : sum_{i <= r} lambda_i >= f sum_i lambda_i};  0 where nothing varies.

    variances: [D] float in falling order.  Raises ValueError for f outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], not {fraction}")
    held = variances.cumsum(dim=0)
    short = held < (fraction - ROUNDING) * held[-1]
    return int(short.sum()) + 1 if held[-1] > 0 else 0


def neighbour_distances(features: Tensor) -> Tensor:
    """Distances of every image to its nearest and second nearest neighbour, `[N, 2] float64`."""
    x = features.double()
    nearest = []
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = x[start : start + ROWS_AT_ONCE]
        distance = torch.cdist(rows, x)
        distance.diagonal(start).fill_(torch.inf)  # an image is not its own neighbour
        index = distance.topk(2, largest=False).indices
        # cdist finds neighbours by |a|^2 + |b|^2 - 2ab, too coarse for distances near zero
        nearest.append((rows[:, None] - x[index]).norm(dim=2))
    return torch.cat(nearest).sort(dim=1).values


def two_nn(features: Tensor) -> TwoNN:
    """Intrinsic dimension d from each image's two nearest neighbours, at distances r1 < r2.

    mu = r2 / r1 follows F(mu) = 1 - mu^-d, so d is the slope of -log(1 - F) against log(mu)
    through the origin; the largest tenth of the ratios is left out.

    features: [N, D] float32; copies are dropped first.  It measures the scale of the distance
    between neighbours: compare equal numbers of images only.  Raises ValueError for fewer than 20
    distinct images, or where all ratios are 1, as on a grid.
    Source: Facco et al. 2017, doi 10.1038/s41598-017-11873-y.
    """
    _check_matrix(features, 1)
    distinct = torch.unique(features, dim=0)
    _check_matrix(distinct, 20)
    nearest, second = neighbour_distances(distinct).unbind(dim=1)
    n = len(distinct)
    ratios = (second / nearest).sort().values[: int(n * (1 - DISCARDED))]
    share_below = torch.arange(1, len(ratios) + 1, device=ratios.device) / n  # F, as observed
    x, y = ratios.log(), -(1 - share_below.double()).log()
    if not x.any():
        raise ValueError("no dimension: every image has two nearest neighbours at one distance")
    return TwoNN(((x @ y) / (x @ x)).item(), len(features) - n)


def decision_directions(weight: Tensor) -> Tensor:
    """Orthonormal directions that the decisions of a head depend on: `[D, rank] float64`.

    Softmax is blind to a constant added to all logits, so x decides through W - mean_c W alone,
    whose row space this is; rank <= min(C - 1, D).  weight: [C, D] float.
    """
    rows = weight.double()
    _, scale, directions = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    rank = int((scale > scale[0] * max(weight.shape) * torch.finfo(torch.float32).eps).sum())
    return directions[:rank].T.contiguous()


def random_directions(
    num_filters: int, *, draws: int = 20, seed: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Bases of feature space turned at random: `[draws, D, D] float64`, orthonormal columns.

    Made on the CPU, so that every device gets the same.
    """
    generator = torch_generator(seed)
    shape = (draws, num_filters, num_filters)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(normal).Q.to(device)


def alignment(a: Tensor, b: Tensor) -> float:
    """Mean squared cosine of the principal angles between two subspaces of one dimension.

    |A^T B|_F^2 / r;  1 for the same subspace, 0 for orthogonal ones, r / D expected by chance.

    a, b: [D, r] float, orthonormal columns.  Raises ValueError for other shapes.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"subspaces must be two [D, r]; got {list(a.shape)}, {list(b.shape)}")
    return ((a.T.double() @ b.double()).square().sum() / a.shape[1]).item()


def between_class_share(features: Tensor, labels: Tensor, num_classes: int) -> float:
    """Share of the features' variance that lies between the class means.

    sum_n |m_{y_n} - m|^2 / sum_n |x_n - m|^2, with m_c the mean of class c; 0 where nothing varies

    features: [N, D] float32, labels: [N] int64.  Class means span at most C - 1 directions.
    Raises ValueError on bad shapes, NaN and labels out of range.
    """
    mean = column_means(features)
    between = class_means(features, labels, num_classes) - mean  # [C, D]
    total = sum((x - mean).square().sum() for (x,) in row_chunks(features))
    images = torch.bincount(labels, minlength=num_classes)
    spread = images.double() @ between.square().sum(dim=1)
    return (spread / total).item() if total > 0 else 0.0


def decisions_by_dimension(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    directions: Tensor,
    centre: Tensor,
    *,
    ranks: Sequence[int] | None = None,
) -> Tensor:
    """`[len(ranks), N] int64`: the class picked from features projected on the first r directions.

    x' = m + V_r V_r^T (x - m), logits = x' W^T + b, for r in `ranks` (rising; 0..R
    if None); r = 0 is one constant decision.

    features: [N, D] float32, weight: [C, D], bias: [C], directions: [D, R] orthonormal columns,
    centre: [D].  In float64, each r adding its directions to the logits of the last.
    """
    ranks = range(directions.shape[1] + 1) if ranks is None else ranks
    if directions.shape[0] != features.shape[1] or centre.shape != features.shape[1:]:
        shapes = f"{list(directions.shape)} and {list(centre.shape)}"
        raise ValueError(f"directions must be [D, R] and centre [D], got {shapes}")
    if list(ranks) != sorted({*ranks} & {*range(directions.shape[1] + 1)}):
        raise ValueError(f"ranks must rise, from 0 to {directions.shape[1]} at most: {list(ranks)}")
    w, middle = weight.double(), centre.double()
    effect = w @ directions  # [C, R]
    constant = bias.double() + w @ middle
    picked = torch.empty(len(ranks), len(features), dtype=torch.int64, device=features.device)
    for x, out in row_chunks(features, picked.T):
        position = (x.double() - middle) @ directions  # [n, R]
        logits, done = constant.repeat(len(x), 1), 0
        for i, r in enumerate(ranks):
            logits += position[:, done:r] @ effect[:, done:r].T
            torch.argmax(logits, dim=1, out=out[:, i])
            done = r
    return picked
