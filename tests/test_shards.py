"""Interrupted work: nothing that was finished is lost, and the bank is the same byte for byte."""

import errno
import json
import os
import subprocess
import sys

import pytest
import torch
from filelock import FileLock
from interrupted import SETTINGS, Images, tiny_model
from safetensors.torch import save
from torch import nn
from torch.utils.data import Subset, TensorDataset
from torchvision.transforms import Normalize

from paperlib.api import extract
from paperlib.bank import FeatureBank
from paperlib.extraction.fingerprint import fingerprint
from paperlib.extraction.forward import Extraction, Span
from paperlib.extraction.options import ExtractOptions
from paperlib.extraction.shards import ShardError, ShardFolder
from paperlib.store import TYPE_NAMES, TensorStream, write_tensors
from reproduction.paths import ROOT

EVERYTHING = list(range(23))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "bank.safetensors"


@pytest.fixture
def parts(out):
    return out.with_name("bank.safetensors.parts")


@pytest.fixture
def whole(tmp_path):
    """The bytes of the bank of an uninterrupted run in memory."""
    bank = extract(tiny_model(), train=Images(23), batch_size=2, device="cpu", progress=False)
    return bank.save(tmp_path / "whole" / "bank.safetensors").read_bytes()


def make(out, images=None, **changes):
    images = images or Images(23)
    extract(tiny_model(), train=images, out=out, **(SETTINGS | changes))
    return images.loaded


def interrupt(out, at=13):
    """A run that fails at an image, in shard 3 of 6."""
    images = Images(23)
    images.x = images.x.clone()
    images.x[at] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        make(out, images)


def test_spans_cover_every_image_once():
    spans = Span("train", 0, 23).cut(4)
    assert [s.size for s in spans] == [4, 4, 4, 4, 4, 3]
    assert [i for s in spans for b in s.cut(3) for i in range(b.start, b.stop)] == EVERYTHING


@pytest.mark.parametrize("shard_size", [1, 4, 7, 1000])
def test_shards_give_the_bank_made_in_memory(out, parts, whole, shard_size):
    assert make(out, shard_size=shard_size) == EVERYTHING
    assert out.read_bytes() == whole
    assert FeatureBank.load(out).metadata["skipped"] == 1
    assert not parts.exists()


def test_splits_and_blocks_go_through_shards_too(out):
    splits = {"train": Images(9), "test": Images(6, seed=1)}
    extract(tiny_model(), **splits, out=out, blocks=["2"], **SETTINGS)
    bank = FeatureBank.load(out)
    reference = extract(
        tiny_model(), **splits, blocks=["2"], batch_size=2, device="cpu", progress=False
    )
    assert out.read_bytes() == reference.save(out.with_name("other")).read_bytes()
    assert (len(bank.split("train")), len(bank.split("test"))) == (8, 5)
    assert torch.equal(bank.blocks["2"], bank.features.half())


def test_a_shard_without_readable_images(out):
    images = Images(8)
    images.__class__ = type("Half", (Images,), {"__getitem__": lambda self, i: half(self, i)})

    def half(self, i):
        return None if i < 4 else (self.x[i], i % 3)

    bank = extract(tiny_model(), train=images, out=out, **SETTINGS)
    assert (len(bank), bank.metadata["skipped"]) == (4, 4)
    with pytest.raises(ValueError, match="no readable images"):
        extract(tiny_model(), train=[None] * 5, out=out.with_name("none"), **SETTINGS)


def test_killed_at_any_moment(tmp_path):
    """SIGKILL at every fourth file operation, piece of a file and image; stride 1 passes too."""
    command = [sys.executable, str(ROOT / "tests" / "interrupted.py"), "everywhere"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path), "4"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] >= 20


def test_resuming_extracts_only_what_is_missing(out, parts, whole):
    interrupt(out)
    assert len(list(parts.glob("*.safetensors"))) == 3
    assert make(out) == EVERYTHING[12:]
    assert out.read_bytes() == whole


def test_failure_before_the_first_shard_leaves_nothing(out, parts):
    interrupt(out, at=1)
    assert not out.exists() and not parts.exists()


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_truncated_shard_is_reported_and_made_again(out, parts, whole, size):
    interrupt(out)
    shard = parts / "00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.warns(UserWarning, match=r"00001\.safetensors is not whole"):
        assert make(out) == [*range(4, 8), *range(12, 23)]
    assert out.read_bytes() == whole


