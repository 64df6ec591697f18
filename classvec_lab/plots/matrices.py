"""C × C matrices: heat maps, their order, and the histogram of their entries."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..style import ACCENT, DIVERGING, MUTED, SEQUENTIAL

LABELS_UP_TO = 60  # classes whose names are written along an axis
NUMBERS_UP_TO = 12  # classes whose values are written into the cells


def cluster_order(frame: pd.DataFrame) -> list:
    """Row names ordered by hierarchical clustering (average linkage, optimal leaf order) of their profiles.

    Rows and columns carry the same names; a pair's profile is symmetrised, and NaN counts as 0.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    values = np.nan_to_num(frame.to_numpy(dtype=float))
    if len(values) < 3:
        return list(frame.index)
    tree = linkage((values + values.T) / 2, method="average", optimal_ordering=len(values) <= 500)
    return [frame.index[i] for i in leaves_list(tree)]


def heatmap(
    frame: pd.DataFrame,
    *,
    ax=None,
    order: str | Sequence = "given",
    centre: float | None = 0.0,
    limit: float | None = None,
    mark: float | None = None,
    mark_label: str = "theory",
    label: str = "cosine",
    title: str = "",
):
    """A C × C heat map; returns its Axes.

    order: "given", "cluster" (see `cluster_order`) or a list of names. centre=0 gives the diverging
    map, symmetric up to `limit` (default: the largest absolute value); centre=None a sequential map
    from 0 to `limit`. `mark` draws a line at that value on the colour bar, labelled `mark_label`.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    if isinstance(order, str) and order not in ("given", "cluster"):
        raise ValueError(f"order must be 'given', 'cluster' or a list of class names; got {order!r}")
    if not (isinstance(order, str) and order == "given"):
        names = cluster_order(frame) if isinstance(order, str) else list(order)
        frame = frame.loc[names, names]
    n = len(frame)
    side = float(np.clip(1.8 + 0.42 * n, 4.2, 11))
    if ax is None:
        _, ax = plt.subplots(figsize=(side + 1.0, side))
    top = limit if limit is not None else float(np.nanmax(np.abs(frame.to_numpy()), initial=1e-9))
    labels = n <= LABELS_UP_TO
    sns.heatmap(
        frame,
        ax=ax,
        cmap=DIVERGING if centre is not None else SEQUENTIAL,
        center=centre,
        vmin=-top if centre is not None else 0.0,
        vmax=top,
        square=True,
        annot=n <= NUMBERS_UP_TO,
        fmt=".2f",
        annot_kws={"fontsize": 8},
        xticklabels=labels,
        yticklabels=labels,
        linewidths=0.4 if n <= LABELS_UP_TO else 0,
        cbar_kws={"label": label, "shrink": 0.8},
        rasterized=n > NUMBERS_UP_TO,
    )
    ax.grid(False)
    ax.tick_params(length=0)
    ax.set_yticklabels(ax.get_yticklabels(), rotation=0)
    if labels and max(len(str(c)) for c in frame.columns) > 4:
        ax.set_xticklabels(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    if mark is not None and np.isfinite(mark):
        bar = ax.collections[0].colorbar.ax
        bar.axhline(mark, color="black", linewidth=1.4)
        where = {"xycoords": bar.get_yaxis_transform(), "textcoords": "offset points", "annotation_clip": False}
        label = f"{mark_label} {mark:+.2f}"  # left of the bar, clear of its numbers
        bar.annotate(label, (0.0, mark), xytext=(-4, 0), ha="right", va="center", fontsize=8, rotation=90, **where)
    ax.set_title(title)
    return ax


def histogram(report, *, ax=None, title: str = ""):
    """Off-diagonal cosines of an orthogonality report, raw and centred, each beside its expected value; returns the Axes."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(8.4, 3.4))
    for frame, expected, name, colour in (
        (report.cosine, report.expected, "raw", ACCENT),
        (report.cosine_centred, report.expected_centred, "centred on both sides", "#c8553d"),
    ):
        values = frame.to_numpy()[~np.eye(len(frame), dtype=bool)]
        values = values[np.isfinite(values)]
        ax.hist(values, bins=np.linspace(-1, 1, 81), alpha=0.55, color=colour, label=f"{name}, n = {len(values)}")
        if np.isfinite(expected):
            ax.axvline(expected, color=colour, linestyle="--", linewidth=1.5, label=f"expected, {name}: {expected:+.3f}")
    ax.axvline(0, color=MUTED, linewidth=0.8)
    ax.set(xlim=(-1, 1), xlabel="cos(κ_c, z_ft^c'), c ≠ c'", ylabel="pairs of classes", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax
