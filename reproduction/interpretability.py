"""The abstract's fourth claim, "far more interpretable": nine measures and the rules for them."""

from reproduction.rules import Claim, at_least, at_most

INTERPRETABLE = "'far more interpretable', no measure published"
FAITHFULNESS = "abstract; our measure of faithfulness to the full network"
NOTEBOOK = "12_subspaces_are_more_interpretable"

INTERPRETABILITY = {
    "shorter-explanations": Claim(
        "Fewer contributions of filters already give the decision than in the dense head",
        INTERPRETABLE,
        "abstract; our measure: own contributions that beat every rival's whole logit",
        NOTEBOOK,
        "sufficient contributions, times the dense head's (1 where decisions differ), mean of runs",
        at_most(0.5, 0.75, "times"),
    ),
    "settled-sooner": Claim(
        "Adding contributions from the largest down, the decision is settled sooner",
        INTERPRETABLE,
        "abstract; our measure, over the contributions to all classes",
        NOTEBOOK,
        "contributions to read, times the dense head's (1 where decisions differ), mean of runs",
        at_most(0.5, 0.75, "times"),
    ),
    "countable-decisions": Claim(
        "A reader who counts which of each class's 5 filters are on names the network's class",
        INTERPRETABLE,
        "abstract; our measure of simulatability",
        NOTEBOOK,
        "test images for which counting names the network's class, %, mean of the runs",
        at_least(80, 50, "%"),
    ),
    "pure-filters": Claim(
        "The images that excite a class's filters most are images of the class",
        INTERPRETABLE,
        "abstract; our measure of purity, 10 % by chance",
        NOTEBOOK,
        "of the 50 test images that excite a kept filter most, in its class, %, mean of the runs",
        at_least(80, 50, "%"),
    ),
    "filters-of-one-class": Claim(
        "The kept filters are separate: more than chance gives serve one class alone",
        "separate subspaces, no figure",
        "abstract; random subsets of the same size are our control",
        NOTEBOOK,
        "kept filters that serve one class alone, points above random subsets, mean of the runs",
        at_least(10, 0, "points"),
    ),
    "readable-errors": Claim(
        "A wrong decision of the decomposed head is repaired by silencing one filter of its class",
        INTERPRETABLE,
        "abstract; our measure after Wong, Santurkar & Madry 2021, arXiv 2105.04857",
        NOTEBOOK,
        "errors repaired by a filter that breaks no larger share of what is right, %, mean of runs",
        at_least(30, 10, "%"),
    ),
    "errors-fall-on-the-class": Claim(
        "When a kept filter is silenced, the errors that follow fall on the classes that keep it",
        INTERPRETABLE,
        FAITHFULNESS,
        NOTEBOOK,
        "new errors on these classes above their share of the images, points, mean of the runs",
        at_least(40, 10, "points"),
    ),
    "faithful-decisions": Claim(
        "The decomposed head's explanation is true of the full network: it decides the same",
        INTERPRETABLE,
        FAITHFULNESS,
        NOTEBOOK,
        "test images that both heads decide alike, k = 5, %, mean of the runs",
        at_least(95, 85, "%"),
    ),
    "faithful-ranking": Claim(
        "The decomposed head ranks the classes as the full network does",
        INTERPRETABLE,
        FAITHFULNESS,
        NOTEBOOK,
        "rank correlation of the two heads' logits of an image, mean of images and runs",
        at_least(0.8, 0.5, "in rank correlation"),
    ),
}
