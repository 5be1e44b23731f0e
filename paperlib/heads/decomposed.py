"""The decomposed head: a linear layer in which each class reads only its own filters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperlib.filters.tensors import Subsets, membership

LARGE_HEAD = 2**18  # C * D from which a sparse product is faster than a dense one, where ...
SPARSE = 8  # ... at most one weight in so many is kept
FEW, MANY = 6, 64  # images below which compiled code is fastest; images that a product takes


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


class DecomposedHead(nn.Module):
    """A linear layer cut to the filters of each class; a drop-in for the dense head.

    logit_c = b_c + sum_{j in I_c} W[c, j] x_j

    `weight: [C, D]`, `bias: [C]` and `subsets` (one index tensor per class) -> a module from
    `[N, D]` to `[N, C]`.  Only the kept weights are parameters (`values`), so training cannot
    revive the others; they lie in compressed sparse rows.  Training multiplies by the dense
    matrix, as do small heads and GPUs, which keep it while no gradients are asked for (until
    `values` change, but not through `.data`).  A large head with an eighth of its weights or less,
    on the CPU, in float32 and under `no_grad` or `inference_mode`, reads only what is kept (the
    same logits to rounding).  Raises ValueError for indices outside 0..D-1 and for a weight and a
    bias that are not finite or do not fit.
    """

    def __init__(self, weight: Tensor, bias: Tensor, subsets: Subsets):
        super().__init__()
        check_head(weight, bias)
        num_classes, num_filters = weight.shape
        member = membership(subsets, num_filters, num_classes).to(weight.device)
        self.num_classes, self.num_filters = num_classes, num_filters
        classes, columns = member.nonzero(as_tuple=True)
        sizes = torch.bincount(classes, minlength=self.num_classes)
        self.register_buffer("columns", columns.int())
        self.register_buffer("classes", classes.int(), persistent=False)  # follows from `starts`
        self.register_buffer("starts", F.pad(sizes.cumsum(dim=0), (1, 0)).int())
        self.values = nn.Parameter(weight.detach()[classes, columns])
        self.bias = nn.Parameter(bias.detach().clone())
        self._cached: tuple[tuple, Tensor] | None = None  # the dense matrix and what it is of
        self._views: tuple[tuple, list] | None = None  # where the sparse rows lie, and NumPy's view
        self.sparse = weight.numel() >= max(LARGE_HEAD, SPARSE * len(self.values))
        self.register_load_state_dict_post_hook(_read_rows)

    @property
    def kept(self) -> tuple[Tensor, Tensor]:
        """Class and filter of every kept weight, both `[kept] int64`, in the order of `values`."""
        return self.classes.long(), self.columns.long()

    @property
    def weight(self) -> Tensor:
        """The weights as a dense `[C, D]` matrix, zero outside each class's subset."""
        dense = self.values.new_zeros(self.num_classes, self.num_filters)
        return dense.index_put(self.kept, self.values)

    def _dense(self) -> Tensor:
        """`weight`; on a GPU under `no_grad` built once, for as long as `values` stay the same."""
        values = self.values
        fixed = values.is_cuda and not (torch.is_grad_enabled() or values.is_inference())
        if not fixed or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self.weight
        known = (id(values), values.device, values.dtype, values._version)
        if self._cached is None or self._cached[0] != known:
            self._cached = known, self.weight
        return self._cached[1]

    def _arrays(self) -> list:
        """NumPy's view of the sparse rows, for as long as they lie where they lay."""
        held, learned = self._buffers, self._parameters  # sooner found than as attributes
        sparse_rows = held["starts"], held["columns"], learned["values"], learned["bias"]
        places = tuple(tensor.data_ptr() for tensor in sparse_rows)
        if self._views is None or self._views[0] != places:
            self._views = places, [tensor.detach().numpy() for tensor in sparse_rows]
        return self._views[1]

    def __getstate__(self) -> dict:
        return vars(self) | {"_cached": None, "_views": None}

    def reads_only_kept(self, x: Tensor) -> bool:
        """Whether `forward(x)` takes the sparse product."""
        if not self.sparse or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        values = self.values
        learns = torch.is_grad_enabled() and (
            x.requires_grad or values.requires_grad or self.bias.requires_grad
        )
        float32_on_cpu = x.is_cpu and values.is_cpu and x.dtype == values.dtype == torch.float32
        return float32_on_cpu and not learns and x.ndim == 2 and x.shape[1] == self.num_filters

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_tracing() and x.shape[-1] != self.num_filters:
            raise ValueError(f"the head reads {self.num_filters} features, got {x.shape[-1]}")
        if not self.reads_only_kept(x):
            return F.linear(x, self._dense(), self.bias)
        if len(x) < FEW:
            from paperlib.heads.sparse import sparse_logits  # numba is slow to import

            return sparse_logits(x, *self._arrays())
        logits = x.new_empty(len(x), self.num_classes)
        for part, out in zip(x.split(MANY), logits.split(MANY), strict=True):
            product = sparse_product(part, self.starts, self.columns, self.values)
            torch.add(product.T, self.bias, out=out)
        return logits

    def extra_repr(self) -> str:
        kept = len(self.values) / self.num_classes
        return f"filters={self.num_filters}, classes={self.num_classes}, mean kept={kept:g}"


def _read_rows(head: DecomposedHead, _: object) -> None:
    """After `load_state_dict`: the class of each kept weight, from rows that must be a head's."""
    starts, columns = head.starts.long(), head.columns
    sizes = starts.diff()
    whole = starts[0] == 0 and starts[-1] == len(head.values) and (sizes >= 0).all()
    if not whole or (len(columns) and not 0 <= columns.min() <= columns.max() < head.num_filters):
        raise ValueError(f"the state dict holds no rows of {head.num_filters} filters")
    classes = torch.arange(head.num_classes, device=sizes.device)
    head.classes = classes.repeat_interleave(sizes).int()


def sparse_product(x: Tensor, starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """`[R, n]`: V x^T for sparse rows V; a bag a row, of rows of x^T, weighted and summed."""
    weights = {"per_sample_weights": values, "include_last_offset": True}
    return F.embedding_bag(columns, x.T.contiguous(), starts, mode="sum", **weights)
