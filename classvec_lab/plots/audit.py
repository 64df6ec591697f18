"""What an edit left behind: where a forgotten class goes, who pays, and how an audit reads."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..checks import one_of
from .marks import below, counts, dots, few_ticks, mark, name_rows, new_axes, panels, short
from .matrices import heatmap
from .style import ACCENT, MUTED, SMALL, WIDE, class_colours

RETRAINED = "retrained without it"
METRICS = {  # split, and column of a summary
    "ACC_f": ("test", "ACC_f"),
    "ACC_r": ("test", "ACC_r"),
    "routing JS": ("test", "routing_js"),
    "probe": ("test", "probe"),
    "MIA": ("train", "mia"),
    "CKA to retrained": ("test", "cka_retrained"),
    "ZRF": ("test", "zrf"),
}
MOST_CLASSES = 7  # with a colour of their own
NAMED_FROM = 0.08  # share from which a part of a bar bears its name


def routing_bars(routes: pd.DataFrame, *, target: str, ax=None, title: str = ""):
    """Where each method sends the samples of a forgotten class: a stacked bar a method.

    The retrained model's bar comes first, set apart. The class's own colour is hatched. Of more
    than seven classes only it and those with the largest shares have a colour, and the others are
    joined. Shares from 8 % on are written into the bars.

    Args:
        routes: `ForgetStudy.routes`.
        target: the forgotten class.
    Returns:
        The Axes.
    Raises:
        ValueError: for a target without routes.
    """
    from seaborn.utils import relative_luminance

    one_of(target, list(routes["target"].unique()), "routes of target", ValueError)
    routes = routes[routes["target"] == target]
    largest = routes.groupby("class", sort=False)["share"].max()
    largest[target] = 1.0
    kept = largest.index[largest.rank(ascending=False, method="first") <= MOST_CLASSES]
    name = routes["class"].where(routes["class"].isin(kept), "other")
    shares = routes.assign(name=name).pivot_table("share", "method", "name", "sum", sort=False)
    shares = shares.reindex(columns=[*kept, *{"other"}.intersection(name)])
    shares = shares.sort_index(key=lambda methods: methods != RETRAINED, kind="stable")
    y = np.arange(len(shares)) + 0.35 * (shares.index != RETRAINED)
    said = f"samples of class {short(target, 24)}, n = {counts(routes['n'])}"
    title = f"{title}{': ' if title else ''}{said}"
    ax, left = new_axes(ax, WIDE, 0.36 * len(shares) + 1.6, title), shares.cumsum(axis=1) - shares
    for part, colour in zip(shares, [*class_colours(len(kept)), "#d5d8dc"], strict=False):
        label = short(part, 24)
        own = {"hatch": "////", "label": f"{label}, the class itself"} if part == target else {}
        look = {"color": colour, "edgecolor": "white", "linewidth": 0.6, "label": label, **own}
        bars = ax.barh(y, shares[part], left=left[part], height=0.8, **look)
        words = [_within(part, share) if share >= NAMED_FROM else "" for share in shares[part]]
        pad = {"facecolor": colour, "edgecolor": "none", "pad": 0.8} if own else None
        ink = "black" if relative_luminance(colour) > 0.4 else "white"
        ax.bar_label(
            bars, words, label_type="center", color=ink, fontsize=SMALL, linespacing=0.9, bbox=pad
        )
    ax.set(xlim=(0, 1), ylim=(y[-1] + 0.55, y[0] - 0.55), xlabel="share predicted as")
    ax.set_yticks(y, shares.index)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return below(ax, columns=3)


def collateral_maps(changes: Mapping[str, pd.DataFrame], *, figure=None, title: str = ""):
    """What forgetting each class (rows) does to the accuracy of every other (columns), in points.

    All maps share one colour scale. Hatched is the class itself, whose loss is intended and would
    swamp the others.

    Args:
        changes: titles of maps to changes in -1..1, as `Replayed.change` gives them.
        figure: a figure, or part of one, to draw on.
    Returns:
        The Axes, one a map.
    """
    first = next(iter(changes.values()))
    own, n = first.index.to_numpy()[:, None] == first.columns.to_numpy(), len(first.columns)
    axes = panels(len(changes), size=(WIDE / 2, 4.2), columns=2, over=title, figure=figure)
    points = {name: 100 * frame.mask(own).astype(float) for name, frame in changes.items()}
    limit = float(np.nanmax(np.abs([*points.values()]), initial=1.0))
    label, fmt = "change of accuracy, percentage points", "g" if n <= 6 else "z.0f"  # no -0
    for ax, (name, frame) in zip(axes, points.items(), strict=True):
        known = frame.stack().dropna()
        if len(known):
            mean, lowest = np.round([known.mean(), known.min()], 1) + 0.0
            name += f"\nmean {mean:+.1f}, lowest {lowest:+.1f}"
        heatmap(frame.round(1) + 0.0, ax=ax, limit=limit, label=label, fmt=fmt, title=name)
        ax.patch.set(facecolor="#e3e5e8", edgecolor=MUTED, hatch="////", linewidth=0)
        ax.set_xlabel("accuracy of")
    axes[0].set_ylabel("edited")
    for ax in axes[:-1]:
        ax.collections[0].colorbar.remove()  # one scale, one bar
    for ax in axes[1::2]:
        ax.set(yticks=[], ylabel="")
    return axes


def audit_dots(audits: pd.DataFrame, summary: pd.DataFrame | None = None, *, title: str = ""):
    """Audits of several methods, a row a method and a panel a metric.

    Args:
        audits: tables of `Audit` joined, with a column method.
        summary: what `summarise_audits` gives of them, where a method has several. Its means are
            drawn, and each audit as a faint stroke.
    Returns:
        The Axes. The value has its 95 % interval where that is known. The line is the retrained
        model's value, the dotted one the original's, the means of several.
    Raises:
        ValueError: where a method has two audits and there is no summary.
    """
    again = list(audits.loc[audits.duplicated(["method", "metric", "split"]), "method"])
    if again and summary is None:
        raise ValueError(f"{again[0]!r} has several audits here; pass their summary too")
    methods = list(audits["method"].unique())
    if again:
        summary = summary[summary["method"].isin(methods)]
        said = f"mean of n = {counts(summary['n'])} {summary['unit'].iloc[0]}, 95 % interval"
        title = f"{title}{': ' if title else ''}{said}"
    known = dict([*audits.groupby(["metric", "split"])])
    parts = {m: known[m, split] for m, (split, _) in METRICS.items() if (m, split) in known}
    size = (WIDE / 4, 0.24 * len(methods) + 1.2)
    axes = panels(len(parts), columns=min(4, len(parts)), size=size, sharey=True, over=title)
    for ax, (metric, rows) in zip(axes, parts.items(), strict=True):
        split, value = METRICS[metric]
        for column, style, colour in (("retrained", "-", "black"), ("original", ":", MUTED)):
            look = {"color": colour, "linestyle": style, "linewidth": 1.1, "zorder": 1}
            mark(ax, rows[column].mean(), column, **look)
        found, name = (summary, value) if again else (rows, "value")
        look = {"color": ACCENT, "label": "after the edit", "markersize": 5.5, "linewidth": 1.2}
        dots(ax, found, name, found["method"].map(methods.index), along="x", **look)
        if again:
            look = {"marker": "|", "s": 40, "color": MUTED, "alpha": 0.4, "zorder": 0}
            y = rows["method"].map(methods.index)
            ax.scatter(rows["value"], y, label="one class and training", **look)
        low, high = ax.get_xlim()
        if high - low > 0.1:  # all of 0..1, unless everything lies within a tenth of that
            ax.set_xlim(min(-0.06, low), max(1.06, high))
        ax.set_title(f"{metric}\n{split}, n = {counts(rows['n'])}", fontsize=9)
        few_ticks(ax)
    name_rows(axes, methods)
    return below(axes)


def _within(name: str, share: float) -> str:
    """A part's name and share, the name cut off where it is longer than the part."""
    fits = int(75 * share)  # characters
    word = name if len(name) <= fits else f"{name[: fits - 2]}…" if fits > 5 else ""
    return f"{word}\n{share:.0%}".strip()
