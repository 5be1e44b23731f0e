"""Banks: round trip, recovered head, and a clear error for everything that can be wrong."""

import errno
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from paperlib.bank import FeatureBank, LinearHead
from paperlib.store import BankError


def rewrite(path, change, **header_changes):
    """Store a bank's tensors again after `change`, keeping its header, as a tamperer would."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["paperlib"]) | header_changes
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    change(tensors)
    kept = {key: value for key, value in header.items() if value is not None}
    save_file(tensors, path, {"paperlib": json.dumps(kept)})


def test_round_trip(small_bank, tmp_path):
    bank = replace(small_bank, blocks={"layer1.0": torch.rand(60, 2).half()})
    loaded = FeatureBank.load(bank.save(tmp_path / "new" / "bank.safetensors"))
    for name in ("features", "logits", "labels", "split_codes"):
        assert torch.equal(getattr(loaded, name), getattr(bank, name))
    assert torch.equal(loaded.blocks["layer1.0"], bank.blocks["layer1.0"])
    assert loaded.class_names == ["ant", "bee", "cow"]
    assert loaded.metadata == {"network": "small"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bank.safetensors"]


def test_saving_twice_gives_the_same_bytes(small_bank, tmp_path):
    first, second = (small_bank.save(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_failed_save_leaves_the_old_bank_and_no_litter(small_bank, tmp_path, monkeypatch):
    path = small_bank.save(tmp_path / "bank.safetensors")
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        small_bank.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_split_keeps_rows_and_head(small_bank):
    train, test = small_bank.split("train"), small_bank.split("test")
    assert (len(train), len(test)) == (40, 20)
    assert torch.equal(test.features, small_bank.features[40:])
    assert torch.equal(test.head.weight, small_bank.head.weight)
    with pytest.raises(BankError, match="unknown split 'val'; choose from train, test"):
        small_bank.split("val")
    with pytest.raises(BankError, match="holds no test images"):
        train.split("test")


def test_head_is_recovered_even_with_a_dead_filter(small_bank):
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(3, 6, generator=generator), torch.randn(3, generator=generator)
    features = small_bank.features.clone()
    features[:, 2] = 0.0
    logits = features @ weight.T + bias
    head = FeatureBank(features, logits, small_bank.labels).head
    alive = [0, 1, 3, 4, 5]
    assert torch.allclose(head.weight[:, alive], weight[:, alive], atol=1e-5)
    assert torch.allclose(head.bias, bias, atol=1e-5)


def test_stored_head_serves_few_images():
    x = torch.rand(4, 6)
    head = LinearHead(torch.rand(2, 6), torch.rand(2))
    logits = x @ head.weight.T + head.bias
    assert FeatureBank(x, logits, [0, 1, 0, 1], stored_head=head).head_fit().residual < 1e-5
    with pytest.raises(BankError, match="4 images cannot determine a head over 6 filters"):
        _ = FeatureBank(x, logits, [0, 1, 0, 1]).head


def test_quantised_logits_are_reported_not_refused(resnet20):
    step = 0.05
    quantised = (resnet20.logits / step).round() * step
    fit = replace(resnet20, logits=quantised, stored_head=None).head_fit()
    assert 0.5 * step < fit.residual < 2 * step
    assert 0.99 < fit.agreement <= 1


def test_any_framework_can_make_a_bank(small_bank):
    arrays = (small_bank.features.numpy(), small_bank.logits.numpy(), small_bank.labels.numpy())
    bank = FeatureBank(arrays[0].astype(np.float16), *arrays[1:])
    assert bank.features.dtype == torch.float32
    assert bank.class_names == ["0", "1", "2"]
    assert len(bank.split("train")) == 60


def build(small_bank, **changes):
    tensors = {
        "features": small_bank.features.clone(),
        "logits": small_bank.logits.clone(),
        "labels": small_bank.labels.clone(),
    }
    return FeatureBank(**(tensors | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": torch.rand(60)}, r"features must be \[N, D\]"),
        ({"features": torch.rand(59, 6)}, "features has 59 rows, labels have 60"),
        ({"logits": torch.full((60, 3), float("inf"))}, "logits hold NaN or infinity.* row 0"),
        ({"features": torch.full((60, 6), float("nan"))}, "features hold NaN"),
        ({"labels": torch.full((60,), 3)}, "labels must lie in 0..2, found 3..3"),
        ({"labels": torch.full((60,), -1)}, "labels must lie in 0..2, found -1..-1"),
        ({"class_names": ["ant", "bee"]}, "2 class names for 3 logits"),
        ({"split_codes": torch.full((60,), 7, dtype=torch.uint8)}, "split holds 7"),
        ({"blocks": {"layer1": torch.rand(3, 2)}}, "blocks/layer1 has 3 rows"),
        ({"stored_head": LinearHead(torch.rand(3, 5), torch.rand(3))}, "head has shapes"),
    ],
)
def test_bad_contents_are_named(small_bank, changes, message):
    with pytest.raises(BankError, match=message):
        build(small_bank, **changes)
    with pytest.raises(BankError, match="no images"):
        FeatureBank(torch.rand(0, 6), torch.rand(0, 3), [])


def test_logits_of_another_network_are_refused(small_bank):
    other = build(small_bank, logits=torch.randn(60, 3))
    with pytest.raises(BankError, match="affine head picks the class"):
        other.head_fit()


def test_bad_files_are_named(small_bank, tmp_path):
    with pytest.raises(FileNotFoundError, match="no feature bank at"):
        FeatureBank.load(tmp_path / "missing.safetensors")
    path = small_bank.save(tmp_path / "bank.safetensors")
    whole = path.read_bytes()

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BankError, match=r"bank\.safetensors: it is not a whole safetensors file"):
        FeatureBank.load(path)

    path.write_bytes(pickle.dumps({"features": [1.0]}))
    with pytest.raises(BankError, match="a pickle or another format"):
        FeatureBank.load(path)

    torch.save({"features": small_bank.features}, path)
    with pytest.raises(BankError, match="a pickle or another format"):
        FeatureBank.load(path)


def test_tampered_and_foreign_banks_are_named(small_bank, tmp_path):
    path = tmp_path / "bank.safetensors"

    def load_after(change=lambda tensors: None, **header):
        rewrite(small_bank.save(path), change, **header)
        return FeatureBank.load(path)

    assert len(load_after()) == 60
    with pytest.raises(BankError, match="do not match their SHA-256"):
        load_after(lambda tensors: tensors["features"].view(-1)[7].add_(1e-3))
    with pytest.raises(BankError, match="schema version is 3, this paperlib reads up to 2"):
        load_after(schema_version=3)
    with pytest.raises(BankError, match="the header does not match its SHA-256"):
        load_after(class_names=["a", "b", "c"])
    with pytest.raises(BankError, match="the header does not match its SHA-256"):
        load_after(metadata={"network": "another"})
    with pytest.raises(BankError, match="the header does not match its SHA-256"):
        load_after(content_sha256=None, header_sha256=None)
    with pytest.raises(BankError, match="schema version is None"):
        load_after(schema_version=None)
    with pytest.raises(BankError, match="missing tensors: labels"):
        load_after(lambda tensors: tensors.pop("labels"))
    with pytest.raises(BankError, match=r"stored together"):
        load_after(lambda tensors: tensors.update({"head.weight": torch.rand(3, 6)}))
    with pytest.raises(BankError, match=r"labels is torch.int32, expected torch.int64"):
        load_after(lambda tensors: tensors.update(labels=tensors["labels"].int()))
    undigested = {"content_sha256": None, "header_sha256": None}
    foreign = load_after(schema_version=1, **undigested, class_names=["a", "b", "c"])
    assert foreign.class_names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda logits: logits.softmax(dim=1), "look like softmax probabilities: give the logits"),
        (lambda logits: logits.log_softmax(dim=1), "look like log-softmax values"),
        (lambda logits: 1.2 * logits, "misses them by"),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_logits_that_are_not_the_heads_are_refused(resnet20, change, words, stored):
    """They agree in the class of nearly every image, and a cut head would not."""
    test = resnet20.test
    if not stored and words == "misses them by":
        pytest.skip("without a stored head, scaled logits are another head's")
    parts = (test.features, change(test.logits), test.labels)
    bank = FeatureBank(*parts, stored_head=test.head if stored else None)
    with pytest.raises(BankError, match=words):
        _ = bank.head
