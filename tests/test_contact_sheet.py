"""The contact sheet of notebook 12: where its pictures stand, and that they are what it says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from paperlib.filters.ranking import influential_filters
from paperlib.networks.datasets import load_dataset
from reproduction.paths import ROOT
from reproduction.plots import thumbnails
from reproduction.runs import load_runs

SHEET = pd.read_csv(ROOT / "figures" / "12_contact_sheet.csv")


def test_thumbnails_stand_in_their_frames():
    plt.rcdefaults()
    images = np.random.default_rng(0).integers(256, size=(2, 3, 4, 5, 3), dtype=np.uint8)
    fig, ax = plt.subplots()
    thumbnails(ax, images, np.eye(2, 3, dtype=bool), gap=3)
    sheet = ax.images[0].get_array()
    assert sheet.shape == (2 * 10, 3 * 11, 3)
    for row, column in np.ndindex(2, 3):
        top, left = 10 * row, 11 * column
        part = sheet[top : top + 10, left : left + 11]
        assert np.array_equal(part[3:-3, 3:-3], images[row, column])
        assert (part[0] == 255).all() and (part[:, 0] == 255).all()
        frame = [31, 119, 180] if row == column else [255, 127, 14]  # matplotlib's first colours
        assert np.abs(part[1:3, 1:-1].astype(int) - frame).max() <= 1
    plt.close(fig)


def test_the_sheet_shows_nine_images_of_each_kept_filter():
    run = load_runs(["resnet20"])["resnet20"]
    subsets = influential_filters(run.statistics, 5)
    for name, part in SHEET.groupby("class"):
        assert (
            part["filter"].unique().tolist() == subsets[run.bank.class_names.index(name)].tolist()
        )
        assert (part.groupby("filter")["train image"].nunique() == 9).all()


def test_labels_of_the_sheet_are_those_of_cifar10(assets):
    images = load_dataset("cifar10", "train")
    named = [images.classes[images[n][1]] for n in SHEET["train image"]]
    assert named == SHEET["image of"].tolist()
