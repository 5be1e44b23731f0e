"""The front page: each finding in a card, with the verdict of its claim and one picture."""

import json

from paperlib.study.rules import NOT_REPRODUCED, PARTLY, REPRODUCED, with_interval

# Claim, the figure that makes the point, and what is to be seen in it
FINDINGS = (
    ("baseline-accuracy", "00_accuracy", "Accuracy of four networks, ours and as published"),
    (
        "few-filters",
        "01_frequency_histogram_resnet20",
        "A row for each class: a handful of its 64 filters stands out",
    ),
    (
        "frequency-finds-them",
        "01_accuracy_by_k",
        "Accuracy against filters a class: the influential ones far above random ones",
    ),
    (
        "finetuning-restores",
        "02_accuracy_lost",
        "Accuracy lost by the cut head, and what three ways to mend it win back",
    ),
    (
        "essential-at-their-mean",
        "03_accuracy_by_k",
        "Accuracy with the influential filters replaced, and with all others replaced",
    ),
    (
        "overlap-at-chance",
        "04_against_chance",
        "The overlap of classes among what random subsets give",
    ),
    (
        "decision-dimension",
        "05_accuracy_by_dimension",
        "Accuracy on the first principal components, which levels off at nine",
    ),
    (
        "dimension-proportional-to-depth",
        "06_dimension_and_depth",
        "Filters and dimensions against the depth of the network",
    ),
    (
        "class-selectivity-is-learnt",
        "07_selectivity_along_networks",
        "Two measures of selectivity from block to block, trained and untrained",
    ),
    ("cheaper-head", "08_head_cost", "Multiplications of the whole and of the decomposed head"),
    (
        "beyond-points-lost",
        "11_points_lost_by_k",
        "Points lost against filters a class, for twelve rankings under four heads",
    ),
    (
        "countable-decisions",
        "12_all_together",
        "Five measures of interpretability, the decomposed head beside the whole one",
    ),
)
BADGES = {REPRODUCED: "success", PARTLY: "warning", NOT_REPRODUCED: "danger"}

PAGE = """\
---
html_theme.sidebar_secondary.remove: true
---
# Which filters of a deep CNN decide a class?

A convolutional network that tells ten classes apart ends in one linear layer. It reads a few dozen *features*, the
outputs of the last *filters*, and adds them up to a score for each class. The paper *Decomposing the Deep* (Badola, Roy,
Padmanabhan, Lal; [arXiv 2112.07719](https://arxiv.org/abs/2112.07719)) says that a handful of filters is enough to decide a
class. This book tests its claims on real images and published networks. Each figure has a 95 % interval, a random
control, and a verdict by a rule that was written before.

**How to read it.** The findings follow, one picture each; a card opens its chapter. A chapter asks one question and
answers it in its first lines. Code is folded; one click shows it. The [scorecard](scorecard.md) has all {number} claims,
the [glossary](glossary.md) every term.

{atlas}
## The findings

:::::{{grid}} 1 1 2 2
:gutter: 3

{cards}
:::::

```{{toctree}}
:hidden:
:caption: Chapters
:maxdepth: 1

{chapters}
```

```{{toctree}}
:hidden:
:caption: Results and terms
:maxdepth: 1

scorecard
glossary
```

```{{toctree}}
:hidden:
:caption: The package
:maxdepth: 1

docs/your-network
docs/imagenet
docs/training
docs/code
docs/speed
benchmarks/README
data/README
about
```
"""

CARD = """\
::::{{grid-item-card}} {statement}
:link: notebooks/{notebook}
:link-type: doc
:img-top: figures/{figure}.png
:img-alt: {alt}

{{bdg-{badge}}}`{verdict}` **{ours}**: {quantity}.
:::{{card-footer}}
{chapter}
:::
::::
"""

ATLAS = """\
```{raw} html
<p class="atlas-link"><a href="atlas/index.html">Open the atlas</a>: choose a network and a class,
switch its filters off and on, and see which images change their class.</p>
```
"""


def front_page(figures, titles, *, atlas):
    """The page in Markdown, from the claims below `figures` and the chapters' titles by stem."""
    records = {
        path.stem: json.loads(path.read_text()) for path in sorted((figures / "claims").glob("*"))
    }
    cards = []
    for key, figure, alt in FINDINGS:
        record = records[key]
        cards.append(
            CARD.format(
                **record,
                figure=figure,
                alt=alt,
                badge=BADGES.get(record["verdict"], "secondary"),
                ours=with_interval(record),
                chapter=titles[record["notebook"]],
            )
        )
    return PAGE.format(
        number=len(records),
        atlas=ATLAS if atlas else "",
        cards="\n".join(cards),
        chapters="\n".join(f"notebooks/{stem}" for stem in titles),
    )
