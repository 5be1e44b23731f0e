"""How long an explanation is: how many contributions `W[c, j] x_j` a decision takes.

Both lengths are of a head `logit_c = b_c + sum_j W[c, j] x_j`; for a decomposed head, give the
dense matrix with zeros outside each class's subset (`DecomposedHead.weight`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SLACK = 1e-9  # of rounding, where all contributions together only just reach a rival
AT_ONCE = 2**23  # running logits held together: bounds the memory of a pass


def sufficient_contributions(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The fewest contributions to the decided class that already beat every rival.

    min |S| such that b_c + sum_{j in S} W[c, j] x_j >= max_{r != c} logit_r, c = argmax_r logit_r

    features: [N, D] float, weight: [C, D], bias: [C] -> `[N] int64`; 0 where the bias is enough.
    Rivals enter with their whole logits, so what lowers *them* needs no explanation here: kind to
    a head whose negative contributions do much.  The largest contributions come first, which
    makes the count exact.  After "sufficient input subsets", Carter et al. 2019, arXiv 1810.03805.
    """
    x, w, b = features.double(), weight.double(), bias.double()
    logits = x @ w.T + b
    decided = logits.argmax(dim=1, keepdim=True)
    rival = logits.scatter(1, decided, -torch.inf).amax(dim=1, keepdim=True)
    own = (x * w[decided[:, 0]]).sort(dim=1, descending=True).values
    running = F.pad(own.cumsum(dim=1), (1, 0)) + b[decided]  # after 0, 1, ..., D contributions
    return (running >= rival - SLACK).byte().argmax(dim=1)


def contributions_until_settled(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """How many contributions, largest first, until the decision is made and stays.

    min m such that argmax_c (b_c + sum of c's contributions among the l largest) is the decision
    for every l >= m; contributions to all classes are ordered together by |W[c, j] x_j|

    features: [N, D] float, weight: [C, D], bias: [C] -> `[N] int64`, 0 where the biases alone
    decide and nothing changes that.  Ties of size go to the lower class, then the lower filter.
    Weights of zero are not read.
    """
    classes, filters = weight.nonzero(as_tuple=True)
    steps = torch.arange(1, len(classes) + 2, device=weight.device)
    values = weight[classes, filters].double()
    settled = []
    for x in features.split(max(1, AT_ONCE // (len(steps) * len(weight)))):
        terms = x[:, filters].double() * values
        order = terms.abs().sort(dim=1, descending=True, stable=True).indices
        # A row a contribution, in the column of its class; the biases are the row before the first
        running = terms.new_zeros(*terms.shape, len(weight))
        running.scatter_(2, classes[order][:, :, None], terms.gather(1, order)[:, :, None])
        running = torch.cat([bias.double().expand(len(x), 1, -1), running], dim=1).cumsum_(dim=1)
        decided = running.argmax(dim=2)
        differs = decided != decided[:, -1:]
        settled.append((differs * steps).amax(dim=1))  # one more than the last that differs
    return torch.cat(settled)
