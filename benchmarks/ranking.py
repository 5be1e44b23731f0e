"""Ranking filters for ten k against the published loop and against one `topk` in PyTorch."""

from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import peak_memory, ratio, times_by_turns
from paperlib.filters.counting import class_statistics
from paperlib.filters.ranking import influential_filters

IMAGENET = {"images": 100_000, "filters": 2048, "classes": 1000, "ks": range(5, 51, 5)}
CIFAR = {"images": 50_000, "filters": 64, "classes": 10, "ks": range(1, 65)}
QUICK = {"images": 2_000, "filters": 128, "classes": 20, "ks": range(10, 41, 10)}


def published_way(features: np.ndarray, labels: np.ndarray, classes: int, ks: range) -> list:
    """For every k and class, sort its images' features anew and count the k largest."""
    num_filters = features.shape[1]
    subsets = []
    for k in ks:
        for c in range(classes):
            largest = np.argsort(-features[labels == c], axis=1)[:, :k]
            counts = np.bincount(largest.ravel(), minlength=num_filters)
            subsets.append(np.argsort(-counts)[:k])
    return subsets


def peer(features: Tensor, labels: Tensor, classes: int, ks: range) -> list:
    """What who knows PyTorch writes: one `topk`, counts of each (class, filter, rank), their sums.

    Where filters tie, `topk` may choose any of them.
    """
    num_filters, k_max = features.shape[1], max(ks)
    largest = features.topk(k_max, dim=1).indices
    rank = torch.arange(k_max, device=features.device)
    cell = ((labels[:, None] * num_filters + largest) * k_max + rank).flatten()
    counts = torch.zeros(classes * num_filters * k_max, dtype=torch.int32, device=cell.device)
    counts.index_add_(0, cell, torch.ones_like(cell, dtype=torch.int32))
    histogram = counts.view(classes, num_filters, k_max).cumsum(dim=2, dtype=torch.int32)
    return [histogram[..., k - 1].topk(k, dim=1).indices for k in ks]


def one_pass(features: Tensor, labels: Tensor, classes: int, ks: range) -> list:
    """The package's way: count once, then rank for every k."""
    statistics = class_statistics(features, labels, classes, list(ks))
    return [influential_filters(statistics, k) for k in ks]


def draw(images: int, filters: int, classes: int, device: str) -> tuple[Tensor, Tensor]:
    """Skewed non-negative features of images of different strength, in balanced classes."""
    generator = torch.Generator().manual_seed(0)
    features = torch.empty(images, filters).exponential_(generator=generator)
    features *= torch.rand(images, 1, generator=generator) + 0.5
    return features.to(device), torch.randperm(images, generator=generator).to(device) % classes


def run(device: str, quick: bool) -> Iterator[dict]:
    """Two rows per size; the published way takes up to a minute at ImageNet size."""
    sizes = {"quick": QUICK} if quick else {"ImageNet": IMAGENET, "CIFAR": CIFAR}
    for name, size in sizes.items():
        classes, ks = size["classes"], size["ks"]
        features, labels = draw(size["images"], size["filters"], classes, device)
        x, y = features.cpu().numpy(), labels.cpu().numpy()
        data = (features, labels, classes, ks)
        calls = {
            "one pass": lambda data=data: one_pass(*data),
            "peer": lambda data=data: peer(*data),
            "read": features.sum,
        }
        times = times_by_turns(calls, device, rounds=3)
        memory = peak_memory(calls["one pass"], device)
        calls = {
            "one pass": calls["one pass"],
            "published": lambda x=x, y=y, c=classes, ks=ks: published_way(x, y, c, ks),
        }
        slow = times_by_turns(calls, device, rounds=1 if quick else 3, warm_up=False)
        aims = {"published": (20, 60), "peer": (3, 5)} if name == "ImageNet" else {}
        for other, against, measured in (
            ("published", "a NumPy sort for each class and k", slow),
            ("peer", "one topk and index_add in PyTorch", times),
        ):
            must, goal = aims.get(other, (None, None))
            yield {
                "benchmark": f"ranking for {len(ks)} k up to {max(ks)}, {name} size",
                "against": against,
                "ratio": ratio(measured, other, "one pass"),
                "must": must,
                "goal": goal,
                "seconds": median(times["one pass"]),
                "reads of the features": ratio(times, "one pass", "read"),
                "peak_mb": memory,
            }
