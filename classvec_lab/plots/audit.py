"""What an edit left behind: where a forgotten class goes, who pays, and how an audit reads."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..checks import listed, one_of
from .marks import FAINT, beside, counts, dots, inches, panels
from .matrices import heatmap
from .style import ACCENT, MUTED, class_colours

RETRAINED = "retrained without it"
METRICS = {
    "ACC_f": "test",
    "ACC_r": "test",
    "routing JS": "test",
    "probe": "test",
    "MIA": "train",
    "CKA to retrained": "test",
    "ZRF": "test",
}
MOST_PANELS, MOST_CLASSES = 4, 10
NAMED_FROM = 0.08  # share from which a part of a bar bears its name
CROWDED = 25  # classes beyond which the names along a map are small and upright
OTHER = "#d5d8dc"
_HATCHED = {"hatch": "////", "linewidth": 0}


def routing_bars(
    routes: pd.DataFrame, *, target: str | Sequence[str] | None = None, axes=None, title: str = ""
):
    """Where each method sends the samples of a forgotten class: a stacked bar a method.

    The retrained model's bar comes first, set apart. The target's own colour is hatched. Of more
    than ten classes only those with the largest shares have a colour and the others are joined.
    Shares from 8 % on are written into the bars.

    Args:
        routes: `ForgetStudy.routes`.
        target: one class or up to four, a panel each; by default the first four.
    Returns:
        The Axes.
    Raises:
        ValueError: for a target without routes, and for more targets than four or none.
    """
    there = list(dict.fromkeys(routes["target"]))
    targets = [target] if isinstance(target, str) else list(target or there[:MOST_PANELS])
    for name in targets:
        one_of(name, there, "routes of target", ValueError)
    if not 0 < len(targets) <= MOST_PANELS:
        raise ValueError(f"this figure holds 1 to {MOST_PANELS} targets; got {len(targets)}")
    routes = routes[routes["target"].isin(targets)]
    methods = sorted(dict.fromkeys(routes["method"]), key=lambda m: m != RETRAINED)
    apart = 0.35 * (methods[0] == RETRAINED)
    places = {m: i + apart * (i > 0) for i, m in enumerate(methods)}
    colours, columns = _class_colours(routes, targets), min(len(targets), 2)
    size = (8.0 if len(targets) == 1 else 5.6, 0.44 * len(methods) + 1.0)
    shared = {"sharex": True, "sharey": True, "over": title}
    axes = panels(axes, len(targets), columns=columns, size=size, **shared)
    named = routes.assign(name=routes["class"].where(routes["class"].isin(list(colours)), "other"))
    order = [*colours, "other"]
    for ax, name in zip(axes, targets, strict=True):
        own = named[named["target"] == name]
        shares = own.pivot_table("share", "name", "method", "sum", sort=False).reindex(order)
        left = pd.Series(0.0, shares.columns)
        for part, row in shares.fillna(0).iterrows():
            row = row[row > 0]
            look = {"color": colours.get(part, OTHER), "edgecolor": "white", "linewidth": 0.6}
            look |= {"hatch": _HATCHED["hatch"] if part == name else None, "height": 0.8}
            at = row.index.map(places)
            ax.barh(at, row, left=left[row.index], label=str(part), **look)
            for y, method in zip(at, row.index, strict=True):
                if row[method] >= NAMED_FROM:
                    _name_part(ax, left[method], y, row[method], str(part), size[0], look)
            left[row.index] += row
        ax.set(xlim=(0, 1), ylim=(max(places.values()) + 0.55, -0.55))
        ax.set_title(f"samples of class {name}, n = {counts(own['n'].dropna())}")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    for ax in axes[-columns:]:
        ax.set_xlabel("share predicted as")
    axes[0].set_yticks(list(places.values()), methods)
    others = {"other": OTHER} if routes["class"].nunique() > len(colours) else {}
    _class_legend(axes[columns - 1], colours | others)
    return axes


def collateral_maps(
    measured: pd.DataFrame,
    forecast: pd.DataFrame | None = None,
    *,
    decimals: int = 2,
    axes=None,
    title: str = "",
):
    """What forgetting each class (rows) does to the accuracy of every other (columns), in points.

    The class itself is hatched: its loss is intended, and would swamp the others. With a forecast
    both maps share one colour scale, and a third panel holds one against the other with their
    correlation r over the n pairs.

    Args:
        measured: changes in -1..1, as `ForgetStudy.collateral` gives them.
        forecast: the same, said beforehand, its rows and columns in any order.
        decimals: places of the numbers; no change is a bare 0.
    Returns:
        The Axes, 1 or 3.
    Raises:
        ValueError: where the forecast lacks a class.
    """
    frames = {"measured": measured}
    if forecast is not None:
        rows, columns = measured.index, measured.columns
        if lacking := [*rows.difference(forecast.index), *columns.difference(forecast.columns)]:
            there = listed(forecast.index)
            raise ValueError(f"the forecast lacks {lacking[0]!r}; it has {there}")
        frames["forecast"] = forecast.loc[rows, columns]
    own = measured.index.to_numpy()[:, None] == measured.columns.to_numpy()
    side, n = inches(len(measured.columns), 0.32, 1.6, 4.0, 7.8), 2 * len(frames) - 1
    size = (side if n == 1 else 0.89 * side, 0.88 * side)
    axes = panels(axes, n, columns=n, size=size, over=title)
    points = [100 * frame.mask(own).astype(float) + 0.0 for frame in frames.values()]
    limit = float(np.nanmax(np.abs(points), initial=1.0))
    for ax, name, frame in zip(axes, frames, points, strict=False):
        label = "change of accuracy, percentage points"
        heatmap(frame, ax=ax, limit=limit, label=label, title=name)
        for number in ax.texts:  # of the cell that it stands in
            column, row = map(int, number.get_position())
            value = round(frame.iat[row, column], decimals)
            number.set_text(f"{value:.{decimals}f}" if value else "0")
        for i, j in np.argwhere(own):
            look = {"facecolor": "#e3e5e8", "edgecolor": MUTED, **_HATCHED}
            ax.add_patch(_rectangle((j, i), **look))
        if len(frame.columns) > CROWDED:
            ax.tick_params(labelsize=6.5)
            ax.tick_params(axis="x", rotation=90)
        ax.set(xlabel="accuracy of", ylabel="edited")
    if forecast is None:
        return axes
    axes[0].collections[0].colorbar.remove()  # one scale, one bar
    axes[1].set_ylabel("")
    pairs = np.stack([p.to_numpy()[~own] for p in points[::-1]])
    x, y = pairs[:, np.isfinite(pairs).all(axis=0)]
    spread = len(x) > 2 and x.std() > 0 and y.std() > 0
    said = f"r = {np.corrcoef(x, y)[0, 1]:.2f}" if spread else "r undefined"
    ends = np.array([min(*x, *y), max(*x, *y)]) if len(x) else np.zeros(2)
    ends = ends + np.array([-1, 1]) * (0.06 * np.ptp(ends) or 1)
    axes[2].plot(ends, ends, label="as forecast", zorder=0, **FAINT)
    axes[2].scatter(x, y, s=16, color=ACCENT, alpha=0.55, linewidths=0)
    unit = "percentage points"
    axes[2].set(xlim=ends, ylim=ends, xlabel=f"forecast, {unit}", ylabel=f"measured, {unit}")
    axes[2].set(aspect="equal", title=f"{said}, n = {len(x):,} pairs")
    axes[2].legend(loc="upper left")
    return axes


def audit_dots(audits: pd.DataFrame, *, axes=None, title: str = ""):
    """Audits of several methods on one class, a row a method and a panel a metric.

    Args:
        audits: tables of `Audit` joined, with a column method.
    Returns:
        The Axes. The value has its 95 % interval where that is known. The line is the retrained
        model's value, the dotted one the original's.
    Raises:
        ValueError: where a method has two audits, or none of the metrics drawn is there.
    """
    if len(again := audits[audits.duplicated(["method", "metric", "split"])]):
        method = again["method"].iloc[0]
        raise ValueError(f"{method!r} has several audits here; draw one target and seed at a time")
    shown = audits[audits["metric"].map(METRICS) == audits["split"]]
    parts = {m: part for m in METRICS if len(part := shown[shown["metric"] == m])}
    if not parts:
        raise ValueError(f"none of {', '.join(METRICS)} is in these audits")
    methods = list(dict.fromkeys(audits["method"]))
    size = (1.9, 0.42 * len(methods) + 1.4)
    axes = panels(axes, len(parts), columns=len(parts), size=size, sharey=True, over=title)
    for ax, (metric, rows) in zip(axes, parts.items(), strict=True):
        for column, style, colour in (("retrained", "-", "black"), ("original", ":", MUTED)):
            for known in rows[column].dropna()[:1]:
                look = {"color": colour, "linestyle": style, "linewidth": 1.1, "zorder": 1}
                ax.axvline(known, label=column, **look)
        look = {"color": ACCENT, "label": "after the edit", "markersize": 5.5, "linewidth": 1.2}
        y = rows["method"].map(methods.index)
        dots(ax, rows, "value", y, ends=("low", "high"), along="x", **look)
        values = rows[["value", "low", "high", "retrained", "original"]].to_numpy(float)
        low, high = np.nanmin(values), np.nanmax(values)
        if high - low > 0.1:  # all of 0..1, unless everything lies within a tenth of that
            ax.set_xlim(min(-0.06, low - 0.06), max(1.06, high + 0.06))
        n = rows["n"].dropna()
        said = f"{METRICS[metric]}, n = {counts(n)}" if len(n) else METRICS[metric]
        ax.set_title(f"{metric}\n{said}", fontsize=9.5)
        ax.locator_params(axis="x", nbins=3)
        ax.grid(axis="y", color=MUTED, alpha=0.15)
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    beside(axes[-1], source=axes[0])
    return axes


def _class_colours(routes: pd.DataFrame, targets: Sequence[str]) -> dict:
    """Class to colour in the frame's order: of few all, else targets and the largest shares."""
    classes = list(dict.fromkeys(routes["class"]))
    if len(classes) <= MOST_CLASSES:
        return dict(zip(classes, class_colours(len(classes)), strict=True))
    largest = routes.groupby("class")["share"].max().sort_values(ascending=False, kind="stable")
    own = [t for t in targets if t in classes]
    kept = [*own, *(c for c in largest.index if c not in own)][: MOST_CLASSES - 1]
    palette = class_colours(10)
    del palette[7]  # its grey is for the others
    return dict(zip([c for c in classes if c in kept], palette, strict=True))


