"""The verdict on a pair of models: one page, or the essence of two side by side."""

import textwrap

import numpy as np
import pandas as pd

from .audit import collateral_maps, routing_bars
from .editing import trade_off
from .mapping import strength_curves
from .matrices import heatmap
from .style import ACCENT, CONTRAST

LIGHTS = {"green": "#2e8b57", "amber": "#c77700", "red": "#b5322a"}
MEANING = {
    "green": "class vectors will edit it",
    "amber": "some classes need a stronger or another edit",
    "red": "class vectors will not edit most classes",
}
SHOWN = (
    "fine-tuned", "retrained without it", "class vector", "z_ft - μ", "head direction",
    "random vector", "head-aware class vector", "mapping, class vector",
    "mapping, retired to the mean",
)  # fmt: skip
SENTENCES = {  # a quantity, whether it is a share, and what follows its value
    "accuracy of the fine-tuned model": (True, "of images correct after fine-tuning"),
    "displacement explained by class (R²)": (True, "of fine-tuning's effect due to class"),
    "shift of a class over its spread, median": (False, "times its spread: how far a class moved"),
    "head on the pre-trained representation": (True, "correct before it, with the same head"),
    "share of |κ|² that the head reads, median": (True, "of |κ|² is seen by the head"),
    "mean cosine of κ to other classes' means": (False, "cosine of κ with other classes' means"),
    "the same, expected from three scalars": (False, "the same, as three scalars predict it"),
}
HEAD, LINE = 4.0, 0.25  # inches of the header, and from one of its lines to the next
QUIET = "#555b63"
ON_VAL = {"linestyle": ":", "linewidth": 1.8}
LONGEST, CROWDED = 14, 25  # letters of a class along a map; names that fit along it at most
LARGER = {"axes.labelsize": 11.5, "axes.titlesize": 12}
LARGER |= {"xtick.labelsize": 10.5, "ytick.labelsize": 10.5}


