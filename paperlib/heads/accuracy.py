"""Which images a decomposed head classifies correctly, for many sizes of subsets at once."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.filters.tensors import Subsets, check_features
from paperlib.heads.decomposed import MANY, DecomposedHead, check_head, sparse_product

LOGITS_AT_ONCE = 2**22  # bounds the memory of a sweep


def _sparse_predictions(x: Tensor, heads: Sequence[DecomposedHead]) -> Tensor:
    """`[K, N]`: the class that each head picks; a part of x is transposed once for all heads."""
    sizes = torch.cat([head.starts.diff() for head in heads])
    starts = F.pad(sizes.cumsum(dim=0), (1, 0)).int()
    columns = torch.cat([head.columns for head in heads])
    values = torch.cat([head.values for head in heads])
    bias = torch.stack([head.bias for head in heads])[:, :, None]  # [K, C, 1]
    picked = []
    for part in x.split(max(1, min(MANY, LOGITS_AT_ONCE // bias.numel()))):
        logits = sparse_product(part, starts, columns, values).view(*bias.shape[:2], -1)
        picked.append(logits.add_(bias).argmax(dim=1))
    return torch.cat(picked, dim=1)


@torch.no_grad()
def correct_by_k(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, subsets: Mapping[int, Subsets]
) -> Tensor:
    """`[K, N] bool`: which images the decomposed head classifies correctly, one row per k.

    features: [N, D] float, labels: [N] int64, weight: [C, D], bias: [C], subsets: {k: subsets}.
    Kept per image, so that intervals of differences can resample the same images.
    """
    check_head(weight, bias)
    check_features(features, labels, len(weight))
    if features.shape[1] != weight.shape[1]:
        raise ValueError(f"the head reads {weight.shape[1]} features, got {features.shape[1]}")
    heads = [DecomposedHead(weight, bias, chosen) for chosen in subsets.values()]
    correct = torch.empty(len(heads), len(labels), dtype=torch.bool, device=features.device)
    sparse = torch.tensor([h.reads_only_kept(features) for h in heads], dtype=torch.bool)
    if sparse.any():
        chosen = [head for head, skips in zip(heads, sparse, strict=True) if skips]
        correct[sparse] = _sparse_predictions(features, chosen) == labels
    rows = max(1, LOGITS_AT_ONCE // len(weight))
    for k in (~sparse).nonzero().flatten().tolist():
        dense, parts = heads[k].weight, (features.split(rows), labels.split(rows))
        for x, y, hits in zip(*parts, correct[k].split(rows), strict=True):
            torch.eq(F.linear(x.to(dense), dense, bias).argmax(dim=1), y, out=hits)
    return correct


def accuracy_by_k(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, subsets: Mapping[int, Subsets]
) -> dict[int, float]:
    """Accuracy of the decomposed head for every k: the mean of `correct_by_k` over images.

    Raises ValueError for no images and as `correct_by_k` does.
    """
    if not len(labels):
        raise ValueError("no images to classify")
    correct = correct_by_k(features, labels, weight, bias, subsets)
    return dict(zip(subsets, correct.double().mean(dim=1).tolist(), strict=True))
