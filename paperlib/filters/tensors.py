"""The k largest of each row, exactly; subsets of filters as index tensors and as matrices."""

import math
from collections.abc import Iterable, Iterator
from numbers import Integral

import torch
from torch import Tensor

from paperlib.border import vouched

# One tensor of filter indices per class, most influential first: `[k_c] int64`.
Subsets = list[Tensor]

# Features ranked together: bounds the memory of a pass.  A GPU needs many to be busy
AT_ONCE = {"cpu": 2**22, "cuda": 2**26}
TOP_FEW = 4  # a selection is faster than a sort where at most one filter in so many is wanted


def check_shapes(features: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless features are `[N, D] float` and labels `[N] int64` tensors."""
    for name, given in (("features", features), ("labels", labels)):
        if not isinstance(given, Tensor):
            kind = type(given).__name__
            raise ValueError(f"{name} must be a tensor, not {kind}: use torch.as_tensor")
    if not features.is_floating_point() or labels.dtype != torch.int64:
        found = f"{features.dtype} and {labels.dtype}"
        raise ValueError(f"features must be floating point and labels int64, got {found}")
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            "features must be [N, D] and labels [N]; got "
            f"{list(features.shape)} and {list(labels.shape)}"
        )


def largest_feature(features: Tensor) -> float:
    """The largest |feature|; ValueError for NaN or infinity.  A checked bank's are not read again.

    features: [N, D] float, with at least one image.
    """
    largest = vouched(features)
    if largest is None:
        # The extremes are NaN where a feature is, and take no memory
        largest = torch.stack(features.aminmax()).abs().max().item()
        if not math.isfinite(largest):
            raise ValueError("features hold NaN or infinity")
    return largest


def check_features(features: Tensor, labels: Tensor, num_classes: int) -> float:
    """The largest |feature|, 0 without images.

    Raises ValueError unless features `[N, D]` are finite and labels `[N]` lie in 0..C-1.
    """
    check_shapes(features, labels)
    if not features.numel():
        return 0.0
    largest = largest_feature(features)
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1}, found {labels.min()}..{labels.max()}"
        )
    return largest


def check_k(k: int, largest: int) -> None:
    """Raise ValueError unless k is a whole number of filters from 1 to `largest`."""
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= largest:
        raise ValueError(f"k must be a whole number from 1 to {largest}, not {k!r}")


def row_chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some images at a time of tensors with one row an image, the first `[N, D]`."""
    at_once = AT_ONCE.get(tensors[0].device.type, AT_ONCE["cpu"])
    rows = max(1, at_once // tensors[0].shape[1])
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def largest_filters(features: Tensor, k: int) -> Tensor:
    """`[N, k] int64`: each image's k largest features, ties to the lower index.

    A stable sort, because `torch.topk` promises no order among equal features, and dead filters
    (exact zeros after ReLU) make such ties common; for few of the filters, a selection among
    `order_keys`.
    """
    exact = features.dtype in (torch.float32, torch.float16, torch.bfloat16)
    if exact and k * TOP_FEW <= features.shape[1]:
        return order_keys(features).topk(k, dim=1).indices
    return torch.sort(features, dim=1, descending=True, stable=True).indices[:, :k]


def order_keys(features: Tensor) -> Tensor:
    """`[N, D] int64`, all different in a row: larger for a larger feature, then for a lower index.

    The bits of a float32, with the negative ones turned round and -0.0 made 0.0, are in its order;
    they stand above the index.  features: [N, D] of at most float32, without NaN.
    """
    bits = features.float().contiguous().view(torch.int32).long()
    rising = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    num_filters = features.shape[1]
    last_first = torch.arange(num_filters - 1, -1, -1, device=features.device)
    return rising * num_filters + last_first


def highest_scores(score: Tensor, k: int) -> Subsets:
    """The k filters of each class with the highest score `[C, D]`, ties to the lower index.

    Raises ValueError for k outside 1..D and for scores that hold NaN.
    """
    check_k(k, score.shape[1])
    if score.isnan().any():
        raise ValueError("the scores of the filters hold NaN")
    return list(largest_filters(score, k))


def rank_filters(counts: Tensor, totals: Tensor, k: int) -> Tensor:
    """`[R, k] int64`: the k filters of each row with the highest count, ties to the larger total.

    counts, totals: [R, D]; remaining ties go to the lower index.
    """
    # Only filters that reach the k-th highest count can be chosen: few, unless many tie there
    reach = counts >= counts.topk(k, dim=1).values[:, -1:]
    near = counts.topk(int(reach.sum(dim=1).max()), dim=1).indices.sort(dim=1).values
    num_near = near.shape[1]
    near = near.gather(1, largest_filters(totals.gather(1, near), num_near))
    place = torch.arange(num_near, 0, -1, device=near.device)  # by total: breaks all ties
    key = counts.gather(1, near).long() * (num_near + 1) + place
    return near.gather(1, key.topk(k, dim=1).indices)


def subset_tensors(subsets: Iterable, num_classes: int | None = None) -> Subsets:
    """One `[k_c] int64` tensor a class, from tensors, arrays or lists of whole numbers.

    Raises ValueError for anything else, and for another number of classes where it is given.
    """
    if not isinstance(subsets, Iterable) or isinstance(subsets, str | dict):
        kind = type(subsets).__name__
        raise ValueError(f"subsets must be a list, the filters of each class, not {kind}")
    found = []
    for c, chosen in enumerate(subsets):
        try:
            filters = torch.as_tensor(chosen)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"class {c}: filters must be whole numbers, not {chosen!r}") from None
        whole = not (filters.is_floating_point() or filters.dtype == torch.bool)
        if filters.ndim != 1 or not (whole or filters.numel() == 0):
            kind = f"{filters.dtype} of shape {list(filters.shape)}"
            raise ValueError(f"class {c}: filters must be [k] whole numbers, got {kind}")
        found.append(filters.long())
    if num_classes not in (None, len(found)):
        raise ValueError(f"{len(found)} subsets for a head of {num_classes} classes")
    return found


def membership(subsets: Subsets, num_filters: int, num_classes: int | None = None) -> Tensor:
    """`[C, D] bool`: which filters belong to the subset of each class, where the subsets are.

    subsets: a list or an array of indices for each class.  Raises ValueError for an index outside
    0..D-1, not whole, or listed twice for a class, and as `subset_tensors` does.
    """
    subsets = subset_tensors(subsets, num_classes)
    filters = torch.cat(subsets)
    sizes = torch.tensor([len(chosen) for chosen in subsets])
    classes = torch.arange(len(subsets)).repeat_interleave(sizes).to(filters.device)
    outside = (filters < 0) | (filters >= num_filters)
    if outside.any():
        raise ValueError(f"class {classes[outside][0]}: filters must lie in 0..{num_filters - 1}")
    shape = (len(subsets), num_filters)
    listed = torch.bincount(classes * num_filters + filters, minlength=math.prod(shape)).view(shape)
    if len(twice := (listed > 1).nonzero()):
        raise ValueError(f"class {twice[0, 0]}: a filter is listed twice")
    return listed.bool()
