"""What the paper's authors published for ResNet-20 on CIFAR-10: figures and filter subsets.

The facts came with arXiv 2112.07719 and are in `published.json`; the classes are in CIFAR-10's
label order.  Their 1000 x 50 subsets for ResNet-50 are not repeated there, but read where the user
has them.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from paperlib.networks.assets import find_asset

_FACTS = json.loads(Path(__file__).with_name("published.json").read_text())

# Test accuracy in percent on all 10,000 images, as the paper reports it for ResNet-20; (low, high)
# where it gives a range.
RESNET20_ACCURACY = {
    name: tuple(figure) if isinstance(figure, list) else figure
    for name, figure in _FACTS["accuracy"].items()
}

# Mean mutual information of the classes' subsets at k = 5, nats, self-pairs included.
RESNET20_MUTUAL_INFORMATION: dict[str, float] = _FACTS["mutual information"]

# Influential filters of each class, by k.
RESNET20_SUBSETS: dict[int, list[list[int]]] = {
    int(k): subsets for k, subsets in _FACTS["subsets"].items()
}

# Filters of class-specific-gate (CSG) training (Liang et al., ECCV 2020) that the authors compared
# with, k = 5: "lowest gates" is what they published, "highest gates" is read off their checkpoint.
RESNET20_CSG_SUBSETS: dict[str, list[list[int]]] = _FACTS["CSG subsets"]


def published_subsets(
    network: str, classes: Sequence[int] | None = None
) -> dict[int, list[list[int]]]:
    """The authors' subsets of a network by k, of all classes or of those given; empty if unknown.

    ResNet-50's are read from `published/resnet50_imagenet.json` in the assets, where it is there.
    """
    subsets: dict[int, list[list[int]]] = {}
    if network == "resnet20":
        subsets = RESNET20_SUBSETS
    elif network == "resnet50" and (path := find_asset("published/resnet50_imagenet.json")):
        published = json.loads(path.read_text())
        subsets = {published["k"]: published["subsets"]}
    return {k: [rows[c] for c in classes] if classes else rows for k, rows in subsets.items()}
