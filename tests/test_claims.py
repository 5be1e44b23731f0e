"""Verdicts follow from the rules alone, and records survive."""

import json
import re

import pytest

from reproduction.claims import CLAIMS, read_claims, record_claim, scorecard, summary
from reproduction.paths import NOTEBOOKS
from reproduction.published import RESNET20_ACCURACY, RESNET20_MUTUAL_INFORMATION
from reproduction.rules import (
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    at_least,
    at_most,
    contains,
)


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


WHOLE = """[flat-earth]
statement = "The earth is flat"
published = "0 m"
source = "nowhere"
notebook = "00_baseline_accuracy"
quantity = "curvature, m"
rule = { kind = "at_most", limit = 1, partly = 2.5, unit = "m" }
"""


def test_a_claim_is_read_with_its_rule(tmp_path):
    (tmp_path / "claims.toml").write_text(WHOLE)
    claim = read_claims(tmp_path / "claims.toml")["flat-earth"]
    assert (claim.statement, claim.rule.text) == ("The earth is flat", at_most(1, 2.5, "m").text)
    assert [claim.rule.decide(x, x, x) for x in (1, 2, 3)] == [REPRODUCED, PARTLY, NOT_REPRODUCED]


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ('source = "nowhere"\n', "", "claim 'flat-earth' lacks the field 'source'"),
        ("source", "sauce", "claim 'flat-earth' lacks the field 'source'"),
        ('"0 m"', '"0 m"\nyear = 2021', "'flat-earth' has an unknown field 'year'; known are sta"),
        ('"0 m"', "0", "claim 'flat-earth' has 0 for the field 'published'"),
        ("rule = {", "ruling = {", "claim 'flat-earth' lacks the field 'rule'"),
        ("{ kind", "'flat' # { kind", "claim 'flat-earth' has 'flat' for the field 'rule'"),
        ("at_most", "flat", "'flat-earth', rule: unknown kind 'flat'; choose from contains, at_m"),
        ("at_most", "proportional", "'flat-earth', rule, has an unknown field 'limit'"),
        ('kind = "at_most", ', "", "'flat-earth', rule: unknown kind None"),
        ("limit = 1, ", "", "claim 'flat-earth', rule, lacks the field 'limit'"),
        ("limit = 1", "limit = '1'", "'flat-earth', rule, has '1' for the field 'limit'"),
        (", unit", ", units = 1, unit", "'flat-earth', rule, has an unknown field 'units'"),
    ],
)
def test_a_claim_with_a_wrong_field_is_refused(good, bad, message, tmp_path):
    assert good in WHOLE
    (tmp_path / "claims.toml").write_text(WHOLE.replace(good, bad))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_claims(tmp_path / "claims.toml")


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
