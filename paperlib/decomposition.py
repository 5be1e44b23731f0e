"""The decomposed head, in which each class reads only its own filters, and ways to mend it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from paperlib.filters import Subsets, check_features, membership

SMALL_PROBLEM = 2**24  # N * D below which one thread is fastest, and float64 affordable
LARGE_HEAD = 2**18  # C * D from which a sparse product is faster than a dense one, where ...
SPARSE = 8  # ... at most one weight in so many is kept
FEW, MANY = 6, 64  # images below which compiled code is fastest; images that a product takes
ROWS_AT_ONCE = 8192  # images whose loss is summed at once: bounds the memory of a fit
HISTORY = 30  # gradients that L-BFGS remembers
LOGITS_AT_ONCE = 2**22  # bounds the memory of a sweep


class DecomposedHead(nn.Module):
    """A linear layer cut to the filters of each class; a drop-in for the dense head.

    logit_c = b_c + sum_{j in I_c} W[c, j] x_j

    `weight: [C, D]`, `bias: [C]` and `subsets` (one index tensor per class) -> a module from
    `[N, D]` to `[N, C]`.  Only the kept weights are parameters (`values`), so training cannot
    revive the others; they lie in compressed sparse rows.  Training multiplies by the dense
    matrix, as do small heads and GPUs.  A large head with an eighth of its weights or less, on the
    CPU, in float32 and under `no_grad` or `inference_mode`, reads only what is kept (the same
    logits to rounding).  Raises ValueError for indices outside 0..D-1.
    """

    def __init__(self, weight: Tensor, bias: Tensor, subsets: Subsets):
        super().__init__()
        if len(subsets) != len(weight):
            raise ValueError(f"{len(subsets)} subsets for a head of {len(weight)} classes")
        member = membership(subsets, weight.shape[1]).to(weight.device)
        self.num_classes, self.num_filters = weight.shape
        classes, columns = member.nonzero(as_tuple=True)
        sizes = torch.bincount(classes, minlength=self.num_classes)
        self.register_buffer("columns", columns.int())
        self.register_buffer("starts", F.pad(sizes.cumsum(dim=0), (1, 0)).int())
        self.values = nn.Parameter(weight.detach()[classes, columns])
        self.bias = nn.Parameter(bias.detach().clone())
        self.sparse = weight.numel() >= max(LARGE_HEAD, SPARSE * len(self.values))

    @property
    def kept(self) -> tuple[Tensor, Tensor]:
        """Class and filter of every kept weight, both `[kept] int64`, in the order of `values`."""
        classes = torch.arange(self.num_classes, device=self.starts.device)
        return classes.repeat_interleave(self.starts.diff()), self.columns.long()

    @property
    def weight(self) -> Tensor:
        """The weights as a dense `[C, D]` matrix, zero outside each class's subset."""
        dense = self.values.new_zeros(self.num_classes, self.num_filters)
        return dense.index_put(self.kept, self.values)

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
        if not self.reads_only_kept(x):
            return F.linear(x, self.weight, self.bias)
        if len(x) < FEW:
            from paperlib.compiled import sparse_logits  # only here: numba is slow to import

            return sparse_logits(x, self.starts, self.columns, self.values, self.bias)
        logits = x.new_empty(len(x), self.num_classes)
        for part, out in zip(x.split(MANY), logits.split(MANY), strict=True):
            product = _sparse_product(part, self.starts, self.columns, self.values)
            torch.add(product.T, self.bias, out=out)
        return logits

    def extra_repr(self) -> str:
        kept = len(self.values) / self.num_classes
        return f"filters={self.num_filters}, classes={self.num_classes}, mean kept={kept:g}"


