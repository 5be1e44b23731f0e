"""Every verdict depends on the data: with forged banks, no claim that holds may still hold."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.imagenette import save_imagenette
from paperlib.bank import FeatureBank, LinearHead
from reproduction import runner
from reproduction.claims import CLAIMS, scorecard, scorecard_markdown
from reproduction.imagenette import load_imagenette
from reproduction.paths import ROOT
from reproduction.rules import NOT_REPRODUCED, NOT_TESTABLE, PARTLY, REPRODUCED
from reproduction.runs import TrainingRun

RANK = {REPRODUCED: 2, PARTLY: 1, NOT_REPRODUCED: 0, NOT_TESTABLE: 0}
COMMITTED = {key: ROOT / "figures" / "claims" / f"{key}.json" for key in CLAIMS}


def verdict(path):
    return json.loads(path.read_text())["verdict"]


def forge(path, generator):
    """A bank that is sound but meaningless: shuffled labels and a random head."""
    bank = FeatureBank.load(path)
    shape = (bank.num_classes, bank.num_filters)
    head = LinearHead(torch.randn(shape, generator=generator), torch.zeros(bank.num_classes))
    labels = bank.labels[torch.randperm(len(bank), generator=generator)]
    logits = bank.features @ head.weight.T
    path.unlink()  # the original stays mapped into memory
    replace(bank, logits=logits, labels=labels, stored_head=head).save(path)


def forge_run(path, generator):
    """A training run that is sound but meaningless, as `forge` makes a bank."""
    run = TrainingRun.load(path)
    bank = run.bank
    head = LinearHead(torch.randn(bank.head.weight.shape, generator=generator), bank.head.bias)
    labels = bank.labels[torch.randperm(len(bank), generator=generator)]
    logits = bank.features @ head.weight.T + head.bias
    TrainingRun.of(run.name, replace(bank, logits=logits, labels=labels, stored_head=head)).save(
        path
    )


def forge_imagenette(path, generator):
    """A small bank of an ImageNet network, sound but meaningless, as `forge` makes a bank."""
    bank = load_imagenette(path)
    weight = torch.randn(bank.head.weight.shape, generator=generator)
    labels = bank.labels[torch.randperm(len(bank), generator=generator)]
    save_imagenette(
        replace(
            bank,
            labels=labels,
            logits=bank.features @ weight.T,
            stored_head=LinearHead(weight, torch.zeros(len(weight))),
        ),
        path,
    )


def shuffle_collapse(path):
    """The collapse ratios of our own training runs, each in another run's place."""
    table = pd.read_csv(path)
    table["collapse ratio"] = table["collapse ratio"].sample(frac=1, random_state=0).to_numpy()
    table.to_csv(path, index=False)


def reverse_depth(path):
    """Psi of the trained networks in the opposite order of blocks."""
    table = pd.read_csv(path)
    trained = (table["weights"] == "trained") & (table["measure"] == "Psi")
    last = table.groupby("network")["position"].transform("max")
    table.loc[trained, "position"] = last[trained] + 1 - table.loc[trained, "position"]
    table.to_csv(path, index=False)


def undo_fine_tuning(path):
    """Fine-tuning that leaves the cut network as it is."""
    table = pd.read_csv(path)
    table.assign(**{"fine-tuned correct": table["cut correct"]}).to_csv(path, index=False)


def slow_down(path):
    """Seconds of our own methods, a thousand times longer."""
    record = json.loads(path.read_text())
    for key in ("quick rankings, s", "heads, s"):
        record[key] = {name: [1000 * s for s in times] for name, times in record[key].items()}
    path.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    """The claims that all notebooks record on forged data."""
    folder = tmp_path_factory.mktemp("forged")
    shutil.copytree(ROOT / "data", folder / "data")
    generator = torch.Generator().manual_seed(0)
    for path in sorted((folder / "data" / "banks").glob("*.safetensors")):
        forge(path, generator)
    for path in sorted((folder / "data" / "runs").glob("*.safetensors")):
        forge_run(path, generator)
    for path in sorted((folder / "data" / "imagenette").glob("*.safetensors")):
        forge_imagenette(path, generator)
    shuffle_collapse(folder / "data" / "trained_runs.csv")
    reverse_depth(folder / "data" / "selectivity.csv")
    slow_down(folder / "data" / "better_subsets.json")
    undo_fine_tuning(folder / "data" / "fine_tuning.csv")
    notebooks = [path for path in runner.find_notebooks() if "scorecard" not in path.stem]
    before = dict(os.environ)
    os.environ["PAPERLIB_DATA"] = str(folder / "data")
    try:
        outcomes = list(runner.run_all({path: {} for path in notebooks}, folder, jobs=2))
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert not [outcome for outcome in outcomes if outcome.error]
    return folder / "figures" / "claims"


@pytest.mark.parametrize("key", CLAIMS)
def test_forged_data_make_a_claim_that_holds_fail(key, forged):
    real = RANK[verdict(COMMITTED[key])]
    if real:
        assert RANK[verdict(forged / f"{key}.json")] < real
    else:
        pytest.skip("does not hold on the real data either; its rule is tested below")


@pytest.mark.parametrize("key", CLAIMS)
def test_every_rule_can_decide_either_way(key):
    decide = CLAIMS[key].rule.decide
    figures = np.linspace(-150, 150, 3001)
    verdicts = {decide(figure, figure - 0.2, figure + 0.2) for figure in figures}
    assert {REPRODUCED, NOT_REPRODUCED} <= verdicts


@pytest.mark.parametrize("key", CLAIMS)
def test_committed_verdict_follows_from_its_figures(key):
    record = json.loads(COMMITTED[key].read_text())
    decided = CLAIMS[key].rule.decide(record["value"], record["low"], record["high"])
    assert record["verdict"] == decided
    assert record["rule"] == CLAIMS[key].rule.text


def test_scorecard_files_hold_the_recorded_claims():
    table = pd.read_csv(ROOT / "figures" / "claims.csv")
    assert table["claim"].tolist() == list(CLAIMS)
    assert table["verdict"].tolist() == [verdict(COMMITTED[key]) for key in CLAIMS]
    stored = (ROOT / "figures" / "scorecard.md").read_text()
    assert stored == scorecard_markdown(scorecard(ROOT / "figures"), "../notebooks")


def test_findings_of_the_readme_are_those_of_the_scorecard():
    """Each row's notebook, figure, interval and verdict stand together in one row of it."""
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("## What holds")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if "](notebooks/" in line and line[0] == "|"]
    scorecard_rows = (ROOT / "figures" / "scorecard.md").read_text().splitlines()
    assert 8 <= len(rows) <= 10
    for row in rows:
        finding, ours, verdict = (cell.strip() for cell in row.strip("|").split(" | "))
        notebook = finding.partition("](")[2].partition(")")[0]
        parts = (notebook, f"| {ours}: ", f"| {verdict.rstrip(' |')} |")
        assert any(all(part in known for part in parts) for known in scorecard_rows), row


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text()) < 9000


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", "data/README.md"])
def test_links_of_pages_lead_somewhere(page):
    check_links(ROOT / page)


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_links_of_the_docs_lead_somewhere(page):
    check_links(ROOT / "docs" / page)


def check_links(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target
