"""Compact files of training runs: what is kept is exact, and the known figures come out."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import runs as make_runs
from experiments.__main__ import main
from paperlib.bank import FeatureBank, LinearHead
from paperlib.filters.counting import class_statistics
from paperlib.filters.tensors import AT_ONCE
from paperlib.metrics.collapse import class_scatter, collapse_ratio
from paperlib.networks.cifar_runs import RUNS
from paperlib.store import BankError
from reproduction.banks import load_banks
from reproduction.run_sizes import sizes_of
from reproduction.runs import TRAIN_SAMPLE, TrainingRun, load_runs, origins, run_path, runs_of

# Measured by others on the same images, with other code: full accuracy, smallest k within a point,
# features for half the mass, components for 95 %, collapse ratio
KNOWN = {
    "resnet20": (91.5, 9, 13.22, 17, 0.467),
    "resnet20:bognev": (91.9, 17, 13.96, 17, 0.463),
    "resnet32:segura": (93.6, 13, 12.56, 17, 0.397),
    "resnet44:teguh": (92.5, 10, 12.13, 15, 0.377),
    "resnet56": (92.6, 7, 11.62, 17, 0.353),
    "resnet56:sparse-compress": (94.1, 22, 14.56, 23, 0.513),
    "resnet56:landscape": (93.6, 10, 9.30, 9, 0.140),
    "resnet44:dans": (94.4, 3, 7.75, 9, 0.088),
}


@pytest.fixture(scope="module")
def bank():
    """Four classes, 12 filters, 300 train and 100 test images."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(4, 12, generator=generator)
    labels = torch.arange(400) % 4
    features = centres[labels] + 0.3 * torch.rand(400, 12, generator=generator)
    head = LinearHead(centres - centres.mean(dim=0), -centres.square().sum(dim=1) / 2)
    codes = (torch.arange(400) >= 300).to(torch.uint8)
    return FeatureBank(features, features @ head.weight.T + head.bias, labels, codes, [], head)


def test_scatter_by_hand():
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 1.0], [4.0, 3.0]])
    scatter = class_scatter(x, torch.tensor([0, 0, 1, 1]), 3)  # class 2 has no images
    # class means [1, 0] and [4, 2]; within: +-1 along one axis each; between: +-[1.5, 1]
    assert scatter.within.tolist() == [[0.5, 0.0], [0.0, 0.5]]
    assert scatter.between.tolist() == [[2.25, 1.5], [1.5, 1.0]]
    assert collapse_ratio(scatter) == pytest.approx(1 / 3.25)
    assert collapse_ratio(class_scatter(x, torch.zeros(4, dtype=torch.int64), 1)) == float("inf")