def _sparse_product(x: Tensor, starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """`[R, n]`: V x^T for sparse rows V; a bag a row, of rows of x^T, weighted and summed."""
    weights = {"per_sample_weights": values, "include_last_offset": True}
    return F.embedding_bag(columns, x.T.contiguous(), starts, mode="sum", **weights)


def _sparse_predictions(x: Tensor, heads: Sequence[DecomposedHead]) -> Tensor:
    """`[K, N]`: the class that each head picks; a part of x is transposed once for all heads."""
    sizes = torch.cat([head.starts.diff() for head in heads])
    starts = F.pad(sizes.cumsum(dim=0), (1, 0)).int()
    columns = torch.cat([head.columns for head in heads])
    values = torch.cat([head.values for head in heads])
    bias = torch.stack([head.bias for head in heads])[:, :, None]  # [K, C, 1]
    picked = []
    for part in x.split(max(1, min(MANY, LOGITS_AT_ONCE // bias.numel()))):
        logits = _sparse_product(part, starts, columns, values).view(*bias.shape[:2], -1)
        picked.append(logits.add_(bias).argmax(dim=1))
    return torch.cat(picked, dim=1)


@torch.no_grad()
def correct_by_k(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, subsets: Mapping[int, Subsets]
) -> Tensor:
    """`[K, N] bool`: which images the decomposed head classifies correctly, one row per k.

    features: [N, D] float, labels: [N] int64, weight: [C, D], bias: [C], subsets: {k: subsets}.
    Kept per image, so that intervals of differences can resample the same images.
    """
    check_features(features, labels, len(weight))
    heads = [DecomposedHead(weight, bias, chosen) for chosen in subsets.values()]
    correct = torch.empty(len(heads), len(labels), dtype=torch.bool, device=features.device)
    sparse = torch.tensor([h.reads_only_kept(features) for h in heads], dtype=torch.bool)
    if sparse.any():
        chosen = [head for head, skips in zip(heads, sparse, strict=True) if skips]
        correct[sparse] = _sparse_predictions(features, chosen) == labels
    rows = max(1, LOGITS_AT_ONCE // len(weight))
    for k in (~sparse).nonzero().flatten().tolist():
        dense, parts = heads[k].weight, (features.split(rows), labels.split(rows))
        for x, y, hits in zip(*parts, correct[k].split(rows), strict=True):
            torch.eq(F.linear(x, dense, bias).argmax(dim=1), y, out=hits)
    return correct


def accuracy_by_k(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, subsets: Mapping[int, Subsets]
) -> dict[int, float]:
    """Accuracy of the decomposed head for every k: the mean of `correct_by_k` over images."""
    correct = correct_by_k(features, labels, weight, bias, subsets)
    return dict(zip(subsets, correct.double().mean(dim=1).tolist(), strict=True))


def mean_fill(weight: Tensor, bias: Tensor, subsets: Subsets, features: Tensor) -> DecomposedHead:
    """Stand in for every omitted feature with its mean over the train images.

    b'_c = b_c + sum_{j not in I_c} W[c, j] mean(x_j)

    A constant per class, folded into the bias.  features: [N, D] float, the train split.
    """
    omitted = weight * ~membership(subsets, weight.shape[1]).to(weight.device)
    means = features.double().mean(dim=0)
    return DecomposedHead(weight, bias + (omitted.double() @ means).to(bias.dtype), subsets)


def least_squares_refit(
    weight: Tensor, bias: Tensor, subsets: Subsets, features: Tensor
) -> DecomposedHead:
    """Refit each class's k weights and bias to the dense logits of the train images.

    min over (w, b) of sum_n (b + sum_{j in I_c} w_j x_nj - logit_nc)^2

    features: [N, D] float, the train split.  With z = [x, 1] and G = z^T z, class c solves
    G[I, I] v = G[I, :] [W_c, b_c], so the cost in memory is D^2 whatever N and C.
    """
    z = F.pad(features.double(), (0, 1), value=1.0)  # [N, D + 1]
    gram = z.T @ z
    dense = torch.cat([weight, bias[:, None]], dim=1).double()  # [C, D + 1]
    intercept = torch.tensor([weight.shape[1]], device=weight.device)
    refitted = dense.clone()
    for c, chosen in enumerate(subsets):
        kept = torch.cat([chosen.to(weight.device), intercept])
        # pinv, because a filter that is dead on the train images makes the system singular
        inverse = torch.linalg.pinv(gram[kept][:, kept], hermitian=True)
        refitted[c, kept] = inverse @ (gram[kept] @ dense[c])
    refitted = refitted.to(weight.dtype)
    return DecomposedHead(refitted[:, :-1], refitted[:, -1], subsets)


@contextmanager
def _threads_for(size: int) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if size < SMALL_PROBLEM else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def softmax_refit(
    weight: Tensor,
    bias: Tensor,
    subsets: Subsets,
    features: Tensor,
    labels: Tensor,
    *,
    l2: float = 1e-3,
    max_iterations: int = 100,
) -> DecomposedHead:
    """Refit each class's k weights and bias by the decomposed softmax on the train images.

    min over (w, b) of mean_n -log softmax(decomposed logits_n)[y_n] + l2 / 2 * |w|^2

    Convex; L-BFGS from the given weights.  features: [N, D] float, labels: [N] int64, the train
    split.  The network itself stays untouched, no image is needed; the parameters come frozen.
    Images pass in blocks: memory holds the features twice and a block of logits.  Weights and sums
    are float64, products too unless N * D is large.  Source: the paper's decomposed softmax, arXiv
    2112.07719, which its authors minimise over the whole network.
    """
    check_features(features, labels, len(weight))
    head = DecomposedHead(weight.double(), bias.double(), subsets)
    exact = torch.float64 if features.numel() < SMALL_PROBLEM else torch.float32
    mean = features.mean(dim=0, dtype=torch.float64)
    used = head.columns.unique()  # the filters that some class reads
    # Centred, it takes half as many iterations; as [filter, image], softmax is twice as fast
    rows = zip(features.split(ROWS_AT_ONCE), labels.split(ROWS_AT_ONCE), strict=True)
    blocks = [((x[:, used].to(exact) - mean[used].to(exact)).T.contiguous(), y) for x, y in rows]
    head.requires_grad_(False).bias += head.weight @ mean
    kept = head.kept

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.from_numpy(flat).to(weight.device), head.parameters())
        w, b = head.weight[:, used].to(exact), head.bias.to(exact)[:, None]
        loss = l2 / 2 * head.values.square().sum()
        by_weight, by_bias = torch.zeros_like(head.weight), torch.zeros_like(head.bias)
        for x, y in blocks:
            log_p = torch.addmm(b, w, x).log_softmax(dim=0)  # [C, n]
            loss -= log_p.gather(0, y[None]).sum(dtype=torch.float64) / len(labels)
            error = log_p.exp_().scatter_add_(0, y[None], -x.new_ones(1, len(y)))  # p - [y = c]
            by_weight[:, used] += error @ x.T
            by_bias += error.sum(dim=1)
        by_values = by_weight[kept] / len(labels) + l2 * head.values
        return loss.item(), torch.cat([by_values, by_bias / len(labels)]).cpu().numpy()

    start = parameters_to_vector(head.parameters()).cpu().numpy()
    options = {"maxiter": max_iterations, "gtol": 1e-6, "ftol": 1e-12, "maxcor": HISTORY}
    with _threads_for(features.numel()):
        found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    vector_to_parameters(torch.from_numpy(found.x).to(weight.device), head.parameters())
    head.bias -= head.weight @ mean
    return head.to(weight.dtype)


def finetune_network(
    model: nn.Module,
    head_name: str,
    subsets: Subsets,
    dataset: Dataset,
    *,
    epochs: int = 1,
    learning_rate: float = 1e-2,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: bool = True,
) -> nn.Module:
    """Train a copy of the whole network by the decomposed softmax (SGD, momentum 0.9, cosine).

    `dataset` yields (image, label); `head_name` names the final layer, which the copy holds as a
    `DecomposedHead`.  Batch statistics stay frozen: a short run at a small rate would only blur
    them.  Returns the copy in eval mode.  Raises ValueError for epochs below 1 or no rate.
    Source: the paper's fine-tuning, arXiv 2112.07719.
    """
    if epochs < 1 or learning_rate <= 0:
        raise ValueError(f"epochs ({epochs}) and learning_rate ({learning_rate}) must be positive")
    tuned = deepcopy(model).to(device).eval()
    dense = tuned.get_submodule(head_name)
    tuned.set_submodule(head_name, DecomposedHead(dense.weight, dense.bias, subsets))
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(dataset, batch_size, shuffle=True, generator=generator)
    optimizer = torch.optim.SGD(tuned.parameters(), lr=learning_rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    with tqdm(total=epochs * len(dataset), unit="image", disable=not progress) as bar:
        for _ in range(epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(tuned(images.to(device)), labels.to(device)).backward()
                optimizer.step()
                schedule.step()
                bar.update(len(labels))
    return tuned


@torch.inference_mode()
def correct_images(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
) -> Tensor:
    """`[N] bool`: which images of a dataset of (image, label) a network classifies correctly."""
    model = model.to(device).eval()
    batches = DataLoader(dataset, batch_size)
    return torch.cat([model(x.to(device)).argmax(dim=1).cpu() == y for x, y in batches])
