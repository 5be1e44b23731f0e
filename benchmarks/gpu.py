"""What only a GPU is asked: all of ImageNet, a sweep, the head in a graph, half precision."""

from collections.abc import Callable, Iterator
from statistics import median

import torch
import torchvision
from torch import Tensor

import paperlib as pl
from benchmarks.measure import peak_memory, ratio, times_by_turns
from benchmarks.ranking import one_pass
from paperlib.extraction.forward import exact_arithmetic
from paperlib.filters.scores import random_subsets
from paperlib.filters.tensors import membership
from paperlib.heads.accuracy import correct_by_k
from paperlib.heads.decomposed import DecomposedHead

FULL = {"images": 1_281_167, "test": 50_000, "filters": 2048, "classes": 1000, "photos": 2048}
QUICK = {"images": 3_000, "test": 300, "filters": 200, "classes": 20, "photos": 2}
KS = range(10, 101, 10)
ROWS_AT_ONCE = 2**16  # images drawn together
HEAD_BATCH = 256


def draw(images: int, size: dict, device: str) -> tuple[Tensor, Tensor]:
    """Skewed non-negative features `[images, filters]`, drawn on the device, and labels."""
    filters = size["filters"]
    features = torch.empty(images, filters, device=device)
    generator = torch.Generator(device).manual_seed(0)
    for rows in features.split(ROWS_AT_ONCE):
        rows.exponential_(generator=generator)
    return features, torch.arange(images, device=device) % size["classes"]


def ranking(device: str, size: dict) -> dict:
    """Filters for ten k, against one read of the features."""
    features, labels = draw(size["images"], size, device)
    calls = {
        "read": features.sum,
        "ranking": lambda: one_pass(features, labels, size["classes"], KS),
    }
    times = times_by_turns(calls, device, rounds=3)
    return {
        "benchmark": f"ranking for {len(KS)} k, {len(features)} images",
        "against": "one read of the features",
        "ratio": ratio(times, "read", "ranking"),
        "seconds": median(times["ranking"]),
        "reads of the features": ratio(times, "ranking", "read"),
        "peak_mb": peak_memory(calls["ranking"], device),
    }


def sweep(device: str, size: dict) -> dict:
    """The accuracy for ten k of as many images as ImageNet has for tests, against a dense head."""
    features, labels = draw(size["test"], size, device)
    weight = torch.randn(size["classes"], size["filters"], device=device)
    bias = torch.zeros(size["classes"], device=device)
    (order,) = random_subsets(*weight.shape, max(KS), draws=1, device=device)
    subsets = {k: [filters[:k] for filters in order] for k in KS}
    calls = {
        "dense": lambda: (features @ weight.T + bias).argmax(dim=1) == labels,
        "sweep": lambda: correct_by_k(features, labels, weight, bias, subsets),
    }
    with exact_arithmetic():
        times = times_by_turns(calls, device, rounds=3)
    return {
        "benchmark": f"accuracy sweep, {len(features)} images, {len(KS)} k",
        "against": "the dense head alone",
        "ratio": ratio(times, "dense", "sweep"),
        "seconds": median(times["sweep"]),
        "peak_mb": peak_memory(calls["sweep"], device),
    }


def captured(call: Callable[[], Tensor], device: str) -> Callable[[], object]:
    """A call as a CUDA graph, after three calls outside it; on the CPU the call itself."""
    if not device.startswith("cuda"):
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def head_in_a_graph(device: str, size: dict) -> dict:
    """The decomposed head against nn.Linear, both in a CUDA graph."""
    shape = (size["classes"], size["filters"])
    dense = torch.nn.Linear(shape[1], shape[0]).to(device).requires_grad_(False)
    (subsets,) = random_subsets(*shape, 50, draws=1, device=device)
    cut = DecomposedHead(dense.weight, dense.bias, subsets).requires_grad_(False)
    x, _ = draw(HEAD_BATCH, size, device)
    with torch.no_grad(), exact_arithmetic():
        calls = {
            "dense": captured(lambda: dense(x), device),
            "cut": captured(lambda: cut(x), device),
        }
        times = times_by_turns(calls, device, rounds=9, seconds=0.02)
    return {
        "benchmark": f"decomposed head in a CUDA graph, batch {HEAD_BATCH}",
        "against": "nn.Linear in one",
        "ratio": ratio(times, "dense", "cut"),
        "seconds": median(times["cut"]),
    }


def precisions(device: str, size: dict) -> Iterator[dict]:
    """ResNet-50 in bfloat16 against float32, and how many filters of the subsets stay the same."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval().to(device)
    photos = torch.rand(size["photos"], 3, 224, 224)
    images = (photos, torch.arange(len(photos)) % 2)
    options = {"batch_size": 256, "device": device, "workers": 0, "progress": False}
    calls = {
        precision: lambda p=precision: pl.extract(model, train=images, precision=p, **options)
        for precision in ("float32", "bfloat16")
    }
    times = times_by_turns(calls, device, rounds=3)
    exact, rough = (
        [membership(pl.influential(bank.without_empty_classes(), k), bank.num_filters)
         for k in (5, 50)]
        for bank in (call() for call in calls.values())
    )  # fmt: skip
    shared = [
        100 * (a & b).sum().item() / a.sum().item() for a, b in zip(exact, rough, strict=True)
    ]
    for precision in calls:
        seconds = median(times[precision])
        row = {
            "benchmark": f"extraction, ResNet-50, {precision}",
            "against": "float32",
            "ratio": ratio(times, "float32", precision),
            "seconds": seconds,
            "images per second": len(photos) / seconds,
        }
        if precision != "float32":
            row |= {
                f"% of filters shared, k = {k}": s for k, s in zip((5, 50), shared, strict=True)
            }
        yield row


def run(device: str, quick: bool) -> Iterator[dict]:
    """Five rows without aims; a quick run has tiny sizes, and may be on the CPU."""
    size = QUICK if quick else FULL
    yield ranking(device, size)
    yield sweep(device, size)
    yield head_in_a_graph(device, size)
    yield from precisions(device, size)
