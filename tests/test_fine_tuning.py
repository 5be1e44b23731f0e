"""The fine-tuning of all runs goes on where it was, gives the same twice, and fills its columns."""

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import Dataset

from experiments import fine_tuning
from paperlib.heads.decomposed import DecomposedHead
from paperlib.heads.finetune import correct_images
from paperlib.networks.by_name import PretrainedNetwork
from paperlib.networks.cifar import untrained_model
from paperlib.networks.cifar_runs import cifar_transform

COUNTS = ["full correct", "cut correct", "fine-tuned correct"]
FIXED = {"k": 5, "train images": 257, "test images": 40, "seed": 0}


class FewImages(Dataset):
    """Plain images whose brightness tells ten classes apart."""

    def __init__(self, split, transform):
        self.number, self.transform = {"train": 257, "test": 40}[split], transform

    def __len__(self):
        return self.number

    def __getitem__(self, i):
        if i >= self.number:
            raise IndexError(i)
        image = Image.new("RGB", (32, 32), (25 * (i % 10), 100, i % 7))
        return (self.transform(image) if self.transform else image), i % 10


@pytest.fixture
def loaded(monkeypatch):
    """The names of the runs that were loaded; each is a tiny untrained network."""
    names, threads = [], torch.get_num_threads()

    def load_network(name):
        names.append(name)
        return PretrainedNetwork(name, untrained_model("resnet8", seed=2), cifar_transform(), "")

    monkeypatch.setattr(fine_tuning, "load_network", load_network)
    monkeypatch.setattr(fine_tuning, "load_dataset", lambda _, *given: FewImages(*given))
    yield names
    torch.set_num_threads(threads)


def tune(folder, *runs):
    out = folder / "rows.csv"
    fine_tuning.main([*runs, "--out", str(out), "--networks", str(folder)])
    return pd.read_csv(out)


def test_only_missing_runs_are_tuned(loaded, tmp_path):
    tune(tmp_path, "resnet20")
    rows = tune(tmp_path, "resnet20", "resnet20:bognev")
    assert loaded == list(rows["run"]) == ["resnet20", "resnet20:bognev"]
    assert list(rows.columns) == ["run", *FIXED, *COUNTS, "core seconds", "torch"]
    assert (rows[list(FIXED)] == pd.Series(FIXED)).all(axis=None)
    assert (rows["torch"] == torch.__version__).all() and (rows["core seconds"] > 0).all()
    with pytest.raises(SystemExit):
        tune(tmp_path, "resnet20:nobody")


def test_a_run_is_tuned_the_same_twice_and_kept(loaded, tmp_path):
    one, other = (tune(tmp_path / name, "resnet20:bognev") for name in "ab")
    assert one.drop(columns="core seconds").equals(other.drop(columns="core seconds"))
    first, again = (load_file(tmp_path / n / "resnet20-bognev.safetensors") for n in "ab")
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    model, test = untrained_model("resnet8", seed=2), FewImages("test", cifar_transform())
    untuned = correct_images(model, test).sum()
    model.linear = DecomposedHead(model.linear.weight, model.linear.bias, [range(5)] * 10)
    for learned in ("conv1.weight", "bn1.running_mean"):
        assert not torch.equal(first[learned], model.state_dict()[learned])
    model.load_state_dict(first)
    assert list(one.loc[0, ["full correct", COUNTS[2]]]) == [
        untuned,
        correct_images(model, test).sum(),
    ]
    assert first["bn1.num_batches_tracked"] == 2  # the 257th image would be a batch by itself


def test_crops_are_windows_of_the_padded_image():
    batches = fine_tuning.Batches(FewImages("train", None), torch.device("cpu"))
    crops = fine_tuning.RandomCrops(batches, seed=0)
    for image, label in crops.__getitems__([0, 19]) + crops.__getitems__([19]):
        middle = (image * batches.std[:, None, None] + batches.mean[:, None, None])[:, 4:28, 4:28]
        assert middle.std(dim=(1, 2)).max() < 1e-3
        torch.testing.assert_close(middle[0, 0, 0].round(), torch.tensor(25.0) * label)
