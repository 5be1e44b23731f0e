"""Fine-tuning of the whole network by the decomposed softmax: the paper's own remedy."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from paperlib.heads.decomposed import DecomposedHead
from paperlib.subsets.order import Subsets


def finetune_network(
    model: nn.Module,
    head_name: str,
    subsets: Subsets,
    dataset: Dataset,
    *,
    epochs: int = 1,
    learning_rate: float = 1e-2,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: bool = True,
) -> nn.Module:
    """Train a copy of the whole network by the decomposed softmax (SGD, momentum 0.9, cosine).

    `dataset` yields (image, label); `head_name` names the final layer, which the copy holds as a
    `DecomposedHead`.  Batch statistics stay frozen: a short run at a small rate would only blur
    them.  Returns the copy in eval mode.  Raises ValueError for epochs below 1 or no rate.
    Source: the paper's fine-tuning, arXiv 2112.07719.
    """
    if epochs < 1 or learning_rate <= 0:
        raise ValueError(f"epochs ({epochs}) and learning_rate ({learning_rate}) must be positive")
    tuned = deepcopy(model).to(device).eval()
    dense = tuned.get_submodule(head_name)
    tuned.set_submodule(head_name, DecomposedHead(dense.weight, dense.bias, subsets))
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(dataset, batch_size, shuffle=True, generator=generator)
    optimizer = torch.optim.SGD(tuned.parameters(), lr=learning_rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    with tqdm(total=epochs * len(dataset), unit="image", disable=not progress) as bar:
        for _ in range(epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(tuned(images.to(device)), labels.to(device)).backward()
                optimizer.step()
                schedule.step()
                bar.update(len(labels))
    return tuned


@torch.inference_mode()
def correct_images(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
) -> Tensor:
    """`[N] bool`: which images of a dataset of (image, label) a network classifies correctly."""
    model = model.to(device).eval()
    batches = DataLoader(dataset, batch_size)
    return torch.cat([model(x.to(device)).argmax(dim=1).cpu() == y for x, y in batches])
