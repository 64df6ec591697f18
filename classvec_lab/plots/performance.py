"""Images, accuracies, training curves and the map of a representation."""

import numpy as np
import pandas as pd

from .marks import UNIT, beside, class_ticks, dots, inches, new_axes, whole_numbers
from .style import ACCENT, MUTED, class_colours

_CELL, _GAP = 64, 4  # pixels of an image on the sheet, and between two


def sample_sheet(
    dataset, *, per_class: int = 8, max_classes: int = 12, seed: int = 0, title: str = ""
):
    """A row of images for each of the first classes.

    Args:
        dataset: an `ImageDataset`.
        per_class: images a row, drawn with `seed`.
        max_classes: rows at most.
    Returns:
        The Axes.
    """
    from PIL import Image

    rng, step = np.random.default_rng(seed), _CELL + _GAP
    targets, classes = np.asarray(dataset.targets), dataset.classes[:max_classes]
    size = (per_class * step - _GAP, len(classes) * step - _GAP)
    sheet = Image.new("RGB", size, "white")
    for row in range(len(classes)):
        members = np.flatnonzero(targets == row)
        for column, i in enumerate(rng.permutation(members)[:per_class]):
            image, _ = dataset[int(i)]
            small = max(image.size) < _CELL
            how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
            sheet.paste(image.resize((_CELL, _CELL), how), (column * step, row * step))
    ax = new_axes(None, 0.075 * sheet.width / 8 + 1, 0.075 * sheet.height / 8 + 0.4)
    ax.imshow(sheet, interpolation="nearest")
    ax.set_yticks([step * i + _CELL / 2 for i in range(len(classes))], classes)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax


def accuracy_bars(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """Accuracy per class with its interval, side by side for each model.

    Args:
        frame: columns class, accuracy, low, high, model.
    Returns:
        The Axes.
    """
    names, models = list(dict.fromkeys(frame["class"])), list(dict.fromkeys(frame["model"]))
    ax = new_axes(ax, inches(len(names), 0.5, 1.5, 5, 14), 3.4)
    colours = [MUTED, ACCENT, *class_colours(10)]
    for k, (model, colour) in enumerate(zip(models, colours, strict=False)):
        rows = frame[frame["model"] == model].set_index("class").loc[names]
        x = np.arange(len(names)) + 0.22 * (k - (len(models) - 1) / 2)
        dots(ax, rows, "accuracy", x, ends=("low", "high"), color=colour, label=model)
    class_ticks(ax, names)
    ax.set(ylim=UNIT, ylabel="accuracy, 95 % interval", title=title)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(models), borderaxespad=0.2)
    return ax


def history_curves(history: pd.DataFrame, *, ax=None, title: str = ""):
    """Accuracy over the epochs of a fine-tuning, the kept one marked.

    Args:
        history: `FineTuned.history`.
    Returns:
        The Axes.
    """
    ax = new_axes(ax, 5.2, 3.2)
    for column, name, colour in (
        ("train_accuracy", "train (running)", MUTED),
        ("val_accuracy", "validation", ACCENT),
    ):
        if column in history:
            ax.plot(history["epoch"], history[column], marker=".", color=colour, label=name)
    kept = history.loc[history["kept"], "epoch"].iloc[0]
    ax.axvline(kept, color="black", linewidth=0.8, linestyle=":", label=f"kept: epoch {kept}")
    ax.set(xlabel="epoch", ylabel="accuracy", title=title)
    whole_numbers(ax)
    ax.legend(loc="lower right")
    return ax


def scatter_map(frame: pd.DataFrame, *, ax=None, title: str = "", legend: bool = True):
    """Samples on two principal components, coloured by class, the class means ringed.

    Args:
        frame: columns pc1, pc2 and class, a categorical. attrs["explained"], if it is there, holds
            the components' shares of variance.
        legend: names the classes, up to 20 of them.
    Returns:
        The Axes.
    """
    ax = new_axes(ax, 5.4, 4.4)
    names = list(frame["class"].cat.categories)
    ring = {"s": 70, "edgecolor": "black", "linewidth": 1.1, "zorder": 3}
    for name, colour in zip(names, class_colours(len(names)), strict=True):
        part = frame[frame["class"] == name]
        look = {"s": 9, "alpha": 0.5, "color": colour, "linewidths": 0}
        ax.scatter(part["pc1"], part["pc2"], label=name, **look)
        if len(part):
            ax.scatter(part["pc1"].mean(), part["pc2"].mean(), facecolor=colour, **ring)
    shares = frame.attrs.get("explained", (np.nan, np.nan))
    axes = [
        f"{name} component ({s:.0%})" for name, s in zip(("first", "second"), shares, strict=False)
    ]
    ax.set(xlabel=axes[0], ylabel=axes[1], title=title)
    return beside(ax, markerscale=2) if legend and len(names) <= 20 else ax