def verdict_page(report):
    """One page on a pair of models: light, numbers, methods, routing, cosines, strength, who pays.

    Numbers known before any edit stand left, what a probe finds of the audited class stands right.

    Args:
        report: a `Verdict`.
    Returns:
        The figure.
    """
    import matplotlib.pyplot as plt

    told = [s for s in report.says() if s.startswith(("Recommended", "Who pays"))]
    fig = plt.figure(figsize=(15, HEAD + 13.6), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    head, methods, middle, pays = fig.subfigures(4, 1, height_ratios=(HEAD, 4.0, 4.9, 4.7))
    said = [line for s in (_outlook(report), *told) for line in textwrap.wrap(s, 200)]
    _head(head, 0.01, 0.98, report, said, probed=True)
    audited, n = _short(report.audited), len(report.study.outcomes)
    left, right = methods.subplots(1, 2, gridspec_kw={"width_ratios": (1.2, 1)})
    trade_off(_shown(report), ax=left)
    left.set_title(f"Every method on every class: n = {n} classes, test")
    routes = report.routes()
    routing_bars(routes, axes=[right])
    right.set_title(f"Where samples of class {audited} go: n = {int(routes['n'].max())}, test")
    left, right = middle.subplots(1, 2, gridspec_kw={"width_ratios": (1, 1.15)})
    geometry, found = report.geometry, report.collateral
    heatmap(geometry.cosine, ax=left, limit=1, mark=geometry.expected)
    left.set(xlabel="c', mean of", ylabel="c, class vector of")
    left.set_title(f"cos(κ_c, z_ft^c'), val, n = {int(geometry.count.sum())}")
    _fit_names(left)
    _curves(found, right)
    axes = pays.subplots(1, 3)
    collateral_maps(found.measured, found.forecast, axes=list(axes), decimals=1)
    for ax in axes[:2]:
        ax.tick_params(axis="x", labelsize=8)
        _fit_names(ax)
    over = (
        "Who pays: change of every class's accuracy under every class's edit, "
        f"λ = {found.lambda_:g}, {_gate(found)}, on test; forecast: the same on val"
    )
    pays.suptitle(over, x=0.01, ha="left", fontsize=11)
    return fig


def verdict_pair(first, second):
    """Two `Verdict`s side by side: light, numbers, ACC_f and ACC_r of every method, strength.

    A method looks the same in both columns, and ACC_r has one scale.

    Returns:
        The figure.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    reports = first, second
    tables = [_without_strength(_shown(r)) for r in reports]  # so that names are equal in both
    joint = trade_off(pd.concat(tables, ignore_index=True), ax=Figure().subplots())
    looks = {line.get_label(): line for line in joint.lines}
    with mpl.rc_context(LARGER):
        fig = plt.figure(figsize=(13, HEAD + 8.9), layout="constrained")
        fig.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
        heights = HEAD, 4.1, 1.25, 2.9, 0.65
        head, methods, key, curves, last = fig.subfigures(5, 1, height_ratios=heights)
        middles, bottoms, found = methods.subplots(1, 2), curves.subplots(1, 2, sharey=True), {}
        for i, (report, middle, bottom) in enumerate(zip(reports, middles, bottoms, strict=True)):
            _head(head, 0.01 + 0.5 * i, 0.48, report, textwrap.wrap(_outlook(report), 82))
            trade_off(tables[i], ax=middle)
            n = len(report.study.outcomes)
            middle.set_title(f"Methods on test, λ chosen on val unless named, n = {n} classes")
            found |= _restyled(middle, report, looks)
            _curves(report.collateral, bottom)
            kinds = bottom.get_legend_handles_labels()
            bottom.get_legend().remove()
        _one_scale(middles)
        middle.set_ylabel("")
        bottom.set_ylabel("")
        look = {"loc": "upper center", "ncols": 3, "fontsize": 10.5, "labelspacing": 0.4}
        key.legend(found.values(), found.keys(), **look)
        last.legend(*kinds, **look)
    return fig


def _curves(collateral, ax) -> None:
    """ACC_f and ACC_r of the class vector over strength: classes on test, and the mean on val."""
    test = collateral.test.curves().rename(columns={"class": "target"})
    strength_curves(test.assign(gate=collateral.gate), axes=[ax])
    means = collateral.val.curves().groupby("lambda_")[["acc_f", "acc_r"]].mean()
    for column, name, colour in (("acc_f", "ACC_f", CONTRAST), ("acc_r", "ACC_r", ACCENT)):
        ax.plot(means.index, means[column], label=f"{name}, mean on val", color=colour, **ON_VAL)
    n = len(collateral.test.targets)
    ax.set_title(f"Class vector on test, {_gate(collateral)}, over strength: n = {n} classes")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))


def _gate(collateral) -> str:
    return "no gate" if collateral.gate == "none" else f"gate {collateral.gate!r}"


def _shown(report) -> pd.DataFrame:
    table = report.study.table
    return table[table["method"].isin(SHOWN)]


def _outlook(report) -> str:
    return report.says()[0].partition(" ")[2].replace("lambda", "λ").replace("<=", "≤")


def _short(name) -> str:
    """Both ends of a long name: what tells classes apart is often the last part."""
    name, half = str(name), LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def _facts(report, *, probed: bool = False) -> list[tuple[str, str, str]]:
    """Value, sentence and interval with n of each quantity that needs no edit, or of the probes."""
    start, facts = f"probe on class {report.audited} ", []
    for row in report.table.itertuples():
        if row.quantity.startswith(start) != probed:
            continue
        usual = probed, row.quantity.removeprefix(start)
        share, sentence = SENTENCES.get(row.quantity, usual)
        value, low, high = (
            f"{100 * x:.1f}" if share else f"{x:.2f}".replace("-", "−")
            for x in (row.value, row.low, row.high)
        )
        value = value + "%" * share if np.isfinite(row.value) else "unknown"
        interval = f"[{low}, {high}], " if np.isfinite(row.low) else ""
        unit = "classes" if "median" in row.quantity else row.split
        facts.append((value, sentence, f"{interval}n = {row.n:,} {unit}"))
    return facts


def _head(parent, left: float, wide: float, report, said: list[str], *, probed=False) -> None:
    """Name, light, numbers and sentences, written outside the layout: inches across, lines down."""
    ax, colour = parent.add_axes([left, 0, wide, 0.97]), LIGHTS[report.light]
    ax.set_axis_off()
    ax.set(xlim=(0, wide * parent.figure.get_figwidth()), ylim=(0.97 * HEAD / LINE, 0))
    fits = 7.4 * ax.get_xlim()[1] / max(len(report.name), 1)  # in lines of 16 points
    _text(ax, 0, 0, report.name, 16 * min(1, fits), fontweight="bold")
    ax.plot([0.13], [1.85], "o", markersize=17, color=colour, clip_on=False, label=report.light)
    light = f"{report.light}: {MEANING[report.light]}"
    _text(ax, 0.35, 1.85, light, 13.5, va="center", color=colour, fontweight="bold")
    known = _facts(report)
    _lines(ax, known, 0.0, "Before any edit")
    if probed:
        over = f"Is class {_short(report.audited)} recoverable? A probe on its features finds"
        _lines(ax, _facts(report, probed=True), 7.6, over)
    _text(ax, 0, 4.0 + len(known), "\n".join(said), 10.5, color=QUIET, linespacing=1.4)


def _text(ax, x: float, y: float, words: str, size: float, **look) -> None:
    ax.text(x, y, words, fontsize=size, **{"va": "top"} | look)


def _lines(ax, facts, left: float, over: str) -> None:
    """A line a fact: the value bold and to the right, the sentence, and the interval with n."""
    _text(ax, left, 2.7, over, 11, color=QUIET)
    for y, (value, sentence, interval) in enumerate(facts, 4):
        _text(ax, left + 0.72, y - 0.3, value, 11, fontweight="bold", ha="right")
        _text(ax, left + 0.8, y - 0.3, sentence, 11)
        _text(ax, left + 6.2, y - 0.24, interval, 10, ha="right", color=QUIET)


def _fit_names(ax) -> None:
    """Names along a map, shortened; small, upright and not all of them where there are many."""
    for axis in (ax.xaxis, ax.yaxis):
        names = [_short(label.get_text()) for label in axis.get_ticklabels()]
        step, look = max(1, -(-len(names) // CROWDED)), {}
        if step > 1:
            axis.set_tick_params(labelsize=7, pad=1)
            if axis is ax.xaxis:
                look = {"rotation": 90, "rotation_mode": "default", "ha": "center", "va": "top"}
        axis.set_ticks(axis.get_ticklocs()[::step], names[::step], **look)


def _without_strength(table: pd.DataFrame) -> pd.DataFrame:
    """The table with lambda only where it was fixed at -1: elsewhere it differs between reports."""
    fixed = (table["method"] == "class vector") & ~table["chosen"]
    return table.assign(lambda_=table["lambda_"].where(fixed))


def _restyled(ax, report, looks) -> dict:
    """Gives the marks of a panel their joint looks, and takes its legend away; name to handle."""
    ax.get_legend().remove()
    found = {}
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
        if like := looks.get(label):
            handle.set(color=like.get_color(), marker=like.get_marker())
            handle.set(fillstyle=like.get_fillstyle(), markerfacecoloralt="white")
        label = label.replace("not in view", f"not in view, {report.name}")
        found[label.rsplit(" ", 1)[0] if "mean ACC_r" in label else label] = handle
    return found


def _one_scale(axes) -> None:
    limits = np.array([ax.get_ylim() for ax in axes])
    low, high = limits.min(), limits.max()
    high += 0.03 * (high - low)  # marks at the end stay whole
    for ax in axes:
        for goal in ax.collections:  # the ideal corner reaches up to the end of the scale
            corners = goal.get_paths()[0].vertices
            corners[corners[:, 1] == corners[:, 1].max(), 1] = high
        ax.set_ylim(low, high)
