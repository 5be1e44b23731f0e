"""What modules see and give during a forward pass, by hooks that are always removed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn


@contextmanager
def captured_inputs(head: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the input of every call of `head`; the hook is removed whatever happens."""
    inputs: list[Tensor] = []
    hook = head.register_forward_pre_hook(
        lambda _, args, named: inputs.append((*args, *named.values())[0]), with_kwargs=True
    )
    try:
        yield inputs
    finally:
        hook.remove()


def _pool(name: str, pooled: dict[str, Tensor], module: nn.Module, _, output: Tensor) -> None:
    """Forward hook: keep `[n, D_l, H, W]` averaged over positions, or `[n, D_l]` as it is."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 4):
        found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"block {name!r} must give [n, D] or [n, D, H, W]; it gave {found}")
    if name in pooled:
        raise ValueError(f"block {name!r} ({type(module).__name__}) runs twice in a forward pass")
    if output.ndim == 4:
        pooled[name] = output.float().mean(dim=(2, 3))
    else:  # a copy: what follows may work in place, as AlexNet's ReLUs do
        pooled[name] = output.to(torch.float32, copy=True)


@contextmanager
def pooled_outputs(blocks: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect the pooled output `[n, D_l]` of every block; hooks are removed whatever happens."""
    pooled: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, module in blocks.items():
            hooks.enter_context(module.register_forward_hook(partial(_pool, name, pooled)))
        yield pooled


def named_blocks(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules of these names; raises ValueError that lists the valid ones."""
    modules = {name: module for name, module in model.named_modules() if name}
    if unknown := sorted(set(names) - set(modules)):
        valid = ", ".join(modules)
        raise ValueError(f"{type(model).__name__} has no module {unknown}; choose from {valid}")
    return {name: modules[name] for name in names}
