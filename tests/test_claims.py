"""Verdicts follow from the rules alone, and records survive."""

import json

import pytest

from reproduction.claims import record_claim, scorecard, summary
from reproduction.paths import NOTEBOOKS
from reproduction.published import RESNET20_ACCURACY, RESNET20_MUTUAL_INFORMATION
from reproduction.registry import CLAIMS
from reproduction.rules import at_least, at_most, contains


@pytest.mark.parametrize(
    ("rule", "figures", "verdict"),
    [
        (contains(10, 1, "%"), (10.5, 9, 12), "reproduced"),
        (contains(10, 1, "%"), (10.5, 10.1, 12), "partly"),
        (contains(10, 1, "%"), (12, 11, 13), "not reproduced"),
        (at_most(5, 8, "points"), (4, 3, 5), "reproduced"),
        (at_most(5, 8, "points"), (4, 3, 6), "partly"),
        (at_most(5, 8, "points"), (9, 3, 12), "not reproduced"),
        (at_least(5, 3, "points"), (6, 5, 7), "reproduced"),
        (at_least(5, 3, "points"), (6, 4, 7), "partly"),
        (at_least(5, 3, "points"), (2, 1, 9), "not reproduced"),
    ],
)
def test_rules_decide(rule, figures, verdict):
    assert rule.decide(*figures) == verdict


def test_records_make_the_scorecard_in_order(tmp_path):
    keys = list(CLAIMS)[:2]
    for key in reversed(keys):
        record = record_claim(tmp_path, key, 91.0, 90.0, 92.0, reason="a test")
    assert scorecard(tmp_path)["claim"].tolist() == keys
    stored = json.loads((tmp_path / "claims" / f"{keys[0]}.json").read_text())
    assert stored == record
    assert summary(record).splitlines()[-1].split(maxsplit=1)[1] == record["verdict"].upper()
    with pytest.raises(ValueError, match="unknown claim 'flat-earth'; choose from baseline"):
        record_claim(tmp_path, "flat-earth", 1, 1, 1, reason="")


def test_every_claim_names_its_notebook():
    for key, claim in CLAIMS.items():
        assert (NOTEBOOKS / f"{claim.notebook}.ipynb").is_file(), key
        assert f'"{key}"' in (NOTEBOOKS / f"{claim.notebook}.ipynb").read_text().replace("\\", "")


def test_claims_quote_the_published_figures():
    ours, csg = (1000 * mi for mi in RESNET20_MUTUAL_INFORMATION.values())
    restored = RESNET20_ACCURACY["decomposed, k = 5, one epoch of fine-tuning"]
    quoted = {
        "baseline-accuracy": f"{RESNET20_ACCURACY['full network']} %",
        "decomposed-accuracy": f"{RESNET20_ACCURACY['decomposed, k = 5']} %",
        "finetuning-restores": "({} to {} %)".format(*restored),
        "overlap-figure": f"{ours:.4f} millinats",
        "overlap-below-csg": f"{ours:.4f} against {csg:.4f} millinats",
    }
    for key, figure in quoted.items():
        assert figure in CLAIMS[key].published