def test_altered_shard_is_reported_and_made_again(out, parts, whole):
    interrupt(out)
    shard = parts / "00002.safetensors"
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes(content)
    with pytest.warns(UserWarning, match=r"00002\.safetensors was altered"):
        make(out)
    assert out.read_bytes() == whole


def test_full_disk_is_reported_and_loses_nothing(out, parts, whole, monkeypatch):
    real, calls = os.fsync, iter(range(100))

    def full(handle):
        if next(calls) == 4:  # the manifest and three shards fit
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            make(out)
    assert "3 of 6 shards are safe in" in caught.value.__notes__[0]
    assert sorted(path.name for path in parts.glob("[!.]*")) == [
        *(f"{index:05d}.safetensors" for index in range(3)),
        "manifest.json",
    ]
    assert make(out) == EVERYTHING[12:]
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 4}, r"batch_size was 2, is now 4"),
        ({"shard_size": 6}, r"shard_size was 4, is now 6; shards was 6, is now 4"),
        ({"images": Images(22)}, r"images was {'train': 23}, is now {'train': 22}"),
        ({"blocks": ["2"]}, r"blocks was \[\], is now \['2'\]"),
    ],
)
def test_other_settings_are_refused_and_lose_nothing(out, parts, whole, changes, message):
    interrupt(out)
    with pytest.raises(ShardError, match=f"made with other settings .*{message}.*or delete"):
        make(out, **changes)
    assert make(out) == EVERYTHING[12:]
    assert out.read_bytes() == whole


def test_other_weights_are_refused(out):
    interrupt(out)
    model = tiny_model()
    with torch.no_grad():
        model[1].weight[0, 0] += 1e-6
    with pytest.raises(ShardError, match="weights_sha256 was"):
        extract(model, train=Images(23), out=out, **SETTINGS)
    images = Images(23)
    images.classes = ()  # or the width of the other layer would be refused first
    with pytest.raises(ShardError, match=r"head was '3', is now '1'"):
        make(out, images, head="1")


class Scaled(TensorDataset):
    """Images in memory that a transform changes."""

    def __init__(self, transform):
        super().__init__(PIXELS, LABELS)
        self.transform = transform

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return self.transform(x), y


def network(activation):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), activation(), nn.Linear(5, 3))


PIXELS, LABELS = Images(12).x, torch.arange(12) % 3
ITEMS = list(zip(PIXELS, LABELS.tolist(), strict=True))
CHANGES = {  # what two runs have, and what tells the second from the first
    "images": ((PIXELS, LABELS), (PIXELS.flip(0), LABELS), "tensors_sha256"),
    "arrays": ((PIXELS.numpy(), LABELS), (PIXELS.numpy() / 2, LABELS), "tensors_sha256"),
    "labels": ((PIXELS, LABELS), (PIXELS, 2 - LABELS), "tensors_sha256"),
    "items": (ITEMS, ITEMS[::-1], "items_sha256"),
    "a subset": (Subset(ITEMS, [0, 1, 2]), Subset(ITEMS, [0, 1, 3]), "subset_sha256"),
    "a transform": (
        Scaled(Normalize([0.5] * 3, [0.5] * 3)),
        Scaled(Normalize([0.5] * 3, [0.2] * 3)),
        "transforms",
    ),
}


def fingerprint_of(images, activation=nn.ReLU):
    options = ExtractOptions(device="cpu")
    return fingerprint(Extraction(network(activation), {"train": images}, options))


@pytest.mark.parametrize("case", CHANGES)
def test_other_images_have_another_fingerprint(case):
    first, second, name = CHANGES[case]
    before, after = fingerprint_of(first), fingerprint_of(second)
    assert [key for key in before if before[key] != after[key]] == [name]


def test_addresses_in_memory_are_no_part_of_a_fingerprint():
    one, other = Scaled(lambda x: x), Scaled(lambda x: x)
    assert repr(one.transform) != repr(other.transform)
    assert fingerprint_of(one) == fingerprint_of(other)


def test_rows_of_two_inputs_are_never_mixed(out):
    """The first run ends at a NaN; the second is of other labels, or of other layers."""
    broken = PIXELS.clone()
    broken[9] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        extract(network(nn.ReLU), train=(broken, LABELS), out=out, **SETTINGS)
    with pytest.raises(ShardError, match=r"tensors_sha256 was .*or delete the folder"):
        extract(network(nn.ReLU), train=(PIXELS, 2 - LABELS), out=out, **SETTINGS)
    with pytest.raises(ShardError, match=r"other settings \(layers_sha256 was .*to start again"):
        extract(network(nn.GELU), train=(broken, LABELS), out=out, **SETTINGS)


