"""What the claims are about, as numbers: one file a metric; tensors in, numbers out."""

from paperlib.metrics.ablation import (
    FILLS,
    NewErrors,
    Repairs,
    accuracy_after_ablation,
    decisions_when_silenced,
    new_errors,
    predictions_after,
    repairs,
    replace_features,
)
from paperlib.metrics.cards import FilterRow, cards_of, exciting_images, logit_shares
from paperlib.metrics.collapse import Scatter, class_scatter, collapse_ratio
from paperlib.metrics.explanation import contributions_until_settled, sufficient_contributions
from paperlib.metrics.manifold import (
    PrincipalComponents,
    TwoNN,
    alignment,
    between_class_share,
    components_for_variance,
    decision_directions,
    decisions_by_dimension,
    neighbour_distances,
    participation_ratio,
    principal_axes,
    principal_components,
    random_directions,
    two_nn,
)
from paperlib.metrics.overlap import (
    ChancePosition,
    against_chance,
    jaccard,
    mean_over_pairs,
    mean_overlap,
    mutual_information,
    shared_filters,
)
from paperlib.metrics.purity import one_vs_rest_auc, serving_one_class, top_image_shares
from paperlib.metrics.selectivity import bootstrap_class_means, psi, selectivity_index
from paperlib.metrics.simulatability import named_by_counting, on_thresholds
