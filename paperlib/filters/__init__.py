"""Which filters decide a class: counting, ranking and response mass; tensors in, tensors out."""

from paperlib.filters.counting import ClassStatistics, class_statistics, frequency_histogram
from paperlib.filters.mass import features_for_mass, response_mass
from paperlib.filters.ranking import (
    empty_classes,
    influential_filters,
    resampled_filters,
    subsets_with_dense_rows,
)
from paperlib.filters.scores import (
    contrast,
    mean_activation,
    mean_contribution,
    random_subsets,
    weight_magnitude,
    weight_times_std,
)
from paperlib.filters.sums import (
    ClassSums,
    carried,
    class_means,
    column_deviations,
    column_means,
    scatter_about,
    totals_of,
)
from paperlib.filters.sweeps import influential_by_k, size_grid, sweep_statistics
from paperlib.filters.tensors import (
    check_k,
    highest_scores,
    largest_filters,
    membership,
    order_keys,
    rank_filters,
    row_chunks,
    subset_tensors,
)
