"""Which numbers of filters a sweep visits: every one of a narrow layer, a grid of a wide one."""

import torch

from paperlib.filters import ClassStatistics, Subsets, influential_filters

EVERY_SIZE_UP_TO = 64
GRID_RATIO = 1.25  # between neighbours of the grid
HISTOGRAM_ENTRIES = 2**27  # k_max * C * D, of 8 bytes each: one gigabyte


def size_grid(largest: int, *included: int) -> list[int]:
    """Numbers from 1 to `largest`: all of them up to 64, then a quarter more each time.

    `included` are added to the grid.
    """
    sizes = {size for size in included if 1 <= size <= largest}
    size = 0
    while size < largest:
        size = size + 1 if size < EVERY_SIZE_UP_TO else min(largest, int(size * GRID_RATIO))
        sizes.add(size)
    return sorted(sizes)


def largest_k(num_classes: int, num_filters: int) -> int:
    """The k_max to count frequency histograms for: D, or what keeps them below a gigabyte."""
    return max(1, min(num_filters, HISTOGRAM_ENTRIES // (num_classes * num_filters)))


def influential_by_k(statistics: ClassStatistics) -> dict[int, Subsets]:
    """Influential filters of every class for a grid of k, and all filters at the end, k = D."""
    num_classes, num_filters = statistics.means.shape
    subsets = {k: influential_filters(statistics, k) for k in size_grid(statistics.k_max)}
    return subsets | {num_filters: [torch.arange(num_filters)] * num_classes}
