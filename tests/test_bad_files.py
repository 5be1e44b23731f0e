"""Bad files and command lines, one row a case: what is in the way, and the words of the message."""

import json
import os
import pickle
import resource

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_bad_input import CASES as CALLS
from test_bad_parameters import ROWS as PARAMETERS
from torch import nn
from torchvision.transforms import ToTensor

from experiments import __main__ as experiments
from paperlib.__main__ import main
from paperlib.api import extract
from paperlib.bank import FeatureBank
from paperlib.networks.datasets import load_dataset
from paperlib.networks.trained import load_trained
from reproduction.runs import TrainingRun
from tests.attack.targets import small_bank


def tensors(**changes):
    held = {name: tensor.contiguous() for name, tensor in small_bank()._tensors().items()}
    return {name: t for name, t in (held | changes).items() if t is not None}


def foreign(path, header=None, **changes):
    """A bank as other programs write one: schema 1, no digest."""
    text = json.dumps({"schema_version": 1} | header) if isinstance(header, dict) else header
    metadata = {} if text is None else {"paperlib": text}
    save_file(tensors(**changes), path, metadata)


FEATURES = tensors()["features"]
NOT_WHOLE = "is not a whole safetensors file"
# A file's content, as bytes or as what writes it, and the words
BANKS = {
    "empty": (b"", NOT_WHOLE),
    "eight zeros": (b"\0" * 8, NOT_WHOLE),
    "forged length, huge": ((2**62).to_bytes(8, "little") + b"{}", NOT_WHOLE),
    "forged length, negative": (b"\xff" * 64, NOT_WHOLE),
    "length of other bytes": ((4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc", NOT_WHOLE),
    "brackets without end": ((200_000).to_bytes(8, "little") + b"[" * 200_000, NOT_WHOLE),
    "a pickle": (pickle.dumps([1, 2]), NOT_WHOLE),
    "a zip, as torch.save writes": (b"PK\3\4" + b"\0" * 60, NOT_WHOLE),
    "an image": (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, NOT_WHOLE),
    "text": (b"features,labels\n1,2\n", NOT_WHOLE),
    "cut in half": (lambda p: p.write_bytes(whole(p)[:700]), NOT_WHOLE),
    "one byte short": (lambda p: p.write_bytes(whole(p)[:-1]), NOT_WHOLE),
    "one byte more": (lambda p: p.write_bytes(whole(p) + b"\0"), NOT_WHOLE),
    "one bit turned": (lambda p: p.write_bytes(turned(whole(p))), "tensors do not match their SHA"),
    "no header of ours": (foreign, "schema version is None, this paperlib reads up to 2"),
    "header: a list": (lambda p: foreign(p, "[1]"), "header is a list, not a JSON object"),
    "header: a string": (lambda p: foreign(p, '"s"'), "header is a str, not a JSON object"),
    "header: a number": (lambda p: foreign(p, "5"), "header is a int, not a JSON object"),
    "header: null": (lambda p: foreign(p, "null"), "header is a NoneType, not a JSON object"),
    "header: too deep": (lambda p: foreign(p, "[" * 10**5 + "]" * 10**5), NOT_WHOLE),
    "header: half": (lambda p: foreign(p, '{"schema_version"'), NOT_WHOLE),
    "version: true": (lambda p: foreign(p, {"schema_version": True}), "schema version is True"),
    "version: 1.0": (lambda p: foreign(p, {"schema_version": 1.0}), r"schema version is 1\.0"),
    "version: text": (lambda p: foreign(p, {"schema_version": "1"}), "schema version is 1"),
    "version: of the future": (lambda p: foreign(p, {"schema_version": 9}), "is 9, this paperlib"),
    "version 2 without digests": (lambda p: foreign(p, {"schema_version": 2}), "header does not"),
    "digest: a number": (lambda p: foreign(p, {"content_sha256": 5}), "do not match their SHA"),
    "names: a number": (lambda p: foreign(p, {"class_names": 5}), "list of strings, not int"),
    "names: null": (lambda p: foreign(p, {"class_names": None}), "list of strings, not None"),
    "names: one string": (lambda p: foreign(p, {"class_names": "abc"}), "list of strings, not str"),
    "names: numbers": (lambda p: foreign(p, {"class_names": [1, 2, 3]}), "strings, found 1"),
    "metadata: a list": (lambda p: foreign(p, {"metadata": []}), "must be a dict, not list"),
    "no features": (lambda p: foreign(p, {}, features=None), "missing tensors: features"),
    "features float64": (lambda p: foreign(p, {}, features=FEATURES.double()), "expected .*32"),
    "labels int32": (lambda p: foreign(p, {}, labels=torch.zeros(40).int()), "labels is .*int32"),
    "half a head": (lambda p: foreign(p, {}, **{"head.bias": None}), "must be stored together"),
    "labels without dimension": (lambda p: foreign(p, {}, labels=torch.tensor(1)), r"labels \[N\]"),
    "split of two dimensions": (
        lambda p: foreign(p, {}, split=torch.zeros(40, 1).byte()),
        r"split codes must be \[N\]",
    ),
    "a block of one dimension": (
        lambda p: foreign(p, {}, **{"blocks/layer": torch.ones(40)}),
        r"blocks/layer must be \[N, D\]",
    ),
    "a folder": (lambda p: p.mkdir(), "no feature bank at"),
    "a link to nothing": (lambda p: p.symlink_to(p / "gone"), "no feature bank at"),
    "a link to itself": (lambda p: p.symlink_to(p), "no feature bank at"),
    "a device": (lambda p: p.symlink_to("/dev/zero"), "no feature bank at"),
    "a pipe": (lambda p: os.mkfifo(p), "no feature bank at"),
}


def whole(path):
    return small_bank().save(path).read_bytes()


def turned(content):
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize("case", BANKS)
def test_bad_banks_are_named(case, tmp_path):
    content, words = BANKS[case]
    path = tmp_path / "é ñ odd.safetensors"  # the name must come back whole, too
    content(path) if callable(content) else path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        FeatureBank.load(path)
    assert str(path) in str(caught.value)
    for load in (TrainingRun.load, load_trained):  # nor is it any other of our files
        with pytest.raises((ValueError, FileNotFoundError), match=r"é ñ odd\.safetensors"):
            load(path)


def test_links_and_odd_names_are_fine(tmp_path):
    folder = tmp_path / "a folder" / "été"
    path = small_bank().save(folder / "名 1.safetensors")
    (tmp_path / "link").symlink_to(path)
    assert len(FeatureBank.load(tmp_path / "link")) == len(FeatureBank.load(path)) == 40


TARGETS = {
    "a folder": (lambda p: p.mkdir(), "cannot write .*target: Is a directory"),
    "below a file": (lambda p: p.parent.rmdir() or p.parent.touch(), "cannot write .*target"),
    "a name that is too long": (None, "cannot write .*xxx.*File name too long"),
}


@pytest.mark.parametrize("case", TARGETS)
def test_unwritable_targets_are_named(case, tmp_path):
    spoil, words = TARGETS[case]
    path = tmp_path / "below" / ("target" if spoil else "x" * 300)
    path.parent.mkdir()
    if spoil:
        spoil(path)
    with pytest.raises(OSError, match=words):
        small_bank().save(path)
    assert not list(tmp_path.glob("**/*.tmp"))


def test_a_full_target_is_named_and_keeps_the_old_file(tmp_path):
    path = small_bank().save(tmp_path / "bank.safetensors")
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))  # as a disk with 1 kB left
        with pytest.raises(OSError, match=r"cannot write .*bank\.safetensors: File too large"):
            small_bank().save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


