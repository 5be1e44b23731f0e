"""What the paper's authors published for ResNet-20 on CIFAR-10: figures and filter subsets.

Facts that came with arXiv 2112.07719; the classes are in CIFAR-10's label order.  Their 1000 x 50
subsets for ResNet-50 are not repeated here, but read where the user has them.
"""

import json
from collections.abc import Sequence

from paperlib.networks.assets import find_asset

# Test accuracy in percent on all 10,000 images, as the paper reports it for ResNet-20.
RESNET20_ACCURACY = {
    "full network": 91.71,
    "decomposed, k = 5": 88.59,
    "decomposed, k = 5, one epoch of fine-tuning": (91.3, 91.4),
    "decomposed, k = 5, best fine-tuning": (91.5, 91.6),
}

# Mean mutual information of the classes' subsets at k = 5, nats, self-pairs included.
RESNET20_MUTUAL_INFORMATION = {"paper": 0.0345378, "CSG, lowest gates": 0.0375091}

# Influential filters of each class, by k.
RESNET20_SUBSETS = {
    5: [
        [7, 23, 54, 50, 22],
        [9, 47, 40, 55, 6],
        [1, 23, 13, 61, 53],
        [17, 57, 49, 53, 59],
        [46, 48, 57, 61, 25],
        [63, 37, 13, 42, 49],
        [56, 52, 9, 48, 61],
        [53, 16, 25, 0, 56],
        [9, 2, 29, 21, 22],
        [21, 8, 55, 54, 40],
    ],
    10: [
        [22, 50, 7, 23, 44, 1, 54, 47, 41, 36],
        [6, 55, 40, 47, 9, 54, 2, 0, 7, 41],
        [53, 61, 13, 45, 23, 1, 17, 35, 27, 11],
        [59, 53, 49, 57, 17, 11, 20, 41, 37, 0],
        [25, 57, 48, 46, 61, 43, 42, 50, 17, 51],
        [49, 42, 13, 10, 37, 63, 48, 59, 0, 11],
        [61, 48, 9, 15, 52, 39, 56, 13, 34, 20],
        [56, 0, 25, 16, 53, 10, 32, 37, 42, 43],
        [22, 21, 29, 2, 9, 36, 41, 46, 1, 47],
        [40, 54, 55, 8, 21, 16, 6, 39, 1, 9],
    ],
    20: [
        [22, 7, 44, 23, 50, 1, 47, 41, 54, 39, 36, 58, 45, 11, 35, 51, 59, 31, 28, 16],
        [6, 55, 9, 40, 47, 54, 0, 2, 7, 15, 41, 38, 26, 63, 56, 58, 57, 25, 43, 51],
        [53, 35, 45, 17, 61, 13, 23, 1, 27, 11, 51, 33, 10, 58, 38, 39, 7, 44, 19, 18],
        [59, 49, 53, 57, 17, 11, 20, 30, 41, 0, 32, 37, 51, 48, 8, 26, 62, 31, 19, 42],
        [25, 48, 57, 46, 43, 61, 51, 42, 17, 38, 50, 11, 45, 47, 1, 8, 5, 10, 0, 29],
        [49, 42, 10, 37, 13, 63, 48, 11, 0, 59, 36, 28, 52, 27, 26, 4, 53, 6, 23, 35],
        [61, 48, 9, 15, 39, 52, 56, 34, 51, 13, 20, 62, 14, 30, 49, 35, 59, 43, 38, 17],
        [56, 0, 16, 25, 32, 53, 10, 43, 42, 33, 37, 35, 34, 58, 45, 46, 31, 7, 50, 28],
        [22, 21, 29, 9, 2, 36, 41, 46, 4, 1, 47, 44, 31, 39, 10, 50, 56, 51, 52, 58],
        [40, 55, 54, 8, 21, 16, 6, 1, 39, 31, 37, 9, 43, 58, 46, 29, 23, 33, 41, 22],
    ],
}

# Filters of class-specific-gate (CSG) training (Liang et al., ECCV 2020) that the authors compared
# with, k = 5: "lowest gates" is what they published, "highest gates" is read off their checkpoint.
RESNET20_CSG_SUBSETS = {
    "lowest gates": [
        [31, 32, 42, 44, 22],
        [36, 29, 18, 40, 34],
        [58, 31, 46, 44, 26],
        [30, 31, 35, 46, 13],
        [39, 24, 40, 43, 62],
        [39, 34, 24, 12, 28],
        [34, 41, 38, 31, 12],
        [3, 46, 27, 44, 10],
        [16, 37, 47, 29, 27],
        [32, 30, 36, 61, 31],
    ],
    "highest gates": [
        [28, 38, 16, 43, 10],
        [46, 14, 10, 44, 63],
        [21, 52, 30, 29, 16],
        [29, 2, 19, 37, 34],
        [15, 23, 16, 42, 11],
        [29, 53, 37, 25, 22],
        [27, 32, 29, 18, 42],
        [33, 38, 31, 23, 63],
        [28, 57, 1, 13, 39],
        [39, 26, 43, 46, 12],
    ],
}


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
