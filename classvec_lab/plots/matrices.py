"""C × C matrices: heat maps, their order, and the histogram of their entries."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .style import ACCENT, CONTRAST, DIVERGING, MUTED, SEQUENTIAL

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
    marked: pd.DataFrame | None = None,
    label: str = "cosine",
    title: str = "",
):
    """A C × C heat map; returns its Axes.

    order: "given", "cluster" (see `cluster_order`) or a list of names. centre=0 gives the diverging
    map, symmetric up to `limit` (default: the largest absolute value); centre=None a sequential map
    from 0 to `limit`. `mark` draws a line at that value on the colour bar, labelled `mark_label`.
    `marked`, booleans of the same shape, puts a dot into those cells (up to 60 classes).
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    if isinstance(order, str) and order not in ("given", "cluster"):
        raise ValueError(
            f"order must be 'given', 'cluster' or a list of class names; got {order!r}"
        )
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
        where = {
            "xycoords": bar.get_yaxis_transform(),
            "textcoords": "offset points",
            "annotation_clip": False,
        }
        label = f"{mark_label} {mark:+.2f}"  # left of the bar, clear of its numbers
        bar.annotate(
            label,
            (0.0, mark),
            xytext=(-4, 0),
            ha="right",
            va="center",
            fontsize=8,
            rotation=90,
            **where,
        )
    if marked is not None and labels:
        rows, columns = np.nonzero(marked.loc[frame.index, frame.columns].to_numpy())
        shade = (
            np.abs(frame.to_numpy()[rows, columns]) / top
            if centre is not None
            else frame.to_numpy()[rows, columns] / top
        )
        inset = 0.88 if n <= NUMBERS_UP_TO else 0.5
        ax.scatter(
            columns + inset,
            rows + 1 - inset,
            s=np.clip(260 / n, 4, 14),
            c=np.where(shade > 0.6, "white", "black"),
            linewidths=0,
        )
    ax.set_title(title)
    return ax


def block_heatmap(blocks, *, listed: int = 12, axes=None, title: str = ""):
    """Block means of the cosines of very many classes, and beside them the pairs of largest |cosine|; returns the two Axes.

    blocks: what `cosine_blocks` gives. Ticks name the first class of a block.
    """
    import matplotlib.pyplot as plt

    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(11, 6), width_ratios=[3, 1])
    frame, row = blocks.blocks, blocks.summary.iloc[0]
    mean = f"mean {row['off_diagonal']:+.3f}, {int(row['n_entries']):,} entries"
    heatmap(
        frame,
        ax=axes[0],
        mark=blocks.expected,
        label="mean cosine of a block",
        title=f"{title}{': ' if title else ''}{mean}",
    )
    ticks = np.unique(np.linspace(0, len(frame) - 1, 8).astype(int))
    axes[0].set_xticks(ticks + 0.5, frame.columns[ticks], rotation=45, ha="right")
    axes[0].set_yticks(ticks + 0.5, frame.index[ticks])
    pairs = blocks.extremes.head(listed).iloc[::-1]
    y = np.arange(len(pairs))
    axes[1].barh(y, pairs["cosine"], color=np.where(pairs["cosine"] > 0, CONTRAST, ACCENT))
    axes[1].set_yticks(
        y, [f"{a} → {b}" for a, b in zip(pairs["kappa"], pairs["z_ft"], strict=True)]
    )
    axes[1].set(xlabel="cosine", title="largest entries")
    return axes


