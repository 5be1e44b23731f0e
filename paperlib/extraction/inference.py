"""Faster forward passes for extraction: a copy with folded batch norms, and micro-batches."""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Images per forward pass on the CPU, so that activations stay in the caches: 64, or 4 of 224 x 224
IMAGES_AT_ONCE, VALUES_AT_ONCE = 64, 4 * 3 * 224 * 224
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def inference_copy(
    model: nn.Module, keep: Sequence[str] = (), *, channels_last: bool = True
) -> nn.Module:
    """A copy of a network in eval mode that computes the same outputs, up to rounding, faster.

    BN(W * x + b) = (s W) * x + (s (b - mean) + shift),  s = scale / sqrt(variance + eps)

    A batch norm that alone reads a convolution is folded into it, where nothing else reads the
    weights; module names stay, and the outputs of the modules named in `keep`.  With
    `channels_last` weights lie so, which the CPU and lower precisions like.  A network that cannot
    be traced keeps its batch norms, and so does one of lower precision, where folding would round;
    one that cannot be copied is returned as it is.
    Raises ValueError for lazy layers that have no weights yet.
    """
    try:
        copy = deepcopy(model).eval()
    except Exception:  # whatever the user's own module raises
        return model
    if any(map(is_lazy, copy.parameters())):
        raise ValueError("the network has lazy layers without weights: run it on one batch first")
    if not is_half(copy):
        for convolution, norm in _foldable(copy, keep):
            pair: tuple[Any, Any] = copy.get_submodule(convolution), copy.get_submodule(norm)
            copy.set_submodule(convolution, fuse_conv_bn_eval(*pair))
            copy.set_submodule(norm, _passing(pair[1]))
    return copy.to(memory_format=torch.channels_last) if channels_last else copy


def _passing(norm: nn.Module) -> nn.Module:
    """What gives its input back, and holds what a forward pass may read of a batch norm."""
    identity = nn.Identity()
    vars(identity).update(vars(norm))
    return identity


def is_half(model: nn.Module) -> bool:
    """Whether any weight of a network is bfloat16 or float16."""
    return any(weight.dtype in (torch.bfloat16, torch.float16) for weight in model.parameters())


def _foldable(model: nn.Module, keep: Sequence[str]) -> list[tuple[str, str]]:
    """Names of (convolution, batch norm) where nothing else can see what passes between them."""
    try:
        nodes = fx.Tracer().trace(model).nodes
    except Exception:  # control flow that depends on the data, in a module that is not ours
        return []
    modules = dict(model.named_modules())
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    read = {id(attrgetter(node.target)(model)) for node in nodes if node.op == "get_attr"}
    pairs = []
    for norm in nodes:
        convolution = norm.args[0] if norm.op == "call_module" and norm.args else None
        if not isinstance(convolution, fx.Node) or convolution.op != "call_module":
            continue
        names = str(convolution.target), str(norm.target)
        first, second = (modules[name] for name in names)
        kinds = type(first) in CONVOLUTIONS and type(second) in NORMS
        once = len(convolution.users) == calls[names[0]] == calls[names[1]] == 1
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in (first, second))
        bare = any(id(weight) in read for weight in first.parameters())  # outside its own call
        cut = any(_inside(names[0], block) > _inside(names[1], block) for block in keep)
        if kinds and once and not (hooked or bare or cut) and second.running_mean is not None:
            pairs.append(names)
    return pairs


def _inside(name: str, block: str) -> bool:
    return f"{name}.".startswith(f"{block}.")


def micro_batches(images: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """On the CPU, cut a batch `[n, C, H, W]` to what the caches hold; on a GPU, leave it whole."""
    if device.type != "cpu":
        return (images,)
    return images.split(min(IMAGES_AT_ONCE, max(1, VALUES_AT_ONCE // images[0].numel())))
