"""Ranking filters for ten k: one pass against a sort for every class and every k in NumPy."""

from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import peak_memory, ratio, times_by_turns
from paperlib.filters.counting import class_statistics
from paperlib.filters.ranking import influential_filters

IMAGENET = {"images": 100_000, "filters": 2048, "classes": 1000, "ks": range(10, 101, 10)}
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
    """One row per size; the published way takes up to a minute at ImageNet size."""
    sizes = {"quick": QUICK} if quick else {"ImageNet": IMAGENET, "CIFAR": CIFAR}
    for name, size in sizes.items():
        classes, ks = size["classes"], size["ks"]
        features, labels = draw(size["images"], size["filters"], classes, device)
        x, y = features.cpu().numpy(), labels.cpu().numpy()
        calls = {
            "one pass": lambda f=features, t=labels, c=classes, ks=ks: one_pass(f, t, c, ks),
            "read": features.sum,
        }
        fast = times_by_turns(calls, device, rounds=3)
        memory = peak_memory(calls["one pass"], device)
        calls["published"] = lambda x=x, y=y, c=classes, ks=ks: published_way(x, y, c, ks)
        del calls["read"]
        both = times_by_turns(calls, device, rounds=1 if quick else 3, warm_up=False)
        yield {
            "benchmark": f"ranking for {len(ks)} k, {name} size",
            "against": "a NumPy sort for each class and k",
            "ratio": ratio(both, "published", "one pass"),
            "must": 20 if name == "ImageNet" else None,
            "goal": 60 if name == "ImageNet" else None,
            "seconds": median(fast["one pass"]),
            "reads of the features": ratio(fast, "one pass", "read"),
            "peak_mb": memory,
        }
