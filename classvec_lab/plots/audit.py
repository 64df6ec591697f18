"""What an edit left behind: where samples of a forgotten class go, what happens to the others, and how an audit reads."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .editing import errors, panels
from .matrices import heatmap
from .style import ACCENT, MUTED, class_colours

RETRAINED = "retrained without it"
METRICS = (
    ("ACC_f", "test"),
    ("ACC_r", "test"),
    ("routing JS", "test"),
    ("probe", "test"),
    ("MIA", "train"),
    ("CKA to retrained", "test"),
    ("ZRF", "test"),
)
MOST_PANELS, MOST_CLASSES = 4, 10
NAMED_FROM = 0.08  # share from which a part of a bar bears its name
CROWDED = 25  # classes beyond which the names along a map are small and upright


def routing_bars(
    routes: pd.DataFrame, *, target: str | Sequence[str] | None = None, axes=None, title: str = ""
):
    """Where each method sends the samples of a forgotten class: a stacked bar a method; returns the Axes.

    routes: `ForgetStudy.routes`. target: one class or up to four, a panel each; the first four by default. The retrained
    model's bar comes first, set apart. The target's own colour is hatched. Of more than ten classes only those with
    the largest shares have a colour, the others are joined; shares from 8 % on are written into the bars.
    """
    there = list(dict.fromkeys(routes["target"]))
    targets = (
        there[:MOST_PANELS]
        if target is None
        else [target]
        if isinstance(target, str)
        else list(target)
    )
    if absent := [t for t in targets if t not in there]:
        raise ValueError(
            f"no routes of target {absent[0]!r} here; there are {', '.join(map(str, there))}"
        )
    if not 0 < len(targets) <= MOST_PANELS:
        raise ValueError(f"this figure holds 1 to {MOST_PANELS} targets; got {len(targets)}")
    routes = routes[routes["target"].isin(targets)]
    methods = list(dict.fromkeys(routes["method"]))
    methods = [m for m in methods if m == RETRAINED] + [m for m in methods if m != RETRAINED]
    places = np.arange(len(methods)) + np.array(
        [0.35 * (m != RETRAINED and RETRAINED in methods) for m in methods]
    )
    colours = _class_colours(routes, targets)
    columns, inches = min(len(targets), 2), 8.0 if len(targets) == 1 else 5.6
    axes = panels(
        axes,
        len(targets),
        columns=columns,
        size=(inches, 0.44 * len(methods) + 1.0),
        sharey=True,
        sharex=True,
        over=title,
    )
    for ax, name in zip(axes, targets, strict=True):
        own = routes[routes["target"] == name]
        shares = own.pivot_table(index="method", columns="class", values="share", sort=False)
        for place, method in zip(places, methods, strict=True):
            if method in shares.index:
                row = shares.loc[method].dropna()
                kept = [c for c in colours if c in row.index]
                parts = [(c, row[c]) for c in kept] + [("other", row.drop(index=kept).sum())]
                _stack(ax, place, parts, colours, name, inches)
        n = own["n"].dropna().astype(int)
        many = n.nunique() > 1
        ax.set(xlim=(0, 1), ylim=(places[-1] + 0.55, -0.55))
        ax.set_title(f"samples of class {name}, n = {n.min()}{f' to {n.max()}' if many else ''}")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    for ax in axes[-columns:]:
        ax.set_xlabel("share predicted as")
    axes[0].set_yticks(places, methods)
    _class_legend(
        axes[columns - 1], colours, "other" if routes["class"].nunique() > len(colours) else ""
    )
    return axes


def collateral_maps(
    measured: pd.DataFrame,
    forecast: pd.DataFrame | None = None,
    *,
    decimals: int = 2,
    axes=None,
    title: str = "",
):
    """What forgetting each class (rows) does to the accuracy of every other (columns), in percentage points; returns the Axes.

    measured, forecast: changes in -1..1 as `ForgetStudy.collateral` and `collateral_forecast` give them; the forecast may
    have its rows and columns in any order. Both maps share one colour scale. Numbers have `decimals` places, no change
    is a bare 0. The class itself is hatched: its loss is intended, and would swamp the others. With a forecast, the
    third panel holds one against the other with their correlation r over the n pairs. Raises ValueError where the
    forecast lacks a class.
    """
    frames = [("measured", measured)]
    if forecast is not None:
        lacking = [
            *measured.index.difference(forecast.index),
            *measured.columns.difference(forecast.columns),
        ]
        if lacking:
            raise ValueError(
                f"the forecast lacks {lacking[0]!r}; it has {', '.join(map(str, forecast.index))}"
            )
        frames.append(("forecast", forecast.loc[measured.index, measured.columns]))
    own = measured.index.to_numpy()[:, None] == measured.columns.to_numpy()[None, :]
    side, count = float(np.clip(1.6 + 0.32 * len(measured.columns), 4.0, 7.8)), 2 * len(frames) - 1
    axes = panels(
        axes,
        count,
        columns=count,
        size=(side if count == 1 else 0.89 * side, 0.88 * side),
        over=title,
    )
    points = [100 * frame.mask(own).astype(float) + 0.0 for _, frame in frames]
    limit = max(1.0, float(np.nanmax(np.abs(np.stack([p.to_numpy() for p in points])), initial=0)))
    for ax, (name, _), frame in zip(axes, frames, points, strict=False):
        heatmap(
            frame, ax=ax, limit=limit, label="change of accuracy, percentage points", title=name
        )
        for number in ax.texts:  # of the cell that it stands in
            column, row = (int(at) for at in number.get_position())
            value = round(frame.iat[row, column], decimals)
            number.set_text(f"{value:.{decimals}f}" if value else "0")
        rows, columns = np.nonzero(own)
        for i, j in zip(rows, columns, strict=True):
            hatched = {"facecolor": "#e3e5e8", "edgecolor": MUTED, "hatch": "////", "linewidth": 0}
            ax.add_patch(_rectangle((j, i), 1, 1, **hatched))
        if len(frame.columns) > CROWDED:
            ax.tick_params(labelsize=6.5)
            ax.set_xticks(
                ax.get_xticks(),
                [t.get_text() for t in ax.get_xticklabels()],
                rotation=90,
                ha="right",
                va="center",
            )
        ax.set(xlabel="accuracy of", ylabel="edited")
    if forecast is None:
        return axes
    axes[0].collections[0].colorbar.remove()  # one scale, one bar
    axes[1].set_ylabel("")
    x, y = (p.to_numpy()[~own] for p in points[::-1])
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    spread = len(x) > 2 and x.std() > 0 and y.std() > 0
    said = f"r = {np.corrcoef(x, y)[0, 1]:.2f}" if spread else "r undefined"
    ends = (
        np.array([min(x.min(), y.min()), max(x.max(), y.max())]) if len(x) else np.array([0.0, 0.0])
    )
    ends = ends + np.array([-1, 1]) * (0.06 * np.ptp(ends) or 1)
    axes[2].plot(ends, ends, color=MUTED, linewidth=0.8, label="as forecast", zorder=0)
    axes[2].scatter(x, y, s=16, color=ACCENT, alpha=0.55, linewidths=0)
    axes[2].set(
        xlim=ends,
        ylim=ends,
        aspect="equal",
        xlabel="forecast, percentage points",
        ylabel="measured, percentage points",
    )
    axes[2].set_title(f"{said}, n = {len(x):,} pairs")
    axes[2].legend(loc="upper left")
    return axes


def audit_dots(audits: pd.DataFrame, *, axes=None, title: str = ""):
    """Audits of several methods on one class, a row a method and a panel a metric; returns the Axes.

    audits: tables of `Audit` joined, with a column method. Value with its 95 % interval where it is known; the line
    is the retrained model's value, the dotted one the original's. Raises ValueError where a method has two audits.
    """
    if audits.duplicated(["method", "metric", "split"]).any():
        method = audits.loc[audits.duplicated(["method", "metric", "split"]), "method"].iloc[0]
        raise ValueError(
            f"{method!r} has several audits here; draw those of one target and seed at a time"
        )
    there = set(zip(audits["metric"], audits["split"], strict=True))
    shown = [key for key in METRICS if key in there]
    if not shown:
        raise ValueError(f"none of {', '.join(m for m, _ in METRICS)} is in these audits")
    methods = list(dict.fromkeys(audits["method"]))
    axes = panels(
        axes,
        len(shown),
        columns=len(shown),
        size=(1.9, 0.42 * len(methods) + 1.4),
        sharey=True,
        over=title,
    )
    for ax, (metric, split) in zip(axes, shown, strict=True):
        rows = audits[(audits["metric"] == metric) & (audits["split"] == split)]
        y = rows["method"].map(methods.index).to_numpy()
        spans = errors(rows.rename(columns={"low": "value_low", "high": "value_high"}), "value")
        for column, style, name in (("retrained", "-", "retrained"), ("original", ":", "original")):
            known = rows[column].dropna()
            if len(known):
                colour = "black" if column == "retrained" else MUTED
                ax.axvline(
                    known.iloc[0],
                    color=colour,
                    linestyle=style,
                    linewidth=1.1,
                    label=name,
                    zorder=1,
                )
        ax.errorbar(
            rows["value"],
            y,
            xerr=spans,
            fmt="o",
            markersize=5.5,
            capsize=2,
            linewidth=1.2,
            color=ACCENT,
            label="after the edit",
        )
        _unit_view(ax, rows)
        n = sorted(set(rows["n"].dropna().astype(int)))
        said = f"n = {n[0]:,}" if len(n) == 1 else f"n = {n[0]:,} to {n[-1]:,}" if n else ""
        ax.set_title(f"{metric}\n{split}, {said}", fontsize=9.5)
        ax.locator_params(axis="x", nbins=3)
        ax.grid(axis="y", color=MUTED, alpha=0.15)
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    axes[-1].legend(
        *axes[0].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(1.02, 1)
    )
    return axes


def _class_colours(routes: pd.DataFrame, targets: Sequence[str]) -> dict:
    """Class to colour in the order of the frame: all of few, else the targets and those of the largest shares."""
    classes = list(dict.fromkeys(routes["class"]))
    if len(classes) <= MOST_CLASSES:
        return dict(zip(classes, class_colours(len(classes)), strict=True))
    largest = (
        routes.groupby("class")["share"].max().sort_values(ascending=False, kind="stable").index
    )
    own = [t for t in targets if t in classes]
    kept = [*own, *[c for c in largest if c not in own]][: MOST_CLASSES - 1]
    palette = [c for i, c in enumerate(class_colours(10)) if i != 7]  # its grey is for the others
    return dict(zip([c for c in classes if c in kept], palette, strict=True))


def _stack(ax, place: float, parts, colours: dict, target: str, inches: float):
    left = 0.0
    for name, share in parts:
        if share <= 0:
            continue
        face = colours.get(name, "#d5d8dc")
        hatch = "////" if name == target else None
        ax.barh(
            place,
            share,
            left=left,
            height=0.8,
            color=face,
            edgecolor="white",
            linewidth=0.6,
            hatch=hatch,
            label=str(name),
        )
        if share >= NAMED_FROM:
            fits = int(
                share * 0.55 * inches * 72 / 4.9
            )  # characters of 8 points in the part of the panel that bars have
            word = (
                str(name)
                if len(str(name)) <= fits
                else f"{str(name)[: fits - 2]}…"
                if fits > 5
                else ""
            )
            light = np.dot(_rgb(face), [0.299, 0.587, 0.114]) > 0.55
            pad = {"facecolor": face, "edgecolor": "none", "pad": 0.8} if hatch else None
            where = {
                "ha": "center",
                "va": "center",
                "fontsize": 7.5,
                "linespacing": 0.95,
                "bbox": pad,
            }
            ax.text(
                left + share / 2,
                place,
                f"{word}\n{share:.0%}".strip(),
                color="black" if light else "white",
                **where,
            )
        left += share


def _class_legend(ax, colours: dict, rest: str):
    patches = [
        _rectangle((0, 0), 1, 1, facecolor=c, label=str(name)) for name, c in colours.items()
    ]
    patches += [_rectangle((0, 0), 1, 1, facecolor="#d5d8dc", label=rest)] if rest else []
    patches.append(
        _rectangle(
            (0, 0), 1, 1, facecolor=MUTED, edgecolor="white", hatch="////", label="the class itself"
        )
    )
    ax.legend(
        handles=patches,
        title="predicted as",
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        alignment="left",
    )


def _rectangle(*args, **kwargs):
    from matplotlib.patches import Rectangle

    return Rectangle(*args, **kwargs)


def _rgb(colour):
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _unit_view(ax, rows):
    """All of 0..1, unless everything drawn lies within a tenth of that."""
    values = rows[["value", "low", "high", "retrained", "original"]].to_numpy(float)
    low, high = np.nanmin(values), np.nanmax(values)
    if high - low > 0.1:
        ax.set_xlim(min(-0.06, low - 0.06), max(1.06, high + 0.06))
