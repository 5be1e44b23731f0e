"""Which images a decomposed head classifies correctly, by the number of filters per class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.filters.tensors import Subsets, check_features
from paperlib.heads.decomposed import MANY, DecomposedHead, check_head, sparse_product
from paperlib.stats import Interval, bootstrap_means, interval, smallest_within

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


@dataclass(frozen=True)
class AccuracyCurve:
    """Accuracy against the number of filters per class, kept per image.

    ks: sizes from 0, one constant decision, to D, the full head; correct: [K, N] bool, which
    images the head of each size classifies correctly.
    """

    ks: Sequence[int]
    correct: Tensor

    @property
    def accuracy(self) -> np.ndarray:
        """Percent of the images, `[K] float64`."""
        return 100 * self.correct.double().mean(dim=1).cpu().numpy()

    def draws(self, draws: int = 2000, seed: int = 0) -> np.ndarray:
        """Accuracy in percent on bootstrap resamples of the images, `[draws, K]`."""
        return bootstrap_means(100 * self.correct.double(), draws=draws, seed=seed)

    def smallest_k(self, within: float = 1.0, *, draws: int = 2000, seed: int = 0) -> Interval:
        """The fewest filters per class for accuracy within so many points of the full head.

        min {k : accuracy_k >= accuracy_D - within}; the interval resamples images
        """
        value = smallest_within(self.accuracy, self.ks, tolerance=within)
        spread = self.smallest_k_draws(within, draws=draws, seed=seed)
        return interval(float(value), spread, of=f"{self.correct.shape[1]:,} resampled images")

    def smallest_k_draws(
        self, within: float = 1.0, *, draws: int = 2000, seed: int = 0
    ) -> np.ndarray:
        """`smallest_k` of bootstrap resamples of the images, `[draws] int64`."""
        return smallest_within(self.draws(draws, seed), self.ks, tolerance=within)

    def table(self) -> list[dict[str, float]]:
        """A row per size: k, accuracy in percent, and its 95 % interval over images."""
        low, high = np.quantile(self.draws(), [0.025, 0.975], axis=0)
        columns = zip(self.ks, self.accuracy, low, high, strict=True)
        return [dict(zip(("k", "accuracy", "low", "high"), row, strict=True)) for row in columns]
