"""The decomposed head: a linear layer in which each class reads only its own filters."""

import re
from collections.abc import Iterable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperlib.filters.tensors import Subsets, membership, subset_tensors

LARGE_HEAD = 2**18  # C * D from which a sparse product is faster than a dense one, where ...
SPARSE = 8  # ... at most one weight in so many is kept
FEW, MANY = 6, 64  # images below which compiled code is fastest; images that a product takes
EDIT = re.compile(r"(?!__).*_|__(set|setitem|i(?!ter)\w+)__")  # functions that change a tensor
LOST = (
    "the weights of a DecomposedHead lie in `values`; its `weight` is a copy, so this edit would "
    "be lost: edit `values`, of the classes and filters `kept`, or take the head without(filters)"
)


def check_head(weight: Tensor, bias: Tensor) -> None:
    """Raise ValueError unless a weight `[C, D]` and a bias `[C]` are finite tensors that fit."""
    parts = (weight, bias)
    shapes = [list(p.shape) if isinstance(p, Tensor) else type(p).__name__ for p in parts]
    if not all(isinstance(p, Tensor) for p in parts) or (
        weight.ndim != 2 or bias.shape != weight.shape[:1]
    ):
        raise ValueError(
            f"a head has a weight [C, D] and a bias [C]; got {shapes[0]} and {shapes[1]}"
        )
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise ValueError("the head holds NaN or infinity")


