"""Networks by name: published CIFAR ResNets, our own, and classifiers of other libraries."""

from pathlib import Path

from paperlib.networks.assets import sha256_of
from paperlib.networks.cifar_runs import PAPERS_RUN, RUNS, cifar_transform
from paperlib.networks.efficientnet_lite import LITES, load_efficientnet_lite
from paperlib.networks.trained import load_trained
from paperlib.networks.zoo import LIBRARIES, PretrainedNetwork, load_from_zoo

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
    - `trained:FILE`: what `paperlib train` made;
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
        return PretrainedNetwork(network, model, cifar_transform(normalisation), sha256_of(rest))
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
