"""Where a classifier holds its final layer, and its residual blocks."""

from typing import NamedTuple

from torch import nn
from torchvision.models import resnet

from paperlib.heads.decomposed import DecomposedHead
from paperlib.networks.cifar import BasicBlock

FinalLayer = nn.Linear | DecomposedHead  # what a final layer can be


class Head(NamedTuple):
    """The final linear layer and the name under which the network holds it."""

    name: str
    module: FinalLayer


def split_head(model: nn.Module, name: str | None = None) -> Head:
    """The final `nn.Linear` or `DecomposedHead`: the one named, or the last one registered.

    Extraction verifies on real images that its output is the network's output.  Raises
    ValueError that lists the modules looked at where there is no such layer, TypeError for what
    is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"a model must be an nn.Module, not {type(model).__name__}")
    modules = {key: module for key, module in model.named_modules() if key}
    linear = [key for key, module in modules.items() if isinstance(module, FinalLayer)]
    if name is None and linear:
        name = linear[-1]
    if name is None or name not in linear:
        wanted = "no nn.Linear" if name is None else f"no nn.Linear named {name!r}"
        looked_at = linear or [f"{key} ({type(m).__name__})" for key, m in modules.items()]
        raise ValueError(
            f"{type(model).__name__} has {wanted}; modules looked at: "
            f"{', '.join(looked_at[-30:]) or 'none, it has no modules within'}"
        )
    return Head(name, modules[name])


def residual_blocks(model: nn.Module) -> list[str]:
    """Names of the residual blocks of a CIFAR or torchvision ResNet, from input to output.

    Raises ValueError for a network without such blocks.
    """
    kinds = (BasicBlock, resnet.BasicBlock, resnet.Bottleneck)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    if not names:
        raise ValueError(f"{type(model).__name__} has no residual blocks; name its blocks instead")
    return names
