"""Where each figure that prose quotes comes from: one row a sentence.

A sentence holds `{}` for each figure; line breaks count as spaces. Behind it stands a source for
each `{}`: a claim's value and interval, a cell of a table in `figures/` or `data/`, of one that a
notebook prints, what the authors published, or a measurement that is made here. A figure, or a
whole number in a word, is right if it is the source's value to the decimals that it is quoted with.
"""

import math
from functools import partial

import pandas as pd
import sources
from sources import (
    Source,
    cell,
    claim,
    gigabytes,
    in_the_dense_head,
    needed_at,
    of_ten_outputs,
    over,
    printed,
    said,
    theirs,
    whole,
)

from experiments.training.recipe import Recipe
from reproduction import published
from reproduction.tiers import TIERS

ACCURACY, MI = published.RESNET20_ACCURACY, published.RESNET20_MUTUAL_INFORMATION
FOUR_REFITTED = [
    source
    for column in ("value", "low", "high")
    for source in cell("02_accuracy_lost", column, k=5, head="softmax refit")
]
PAPERS_REFITTED = [
    source
    for column in ("points lost", "low", "high")
    for source in cell(
        "11_runs", column, k=5, head="softmax refit", ranking="frequency (the paper's)"
    )
]
BY_K = partial(cell, "01_accuracy_by_k", network="resnet20", k=5)
IN_RUNS = partial(cell, "11_runs", "points lost", head="softmax refit")
README, DOCS, NOTEBOOKS = "README.md", "docs/", "notebooks/"
RECIPE = Recipe()
POSITIVE = {"filters": "all with W > 0"}
FOUR_NEED = partial(printed, "01", row="mean", beside="resnet56")  # the paper's networks
DISK = [
    partial(gigabytes, "resnet18"),
    partial(gigabytes, "resnet50"),
    lambda: 2 * gigabytes("resnet18") + 3 * gigabytes("resnet50"),
    sources.gigabytes_of_weights,
]
IMAGES = sum(sources.IMAGENET.values())
QUOTED: list[tuple[str, str, list[Source]]] = [
    # README
    (
        README,
        "it still classifies {} % of the test images instead of {} %. Five random filters give {}",
        BY_K(subsets="influential") + cell("00_accuracy", name="resnet20") + BY_K(subsets="random"),
    ),
    (README, "only those 50 weights and 10 biases: {} %", [sources.refitted]),
    (README, "runs the cut costs {} points", [sources.lost_by_the_cut]),
    (
        README,
        "Of {} claims {} are reproduced, {} partly, {} not",
        [partial(sources.number_of, v) for v in ("", "reproduced", "partly", "not reproduced")],
    ),
    (
        README,
        "ours {} [{}, {}]: filters per class for accuracy within 1 point",
        whole("few-filters"),
    ),
    (README, "within a point, over 24 training runs | {} [{}, {}]", whole("few-filters")),
    (README, "as a share of the layer: partly) | {} [{}, {}]", whole("few-filters-imagenet")),
    (README, "have over 5 random ones | {} [{}, {}]", whole("frequency-finds-them")),
    (
        README,
        "points still lost, over {} training runs | {} [{}, {}]",
        [sources.fine_tuned_runs, *whole("finetuning-restores")],
    ),
    (
        README,
        "each at its mean ({} with noise): points | {} [{}, {}]",
        claim("essential-filters") + whole("essential-at-their-mean"),
    ),
    (README, "any head of ten classes needs 9 at most) | {} [{}, {}]", whole("decision-dimension")),
    (README, "exponent, 1 if so | {} [{}, {}]", whole("filters-proportional-to-depth")),
    (README, "depth and accuracy held fixed | {} [{}, {}]", whole("collapse-sets-filters")),
    (README, "filters of positive weight) | {} [{}, {}]", whole("countable-decisions")),
    (README, "multiplications in the head | {} [{}, {}]", whole("cheaper-head")),
    (
        README,
        "({} by all {} filters of positive weight)",
        cell("12_counting", **POSITIVE) + cell("12_counting", "k", **POSITIVE),
    ),
    # Docs
    (
        DOCS + "imagenet",
        "bank on disk | {} GB each | {} GB each | {} GB, and {} GB of weights",
        DISK,
    ),
    (
        DOCS + "imagenet",
        "All {} million images take about {} GB on disk",
        [lambda: IMAGES / 1e6, lambda: gigabytes("resnet50", IMAGES)],
    ),
    (
        DOCS + "reliability",
        "test_bad_parameters.py` hold {} cases",
        [sources.bad_input],
    ),
    (
        DOCS + "speed",
        "a softmax refit takes under {} minutes and {} GB",
        [
            lambda: math.ceil(sources.of_scale("refit, s") / 60),
            lambda: sources.of_scale("peak beyond features and head, MB") / 1000,
        ],
    ),
    (
        DOCS + "speed",
        "a ranking of {} million images",
        theirs(sources.IMAGENET["train"] / 1e6),
    ),
    (
        DOCS + "training",
        "# {} epochs, seed {}, weight decay {}",
        theirs(RECIPE.epochs, RECIPE.seed, RECIPE.weight_decay),
    ),
    (DOCS + "training", "compares {} published runs", [sources.runs]),
    (DOCS + "training", "anew, from all {} checkpoints", [sources.runs]),
    (DOCS + "atlas", "the filters of all {} training runs", [sources.runs]),
    # Notebooks, in order
    (NOTEBOOKS + "00", "The paper's network classifies {} %", theirs(ACCURACY["full network"])),
    (
        NOTEBOOKS + "00",
        "has {} % right here too (95 % interval {} to {} %",
        whole("baseline-accuracy"),
    ),
    (NOTEBOOKS + "01", "if they are well chosen: {} ({} to {}) filters", whole("few-filters")),
    (NOTEBOOKS + "01", "networks are kind cases, with {}", [sources.four_need]),
    (NOTEBOOKS + "01", "accuracy is {} points above that of 5", claim("frequency-finds-them")),
    (
        NOTEBOOKS + "01",
        "Four networks gave {} ({} to {}), and",
        FOUR_NEED("smallest k") + FOUR_NEED("low") + FOUR_NEED("high"),
    ),
    (NOTEBOOKS + "01", "past the limit of {}.", [partial(sources.limit, "few-filters")]),
    (
        NOTEBOOKS + "01",
        "{} of 1280, the share that 1 of 64 would be, give an accuracy of {} % among",
        [
            *theirs(1280 / 64),
            *over(pd.Series.mean, "01_imagenet", subsets="influential", k=20),
        ],
    ),
    (
        NOTEBOOKS + "01",
        "one depth and recipe need from {} to {}.",
        needed_at(20, min) + needed_at(20, max),
    ),
    (
        NOTEBOOKS + "01",
        "narrows the gap to {} points in the paper's networks, and to {} over {} runs",
        [FOUR_REFITTED[0], *claim("refit-restores"), sources.runs],
    ),
    (
        NOTEBOOKS + "01",
        "networks' own intervals reach from {} to {}.",
        said(
            "01",
            r"efficientnet-lite0 +\d+\.0 +(\d+\.0) ",
            r"efficientnet-lite1 +\d+\.0 +\S+ +(\d+\.0) ",
        ),
    ),
    (
        NOTEBOOKS + "02",
        "still classifies {} % of the test images, against {} % with all 64, and brings back {} to "
        "{} % with one epoch",
        theirs(
            ACCURACY["decomposed, k = 5"],
            ACCURACY["full network"],
            *ACCURACY["decomposed, k = 5, one epoch of fine-tuning"],
        ),
    ),
    (NOTEBOOKS + "02", "Yes for the cut: {} % ({} to {} %)", whole("decomposed-accuracy")),
    (NOTEBOOKS + "02", "It leaves {} points ({} to {}) in the four", FOUR_REFITTED),
    (NOTEBOOKS + "02", "24 training runs it leaves {} ({} to {})", whole("refit-restores")),
    (
        NOTEBOOKS + "02",
        "in {} training runs from {} to {}, and some",
        [sources.runs, sources.lost_by_the_cut, *claim("refit-restores")],
    ),
    (
        NOTEBOOKS + "02",
        "the runs give *not reproduced*, by {} points",
        [lambda: claim("refit-restores")[0]() - sources.limit("refit-restores")],
    ),
    (
        NOTEBOOKS + "02",
        "The authors reach {} to {} % ({} to {} at best)",
        theirs(
            *ACCURACY["decomposed, k = 5, one epoch of fine-tuning"],
            *ACCURACY["decomposed, k = 5, best fine-tuning"],
        ),
    ),
    (
        NOTEBOOKS + "02",
        "leaves a loss of {} points ({} to {}), the mean of {} training runs",
        [*whole("finetuning-restores"), sources.fine_tuned_runs],
    ),
    (
        NOTEBOOKS + "02",
        "Ours reaches {} %. The largest loss left, {} points,",
        [partial(sources.fine_tuned, "resnet20"), sources.largest_loss_after_fine_tuning],
    ),
    (NOTEBOOKS + "02", "by the same rule, and finds {}:", PAPERS_REFITTED[:1]),
    (
        NOTEBOOKS + "03",
        "noise on 5 filters costs {} points ({} to {}) more",
        whole("essential-filters"),
    ),
    (
        NOTEBOOKS + "03",
        "still cost {} points ({} to {}) more",
        whole("essential-at-their-mean"),
    ),
    (
        NOTEBOOKS + "03",
        "loss shrinks from {} points to {}: what",
        said("03", *(rf"{fill} +influential +5 +\S+ +(\S+)" for fill in ("noise", "mean"))),
    ),
    (
        NOTEBOOKS + "04",
        "{} nats for its own subsets of ResNet-20, {} nats",
        theirs(MI["paper"], MI["CSG, lowest gates"]),
    ),
    (
        NOTEBOOKS + "04",
        "have {} times as many filters in common as chance gives ({} to {})",
        whole("overlap-at-chance"),
    ),
    (NOTEBOOKS + "04", "With 5 of 64 filters the entropy is {} nats", [sources.self_information]),
    (
        NOTEBOOKS + "04",
        "contribute the same {} nats to every method. Without them the paper's {} is {}, and "
        "chance gives {}.",
        [
            lambda: sources.self_information() / 10,  # ten of a hundred pairs
            *theirs(MI["paper"]),
            *cell("04_against_chance", subsets="paper", measure="mutual information"),
            *cell("04_against_chance", "chance", subsets="paper", measure="mutual information"),
        ],
    ),
    (
        NOTEBOOKS + "04",
        "Two random subsets of 5 from 64 share {} filters",
        cell("04_against_chance", "chance", subsets="ours", measure="shared filters"),
    ),
    (
        NOTEBOOKS + "04",
        "the one small *p*, {} at k = 20, is one of {} tests: times {}, it is just {})",
        [
            lambda: min(sources.against_chance()),
            lambda: len(sources.against_chance()),
            lambda: len(sources.against_chance()),
            lambda: min(sources.against_chance()) * len(sources.against_chance()),
        ],
    ),
    (NOTEBOOKS + "05", "In {} of 64 ({} to {}), on average", whole("decision-dimension")),
    (
        NOTEBOOKS + "05",
        "accuracy is {} points above that on nine random",
        claim("low-dimensional-decisions"),
    ),
    (
        NOTEBOOKS + "05",
        "Left, nine components give {} to {} % and the full head {} to {} %",
        [one for r in (9, 1280) for end in (min, max) for one in of_ten_outputs(end, r)],
    ),
    (
        NOTEBOOKS + "06",
        "networks are {} to {} % accurate",
        over(min, "data/trained_runs", "accuracy, %")
        + over(max, "data/trained_runs", "accuracy, %"),
    ),
    (
        NOTEBOOKS + "06",
        "participation ratio, with exponent {}.",
        cell("06_relation_to_depth", "exponent", measure="participation ratio"),
    ),
    (
        NOTEBOOKS + "06",
        "from {} of 64 at 20 layers to {} at 56",
        needed_at(20, pd.Series.mean) + needed_at(56, pd.Series.mean),
    ),
    (
        NOTEBOOKS + "06",
        "weight decay {} or {}, {} or {} epochs",
        over(min, "data/trained_runs", "weight_decay")
        + over(max, "data/trained_runs", "weight_decay")
        + over(min, "data/trained_runs", "epochs")
        + over(max, "data/trained_runs", "epochs"),
    ),
    (NOTEBOOKS + "07", "the block's position is {})", claim("concentration-rises")),
    (NOTEBOOKS + "07", "adds {} to its rise", claim("concentration-is-learnt")),
    (NOTEBOOKS + "07", "rises by {} more than in untrained", claim("class-selectivity-is-learnt")),
    (NOTEBOOKS + "08", "needs {} ({} to {}) times fewer multiplications", whole("cheaper-head")),
    (
        NOTEBOOKS + "08",
        "training runs ({} in the median run), if",
        over(pd.Series.median, "08_training_runs", "times fewer"),
    ),
    (
        NOTEBOOKS + "08",
        "the paper's ResNet-20 {} times",
        cell("08_training_runs", "times fewer", run="resnet20"),
    ),
    (
        NOTEBOOKS + "09",
        "*partly*, in {} of {} the interval",
        [sources.partly_by_the_interval, partial(sources.number_of, "partly")],
    ),
    (NOTEBOOKS + "09", "rests on {} training runs", [sources.runs]),
    (NOTEBOOKS + "09", "images, hold {} to {} % of the", sources.interval("same-subsets")),
    (NOTEBOOKS + "11", "loses {} points ({} to {})", whole("beyond-points-lost")),
    (NOTEBOOKS + "11", "same way lose {} ({} to {})", PAPERS_REFITTED),
    (
        NOTEBOOKS + "11",
        "what is left loses {} points with 3 filters, on average over {} training runs; the "
        "paper's subsets, refitted in the same way, lose {}.",
        [
            *IN_RUNS(ranking="backward selection", k=3),
            sources.runs,
            *IN_RUNS(ranking="frequency (the paper's)", k=3),
        ],
    ),
    (
        NOTEBOOKS + "11",
        "a gain of {} ({} to {}), which may be chance",
        [
            source
            for column in ("points gained over the paper's", "low", "high")
            for source in cell("11_gains", column, k=5)
        ],
    ),
    (
        NOTEBOOKS + "11",
        "missed our aim at k = 3 ({} points lost, against {})",
        [
            *cell("11_points_lost_by_k", head="softmax refit", ranking="mean contribution", k=3),
            partial(sources.limit, "beyond-points-lost-3"),
        ],
    ),
    (
        NOTEBOOKS + "11",
        "chosen on {} networks, loses {} points with 5 filters and {} with 3 over {} training "
        "runs, against {} and {} of the paper's ranking",
        [
            *theirs(len(TIERS["embedded"])),
            *IN_RUNS(ranking="backward selection", k=5),
            *IN_RUNS(ranking="backward selection", k=3),
            sources.runs,
            *IN_RUNS(ranking="frequency (the paper's)", k=5),
            *IN_RUNS(ranking="frequency (the paper's)", k=3),
        ],
    ),
    (
        NOTEBOOKS + "11",
        "plain frequency is among the worst rankings ({} % at k = 5)",
        cell("11_imagenet", head="plain", name="frequency (the paper's)", k=5),
    ),
    (
        NOTEBOOKS + "11",
        "differences between classes lead ({} to {} %)",
        cell("11_imagenet", head="plain", name="contrast", k=5)
        + cell("11_imagenet", head="plain", name="ANOVA F", k=5),
    ),
    (NOTEBOOKS + "11", "k = 5 out of 64 would share {} %", theirs(100 * 5 / 64)),
    (
        NOTEBOOKS + "12",
        "{} % of the 50 test images that excite it most",
        [lambda: 100 - claim("pure-filters")[0]()],
    ),
    (
        NOTEBOOKS + "12",
        "five filters per class instead of {}.",
        cell("12_counting", "k", **POSITIVE),
    ),
    (
        NOTEBOOKS + "12",
        "makes {} errors in 1,000 images, the dense one {}.",
        cell("12_errors", "errors of a run", **{"name": "5 filters per class", "error is": "net"})
        + cell(
            "12_errors", "errors of a run", **{"name": "dense head, all filters", "error is": "net"}
        ),
    ),
    (
        NOTEBOOKS + "12",
        "in, {} % can be read; of those that both heads make, {} %, much",
        said("12", r"avoids: (\d+) % readable", r"both heads make: (\d+) % readable"),
    ),
    (NOTEBOOKS + "12", "dense head ({} to {} %)", in_the_dense_head("readable")),
    (
        NOTEBOOKS + "12",
        "no rule rests on it), {} % can be read, against {} to {} % in the dense head",
        cell("12_errors", **{"name": "5 filters per class", "error is": "net"})
        + in_the_dense_head("net"),
    ),
]
# Decimals that no source holds, and why
EXCEPTIONS = {
    r"arXiv\W{1,2}\d{4}\.\d{5}": "address of a paper",
    r"10\.\d{4,}/\S+": "address of a paper (doi)",
    r"(Python|PyTorch|paperlib|torch|NumPy|pandas) \d+\.\d+(\.\d+)?": "a version",
    r"the correlation falls as f grows, and at f = 0\.9": "a fraction that the notebook sets",
}