def test_unusable_folders_are_named(out, parts, tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
        make(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make(tmp_path / "file" / "bank.safetensors")
    parts.touch()
    with pytest.raises(ShardError, match=r"bank\.safetensors\.parts is no folder, and shards"):
        make(out)
    parts.unlink()
    parts.mkdir()
    (parts / "notes.txt").touch()
    with pytest.raises(ShardError, match=r"holds \['notes\.txt'\] but no manifest"):
        make(out)
    (parts / "manifest.json").write_text("{")
    with pytest.raises(ShardError, match="is not JSON"):
        make(out)
    assert (parts / "notes.txt").exists()
    folder = ShardFolder(tmp_path / "elsewhere", 2, {})
    with pytest.raises(ShardError, match="every machine must see the same folder"):
        folder.check_manifest()
    with folder.locked():
        folder.open()
    with pytest.raises(ShardError, match="lacks 2 shards, first number 0"):
        folder.join(out, tiny_model()[3], [], lambda skipped: {})


def test_a_refusal_leaves_no_lock_behind(out):
    """Whoever keeps the error, as a notebook does, must not keep others out."""
    interrupt(out)
    with pytest.raises(ShardError, match="made with other settings") as kept:
        make(out, batch_size=4)
    assert make(out) == EVERYTHING[12:] and kept.value


def start(mode, folder):
    command = [sys.executable, str(ROOT / "tests" / "interrupted.py"), mode, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def test_two_real_processes_and_one_bank(out, parts, whole):
    """The first is in the middle of its images when the second comes, and goes on to the end."""
    first = start("paused", out.parent)
    assert first.stdout.readline() == "paused\n"
    second = start("alone", out.parent)
    words, problems = second.communicate(timeout=100)
    assert second.returncode and "ShardError: another process is writing to" in problems, words
    (out.parent / "go").touch()
    _, problems = first.communicate(timeout=100)
    assert first.returncode == 0, problems
    assert out.read_bytes() == whole and not parts.exists()


def test_four_real_processes_at_once(out, parts, whole):
    """Each ends well or is told; the bank is one of theirs, whole, and no litter stays."""
    writers = [start("alone", out.parent) for _ in range(4)]
    problems = [writer.communicate(timeout=100)[1] for writer in writers]
    told = ["ShardError: another process" in text for text in problems]
    ended = [writer.returncode == 0 for writer in writers]
    assert any(ended) and all(a or b for a, b in zip(ended, told, strict=True)), problems
    assert out.read_bytes() == whole and not parts.exists()


def test_files_are_those_of_the_library(out):
    tensors = {
        str(dtype): (torch.arange(12).view(4, 3) % 2).to(dtype) for dtype in reversed(TYPE_NAMES)
    }
    tensors |= {"é empty": torch.zeros(0, 3), "a scalar": torch.tensor(2.5)}
    columns = {name: TensorStream.of(tensor) for name, tensor in tensors.items()}
    columns["halved"] = TensorStream(torch.float32, [4, 3], [torch.ones(2, 3), torch.zeros(2, 3)])
    tensors["halved"] = torch.cat([torch.ones(2, 3), torch.zeros(2, 3)])
    write_tensors(out, columns, {"paperlib": '{"é": 1}'})
    assert out.read_bytes() == save(tensors, {"paperlib": '{"é": 1}'})
    columns["halved"] = columns["halved"]._replace(shape=[5, 3])
    with pytest.raises(ValueError, match="do not add up"):
        write_tensors(out.with_name("wrong"), columns, {})
    assert not out.with_name("wrong").exists()


def test_a_second_writer_is_told_and_the_first_goes_on(out, parts, whole):
    """Two processes and one bank: whoever comes second touches nothing."""
    interrupt(out)
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    first = FileLock(parts / ".lock", timeout=0)
    with first, pytest.raises(ShardError, match=r"another process is writing to .*write elsewhere"):
        make(out)
    assert {path.name: path.read_bytes() for path in parts.iterdir()} | before == before
    make(out)
    assert out.read_bytes() == whole and not parts.exists()
