"""Figures of the notebooks: each function draws a table or an array on `ax` and returns it."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

RECIPES = {"common": "o", "dans": "s", "landscape": "D", "sparse": "^"}  # and their marks
PUBLISHED = {"color": "black", "marker": "D", "linestyle": "none", "zorder": 4}


def use_style() -> None:
    """Apply the package's one style file to every figure drawn after it."""
    plt.style.use(Path(__file__).with_name("paperlib.mplstyle"))


def save_figure(fig: Figure, path: Path, table: pd.DataFrame) -> None:
    """Write a figure as `<path>.png` and the numbers behind it as `<path>.csv`."""
    save_table(path, table)
    fig.savefig(_portable(path, ".png"))


def _portable(path: Path, suffix: str) -> Path:
    return path.with_name(path.name.replace(":", "-") + suffix)  # Windows refuses colons


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as `<path>.csv`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(_portable(path, ".csv"), index=False, float_format="%.6g", lineterminator="\n")


def points_with_intervals(ax: Axes, table: pd.DataFrame, label: str, offset: float = 0.0) -> Axes:
    """Horizontal points with 95 % intervals, one row per name; columns name, value, low, high."""
    rows = np.arange(len(table)) + offset
    errors = np.abs(table[["low", "high"]].to_numpy() - table[["value"]].to_numpy()).T
    ax.errorbar(table["value"], rows, xerr=errors, fmt="o", capsize=3, label=label)
    ax.set_yticks(np.arange(len(table)), table["name"])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(axis="x")
    return ax


def points_by_recipe(ax: Axes, table: pd.DataFrame, x: str, y: str, spread: float = 0.0) -> Axes:
    """A dot a training run, a colour and a mark for each recipe, the paper's own runs ringed.

    Columns x, y, and those of `runs.origins`; recipes stand `spread` apart along x.
    """
    order = {recipe: i for i, recipe in enumerate(RECIPES)}
    places = table[x] + spread * table["recipe"].map(order)
    for recipe, i in order.items():
        if (mine := table["recipe"] == recipe).any():
            ax.scatter(
                places[mine],
                table[y][mine],
                s=18,
                color=f"C{i}",
                marker=RECIPES[recipe],
                alpha=0.8,
                zorder=3,
                label=recipe,
            )
    papers = table["the paper's"]
    ax.scatter(
        places[papers],
        table[y][papers],
        s=60,
        facecolors="none",
        edgecolors="black",
        linewidths=0.9,
        zorder=4,
        label="the paper's",
    )
    return ax


def class_filter_heatmap(
    ax: Axes, matrix: np.ndarray, class_names: list[str], label: str, **kwargs
) -> Axes:
    """A [C, D] matrix with one row per class and one column per filter."""
    style = {"cmap": "viridis", "xticklabels": False, "cbar_kws": {"label": label}} | kwargs
    sns.heatmap(matrix, ax=ax, yticklabels=class_names, **style)
    ax.grid(False)
    ax.tick_params(left=False)
    ax.set_ylabel("")
    return ax


def line_with_band(ax: Axes, table: pd.DataFrame, x: str, label: str, **kwargs) -> Axes:
    """A curve with its 95 % band; columns x, value, low, high."""
    (line,) = ax.plot(table[x], table["value"], label=label, **kwargs)
    ax.fill_between(table[x], table["low"], table["high"], color=line.get_color(), alpha=0.2, lw=0)
    return ax


def decision_regions(
    ax: Axes, regions: np.ndarray, extent: tuple, points: np.ndarray, labels: np.ndarray, names
) -> Axes:
    """Which class is picked where in a plane, and images in it by their true class.

    regions: [H, W] class numbers over extent = (left, right, bottom, top); points: [N, 2].
    """
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"][: len(names)]
    levels = np.arange(len(names) + 1) - 0.5
    ax.contourf(regions, levels, colors=colours, alpha=0.2, extent=extent, origin="lower")
    markers = "os^DvP"[: len(names)]
    for c, (name, colour, marker) in enumerate(zip(names, colours, markers, strict=True)):
        mine = points[labels == c]
        style = {"s": 12, "marker": marker, "color": colour, "edgecolor": "white", "lw": 0.3}
        ax.scatter(*mine.T, label=name, **style)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    ax.grid(False)
    return ax


def thumbnails(ax: Axes, images: np.ndarray, marked: np.ndarray, gap: int = 3) -> Axes:
    """Rows of small pictures, each in a frame: blue where marked, vermilion where not.

    images: [rows, columns, H, W, 3] uint8, marked: [rows, columns] bool.
    """
    rows, columns, height, width, _ = images.shape
    step = np.array([height + 2 * gap, width + 2 * gap])
    sheet = np.full((*(step * (rows, columns)), 3), 255, dtype=np.uint8)
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for row, column in np.ndindex(rows, columns):
        top, left = step * (row, column)
        frame = sheet[top + 1 : top + step[0] - 1, left + 1 : left + step[1] - 1]
        frame[:] = np.multiply(to_rgb(colours[0 if marked[row, column] else 1]), 255)
        frame[gap - 1 : 1 - gap, gap - 1 : 1 - gap] = images[row, column]
    ax.imshow(sheet, interpolation="nearest")
    ax.set(xticks=[], yticks=step[0] * (np.arange(rows) + 0.5))
    ax.tick_params(left=False)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return ax
