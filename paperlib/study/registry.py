"""The paper's claims: what was published, where it stands, and the rule that decides each."""

from dataclasses import dataclass

from paperlib.study.rules import Rule, at_least, at_most, contains, proportional


@dataclass(frozen=True)
class Claim:
    """A claim in our words, the published figure and where it stands, and how it is decided."""

    statement: str
    published: str
    source: str
    notebook: str
    quantity: str
    rule: Rule


BEYOND = "beyond the paper: not in it"  # of claims of our own

CLAIMS = {
    "baseline-accuracy": Claim(
        "The full ResNet-20 is as accurate as published",
        "91.71 %",
        "ResNet-20 on the CIFAR-10 test set",
        "00_baseline_accuracy",
        "test accuracy of the full ResNet-20, %",
        contains(91.71, 1.0, "%"),
    ),
    "few-filters": Claim(
        "A handful of filters decides each class",
        "5 of 64 filters a class",
        "abstract; k = 5 for ResNet-20",
        "01_few_filters_decide_each_class",
        "filters a class for accuracy within 1 point of the full head, mean of four networks",
        at_most(16, 32, "of 64 filters"),
    ),
    "frequency-finds-them": Claim(
        "The frequency histogram finds filters that matter",
        "no random baseline published",
        "the frequency histogram",
        "01_few_filters_decide_each_class",
        "accuracy at k = 5 above random subsets, points, mean of four networks",
        at_least(20, 5, "points"),
    ),
    "same-subsets": Claim(
        "Our subsets are the published ones",
        "50 of 50 by definition",
        "published subsets of ResNet-20, k = 5",
        "01_few_filters_decide_each_class",
        "share of published filters found again at k = 5, %",
        at_least(80, 50, "%"),
    ),
    "decomposed-accuracy": Claim(
        "The decomposed head keeps most of the accuracy as it is",
        "88.59 %",
        "ResNet-20 on the CIFAR-10 test set, before fine-tuning",
        "02_decomposed_head_keeps_accuracy",
        "test accuracy with the published subsets, k = 5, %",
        contains(88.59, 1.0, "%"),
    ),
    "finetuning-restores": Claim(
        "Fine-tuning by the decomposed softmax restores the accuracy",
        "0.3 to 0.4 points lost (91.3 to 91.4 %)",
        "ResNet-20 on the CIFAR-10 test set, one epoch",
        "02_decomposed_head_keeps_accuracy",
        "points lost at k = 5 after refitting the head, mean of four networks",
        at_most(1.0, 1.0, "points"),
    ),
    "essential-filters": Claim(
        "The influential filters are essential: noise on them costs more than on all others",
        "no figure published with the subsets",
        "essentiality: features replaced by N(0, 1) noise",
        "03_influential_filters_are_essential",
        "accuracy with noise on all others minus noise on the 5 influential, points, four networks",
        at_least(20, 5, "points"),
    ),
    "essential-beyond-chance": Claim(
        "Influential filters are more essential than as many random ones",
        "no random baseline published",
        "our control of the same claim",
        "03_influential_filters_are_essential",
        "accuracy with noise on 5 random minus noise on the 5 influential, points, four networks",
        at_least(20, 5, "points"),
    ),
    "essential-at-their-mean": Claim(
        "Influential filters stay essential when a replaced feature keeps its mean",
        "only noise is published",
        "our control of the same claim",
        "03_influential_filters_are_essential",
        "accuracy with the mean in all others minus in the 5 influential, points, four networks",
        at_least(20, 5, "points"),
    ),
    "overlap-figure": Claim(
        "The mutual information of the classes' subsets is the published one",
        "34.5378 millinats",
        "ResNet-20, k = 5, self-pairs included",
        "04_filter_subsets_overlap_little",
        "mean mutual information of our own ResNet-20 subsets, self-pairs included, millinats",
        contains(34.5378, 2.0, "millinats"),
    ),
    "overlap-at-chance": Claim(
        "The subsets of different classes overlap little: no more than chance gives",
        "no random baseline published",
        "our control of the same claim",
        "04_filter_subsets_overlap_little",
        "filters that two classes share at k = 5, as a multiple of chance, mean of four networks",
        at_most(1, 2, "times chance"),
    ),
    "overlap-below-csg": Claim(
        "The subsets overlap less than those of CSG, as published (lowest gates)",
        "34.5378 against 37.5091 millinats, self-pairs included",
        "ResNet-20, k = 5",
        "04_filter_subsets_overlap_little",
        "CSG's mean mutual information minus ours, self-pairs left out, millinats",
        at_least(0, 0, "millinats"),
    ),
    "overlap-below-csg-highest": Claim(
        "The subsets overlap less than those of CSG, read by its highest gates",
        "not compared",
        "the authors' CSG checkpoint, k = 5",
        "04_filter_subsets_overlap_little",
        "CSG's mean mutual information minus ours, self-pairs left out, millinats",
        at_least(0, 0, "millinats"),
    ),
    "decision-dimension": Claim(
        "Decisions lie on a low-dimensional manifold",
        "no figure in the abstract; any head of 10 classes decides in 9 at most",
        "abstract",
        "05_decisions_lie_on_a_low_dimensional_manifold",
        "principal components for accuracy within 1 point, mean of the networks",
        at_most(16, 32, "of 64 directions"),
    ),
    "low-dimensional-decisions": Claim(
        "C - 1 principal components decide better than as many random directions",
        "no control published",
        "our control: random subspaces of the same dimension",
        "05_decisions_lie_on_a_low_dimensional_manifold",
        "accuracy on C - 1 principal components above random subspaces, points, mean of networks",
        at_least(20, 5, "points"),
    ),
    "variance-meets-decisions": Claim(
        "The features vary along the directions that the head reads",
        "not stated",
        "our control: what the C - 1 bound leaves of the claim",
        "05_decisions_lie_on_a_low_dimensional_manifold",
        "mean cos^2 of C - 1 principal components with the head's directions, %, mean of networks",
        at_least(80, 50, "%"),
    ),
    "filters-proportional-to-depth": Claim(
        "The number of filters that decide a class is proportional to network depth",
        "proportional: exponent 1",
        "abstract",
        "06_dimension_and_depth",
        "exponent of the smallest k within 1 point against depth, runs of one recipe",
        proportional(),
    ),
    "dimension-proportional-to-depth": Claim(
        "The dimension of the decision manifold is proportional to network depth",
        "proportional: exponent 1",
        "abstract",
        "06_dimension_and_depth",
        "exponent of the decision dimension against depth, runs of one recipe",
        proportional(),
    ),
    "few-filters-in-all-runs": Claim(
        "A handful of filters decides each class in other training runs too",
        "5 of 64 filters a class",
        "abstract; one training run",
        "06_dimension_and_depth",
        "filters a class for accuracy within 1 point of the full head, mean of all runs",
        at_most(16, 32, "of 64 filters"),
    ),
    "collapse-sets-filters": Claim(
        "Few filters go with collapsed features, whatever depth and accuracy",
        BEYOND,
        "neural collapse: Papyan, Han & Donoho 2020",
        "06_dimension_and_depth",
        "partial rank correlation of the collapse ratio with the smallest k within 1 point",
        at_least(0.4, 0.2, "in rank correlation"),
    ),
    "collapse-is-a-cause": Claim(
        "What makes features collapse makes them concentrate: pairs that differ in one setting",
        BEYOND,
        "a controlled experiment on small networks",
        "06_dimension_and_depth",
        "rank correlation of the changes of collapse ratio and of features for half the mass",
        at_least(0.4, 0.2, "in rank correlation"),
    ),
    "concentration-rises": Claim(
        "From block to block, fewer of the filters carry an image's response",
        "rises along the network, no figure known to us",
        "Psi at the residual blocks",
        "07_selectivity_along_the_network",
        "rank correlation of Psi with the block's position, mean of the networks",
        at_least(0.8, 0.5, "in rank correlation"),
    ),
    "concentration-is-learnt": Claim(
        "Training makes Psi rise along the network",
        "no untrained network published",
        "our control of the same claim",
        "07_selectivity_along_the_network",
        "rise of Psi from first to last block, trained minus untrained, mean of the networks",
        at_least(0.1, 0, "of the filters"),
    ),
    "class-selectivity-is-learnt": Claim(
        "Training makes filters more class-specific from block to block",
        "no untrained network published",
        "the selectivity index of Leavitt & Morcos 2020, our measure of the same claim",
        "07_selectivity_along_the_network",
        "rise of the index from first to last block, trained minus untrained, mean of the networks",
        at_least(0.1, 0, "of the index"),
    ),
    "cheaper-head": Claim(
        "The decomposed head costs less than the dense one",
        "lower computational cost, no figure",
        "abstract",
        "08_decomposed_head_costs_less",
        "times fewer multiply-accumulates in the head alone, 95 % of its decisions kept",
        at_least(2, 1.5, "times"),
    ),
    "beyond-points-lost": Claim(
        "The recommended subsets and refit lose at most 0.7 points with 5 filters a class",
        BEYOND,
        "our aim; the paper's own loss is under 'Fine-tuning by the decomposed softmax'",
        "11_better_subsets",
        "points lost at k = 5 against the full head, mean of four networks",
        at_most(0.7, 0.7, "points"),
    ),
    "beyond-points-lost-3": Claim(
        "The recommended subsets and refit lose at most 1.3 points with 3 filters a class",
        BEYOND,
        "our aim",
        "11_better_subsets",
        "points lost at k = 3 against the full head, mean of four networks",
        at_most(1.3, 1.3, "points"),
    ),
    "beyond-no-training": Claim(
        "Without any training, contrast and mean fill keep more than the paper's head",
        BEYOND,
        "our comparison with the paper's ranking and head",
        "11_better_subsets",
        "accuracy at k = 3 above frequency in the plain head, points, mean of four networks",
        at_least(0, 0, "points"),
    ),
    "beyond-choice-matters": Claim(
        "With 5 filters a class, the refit does not rescue random ones",
        BEYOND,
        "our control",
        "11_better_subsets",
        "refitted accuracy at k = 5 above refitted random subsets, points, mean of four networks",
        at_least(10, 5, "points"),
    ),
    "beyond-peer-accuracy": Claim(
        "The recommended head is not below glm_saga's with as many filters a class",
        BEYOND,
        "our comparison with Wong, Santurkar & Madry 2021, arXiv 2105.04857",
        "11_better_subsets",
        "accuracy above glm_saga's, mean of k = 3 and 5 and of four networks, points",
        at_least(0, 0, "points"),
    ),
    "beyond-peer-time": Claim(
        "The recommended head takes less than a fiftieth of glm_saga's time",
        BEYOND,
        "our comparison with Wong, Santurkar & Madry 2021, arXiv 2105.04857",
        "11_better_subsets",
        "time of glm_saga's path over ours for one head, lesser of k = 3 and 5, times",
        at_least(50, 10, "times"),
    ),
}