def test_scatter_of_many_images_is_that_of_one_product(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.rand(500, 8, generator=generator), torch.arange(500) % 3
    whole = class_scatter(x, labels, 3).within
    monkeypatch.setitem(AT_ONCE, "cpu", 8 * 64)  # 64 images at a time
    assert class_scatter(x, labels, 3).within.numpy() == pytest.approx(whole.numpy(), abs=1e-14)
    monkeypatch.setattr("paperlib.filters.sums.LARGE", 1)  # products in float32
    assert class_scatter(x, labels, 3).within.numpy() == pytest.approx(whole.numpy(), abs=1e-7)


def test_collapsed_features_have_no_scatter():
    labels = torch.arange(30) % 3
    centres = torch.eye(3)
    assert collapse_ratio(class_scatter(centres[labels], labels, 3)) == 0
    noise = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    ratios = [collapse_ratio(class_scatter(centres[labels] + s * noise, labels, 3)) for s in (1, 2)]
    assert 0 < ratios[0] < ratios[1]


def test_a_run_comes_back_from_its_file(bank, tmp_path):
    run = TrainingRun.of("resnet20:mine", bank, sample=100)
    path = run.save(tmp_path / "run.safetensors")
    assert run.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    loaded = TrainingRun.load(path)
    train = bank.split("train")
    expected = class_statistics(train.features, train.labels, 4, 12)
    assert loaded.statistics.ks == expected.ks
    assert torch.equal(loaded.statistics.histogram, expected.histogram)
    assert torch.equal(loaded.statistics.totals, expected.totals)
    assert len(loaded.bank.split("train")) == 100 and len(loaded.bank.split("test")) == 100
    kept = loaded.bank.split("test")
    assert torch.allclose(kept.features, bank.split("test").features, rtol=1e-3)
    assert torch.equal(kept.logits.argmax(1), bank.split("test").logits.argmax(1))
    assert sizes_of(loaded) == pytest.approx(sizes_of(run), rel=1e-6)
    assert loaded.scatter.within.allclose(run.scatter.within, rtol=1e-6)


def test_a_sample_of_a_bank_sorted_by_class_holds_all_classes(bank):
    order = bank.labels.argsort(stable=True)
    codes, rest = bank.split_codes[order], (bank.class_names, bank.head)
    ordered = FeatureBank(
        bank.features[order], bank.logits[order], bank.labels[order], codes, *rest
    )
    for spread, classes in ((False, 1), (True, 4)):
        kept = TrainingRun.of("mine", ordered, sample=60, spread=spread).bank.split("train")
        assert len(kept) == 60 and len(kept.labels.unique()) == classes


def test_sizes_follow_the_definitions(bank):
    run = TrainingRun.of("mine", bank)
    curve = run.curve()
    tried, correct = curve.ks, curve.correct
    assert tried == list(range(13)) and correct.shape == (13, 100)
    test = bank.split("test")
    assert torch.equal(correct[-1], run.bank.split("test").correct())
    sizes = sizes_of(run, k=3)
    accuracy = 100 * correct.double().mean(dim=1)
    within = (accuracy >= accuracy[-1] - 1).nonzero().flatten()
    assert sizes["filters within 1 point"] == within[0]
    assert sizes["points lost at k = 3"] == pytest.approx(float(accuracy[-1] - accuracy[3]))
    assert sizes["decision dimension"] <= 3  # C - 1
    assert sizes["accuracy, %"] == pytest.approx(100 * test.correct().double().mean().item())


def test_other_files_are_refused(bank, tmp_path):
    with pytest.raises(FileNotFoundError, match="no training run at"):
        TrainingRun.load(tmp_path / "gone.safetensors")
    bank.save(tmp_path / "bank.safetensors")
    with pytest.raises(BankError, match="holds no training run"):
        TrainingRun.load(tmp_path / "bank.safetensors")
    path = TrainingRun.of("mine", bank).save(tmp_path / "run.safetensors")
    whole = path.read_bytes()
    for altered in (whole[:-9] + b"\x02" + whole[-8:], whole.replace(b"mine", b"mime")):
        path.write_bytes(altered)
        with pytest.raises(BankError, match="does not match its SHA-256"):
            TrainingRun.load(path)
    with pytest.raises(ValueError, match=r"no training runs \['resnet20:me'\]; choose from resnet"):
        load_runs(["resnet20:me"])


def test_committed_runs_are_all_of_the_table():
    expected = {name for name, run in RUNS.items() if run.depth <= make_runs.DEEPEST}
    runs = load_runs()
    assert set(runs) == expected and len(expected) == 24
    for name, run in runs.items():
        assert run.name == name and run.bank.metadata["network"] == name
        assert run.bank.metadata["checkpoint_sha256"].startswith(RUNS[name].sha256)
        assert run.bank.metadata["dataset"] == "cifar10:10000"
        assert run.statistics.images.sum() == 10_000
        assert len(run.bank) == TRAIN_SAMPLE + 1000
        assert run_path(name).stat().st_size < 600_000


@pytest.mark.parametrize("name", KNOWN)
def test_figures_that_others_measured(name):
    (run,) = load_runs([name]).values()
    full, k, half, components, ratio = KNOWN[name]
    sizes = sizes_of(run)
    assert sizes["accuracy, %"] == pytest.approx(full, abs=1e-9)
    assert sizes["filters within 1 point"] == k
    assert sizes["features for half the mass"] == pytest.approx(half, abs=0.06)  # of a sample
    assert sizes["components for 95 %"] == components
    assert sizes["collapse ratio"] == pytest.approx(ratio, abs=1e-3)


def test_a_file_is_made_again_byte_for_byte(assets, tmp_path, monkeypatch):
    """One run from its checkpoint and 300 train images, twice; the committed one is left alone."""
    if not (assets / "data" / "cifar10").is_dir():
        pytest.skip("the assets hold no cifar10")
    monkeypatch.setenv("PAPERLIB_DATA", str(tmp_path / "data"))
    made = []
    for attempt in ("one", "two"):
        monkeypatch.setattr(make_runs, "ROOT", tmp_path / attempt)
        assert main(["runs", "resnet20:dans", "--images", "300", "--device", "cpu"]) == 0
        made.append(run_path("resnet20:dans").read_bytes())
    assert made[0] == made[1]
    path = tmp_path / "sizes.csv"
    assert main(["runs", "resnet20:dans", "--images", "300", "--table", str(path)]) == 0
    (row,) = pd.read_csv(path).to_dict("records")
    expected = sizes_of(TrainingRun.load(run_path("resnet20:dans")))
    assert row.pop("run") == "resnet20:dans" and row == pytest.approx(expected, rel=1e-5)


def test_runs_of_a_tier_are_those_of_its_networks_by_all_authors():
    banks = load_banks("embedded", ["resnet32"])
    runs = runs_of("embedded", banks)
    assert set(runs) == {"resnet32", "resnet32:dans", "resnet32:segura", "resnet32:teguh"}
    assert runs_of("cifar10", banks)["resnet32"].bank.num_classes == 10
    told = origins(list(runs)).set_index("run")
    assert told["the paper's"].tolist() == [name == "resnet32" for name in runs]
    assert told.loc["resnet32:dans", ["depth", "recipe"]].tolist() == [32, "dans"]
    with pytest.raises(ValueError, match="no bank of network 'vgg' is loaded; choose from resnet"):
        banks["vgg"]


def test_the_table_of_all_train_images_is_of_the_same_runs_and_test_images():
    table = pd.read_csv(run_path("any").parents[1] / "run_sizes_50000.csv").set_index("run")
    runs = load_runs()
    assert len(table) == 10 and set(table.index) <= set(runs)
    for name in table.index:
        correct = runs[name].bank.split("test").correct().double().mean().item()
        assert table.loc[name, "accuracy, %"] == pytest.approx(100 * correct)


def test_bad_runs_are_named(capsys, tmp_path):
    assert main(["runs", "resnet20:me"]) == 2
    assert "no runs ['resnet20:me']; choose from resnet20, " in capsys.readouterr().err
    assert main(["runs", "--trained", str(tmp_path)]) == 2
    assert "holds no network whose training is finished" in capsys.readouterr().err


def test_the_table_of_trained_runs_is_a_whole_grid():
    table = pd.read_csv(run_path("any").parents[1] / make_runs.TRAINED_TABLE)
    keys = ["depth", "seed", "weight_decay", "epochs"]
    assert not table.duplicated(keys).any()
    assert len(table) == np.prod([table[key].nunique() for key in keys])
