"""Images, accuracies, training curves and the map of a representation."""

import numpy as np
import pandas as pd

from .marks import (
    UNIT,
    beside,
    counts,
    dots,
    inches,
    name_columns,
    new_axes,
    short,
)
from .style import ACCENT, MUTED, WIDE, class_colours

ROWS, COLUMNS = 12, 8  # classes on the sample sheet at most, and images of each
CELL, STEP = 64, 68  # pixels of an image there, and from one to the next


def sample_sheet(dataset, *, title: str = ""):
    """A row of eight images, drawn at random, for each of the first twelve classes or data sets.

    Args:
        dataset: an `ImageDataset`; or several of the same images by name, as with and without a
            corruption.
    Returns:
        The Axes.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    if isinstance(dataset, dict):
        rows = dict.fromkeys(dataset, rng.permutation(min(map(len, dataset.values())))[:COLUMNS])
    else:
        of = {name: np.flatnonzero(dataset.targets == c) for c, name in enumerate(dataset.classes)}
        rows = {name: rng.permutation(own)[:COLUMNS] for name, own in [*of.items()][:ROWS]}
        dataset = dict.fromkeys(rows, dataset)
    size = (COLUMNS * STEP - STEP + CELL, len(rows) * STEP - STEP + CELL)
    sheet = Image.new("RGB", size, "white")
    for row, (name, members) in enumerate(rows.items()):
        for column, i in enumerate(members):
            image, _ = dataset[name][int(i)]
            small = max(image.size) < CELL
            how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
            sheet.paste(image.resize((CELL, CELL), how), (column * STEP, row * STEP))
    ax = new_axes(None, 0.075 * sheet.width / 8 + 1, 0.075 * sheet.height / 8 + 0.4, title)
    ax.imshow(sheet, interpolation="nearest")
    ax.set_yticks(STEP * np.arange(len(rows)) + CELL / 2, [short(name, 24) for name in rows])
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def accuracy_bars(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """Accuracy per class with its interval, side by side for each model.

    Args:
        frame: columns class, n, accuracy, low, high, model.
    Returns:
        The Axes.
    """
    names, models = frame["class"].unique(), frame["model"].unique()
    tall = 3.4 + 0.9 * (max(map(len, names)) > 5)
    ax = new_axes(ax, inches(len(names), 0.5, 1.5, 5, WIDE), tall, title)
    colours = [MUTED, ACCENT, *class_colours(10)]
    for k, (model, colour) in enumerate(zip(models, colours, strict=False)):
        rows = frame[frame["model"] == model].set_index("class").loc[names]
        x = np.arange(len(names)) + 0.22 * (k - (len(models) - 1) / 2)
        dots(ax, rows, "accuracy", x, color=colour, label=model)
    name_columns(ax, names)
    n = counts(frame.loc[frame["class"] != "all", "n"])
    ax.set(ylim=UNIT, ylabel=f"accuracy, 95 % interval, n = {n}")
    return beside(ax)


def scatter_map(frame: pd.DataFrame, *, ax=None, title: str = "", legend: bool = True):
    """Samples on two principal components, coloured by class, the class means ringed.

    Args:
        frame: columns pc1, pc2 and class, a categorical. attrs["explained"], if it is there, holds
            the components' shares of variance.
        legend: names the classes, up to 20 of them.
    Returns:
        The Axes.
    """
    ax = new_axes(ax, 6.6, 4.4, title)
    groups = frame.groupby("class", observed=False)
    ring = {"s": 70, "edgecolor": "black", "linewidth": 1.1, "zorder": 3}
    look = {"s": 9, "alpha": 0.5, "linewidths": 0}
    for (name, part), colour in zip(groups, class_colours(len(groups)), strict=True):
        ax.scatter(part["pc1"], part["pc2"], color=colour, label=short(name, 20), **look)
        ax.scatter(part["pc1"].mean(), part["pc2"].mean(), facecolor=colour, **ring)
    axes = zip(("first", "second"), frame.attrs["explained"], strict=True)
    x, y = (f"{name} component ({share:.0%})" for name, share in axes)
    ax.set(xlabel=x, ylabel=y)
    return beside(ax, markerscale=2) if legend and len(groups) <= 20 else ax
