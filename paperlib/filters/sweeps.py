"""Which numbers of filters a sweep visits: every one of a narrow layer, a grid of a wide one."""

import torch
from torch import Tensor

from paperlib.filters.counting import ClassStatistics, class_statistics
from paperlib.filters.ranking import influential_filters
from paperlib.filters.tensors import Subsets
from paperlib.seeds import check_whole

EVERY_SIZE_UP_TO = 64
GRID_RATIO = 1.25  # between neighbours of the grid
HISTOGRAM_ENTRIES = 2**28  # of 4 bytes each, one for each k, class and filter: a gigabyte


def size_grid(largest: int, *included: int) -> list[int]:
    """Numbers from 1 to `largest`: all of them up to 64, then a quarter more each time.

    `included` are added to the grid as far as they fit.  Raises ValueError for one below 1 or no
    whole number.
    """
    for size in included:
        check_whole("k", size, 1)
    sizes = {size for size in included if size <= largest}
    size = 0
    while size < largest:
        size = size + 1 if size < EVERY_SIZE_UP_TO else min(largest, int(size * GRID_RATIO))
        sizes.add(size)
    return sorted(sizes)


def sweep_statistics(
    features: Tensor, labels: Tensor, num_classes: int, *included: int
) -> ClassStatistics:
    """Class statistics for every k of `size_grid(D, *included)`, as far as a gigabyte reaches.

    features: [N, D] float, labels: [N] int64; errors as in `class_statistics`.
    """
    num_filters = features.shape[1]
    grid = size_grid(num_filters, *included)
    affordable = max(1, HISTOGRAM_ENTRIES // (num_classes * num_filters))
    return class_statistics(features, labels, num_classes, grid[:affordable])


def influential_by_k(statistics: ClassStatistics) -> dict[int, Subsets]:
    """Influential filters of every class for every k counted, and all filters at the end, k = D."""
    num_classes, num_filters = statistics.means.shape
    subsets = {k: influential_filters(statistics, k) for k in statistics.ks}
    everything = torch.arange(num_filters, device=statistics.whole.device)
    return subsets | {num_filters: [everything] * num_classes}