class DenseWeight(Tensor):
    """A copy of a head's weights; an edit of it or of its views would be lost: RuntimeError."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None) -> Any:
        first = (*args, *(kwargs or {}).values())[0]
        ours = isinstance(first, cls)
        if ours and EDIT.fullmatch(func.__name__):
            raise RuntimeError(LOST)  # a TypeError would turn `w += 1` into `w = w + 1`
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **(kwargs or {}))
            if not ours or func.__name__ == "detach":
                return out
            memory = first.untyped_storage().data_ptr()

            def guarded(part: Any) -> Any:
                view = isinstance(part, Tensor) and part.untyped_storage().data_ptr() == memory
                return part.as_subclass(cls) if view else part

            return tuple(map(guarded, out)) if type(out) is tuple else guarded(out)


class DecomposedHead(nn.Module):
    """A linear layer cut to the filters of each class; a drop-in for the dense head.

    logit_c = b_c + sum_{j in I_c} W[c, j] x_j

    `weight: [C, D]`, `bias: [C]` and `subsets` (one index tensor per class) -> a module from
    `[N, D]` to `[N, C]`.  Only the kept weights are parameters (`values`), so training cannot
    revive the others; they lie in compressed sparse rows.  Training multiplies by the dense
    matrix, as do small heads and GPUs, which keep it while no gradients are asked for (until
    `values` change; a GPU does not see changes through `.data`).  A large head with an eighth of
    its weights or less, on the CPU, in float32 and under `no_grad` or `inference_mode`, reads only
    what is kept (the same logits to rounding).  It can be trained wherever it was made, and loads
    any number of kept weights.  For ONNX, export `to_linear()`.  Raises ValueError for indices
    outside 0..D-1 and for a weight and a bias that are not finite or do not fit.
    """

    columns: Tensor
    classes: Tensor
    starts: Tensor

    @torch.inference_mode(False)
    def __init__(self, weight: Tensor, bias: Tensor, subsets: Subsets):
        super().__init__()
        check_head(weight, bias)
        self.out_features, self.in_features = weight.shape
        member = membership(subsets, self.in_features, self.out_features).to(weight.device)
        classes, columns = member.nonzero(as_tuple=True)
        sizes = torch.bincount(classes, minlength=self.out_features)
        self.register_buffer("columns", columns.int())
        self.register_buffer("classes", classes.int(), persistent=False)  # follows from `starts`
        self.register_buffer("starts", F.pad(sizes.cumsum(dim=0), (1, 0)).int())
        self.values = nn.Parameter(weight.detach()[classes, columns])
        self.bias = nn.Parameter(bias.detach().clone())
        self._views: tuple[tuple, list] | None = None  # where the sparse rows lie, and NumPy's view
        self._read_rows()
        self.register_load_state_dict_pre_hook(_make_room)
        self.register_load_state_dict_post_hook(type(self)._read_rows)

    def _read_rows(self, *_: object) -> None:
        """The class of each kept weight, from rows that must be a head's, and what follows."""
        starts, columns, kept = self.starts.long(), self.columns, len(self.values)
        sizes = starts.diff()
        whole = starts[0] == 0 and starts[-1] == kept and (sizes >= 0).all()
        if not whole or (kept and not 0 <= columns.min() <= columns.max() < self.in_features):
            raise ValueError(f"the state dict holds no rows of {self.in_features} filters")
        classes = torch.arange(self.out_features, device=sizes.device)
        self.classes = classes.repeat_interleave(sizes).int()
        self.sparse = self.out_features * self.in_features >= max(LARGE_HEAD, SPARSE * kept)
        self._cached: tuple[tuple, Tensor, Tensor] | None = None  # the dense matrix and its origin

    @property
    def kept(self) -> tuple[Tensor, Tensor]:
        """Class and filter of every kept weight, both `[kept] int64`, in the order of `values`."""
        return self.classes.long(), self.columns.long()

    @property
    def weight(self) -> Tensor:
        """A dense `[C, D]` copy, zero outside each class's subset; RuntimeError for an edit."""
        dense = self._scattered()
        return dense.as_subclass(DenseWeight) if type(dense) is Tensor else dense

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise AttributeError(LOST)
        super().__setattr__(name, value)

    def without(self, filters: Iterable[int]) -> Self:
        """This head where no class reads these filters; ValueError for a filter outside 0..D-1."""
        (out,) = membership(subset_tensors([filters]), self.in_features).to(self.values.device)
        classes, columns = self.kept
        left = ~out[columns]
        sizes = torch.bincount(classes[left], minlength=self.out_features)
        return type(self)(self.weight, self.bias, columns[left].split(sizes.tolist()))

    def to_linear(self) -> nn.Linear:
        """A dense layer of the same logits; to train it revives the weights that were cut."""
        like = {"device": self.values.device, "dtype": self.values.dtype}
        dense = nn.utils.skip_init(nn.Linear, self.in_features, self.out_features, **like)
        with torch.no_grad():
            dense.weight.copy_(self._scattered())
            dense.bias.copy_(self.bias)
        return dense

    def _scattered(self) -> Tensor:
        dense = self.values.new_zeros(self.out_features, self.in_features)
        return dense.index_put(self.kept, self.values)

    def _dense(self) -> Tensor:
        """The dense matrix; without gradients built once, for as long as `values` stay the same."""
        values = self._parameters.get("values")
        if not isinstance(values, nn.Parameter) or values.is_inference():  # pruned, a replica, ...
            return self._scattered()
        if values.requires_grad and torch.is_grad_enabled():
            return self._scattered()
        known, cached = (values.data_ptr(), values._version, values.dtype), self._cached
        # An edit through `.data` shows in nothing but the values; to look, a GPU would have to wait
        if cached and cached[0] == known and (not values.is_cpu or values.equal(cached[1])):
            return cached[2]
        with torch.inference_mode(False), torch.no_grad():
            held = values.detach()  # a GPU's memory must not be given to others meanwhile
            self._cached = known, held.clone() if held.is_cpu else held, self._scattered()
        return self._cached[2]

    def _arrays(self) -> list:
        """NumPy's view of the sparse rows, for as long as they lie where they lay."""
        held: dict[str, Any] = self._buffers  # sooner found than as attributes
        learned: dict[str, Any] = self._parameters
        sparse_rows = held["starts"], held["columns"], learned["values"], learned["bias"]
        places = tuple(tensor.data_ptr() for tensor in sparse_rows)
        if self._views is None or self._views[0] != places:
            self._views = places, [tensor.detach().numpy() for tensor in sparse_rows]
        return self._views[1]

    def __getstate__(self) -> dict:
        return vars(self) | {"_cached": None, "_views": None}

    def reads_only_kept(self, x: Tensor) -> bool:
        """Whether `forward(x)` takes the sparse product."""
        if not self.sparse:
            return False
        values = self.values
        learns = torch.is_grad_enabled() and (
            x.requires_grad or values.requires_grad or self.bias.requires_grad
        )
        float32_on_cpu = x.is_cpu and values.is_cpu and x.dtype == values.dtype == torch.float32
        return float32_on_cpu and not learns and x.ndim == 2 and x.shape[1] == self.in_features

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return F.linear(x, self._scattered(), self.bias)
        if x.shape[-1] != self.in_features:
            raise ValueError(f"the head reads {self.in_features} features, got {x.shape[-1]}")
        if not self.reads_only_kept(x):
            bias = self._parameters.get("bias")  # sooner found than as an attribute
            return F.linear(x, self._dense(), self.bias if bias is None else bias)
        if len(x) < FEW:
            from paperlib.heads.sparse import sparse_logits  # numba is slow to import

            return sparse_logits(x, *self._arrays())
        logits = x.new_empty(len(x), self.out_features)
        for part, out in zip(x.split(MANY), logits.split(MANY), strict=True):
            product = sparse_product(part, self.starts, self.columns, self.values)
            torch.add(product.T, self.bias, out=out)
        return logits

    def extra_repr(self) -> str:
        kept = len(self.values) / self.out_features
        return f"filters={self.in_features}, classes={self.out_features}, mean kept={kept:g}"


def _make_room(head: DecomposedHead, state: dict, prefix: str, *_: object) -> None:
    """Before `load_state_dict`: as many kept weights as the state brings."""
    names = [prefix + name for name in ("starts", "values", "columns")]
    given = [state[name] for name in names if state.get(name) is not None]
    if len(given) < len(names) or given[0].shape != head.starts.shape:
        return  # loading says what is wrong
    for held, new in zip((head.values, head.columns), given[1:], strict=True):
        if new.shape != held.shape:
            held.data = held.new_empty(new.shape)


def sparse_product(x: Tensor, starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """`[R, n]`: V x^T for sparse rows V; a bag a row, of rows of x^T, weighted and summed."""
    return F.embedding_bag(
        columns,
        x.T.contiguous(),
        starts,
        mode="sum",
        per_sample_weights=values,
        include_last_offset=True,
    )
