"""Networks and images by name, weights that are checked, and the head of any classifier."""

from paperlib.networks.by_name import (
    PretrainedNetwork,
    find_checkpoint,
    load_from_zoo,
    load_network,
)
from paperlib.networks.cifar import (
    BasicBlock,
    CifarResNet,
    ZeroPadding,
    projection,
    untrained_model,
)
from paperlib.networks.cifar_runs import RUNS, Run, cifar_transform
from paperlib.networks.datasets import (
    ImageFolder,
    ImageNetFolder,
    UnreadableImageError,
    imagenet_ids,
    load_dataset,
    read_image,
)
from paperlib.networks.efficientnet_lite import LITES, Lite, load_efficientnet_lite
from paperlib.networks.head import Head, residual_blocks, split_head
