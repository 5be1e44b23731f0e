"""The front page: each finding in a card, with the verdict of its claim and one picture."""

import json
from pathlib import Path

from reproduction.rules import NOT_REPRODUCED, PARTLY, REPRODUCED, with_interval

# The prose; comments stand where the parts below go
PAGE = Path(__file__).with_name("index.md")
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
        "Accuracy against filters per class: the influential ones far above random ones",
    ),
    (
        "finetuning-restores",
        "02_fine_tuning",
        "Points lost by the cut head in every run, before and after an epoch of fine-tuning",
    ),
    (
        "essential-at-their-mean",
        "03_fills",
        "Accuracy with the influential filters replaced, by noise, zero or the mean",
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
        "filters-proportional-to-depth",
        "06_dimension_and_depth",
        "Filters and dimensions of all training runs against the depth of the network",
    ),
    (
        "collapse-sets-filters",
        "06_collapse",
        "The further features have collapsed, the fewer filters a class takes",
    ),
    (
        "class-selectivity-is-learnt",
        "07_selectivity_along_networks",
        "Two measures of selectivity from block to block, trained and untrained",
    ),
    ("cheaper-head", "08_head_cost", "Multiplications of the whole and of the decomposed head"),
    (
        "beyond-points-lost",
        "11_accuracy_and_time",
        "Accuracy of twelve rankings and a peer against the time that each takes",
    ),
    (
        "pure-filters",
        "12_contact_sheet",
        "The nine images that excite each kept filter of frog and of ship most",
    ),
    (
        "countable-decisions",
        "12_counting",
        "How often counting names the network's class, for kept and for random filters",
    ),
)
BADGES = {REPRODUCED: "success", PARTLY: "warning", NOT_REPRODUCED: "danger"}

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
    parts = {
        "number": str(len(records)),
        "atlas": ATLAS if atlas else "",
        "cards": "\n".join(cards),
        "chapters": "\n".join(f"notebooks/{stem}" for stem in titles),
    }
    page = PAGE.read_text()
    for name, text in parts.items():
        page = page.replace(f"<!-- {name} -->", text)
    return page
