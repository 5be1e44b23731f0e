"""The final layer of a bank, and how it is recovered where it was not stored."""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor


class LinearHead(NamedTuple):
    """`weight: [C, D] float32` and `bias: [C] float32` of the final layer."""

    weight: Tensor
    bias: Tensor

    def to(self, device: torch.device | str) -> Self:
        """The same layer on a device."""
        return LinearHead(*(part.to(device) for part in self))


class HeadFit(NamedTuple):
    """How well the affine head explains the logits of a bank.

    `residual` is the largest |x W^T + b - logit|, in logits; `agreement` is the share of images
    for which the affine head picks the same class as the logits.
    """

    residual: float
    agreement: float


def affine_map(features: Tensor, logits: Tensor) -> LinearHead:
    """The affine map from features to logits by least squares, in float64.

    W, b = argmin sum_n |x_n W^T + b - logits_n|^2, of smallest norm where several fit

    features: [N, D] float, logits: [N, C] float.  Solved on the CPU wherever they are: gelsd, the
    driver for a rank-deficient design, exists there only, and devices agree to the last bit.
    """
    design = F.pad(features.cpu().double(), (0, 1), value=1.0)
    solution = torch.linalg.lstsq(design, logits.cpu().double(), driver="gelsd").solution
    head = LinearHead(solution[:-1].T.float().contiguous(), solution[-1].float())
    return head.to(features.device)