EXTRACT = "extract --network torchvision:resnet18:random --device cpu --quiet --out out"
TRAIN = "train --device cpu --quiet --out trained --dataset"
COMMANDS = {
    "": "the following arguments are required: COMMAND",
    "extrct": "invalid choice: 'extrct'",
    "extract": "required: --network/--model, --dataset, --out",
    f"{EXTRACT} --dataset mnist": "unknown dataset 'mnist'; choose cifar10",
    f"{EXTRACT} --dataset cifar10:x": "takes a number of train images, not 'x'",
    f"{EXTRACT} --dataset imagefolder:gone": "image folder gone does not exist",
    f"{EXTRACT} --dataset imagefolder:empty": "no train images: expected empty/train/<class>/",
    f"{EXTRACT} --dataset imagenet:images": "not among the 1000 WordNet ids",
    f"{EXTRACT} --dataset imagefolder:images": "have 2 classes (cat, dog), the network tells 1000",
    f"{EXTRACT} --dataset imagefolder:images --batch-size 0": "batch_size must be a whole number",
    f"{EXTRACT} --dataset imagefolder:images --batch-size many": "invalid int value: 'many'",
    f"{EXTRACT} --dataset imagefolder:images --shard-size 0": "shard_size must be a whole number",
    f"{EXTRACT} --dataset imagefolder:images --workers -1": "workers must be a whole number",
    f"{EXTRACT} --dataset imagefolder:images --timeout nan": "timeout must be above 0 seconds",
    f"{EXTRACT} --dataset imagefolder:images --precision int8": "invalid choice: 'int8'",
    f"{EXTRACT} --dataset imagefolder:images --splits val": "invalid choice: 'val'",
    f"{EXTRACT} --dataset imagefolder:images --per-class 0": "per class must be at least 1, not 0",
    f"{EXTRACT} --dataset imagefolder:images --head x": "no nn.Linear named 'x'; modules looked at",
    f"{EXTRACT} --dataset imagefolder:images --device tpu": "device 'tpu' cannot be used",
    f"{EXTRACT} --dataset imagefolder:images --out file/x": "cannot write into the output folder",
    f"{EXTRACT} --dataset imagefolder:images --out .": ". is a folder; name a file for the bank",
    "extract --network vgg --dataset imagefolder:images --out out": "unknown network 'vgg'",
    "extract --network trained:file --dataset imagefolder:images --out o": "file is not a network",
    f"{TRAIN} imagefolder:images --depth 9": "depth must be 6n + 2",
    f"{TRAIN} imagefolder:gone": "image folder gone does not exist",
    f"{TRAIN} imagefolder:images --epochs 0": "epochs must be at least 1, not 0",
    f"{TRAIN} imagefolder:images --learning-rate nan": "learning_rate must be above 0, not nan",
    f"{TRAIN} imagefolder:images --weight-decay inf": "weight_decay must be finite, not inf",
    f"{TRAIN} imagefolder:images --seed -1": "seed must be at least 0, not -1",
    f"{TRAIN} imagefolder:images --batch-size 1": "batch_size must be at least 2, not 1",
    f"{TRAIN} imagefolder:images --depth 8 --epochs 1 --out file": "cannot write file/resnet8",
    f"{TRAIN} imagefolder:large --depth 8 --epochs 1": "images must be 32 x 32 pixels, found 64",
    "runs resnet99": "no runs ['resnet99']; choose from resnet20",
    "runs --images 0": "--images must be at least 1, not 0",
    "runs --trained gone": "gone holds no network whose training is finished",
    "reproduce 99": "no notebook starts with '99'; choose from 00_",
    "reproduce --jobs 0": "--jobs must be at least 1, not 0",
    "reproduce --tier x": "invalid choice: 'x'",
    "reproduce 01 -p kk 5": "unknown parameters ['kk']; choose from",
    "reproduce 01 -p networks resnet20": "networks must be a list such as",
    "reproduce 01 -p networks 20": "networks must be a list such as",
    "reproduce -p seed -1": "seed must be a whole number of at least 0, not -1",
    "reproduce 00 -p seed 1.5": "seed must be a whole number of at least 0, not 1.5",
    "reproduce 00 -p seed true": "seed must be a whole number of at least 0, not True",
    "reproduce 00 -p k 0": "k must be a whole number of at least 1, not 0",
    "reproduce 00 -p k five": "k must be a whole number of at least 1, not 'five'",
    "reproduce 01 -p draws 0": "draws must be a whole number of at least 1, not 0",
    "reproduce 03 -p repeats 2.5": "repeats must be a whole number of at least 1, not 2.5",
    "reproduce 07 -p untrained_runs -1": "untrained_runs must be a whole number of at least 1",
    "reproduce 08 -p rounds none": "rounds must be a whole number of at least 1, not 'none'",
    "reproduce 10 -p cards 3": "cards must be a list such as",
    "reproduce 11 -p recompute yes": "recompute must be true or false, not 'yes'",
    "reproduce 00 -p tier moon": "unknown tier 'moon'; choose from embedded, cifar10, imagenet",
    "reproduce 00 -p device tpu": "device 'tpu' cannot be used",
    f"{EXTRACT} --dataset imagefolder:images --out images/train/cat/1.png": "there and is no bank",
    f"{EXTRACT} --dataset imagefolder:images --out b\udcff": r"must be UTF-8, not 'b\udcff'",
    f"{TRAIN} imagefolder:images --seed 99999999999999999999999": "seed must be below 2**64, not",
    f"{TRAIN} imagefolder:images --depth 8 --epochs 1 --learning-rate 1e30": "diverges in epoch 1",
}
TABLES = {
    "calls": CALLS,
    "files": BANKS | TARGETS,
    "commands": COMMANDS,
    "parameters": PARAMETERS,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    (folder / "file").write_text("x")
    (folder / "empty").mkdir()
    for name, size, test in (("images", 32, "dog"), ("lopsided", 32, None), ("large", 64, "dog")):
        for part in ("train/cat", "train/dog", "test/cat", f"test/{test}" if test else "test/cat"):
            path = folder / name / part
            path.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(path / "1.png")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_commands_are_named(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.delenv("PAPERLIB_ASSETS", raising=False)
    try:
        start = experiments.main if experiments.COMMANDS.keys() & command.split()[:1] else main
        status = start(command.split())
    except SystemExit as stopped:  # argparse's way
        status = stopped.code
    assert status == 2
    assert COMMANDS[command] in capsys.readouterr().err


def test_a_class_that_is_missing_in_test_is_named(place):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    images = {
        split: load_dataset(f"imagefolder:{place / 'lopsided'}", split, ToTensor())
        for split in ("train", "test")
    }
    with pytest.raises(ValueError, match=r"the test images have 1 classes \(cat\), the net"):
        extract(model, **images, progress=False, device="cpu")


def test_the_tables_are_long(capsys):
    """Each row has a test of its own; this one prints how many there are."""
    sizes = {name: len(table) for name, table in TABLES.items()}
    with capsys.disabled():
        print(f"\nbad input: {sum(sizes.values())} cases ({sizes})")
    assert sum(sizes.values()) >= 400
