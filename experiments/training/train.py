"""Training a CIFAR ResNet: resumable after any epoch, the same for a seed on one device."""

import json
import math
import platform
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import SGD
from torchvision.datasets import VisionDataset
from tqdm import tqdm

from experiments.training.batches import NORMALISATION, Batches
from experiments.training.recipe import Recipe
from paperlib.extraction.forward import exact_arithmetic
from paperlib.networks.cifar import CifarResNet
from paperlib.networks.trained import PREFIX, RECORD_KEY, check_digest, read_record
from paperlib.store import TensorStream, record_sha256, write_tensors, write_text

MOMENTUM = "momentum."  # prefix of the optimiser's tensors in the file of an unfinished run


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says what to do."""


def train(
    recipe: Recipe,
    train_images: VisionDataset,
    test_images: VisionDataset,
    out: str | Path,
    device: torch.device,
    *,
    progress: bool = True,
) -> Path:
    """Train a network and save it: `out`, a .safetensors file, and its record beside it as JSON.

    min over w of mean_n -log softmax(f_w(x_n))[y_n] + weight decay / 2 |w|^2

    After every epoch the state is kept in `out` with the suffix `.state.safetensors`; the same call
    goes on from there, to the same network bit for bit on the same device and number of threads.
    Images are datasets of (PIL image of 32 x 32, label).  Raises TrainingError where the state is
    another recipe's or the loss or an output is not finite, ValueError for unusable images.
    """
    out = Path(out)
    state = out.with_suffix(".state.safetensors")
    batches = Batches(train_images, device, recipe.images)
    test = Batches(test_images, device)
    model, optimizer, history = _start(recipe, len(train_images.classes), state, device)
    steps = -(-len(batches) // recipe.batch_size)
    bar = tqdm(
        total=recipe.epochs,
        initial=len(history),
        desc=recipe.name,
        unit="epoch",
        disable=not progress,
    )
    with exact_arithmetic(), bar:
        for epoch in range(len(history), recipe.epochs):
            loss, right = 0.0, 0
            for i, (x, y) in enumerate(batches.epoch(recipe.seed, epoch, recipe.batch_size)):
                rate = recipe.rate(epoch * steps + i, steps)
                now, correct = _step(model, optimizer, x, y, rate)
                loss, right = loss + now * len(y), right + correct
            accuracy = _accuracy(model, test)
            if not math.isfinite(float(loss) + accuracy):
                raise TrainingError(
                    f"{recipe.name} diverges in epoch {epoch + 1}: its loss is {float(loss):g}, "
                    f"its test accuracy {accuracy:g}; try a lower learning rate"
                )
            row = {
                "epoch": epoch + 1,
                "loss": round(float(loss) / len(batches), 6),
                "train accuracy, %": round(100 * int(right) / len(batches), 3),
                "test accuracy, %": round(accuracy, 3),
            }
            history.append(row)
            _save(state, model, _record(recipe, history, device, batches, test), optimizer)
            bar.update()
            bar.set_postfix(loss=row["loss"], test=row["test accuracy, %"])
    record = _record(recipe, history, device, batches, test)
    write_text(out.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    _save(out, model, record)
    state.unlink()
    return out


def _step(
    model: nn.Module, optimizer: SGD, x: Tensor, y: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """One step of descent; the batch's mean loss and correct images, left on the device."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach(), (logits.detach().argmax(dim=1) == y).sum()


@torch.inference_mode()
def _accuracy(model: nn.Module, images: Batches) -> float:
    """The share of images that a network classifies correctly; NaN for outputs not finite."""
    model.eval()
    logits = torch.cat([model(x) for x, _ in images.in_order()])
    model.train()
    right = (logits.argmax(dim=1) == images.labels).sum()
    return 100 * int(right) / len(images) if logits.isfinite().all() else math.nan


def _start(
    recipe: Recipe, num_classes: int, state: Path, device: torch.device
) -> tuple[CifarResNet, SGD, list[dict]]:
    """A fresh network, its optimiser and no history; or those of an unfinished run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = CifarResNet(recipe.depth, num_classes)
    model = model.to(device, memory_format=torch.channels_last).train()
    decay = recipe.weight_decay
    optimizer = SGD(model.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=decay)
    if not state.exists():
        return model, optimizer, []
    try:
        record = read_record(state)
        with safe_open(state, framework="pt", device=str(device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_digest(state, tensors, record)
    except (SafetensorError, ValueError) as error:
        raise TrainingError(f"{state} cannot be read ({error}); delete it to start anew") from error
    if record["recipe"] != asdict(recipe):
        raise TrainingError(
            f"{state} belongs to another recipe, {record['recipe']}; delete it or write elsewhere"
        )
    model.load_state_dict(
        {k.removeprefix(PREFIX): t for k, t in tensors.items() if k.startswith(PREFIX)}
    )
    for name, parameter in model.named_parameters():
        kept = tensors[MOMENTUM + name].contiguous(memory_format=torch.preserve_format)
        optimizer.state[parameter]["momentum_buffer"] = kept.to(parameter).view_as(parameter)
    return model, optimizer, record["history"]


def _record(
    recipe: Recipe, history: list[dict], device: torch.device, train: Batches, test: Batches
) -> dict:
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "recipe": asdict(recipe),
        "normalisation": NORMALISATION,
        "images": {"train": len(train), "test": len(test)},
        "device": gpu or f"{device.type}, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "history": history,
    }


def _save(path: Path, model: nn.Module, record: dict, optimizer: SGD | None = None) -> None:
    tensors = {PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    if optimizer:
        for name, parameter in model.named_parameters():
            tensors[MOMENTUM + name] = optimizer.state[parameter]["momentum_buffer"]
    columns = {name: TensorStream.of(t.detach().cpu().contiguous()) for name, t in tensors.items()}
    digest = record_sha256({name: column.chunks[0] for name, column in columns.items()}, record)
    write_tensors(path, columns, {RECORD_KEY: json.dumps(record | {"sha256": digest})})
