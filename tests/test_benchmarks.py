"""The benchmarks run, and what they compare gives the same answer."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import heads, imagenet, ranking
from benchmarks.__main__ import table
from benchmarks.pages import write_between
from paperlib.bank import FeatureBank
from paperlib.filters.counting import frequency_histogram
from paperlib.heads.accuracy import correct_by_k
from reproduction.paths import ROOT


def test_quick_run_writes_ratios_and_the_machine(tmp_path):
    out = tmp_path / "cpu.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    result = json.loads(out.read_text())
    assert len(result["rows"]) == 18 and all(row["ratio"] > 0 for row in result["rows"])
    assert result["machine"]["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_stored_results_meet_their_aims_and_stand_in_the_docs():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        result = json.loads(path.read_text())
        for row in result["rows"]:
            assert row["ratio"] >= (row["must"] or 0), row["benchmark"]
        assert table(result) in (ROOT / "docs" / "speed.md").read_text()
    assert (ROOT / "benchmarks" / "results" / "cpu.json").exists()


def test_notebooks_at_the_size_of_imagenet_take_ten_minutes_and_8_gb_at_most():
    result = json.loads(imagenet.RESULTS.read_text())
    assert tuple(result["notebooks"]) == imagenet.NOTEBOOKS
    for name, found in result["notebooks"].items():
        assert found["seconds"] <= 600 and found["peak_gb"] <= 8, name
    assert imagenet.table(result) in imagenet.PAGE.read_text()


def test_a_synthetic_bank_is_one_of_the_imagenet_tier(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "IMAGES", tmp_path)
    monkeypatch.setattr(imagenet, "BANKS", tmp_path / "banks")
    monkeypatch.setattr(imagenet, "WIDTHS", {"resnet18": 32})
    monkeypatch.setattr(imagenet, "IMAGES_PER_CLASS", {"train": 2, "test": 1})
    imagenet.make_folder()
    imagenet.make_bank("resnet18")
    bank = FeatureBank.load(tmp_path / "banks" / "resnet18.safetensors")
    assert (len(bank.split("train")), len(bank.split("test"))) == (2000, 1000)
    assert (bank.num_classes, bank.num_filters) == (1000, 32)
    assert bank.correct().double().mean() > 10 / 1000  # ten times chance


def test_a_table_is_put_between_its_marks_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- mark -->\nold\n<!-- /mark -->\nafter\n")
    write_between(page, "mark", "new\n")
    assert page.read_text() == "before\n<!-- mark -->\nnew\n<!-- /mark -->\nafter\n"
    with pytest.raises(ValueError, match="no marks <!-- other --> and <!-- /other -->"):
        write_between(page, "other", "new\n")


def test_all_ways_of_ranking_choose_equally_frequent_filters():
    """The other ways leave ties to chance, so counts are compared, not indices."""
    features, labels = ranking.draw(600, 20, 3, "cpu")
    ks = range(1, 6)
    published = iter(ranking.published_way(features.numpy(), labels.numpy(), 3, ks))
    peer = ranking.peer(features, labels, 3, ks)
    histogram = frequency_histogram(features, labels, 3, 5)
    ours = ranking.one_pass(features, labels, 3, ks)
    for k, subsets, rivals in zip(ks, ours, peer, strict=True):
        for counts, fast, rival in zip(histogram[k - 1], subsets, rivals, strict=True):
            assert counts[next(published)].tolist() == counts[fast].tolist()
            assert counts[rival].tolist() == counts[fast].tolist()


def test_both_sweeps_agree():
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(1000, 2048, generator=generator), torch.zeros(1000)
    features = torch.rand(50, 2048, generator=generator)
    labels = (features @ weight.T).argmax(dim=1)
    order = torch.rand(1000, 2048, generator=generator).argsort(dim=1)
    subsets = {k: list(order[:, :k]) for k in (10, 100, 2048)}
    data = (features, labels, weight, bias, subsets)
    assert torch.equal(correct_by_k(*data), heads.masked_products(*data))
    assert correct_by_k(*data)[2].all()
