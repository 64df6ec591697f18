"""C × C matrices: heat maps, their order, and the histogram of their entries."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .marks import below, counts, dots, inches, mark, name_rows, new_axes, short
from .style import ACCENT, CONTRAST, DIVERGING, MUTED, SEQUENTIAL, SMALL, WIDE

CROWDED, LARGE = 25, 60  # classes from which names stand upright, and cells have no lines or dots
NUMBERS_UP_TO = 12  # classes whose values are written into the cells
LEAST, LETTER = 0.135, 0.062  # inches: of a cell for its name, and of a letter in it
MOST_PAIRS = 50
CHANCE = "95 % of random directions: {:+.2f} to {:+.2f}"


def cluster_order(frame: pd.DataFrame) -> list:
    """Row names ordered by hierarchical clustering of their profiles.

    Average linkage, optimal leaf order up to 500 classes. A pair's profile is symmetrised, and NaN
    counts as 0.

    Args:
        frame: rows and columns carry the same names.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    values = np.nan_to_num(frame.to_numpy(dtype=float))
    if len(values) < 3:
        return list(frame.index)
    tree = linkage((values + values.T) / 2, method="average", optimal_ordering=len(values) <= 500)
    return list(frame.index[leaves_list(tree)])


def heatmap(
    frame: pd.DataFrame,
    *,
    ax=None,
    order: str | Sequence = "given",
    centre: float | None = 0.0,
    limit: float | None = None,
    mark: float | Sequence[float] | None = None,
    marked: pd.DataFrame | None = None,
    label: str = "cosine",
    fmt: str = ".2f",
    title: str = "",
):
    """A C × C heat map, with as many names along it as there is room for.

    Args:
        order: "given", "cluster" (see `cluster_order`) or a list of names.
        centre: 0 gives the diverging map, symmetric up to `limit`; None a sequential map from 0.
        limit: by default the largest absolute value.
        mark: a line on the colour bar: the mean that centring forces (`expected`); or two, the
            ends between which 95 % of random directions lie (`Orthogonality.chance`).
        marked: booleans of the same shape; a dot marks those cells, up to 60 classes.
        label: of the colour bar.
        fmt: of the values, which are written into the cells of up to 12 classes.
    Returns:
        The Axes.
    Raises:
        ValueError: for an order that isn't known.
    """
    import seaborn as sns

    if isinstance(order, str) and order not in ("given", "cluster"):
        raise ValueError(
            f"order must be 'given', 'cluster' or a list of class names; got {order!r}"
        )
    if order != "given":
        names = cluster_order(frame) if order == "cluster" else list(order)
        frame = frame.loc[names, names]
    shown, n, diverging = frame.axes, len(frame.columns), centre is not None
    side = inches(n, 0.42, 1.8, 4.2, WIDE - 1)
    ax = new_axes(ax, side + 1.0, side, title)
    frame = frame.rename(index=short, columns=short)
    square, cell = len(frame) == n, _cell(ax, frame)
    cell = np.full(2, cell.min()) if square else cell
    along, down = np.ceil(LEAST / cell.clip(0.01)).astype(int).tolist()
    top = limit if limit is not None else float(np.nanmax(np.abs(frame.to_numpy()), initial=1e-9))
    letters = max(len(format(value, fmt)) for value in frame.to_numpy(float).flat)
    large, few = n > LARGE, n <= NUMBERS_UP_TO and bool(cell[0] > LETTER * letters)
    page = ax.figure, ax.figure.canvas.figure
    for part in page:  # seaborn draws the whole of it, only to see whether names overlap
        part.set_visible(False)
    sns.heatmap(
        frame,
        ax=ax,
        cmap=DIVERGING if diverging else SEQUENTIAL,
        center=centre,
        vmin=-top if diverging else 0.0,
        vmax=top,
        square=square,
        annot=few,
        fmt=fmt,
        annot_kws={"fontsize": SMALL},
        xticklabels=along,
        yticklabels=down,
        linewidths=0.4 * (not large),
        cbar_kws={"label": label, "shrink": 0.8},
        rasterized=not few,
    )
    for part in page:
        part.set_visible(True)
    ax.grid(False)
    longest = frame.columns.astype(str).str.len().max()
    upright = n > CROWDED or LETTER * longest > cell[0] * along
    ax.tick_params(length=0, labelsize=SMALL)
    ax.tick_params(axis="y", rotation=0)
    ax.tick_params(axis="x", rotation=90 * bool(upright))
    if n <= CROWDED and longest > 4:
        ax.set_xticklabels(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    ends = np.atleast_1d([] if mark is None else mark)
    if len(ends) and np.isfinite(ends).all():
        bar = ax.collections[0].colorbar.ax
        for end in ends[np.abs(ends) <= top]:
            bar.axhline(end, color="black", linewidth=1.4)
        where = {"xycoords": bar.get_yaxis_transform(), "textcoords": "offset points"}
        look = {"ha": "right", "va": "center", "fontsize": SMALL, "rotation": 90}
        text = CHANCE.format(*ends) if len(ends) > 1 else f"forced mean {ends[0]:+.2f}"
        at = 0, ends.mean()  # left of the bar, clear of its numbers
        bar.annotate(text, at, xytext=(-4, 0), annotation_clip=False, **where, **look)
    if marked is not None and not large:
        rows, columns = np.nonzero(marked.loc[*shown].to_numpy())
        shade = frame.to_numpy()[rows, columns] / top
        colours = np.where((np.abs(shade) if diverging else shade) > 0.6, "white", "black")
        inset, size = 0.88 if few else 0.5, np.clip(260 / n, 4, 14)
        ax.scatter(columns + inset, rows + 1 - inset, s=size, c=colours, linewidths=0)
    return ax


def _cell(ax, frame: pd.DataFrame) -> np.ndarray:
    """About how many inches wide and high a cell will be beside names, labels and colour bar.

    From the grid, as the layout is known only once everything is drawn.
    """
    spec = ax.get_subplotspec()
    rows, columns = spec.get_gridspec().get_geometry() if spec else (1, 1)
    box = ax.figure.bbox.size / ax.figure.dpi / (columns, rows)
    names = [0.07 * along.astype(str).str.len().max() for along in frame.axes]
    return (box - names - (1.7, 0.9)) / frame.shape[::-1]


def histogram(report, *, ax=None, title: str = ""):
    """Off-diagonal cosines, raw and centred, beside an exact ETF's and chance.

    Args:
        report: what `orthogonality` gives.
    Returns:
        The Axes. Dashed lines are where every entry of an exact simplex ETF lies. 95 % of random
        directions lie in the band where they have the features' own covariance, between the dotted
        lines where isotropic.
    """
    ax = new_axes(ax, WIDE, 4, title)
    if report.directions:
        half = 1.96 / np.sqrt(report.dim)
        said = "95 % of random directions"
        look = {"color": MUTED, "alpha": 0.2, "linewidth": 0}
        ax.axvspan(*report.chance(), label=f"{said}, features' covariance", **look)
        for end in (-half, half):
            mark(ax, end, f"{said}, isotropic", linestyle=":", linewidth=1.5)
    outline = {"facecolor": "none", "edgecolor": CONTRAST, "linewidth": 1.1}
    for frame, expected, name, colour, style, look in (
        (report.cosine, report.expected, "raw", ACCENT, "--", {"color": ACCENT, "alpha": 0.5}),
        (report.cosine_centred, report.expected_centred, "centred on both sides", CONTRAST, "-.",
         outline),
    ):  # fmt: skip
        values = frame.mask(np.eye(len(frame), dtype=bool)).stack().dropna()
        label = f"{name}, n = {len(values)}"
        ax.hist(values, bins=np.linspace(-1, 1, 81), label=label, **look)
        etf = f"an exact ETF, {name}: {{:+.3f}}"
        mark(ax, expected, etf, color=colour, linestyle=style, linewidth=1.5)
    ax.axvline(0, color=MUTED, linewidth=0.8)
    ax.set(xlim=(-1, 1), xlabel="cos(κ_c, z_ft^c'), c ≠ c'", ylabel="pairs of classes")
    return below(ax, columns=2)


def entries(table: pd.DataFrame, *, delta: float = 0.1, ax=None, title: str = ""):
    """Off-diagonal cosines in order of size with their 95 % intervals, beside ±delta.

    Args:
        table: as `Orthogonality.table()` gives it. Of more than 50 pairs both ends are shown.
        delta: half the width of the grey band.
    Returns:
        The Axes. Entries that differ from 0 over all at once (max-T) are filled.
    """
    pairs = table[table["kappa"] != table["z_ft"]].sort_values("corrected")
    half, left_out = MOST_PAIRS // 2, len(pairs) - MOST_PAIRS
    shown = pd.concat([pairs.head(half), pairs.tail(half)]) if left_out > 0 else pairs
    x = np.arange(len(shown))
    x[half:] += 2 * (left_out > 0)
    ax = new_axes(ax, inches(len(shown), 0.16, 2.5, 5, WIDE), 4.2, title)
    ax.axhspan(-delta, delta, color=MUTED, alpha=0.16, linewidth=0, label=f"±{delta:g}")
    look = {"color": CONTRAST, "linestyle": "--", "linewidth": 1.2}
    ax.axhline(shown["expected"].iloc[0], label="every pair of an exact ETF", **look)
    ax.vlines(x, shown["low"], shown["high"], color=ACCENT, linewidth=1.2)
    differs = shown["differs"].to_numpy(bool)
    for chosen, face, name in (
        (differs, ACCENT, "differs from 0 (max-T)"),
        (~differs, "white", "may be 0"),
    ):
        look = {"s": 18, "facecolor": face, "edgecolor": ACCENT, "zorder": 3}
        ax.scatter(x[chosen], shown["corrected"][chosen], label=name, **look)
    if left_out > 0:
        ax.axvline(half + 0.5, color=MUTED, linestyle=":")
        look = {"ha": "center", "va": "bottom", "fontsize": SMALL, "color": MUTED}
        ax.text(
            half + 0.5, 1, f"{left_out:,} pairs between", transform=ax.get_xaxis_transform(), **look
        )
    names = shown["kappa"].map(short) + " → " + shown["z_ft"].map(short)
    ax.set_xticks(x, names, rotation=90, fontsize=SMALL)
    ax.set(xlim=(x[0] - 1, x[-1] + 1), ylabel="cos(κ_c, z_ft^c')")
    ax.set_title(ax.get_title("left"), pad=14)
    ax.legend(loc="lower right", ncols=2)
    return ax


def departures(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """What each failing assumption of Theorem 3.3 adds to an entry, beside what noise would.

    Args:
        frame: `Orthogonality.assumptions`.
    Returns:
        The Axes: root mean squares as bars, the mean with its interval as a point.
    """
    ax, y = new_axes(ax, WIDE, 0.45 * len(frame) + 1.7, title), range(len(frame))
    look = {"color": ACCENT, "alpha": 0.6, "label": "root mean square over pairs"}
    ax.barh(y, frame["rms_added"], height=0.55, **look)
    ax.barh(
        y, frame["rms_noise"], height=0.2, color=MUTED, label="what noise of the means alone adds"
    )
    label = f"mean, 95 % interval, n = {counts(frame['n_pairs'])} pairs"
    dots(ax, frame, "mean_added", y, along="x", color=CONTRAST, label=label)
    ax.axvline(0, color="black", linewidth=0.8)
    name_rows([ax], frame["assumption"])
    ax.set_xlabel("added to an off-diagonal cosine")
    return below(ax, columns=2)
