"""The decomposed head against nn.Linear, and the accuracy sweep against masked products."""

from collections.abc import Iterator, Mapping
from statistics import median

import torch
from torch import Tensor

from benchmarks.measure import peak_memory, ratio, times_by_turns
from paperlib.extraction.forward import exact_arithmetic
from paperlib.filters.scores import random_subsets
from paperlib.filters.tensors import Subsets, membership
from paperlib.heads.accuracy import correct_by_k
from paperlib.heads.decomposed import DecomposedHead

FILTERS, CLASSES = 2048, 1000
# By images: the ratio that must be reached, and the one hoped for
LARGE = {1: (3, 5), 32: (5, 5), 256: (2.5, 5)}
SMALL = {1: (0.5, 1), 32: (0.77, 1), 256: (0.77, 1)}  # at most twice, and 1.3 times, the seconds
HEADS = {(1000, 2048, 50): LARGE, (10, 64, 5): SMALL, (10, 1280, 5): SMALL}  # C, D, k


def masked_products(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, subsets: Mapping[int, Subsets]
) -> Tensor:
    """`correct_by_k` by one dense product for every k, with all other weights at zero."""
    rows = []
    for chosen in subsets.values():
        masked = weight * membership(chosen, weight.shape[1]).to(weight.device)
        rows.append((features @ masked.T + bias).argmax(dim=1) == labels)
    return torch.stack(rows)


def run(device: str, quick: bool) -> Iterator[dict]:
    """One row per head and batch size on one thread, and one for the sweep; float32 in full."""
    with exact_arithmetic():
        yield from _rows(device, quick)


def _head(shape: tuple[int, int, int], aims: dict, device: str, quick: bool) -> Iterator[dict]:
    classes, filters, k = shape
    dense = torch.nn.Linear(filters, classes).to(device)
    (subsets,) = random_subsets(classes, filters, k, draws=1)
    cut = DecomposedHead(dense.weight, dense.bias, subsets)
    threads = torch.get_num_threads()
    for batch, (must, goal) in aims.items():
        x = torch.rand(batch, filters, device=device)
        torch.set_num_threads(1)  # a head is too small to share
        with torch.inference_mode():
            calls = {"dense": lambda x=x: dense(x), "decomposed": lambda x=x: cut(x)}
            rounds = {"rounds": 3, "seconds": 0.01} if quick else {"rounds": 25, "seconds": 0.05}
            times = times_by_turns(calls, device, **rounds)
        torch.set_num_threads(threads)
        yield {
            "benchmark": f"decomposed head, {classes} x {filters}, batch {batch}",
            "against": "nn.Linear",
            "ratio": ratio(times, "dense", "decomposed"),
            "must": must,
            "goal": goal,
            "seconds": median(times["decomposed"]),
        }


def _rows(device: str, quick: bool) -> Iterator[dict]:
    for shape, aims in HEADS.items():
        yield from _head(shape, aims, device, quick)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(CLASSES, FILTERS, generator=generator).to(device)
    bias = torch.randn(CLASSES, generator=generator).to(device)
    (order,) = random_subsets(CLASSES, FILTERS, 100, draws=1)
    images = 500 if quick else 10_000
    features = torch.rand(images, FILTERS, generator=generator).to(device)
    labels = torch.arange(images, device=device) % CLASSES
    subsets = {k: [filters[:k] for filters in order] for k in range(10, 101, 10)}
    data = (features, labels, weight, bias, subsets)
    calls = {"masked": lambda: masked_products(*data), "ours": lambda: correct_by_k(*data)}
    times = times_by_turns(calls, device, rounds=3)
    yield {
        "benchmark": f"accuracy sweep, {images} images, 10 k",
        "against": "one masked product for each k",
        "ratio": ratio(times, "masked", "ours"),
        "must": 1.5,
        "goal": 4,
        "seconds": median(times["ours"]),
        "peak_mb": peak_memory(calls["ours"], device),
    }
