"""Images, accuracies, training curves and the map of a representation."""

import numpy as np
import pandas as pd

from .style import ACCENT, MUTED, class_colours


def sample_sheet(
    dataset, *, per_class: int = 8, max_classes: int = 12, seed: int = 0, title: str = ""
):
    """A row of images for each of the first `max_classes` classes, drawn with `seed`; returns the Axes."""
    import matplotlib.pyplot as plt
    from PIL import Image

    rng = np.random.default_rng(seed)
    targets = np.asarray(dataset.targets)
    classes = dataset.classes[:max_classes]
    cell, gap = 64, 4
    sheet = Image.new(
        "RGB", (per_class * (cell + gap) - gap, len(classes) * (cell + gap) - gap), "white"
    )
    for row in range(len(classes)):
        members = np.flatnonzero(targets == row)
        for column, i in enumerate(rng.permutation(members)[:per_class]):
            image, _ = dataset[int(i)]
            image = image.resize(
                (cell, cell),
                Image.Resampling.NEAREST if max(image.size) < cell else Image.Resampling.LANCZOS,
            )
            sheet.paste(image, (column * (cell + gap), row * (cell + gap)))
    _, ax = plt.subplots(figsize=(0.075 * sheet.width / 8 + 1, 0.075 * sheet.height / 8 + 0.4))
    ax.imshow(sheet, interpolation="nearest")
    ax.set_yticks([(cell + gap) * i + cell / 2 for i in range(len(classes))], classes)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax


def accuracy_bars(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """Accuracy per class with its interval, a group of points for each `model` in the frame; returns the Axes.

    frame: columns class, accuracy, low, high, model.
    """
    import matplotlib.pyplot as plt

    names, models = list(dict.fromkeys(frame["class"])), list(dict.fromkeys(frame["model"]))
    if ax is None:
        _, ax = plt.subplots(figsize=(float(np.clip(1.5 + 0.5 * len(names), 5, 14)), 3.4))
    colours = [MUTED, ACCENT, *class_colours(10)]
    for k, (model, colour) in enumerate(zip(models, colours, strict=False)):
        rows = frame[frame["model"] == model].set_index("class").loc[names]
        x = np.arange(len(names)) + 0.22 * (k - (len(models) - 1) / 2)
        errors = np.abs(rows[["low", "high"]].to_numpy().T - rows["accuracy"].to_numpy())
        ax.errorbar(
            x,
            rows["accuracy"],
            yerr=errors,
            fmt="o",
            markersize=5,
            capsize=2,
            color=colour,
            label=model,
        )
    ax.set_xticks(
        range(len(names)),
        names,
        rotation=0 if max(map(len, names)) <= 5 and len(names) <= 30 else 60,
    )
    ax.set(ylim=(-0.03, 1.03), ylabel="accuracy, 95 % interval", title=title)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(models), borderaxespad=0.2)
    return ax


def history_curves(history: pd.DataFrame, *, ax=None, title: str = ""):
    """Accuracy over epochs of fine-tuning, the kept epoch marked; returns the Axes."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 3.2))
    for column, name, colour in (
        ("train_accuracy", "train (running)", MUTED),
        ("val_accuracy", "validation", ACCENT),
    ):
        if column in history:
            ax.plot(history["epoch"], history[column], marker=".", color=colour, label=name)
    kept = history.loc[history["kept"], "epoch"].iloc[0]
    ax.axvline(kept, color="black", linewidth=0.8, linestyle=":", label=f"kept: epoch {kept}")
    ax.set(xlabel="epoch", ylabel="accuracy", title=title)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="lower right")
    return ax


def scatter_map(frame: pd.DataFrame, *, ax=None, title: str = "", legend: bool = True):
    """Samples on two principal components, coloured by class, the class means ringed; returns the Axes."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(5.4, 4.4))
    names = list(frame["class"].cat.categories)
    for name, colour in zip(names, class_colours(len(names)), strict=True):
        part = frame[frame["class"] == name]
        ax.scatter(
            part["pc1"],
            part["pc2"],
            s=9,
            alpha=0.5,
            color=colour,
            linewidths=0,
            label=name if len(names) <= 20 else None,
        )
        if len(part):
            ax.scatter(
                part["pc1"].mean(),
                part["pc2"].mean(),
                s=70,
                facecolor=colour,
                edgecolor="black",
                linewidth=1.1,
                zorder=3,
            )
    shares = frame.attrs.get("explained", (np.nan, np.nan))
    ax.set(
        xlabel=f"first component ({shares[0]:.0%})",
        ylabel=f"second component ({shares[1]:.0%})",
        title=title,
    )
    if legend and len(names) <= 20:
        ax.legend(markerscale=2, bbox_to_anchor=(1.01, 1), loc="upper left")
    return ax
