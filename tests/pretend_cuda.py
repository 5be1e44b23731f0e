"""A pretended GPU: tensors that say they lie on `cuda:0` and hold their values on the CPU.

What a GPU refuses, they refuse: operands on two devices, and NumPy.  Unlike PyTorch's fake tensors
they have values, so that code whose path depends on the data runs too, to the CPU's own results.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

# What asks the driver for its device, to put a number there: run on the values themselves
NUMBERS = {"where", "one_hot", "as_tensor", "__getitem__", "__setitem__"}
# What takes operands of both devices: copies, and indexing by indices that lie on the CPU
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "__getitem__", "__setitem__"}
MIXED = INDEXING | {"copy_", "_to_copy"}


class OnGpu(Tensor):
    """A tensor on the pretended GPU; `held` has its values."""

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        return Tensor._make_wrapper_subclass(
            cls, held.shape, **layout, dtype=held.dtype, device="cuda:0"
        )

    def __init__(self, held: Tensor):
        self.held = held

    def __repr__(self) -> str:
        return f"OnGpu({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        given = _on_one_device(name, args, kwargs)
        to_cpu = "device" in kwargs and kwargs["device"] == torch.device("cpu")
        if name == "copy_":
            to_cpu = not isinstance(args[0], cls)
        if kwargs.get("device") is not None:
            kwargs["device"] = "cpu"
        owners = {id(one.held): one for one in given if isinstance(one, cls)}
        result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if to_cpu:
            return args[0] if name == "copy_" else result
        return tree_map(
            lambda x: (
                (owners[id(x)] if id(x) in owners else cls(x)) if isinstance(x, Tensor) else x
            ),
            result,
        )


def _on_one_device(name: str, *arguments: object) -> list[Tensor]:
    """The tensors among arguments; raises RuntimeError where some lie on the other device."""
    given = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
    shaped = [tensor for tensor in given if tensor.ndim]
    there = [isinstance(tensor, OnGpu) for tensor in shaped]
    if name in INDEXING and there[:1] == [False] and any(there):
        raise RuntimeError(f"{name}: indices should be on the CPU, as the tensor is")
    if name not in MIXED and any(isinstance(t, OnGpu) for t in given) and not all(there):
        raise RuntimeError(f"{name}: expected all tensors on one device, found cuda and cpu")
    return given


def _held(x: object) -> object:
    return x.held if isinstance(x, OnGpu) else x


def _is_gpu(device: object) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


class _Factories(TorchFunctionMode):
    """Calls that name the GPU give tensors on the pretended one, without asking for a driver."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("to", "cuda") and args:
            named = args[1] if len(args) > 1 else kwargs.pop("device", None)
            if isinstance(named, OnGpu) or _is_gpu(named) or name == "cuda":
                kind = named.dtype if isinstance(named, OnGpu) else kwargs.pop("dtype", None)
                kind = next((x for x in args[2:] if isinstance(x, torch.dtype)), kind)
                held = _held(args[0]).to(dtype=kind) if kind else _held(args[0])
                if held is _held(args[0]) and isinstance(args[0], OnGpu):
                    return args[0]
                return OnGpu(held.detach().clone())
            if len(args) == 1 and named is not None:
                kwargs["device"] = named
        if name == "tolist":
            return func(_held(args[0]))
        if func is F.batch_norm and isinstance(args[0], OnGpu):  # else it asks for cuDNN
            x, mean, variance = args
            named = dict(zip(("running_mean", "running_var"), (mean, variance), strict=True))
            return torch.native_batch_norm(x, **named, **kwargs)[0]
        if name == "backward" and isinstance(args[0], OnGpu):
            return _backward(args[0])
        there = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, OnGpu)]
        learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in there)
        if name in NUMBERS and there and not learns:
            _on_one_device(name, args, kwargs)
            return to_gpu(func(*tree_map(_held, args), **tree_map(_held, kwargs)))
        at_home = name.startswith("new_") and isinstance(args[0], OnGpu)
        if _is_gpu(kwargs.get("device")) or (at_home and kwargs.get("device") is None):
            kwargs["device"] = "cpu"
            return OnGpu(func(*tree_map(_held, args), **tree_map(_held, kwargs)))
        return func(*args, **kwargs)


@torch.no_grad()
def _backward(loss: Tensor) -> None:
    """`loss.backward()`, a node at a time: autograd's own engine asks a driver for streams."""
    edges = {loss.grad_fn: 0}  # of every node: how many others lead to it
    found = [loss.grad_fn]
    while found:
        for node, _ in found.pop().next_functions:
            if node is not None and node not in edges:
                found.append(node)
            if node is not None:
                edges[node] = edges.get(node, 0) + 1
    gradients = {node: [None] * len(node._input_metadata) for node in edges}
    gradients[loss.grad_fn] = [torch.ones_like(loss)]
    ready = [loss.grad_fn]
    while ready:
        node = ready.pop()
        if hasattr(node, "variable"):
            leaf, (new,) = node.variable, gradients[node]
            leaf.grad = new if leaf.grad is None else leaf.grad + new
            continue
        results = node(*gradients[node])
        results = results if isinstance(results, tuple) else (results,)
        for (following, i), new in zip(node.next_functions, results, strict=True):
            if following is None:
                continue
            if new is not None:
                so_far = gradients[following][i]
                new = new.sum_to_size(following._input_metadata[i].shape)
                gradients[following][i] = new if so_far is None else so_far + new
            edges[following] -= 1
            if not edges[following]:
                ready.append(following)


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Within, `device="cuda"` and `.to("cuda")` mean the pretended GPU."""
    torch._C._ensureCUDADeviceGuardSet()  # one that does nothing where there is no GPU
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Factories():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def to_gpu(given: object) -> object:
    """The same tensors on the pretended GPU, in whatever holds them."""
    return tree_map(lambda x: OnGpu(x) if isinstance(x, Tensor) else x, given)


def to_cpu(given: object) -> object:
    """What lies on the pretended GPU, back on the CPU; raises TypeError for what is not there."""

    def back(x: object) -> object:
        if isinstance(x, Tensor) and not isinstance(x, OnGpu):
            raise TypeError(f"a result came back on the CPU: {x}")
        return _held(x)

    return tree_map(back, given)
