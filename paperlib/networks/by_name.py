"""Networks by name: published CIFAR ResNets, our own, and classifiers of torchvision and timm."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torchvision import models

from paperlib.networks.assets import fetch_checkpoint, sha256_of
from paperlib.networks.cifar_runs import PAPERS_RUN, RUNS, cifar_transform
from paperlib.networks.efficientnet_lite import LITES, load_efficientnet_lite
from paperlib.networks.trained import load_trained

LIBRARIES = ("torchvision", "timm")
RANDOM = "random"  # in place of weights: initial weights, drawn from seed 0
PAPER_WEIGHTS = "IMAGENET1K_V1"  # of torchvision; the paper's ResNet-50 is one of these


class PretrainedNetwork(NamedTuple):
    """A network ready to extract features, with the transform its training used."""

    name: str
    model: nn.Module
    transform: Callable
    checkpoint_sha256: str  # empty for random weights, and for timm, which checks its own files


def load_from_zoo(network: str) -> PretrainedNetwork:
    """A classifier of torchvision or timm in eval mode, by its name.

    - `torchvision:resnet50`: the weights IMAGENET1K_V1, those of the paper's time;
    - `torchvision:resnet50:IMAGENET1K_V2`: the weights of that name;
    - `torchvision:resnet50:random`: initial weights, drawn from seed 0;
    - `timm:NAME`, `timm:NAME:random`: likewise from timm, an optional package.

    Raises ValueError for a name or weights that the library does not have, RuntimeError for a
    file of weights with the wrong SHA-256, and ImportError where timm is not installed.
    """
    library, _, rest = network.partition(":")
    name, _, weights = rest.partition(":")
    if library not in LIBRARIES:
        raise ValueError(f"unknown library {library!r}; choose from {', '.join(LIBRARIES)}")
    load = _from_torchvision if library == "torchvision" else _from_timm
    model, transform, digest = load(name, weights)
    return PretrainedNetwork(network, model.eval(), transform, digest)


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _check_name(library: str, name: str, known: list[str]) -> None:
    if name not in known:
        choices = get_close_matches(name, known, n=10, cutoff=0.4) or known[:10]
        raise ValueError(f"{library} has no {name!r}; the closest are {', '.join(choices)}")


@contextmanager
def _files_in(folder: Path) -> Iterator[None]:
    """Let torchvision find `checkpoints/<file>` in a folder, and read tensors only, no pickles."""
    folder_before, variable = torch.hub.get_dir(), "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    value_before = os.environ.get(variable, "0")
    torch.hub.set_dir(str(folder))
    os.environ[variable] = "1"
    try:
        yield
    finally:
        torch.hub.set_dir(folder_before)
        os.environ[variable] = value_before


def _from_torchvision(name: str, weights: str) -> tuple[nn.Module, Callable, str]:
    _check_name("torchvision", name, models.list_models(module=models))
    known = models.get_model_weights(name).__members__
    chosen = known.get(PAPER_WEIGHTS if weights in ("", RANDOM) else weights)
    if chosen is None:
        choices = ", ".join([*known, RANDOM])
        raise ValueError(f"torchvision's {name} has no weights {weights!r}; choose from {choices}")
    builder = models.get_model_builder(name)
    if weights == RANDOM:
        with _seeded():
            return (
                builder(weights=None, **_without_auxiliary_heads(builder)),
                chosen.transforms(),
                "",
            )
    path = fetch_checkpoint(chosen.url, Path(chosen.url).stem.rpartition("-")[2])
    with _files_in(path.parent.parent):
        model = builder(weights=chosen, progress=False)
    if getattr(model, "aux_logits", False):  # Inception keeps its auxiliary head
        model.aux_logits, model.AuxLogits = False, None
    return model, chosen.transforms(), sha256_of(path)


def _without_auxiliary_heads(builder: Callable) -> dict[str, bool]:
    """Arguments for GoogLeNet and Inception, which have such heads; none for the others."""
    if builder in (models.googlenet, models.inception_v3):
        return {"aux_logits": False, "init_weights": True}
    return {}


def _from_timm(name: str, weights: str) -> tuple[nn.Module, Callable, str]:
    try:
        import timm
    except ImportError as error:
        raise ImportError("timm is not installed: pip install 'paperlib[timm]'") from error
    _check_name("timm", name.partition(".")[0], timm.list_models())
    if weights not in ("", RANDOM):
        raise ValueError(
            f"timm names weights as NAME.TAG, not {weights!r}; choose timm:{name} or "
            f"timm:{name}:{RANDOM}"
        )
    with _seeded():
        model = timm.create_model(name, pretrained=weights != RANDOM)
    settings = timm.data.resolve_model_data_config(model)
    return model, timm.data.create_transform(**settings, is_training=False), ""


CIFAR_NAMES = [name for name in RUNS if ":" not in name]
NAMES = (
    *CIFAR_NAMES,
    "resnet20:RUN",
    "trained:FILE",
    *LITES,
    "torchvision:NAME[:WEIGHTS | :random]",
    "timm:NAME[:random]",
)


def load_network(network: str) -> PretrainedNetwork:
    """A classifier in eval mode with its weights, loaded strictly and without pickle.

    - `resnet20`, ..., `resnet1202`: the checkpoint that the paper started from;
    - `resnet20:segura`, ...: another published training run (`networks/cifar_runs.csv`);
    - `trained:FILE`: what `python -m experiments train` made;
    - `efficientnet-lite0`, 1 and 2: of ImageNet, with the extra `imagenet-demo`;
    - others as `load_from_zoo` names them.

    Raises ValueError for an unknown name, RuntimeError for a file with the wrong SHA-256, and what
    `load_from_zoo` and `load_efficientnet_lite` raise.
    """
    kind, _, rest = network.partition(":")
    if kind in LIBRARIES:
        return load_from_zoo(network)
    if network in LITES:
        return PretrainedNetwork(network, *load_efficientnet_lite(network))
    if kind == "trained" and rest:
        model, normalisation = load_trained(rest)
        return PretrainedNetwork(
            network, model, cifar_transform(normalisation), sha256_of(Path(rest))
        )
    path = find_checkpoint(network)
    run = RUNS[network.removesuffix(f":{PAPERS_RUN}")]
    transform = cifar_transform(run.normalisation)
    return PretrainedNetwork(network, run.load(path), transform, sha256_of(path))


def find_checkpoint(network: str) -> Path:
    """The file of a published run: from the assets, the cache, or downloaded to the cache.

    Raises ValueError for an unknown network, and RuntimeError where the file's SHA-256 is another.
    """
    kind, _, rest = network.partition(":")
    if run := RUNS.get(network.removesuffix(f":{PAPERS_RUN}")):
        return run.fetch()
    if rest and kind in CIFAR_NAMES:
        known = [run.run for run in RUNS.values() if run.network == kind]
        raise ValueError(f"{kind} has no run {rest!r}; choose from {', '.join(known)}")
    raise ValueError(f"unknown network {network!r}; choose from {', '.join(NAMES)}")