def _name_part(ax, left: float, y: float, share: float, name: str, width: float, look: dict):
    """A part's name and share within it, cut off where it is longer than the part."""
    from matplotlib.colors import to_rgb

    fits = int(share * 0.55 * width * 72 / 4.9)  # characters of 8 points in a bar's part
    word = name if len(name) <= fits else f"{name[: fits - 2]}…" if fits > 5 else ""
    face = look["color"]
    light = np.dot(to_rgb(face), [0.299, 0.587, 0.114]) > 0.55
    pad = {"facecolor": face, "edgecolor": "none", "pad": 0.8} if look["hatch"] else None
    where = {"ha": "center", "va": "center", "fontsize": 7.5, "linespacing": 0.95, "bbox": pad}
    colour = "black" if light else "white"
    ax.text(left + share / 2, y, f"{word}\n{share:.0%}".strip(), color=colour, **where)


def _class_legend(ax, colours: dict) -> None:
    patches = [_rectangle((0, 0), facecolor=c, label=str(name)) for name, c in colours.items()]
    look = {"facecolor": MUTED, "edgecolor": "white", "hatch": _HATCHED["hatch"]}
    patches.append(_rectangle((0, 0), label="the class itself", **look))
    beside(ax, handles=patches, title="predicted as", alignment="left")


def _rectangle(corner, **look):
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, **look)