def histogram(report, *, ax=None, title: str = ""):
    """Off-diagonal cosines of an orthogonality report, raw and centred, beside theory and chance; returns the Axes.

    Dashed lines are the expected values; the grey bands hold 95 % of random directions: those with the features' own
    covariance (light) and isotropic ones (dark).
    """
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(9.2, 3.6))
    if report.directions:
        low, high = np.quantile(report.directions["cosine"], [0.025, 0.975])
        half = 1.96 / np.sqrt(report.dim)
        ax.axvspan(
            low,
            high,
            color=MUTED,
            alpha=0.16,
            linewidth=0,
            label="random directions, features' covariance",
        )
        ax.axvspan(
            -half, half, color=MUTED, alpha=0.3, linewidth=0, label="random directions, isotropic"
        )
    for frame, expected, name, colour in (
        (report.cosine, report.expected, "raw", ACCENT),
        (report.cosine_centred, report.expected_centred, "centred on both sides", CONTRAST),
    ):
        values = frame.to_numpy()[~np.eye(len(frame), dtype=bool)]
        values = values[np.isfinite(values)]
        ax.hist(
            values,
            bins=np.linspace(-1, 1, 81),
            alpha=0.55,
            color=colour,
            label=f"{name}, n = {len(values)}",
        )
        if np.isfinite(expected):
            ax.axvline(
                expected,
                color=colour,
                linestyle="--",
                linewidth=1.5,
                label=f"expected, {name}: {expected:+.3f}",
            )
    ax.axvline(0, color=MUTED, linewidth=0.8)
    ax.set(xlim=(-1, 1), xlabel="cos(κ_c, z_ft^c'), c ≠ c'", ylabel="pairs of classes", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def entries(table: pd.DataFrame, *, most: int = 60, delta: float = 0.1, ax=None, title: str = ""):
    """Off-diagonal cosines in order of size, each with its 95 % interval, beside ±delta and the expected value; returns the Axes.

    table: as `Orthogonality.table()` gives it. Of more than `most` pairs both ends are shown. Entries that
    differ from 0 over all at once (max-T) are filled.
    """
    import matplotlib.pyplot as plt

    pairs = table[table["kappa"] != table["z_ft"]].sort_values("corrected").reset_index(drop=True)
    half = most // 2
    cut = len(pairs) > most
    shown = pd.concat([pairs.head(half), pairs.tail(half)]) if cut else pairs
    x = np.arange(len(shown)) + np.where(cut & (np.arange(len(shown)) >= half), 2, 0)
    if ax is None:
        _, ax = plt.subplots(figsize=(float(np.clip(2.5 + 0.16 * len(shown), 5, 13)), 3.8))
    ax.axhspan(-delta, delta, color=MUTED, alpha=0.16, linewidth=0, label=f"±{delta:g}")
    ax.axhline(
        shown["expected"].iloc[0], color=CONTRAST, linestyle="--", linewidth=1.2, label="expected"
    )
    ax.vlines(x, shown["low"], shown["high"], color=ACCENT, linewidth=1.2)
    for differs, face, name in (
        (True, ACCENT, "differs from 0 (max-T)"),
        (False, "white", "may be 0"),
    ):
        chosen = (shown["differs"] == differs).to_numpy()
        ax.scatter(
            x[chosen],
            shown["corrected"][chosen],
            s=18,
            facecolor=face,
            edgecolor=ACCENT,
            zorder=3,
            label=name,
        )
    if cut:
        ax.axvline(half + 0.5, color=MUTED, linestyle=":")
        left_out = f"{len(pairs) - len(shown):,} pairs between"
        ax.text(
            half + 0.5,
            ax.get_ylim()[1],
            left_out,
            ha="center",
            va="bottom",
            fontsize=8,
            color=MUTED,
        )
    names = [f"{a} → {b}" for a, b in zip(shown["kappa"], shown["z_ft"], strict=True)]
    ax.set_xticks(x, names, rotation=90, fontsize=7)
    ax.set(xlim=(x[0] - 1, x[-1] + 1), ylabel="cos(κ_c, z_ft^c')")
    ax.set_title(title, pad=14 if cut else None)
    ax.legend(loc="lower right", ncols=2)
    return ax


def departures(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """What each failing assumption of Theorem 3.3 adds to an entry: root mean square, beside what noise would; returns the Axes.

    frame: `Orthogonality.assumptions`. The mean with its interval is drawn as a point.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(8.4, 0.55 * len(frame) + 1.3))
    y = np.arange(len(frame))[::-1]
    ax.barh(
        y,
        frame["rms_added"],
        height=0.55,
        color=ACCENT,
        alpha=0.6,
        label="root mean square over pairs",
    )
    ax.barh(
        y, frame["rms_noise"], height=0.2, color=MUTED, label="what noise of the means alone adds"
    )
    errors = np.abs(frame[["low", "high"]].to_numpy().T - frame["mean_added"].to_numpy())
    ax.errorbar(
        frame["mean_added"],
        y,
        xerr=errors,
        fmt="o",
        color=CONTRAST,
        markersize=5,
        capsize=2,
        label="mean, 95 % interval",
    )
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(y, frame["assumption"])
    ax.set(xlabel="added to an off-diagonal cosine", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax
