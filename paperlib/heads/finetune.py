"""Fine-tuning of the whole network by the decomposed softmax: the paper's own remedy."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from paperlib.filters.tensors import Subsets
from paperlib.heads.decomposed import DecomposedHead
from paperlib.seeds import torch_generator


def finetune_network(
    model: nn.Module,
    head_name: str,
    subsets: Subsets,
    dataset: Dataset,
    *,
    epochs: int = 1,
    learning_rate: float = 1e-2,
    weight_decay: float = 1e-4,
    batch_size: int = 128,
    device: torch.device | str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> nn.Module:
    """Train a copy of the whole network by the decomposed softmax (SGD, momentum 0.9, cosine).

    `dataset` yields (image, label); `head_name` names the final layer, which the copy holds as a
    `DecomposedHead`.  It runs in training mode, so batch norms learn their statistics anew; a layer
    without a bias gets one.  A last batch of one image is left out, for it has no variance.
    `device` "auto" is the GPU where there is one.  Returns the copy in eval mode, on that device.
    Raises ValueError for epochs below 1 or no rate.
    Source: the paper's fine-tuning, arXiv 2112.07719.
    """
    if epochs < 1 or learning_rate <= 0:
        raise ValueError(f"epochs ({epochs}) and learning_rate ({learning_rate}) must be positive")
    device = _device(device)
    tuned = deepcopy(model).to(device).train()
    dense: Any = tuned.get_submodule(head_name)
    bias = dense.weight.new_zeros(len(dense.weight)) if dense.bias is None else dense.bias
    tuned.set_submodule(head_name, DecomposedHead(dense.weight, bias, subsets))
    number = len(dataset)  # type: ignore[arg-type]  # torch's Dataset declares no length
    loader = DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        pin_memory=device.type == "cuda",
        drop_last=number % batch_size == 1 < number,
        generator=torch_generator(seed),
    )
    optimizer = torch.optim.SGD(
        tuned.parameters(), learning_rate, momentum=0.9, weight_decay=weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    with tqdm(total=epochs * number, unit="image", disable=not progress) as bar:
        for _ in range(epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                x, y = (part.to(device, non_blocking=True) for part in (images, labels))
                F.cross_entropy(tuned(x), y).backward()
                optimizer.step()
                schedule.step()
                bar.update(len(labels))
    return tuned.eval()


@torch.no_grad()  # inference mode would leave parameters that cannot learn
def correct_images(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 128,
    device: torch.device | str = "auto",
) -> Tensor:
    """`[N] bool`, on the CPU: which images of (image, label) a network classifies correctly.

    The network runs in eval mode on `device` and comes back as it was.
    """
    device, home = _device(device), next(model.parameters()).device
    training = [module for module in model.modules() if module.training]
    batches = DataLoader(dataset, batch_size, pin_memory=device.type == "cuda")
    try:
        model.to(device).eval()
        picked = [(model(x.to(device, non_blocking=True)).argmax(dim=1), y) for x, y in batches]
        return torch.cat([classes.cpu() == y for classes, y in picked])
    finally:
        model.to(home)
        for module in training:
            module.training = True


def _device(device: torch.device | str) -> torch.device:
    gpu = torch.cuda.is_available()
    return torch.device(("cuda" if gpu else "cpu") if device == "auto" else device)
