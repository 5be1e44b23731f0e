"""Extraction against a plain eager loop over the same images."""

from collections.abc import Iterator
from statistics import median

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader

import paperlib as pl
from benchmarks.measure import ratio, times_by_turns
from paperlib.extraction.forward import exact_arithmetic
from paperlib.networks.cifar import CifarResNet
from paperlib.networks.head import split_head


@exact_arithmetic()  # as exact as what it is compared with
@torch.no_grad()
def eager_loop(model: nn.Module, images: list, batch_size: int, device: str) -> Tensor:
    """What most write: eval mode, no gradients, a hook on the head, one batch after another."""
    features: list[Tensor] = []
    hook = split_head(model).module.register_forward_pre_hook(
        lambda _, inputs: features.append(inputs[0].cpu())
    )
    for x, _ in DataLoader(images, batch_size):
        model(x.to(device))
    hook.remove()
    return torch.cat(features)


def run(device: str, quick: bool) -> Iterator[dict]:
    """One row per network, random weights; the features must agree to 1e-4 of the largest."""
    torch.manual_seed(0)
    options = {"batch_size": 128, "device": device, "workers": 0, "progress": False}
    networks = {"ResNet-20": (CifarResNet(20), 32, 64 if quick else 4096)}
    if not quick:
        networks["ResNet-50"] = (torchvision.models.resnet50(), 224, 32)
    for name, (model, size, count) in networks.items():
        model = model.eval().to(device)
        images = [(image, 0) for image in torch.rand(count, 3, size, size)]
        calls = {
            "eager": lambda m=model, x=images: eager_loop(m, x, 128, device),
            "ours": lambda m=model, x=images: pl.extract(m, train=x, **options).features,
        }
        eager, ours = (call() for call in calls.values())
        error = ((eager - ours).abs().max() / eager.abs().max()).item()
        if error > 1e-4:
            raise RuntimeError(f"{name}: features are {error:.1e} off the eager loop's")
        times = times_by_turns(calls, device, rounds=3 if name == "ResNet-50" else 5)
        yield {
            "benchmark": f"extraction, {name}, {size} x {size}",
            "against": "an eager loop",
            "ratio": ratio(times, "eager", "ours"),
            "must": 1.4,
            "goal": None,
            "seconds": median(times["ours"]),
            "images per second": count / median(times["ours"]),
            "largest error": error,
        }
