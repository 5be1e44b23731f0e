"""Small banks of ImageNet networks on photos of ten classes, as `experiments.imagenette` makes."""

from collections.abc import Mapping
from pathlib import Path

from paperlib.bank import FeatureBank, LinearHead
from paperlib.networks.efficientnet_lite import LITES
from paperlib.store import read_compact
from reproduction.paths import data_folder

RECORD_KEY = "paperlib.imagenette"


def imagenette_path(name: str) -> Path:
    """Where the small bank of a network is."""
    return data_folder() / "imagenette" / f"{name}.safetensors"


def load_imagenette(path: Path) -> FeatureBank:
    """The bank of a file, its logits recomputed from the rounded features and weights.

    Raises FileNotFoundError, or BankError for another file.
    """
    t, record = read_compact(path, RECORD_KEY, "bank of an ImageNet network")
    head = LinearHead(t["head.weight"].float(), t["head.bias"])
    features = t["features"].float()
    logits = features @ head.weight.T + head.bias
    rest = (t["labels"].long(), t["split"], record["classes"], head)
    bank = FeatureBank(features, logits, *rest)
    bank.metadata = record["metadata"]
    return bank


def load_ten_classes() -> Mapping[str, FeatureBank]:
    """The committed banks by network, cut to the ten classes that have photos."""
    banks = {name: load_imagenette(imagenette_path(name)) for name in LITES}
    return {name: bank.without_empty_classes() for name, bank in banks.items()}
