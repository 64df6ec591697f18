"""The verdict on a pair of models: one page, or the essence of two side by side."""

import textwrap

import numpy as np
import pandas as pd

from .audit import collateral_maps, routing_bars
from .editing import SETTING, setting_names, trade_off
from .mapping import forecast_curves
from .matrices import heatmap

LIGHTS = {"green": "#2e8b57", "amber": "#c77700", "red": "#b5322a"}
MEANING = {
    "green": "class vectors will edit it",
    "amber": "some classes need a stronger or another edit",
    "red": "class vectors will not edit most classes",
}
SHOWN = (
    "fine-tuned", "retrained without it", "class vector", "z_ft - μ", "head direction", "random vector",
    "head-aware class vector", "mapping, class vector", "mapping, retired to the mean",
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
LINE = 0.25  # inches from a line of the header to the next
QUIET = "#555b63"
LONGEST, CROWDED = 14, 25  # letters of a class along a map; names that fit along it at most
LARGER = {
    "axes.labelsize": 11.5,
    "axes.titlesize": 12,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
}


def verdict_page(report, routes, *, title: str = ""):
    """One page on a pair of models: light and numbers, methods, routing, cosines, forecast, who pays; returns the figure.

    report: a `Verdict`; routes: `editing.routed(report)`. Numbers known before any edit stand left, right what a probe finds
    of the audited class afterwards.
    """
    import matplotlib.pyplot as plt

    known, probed = _known(report), _probed(report)
    told = [s for s in report.says() if s.startswith(("Recommended", "Who pays"))]
    said = [line for s in (_forecast(report), *told) for line in textwrap.wrap(s, 200)]
    tall = LINE * (4.8 + max(len(known), len(probed)) + len(said))
    fig = plt.figure(figsize=(15, tall + 13.6), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    head, methods, middle, pays = fig.subfigures(4, 1, height_ratios=(tall, 4.0, 4.9, 4.7))
    ax = _sheet(head, 0.01, 0.98, tall)
    _light(ax, report, title or report.name)
    _lines(ax, known, 0.0, 2.7, over="Before any edit")
    what = f"Is class {_short(report.audited)} recoverable? A probe on its features finds"
    _lines(ax, probed, 7.6, 2.7, over=what)
    ax.text(
        0,
        4.0 + max(len(known), len(probed)),
        "\n".join(said),
        fontsize=10.5,
        va="top",
        color=QUIET,
        linespacing=1.5,
    )
    left, right = methods.subplots(1, 2, gridspec_kw={"width_ratios": (1.2, 1)})
    trade_off(_shown(report), ax=left)
    left.set_title(f"Every method on every class: n = {len(report.study.outcomes)} classes, test")
    routing_bars(routes, axes=[right])
    right.set_title(
        f"Where samples of class {_short(report.audited)} go: n = {int(routes['n'].max())}, test"
    )
    left, right = middle.subplots(1, 2, gridspec_kw={"width_ratios": (1, 1.15)})
    geometry = report.geometry
    heatmap(geometry.cosine, ax=left, limit=1, mark=geometry.expected)
    left.set(
        title=f"cos(κ_c, z_ft^c'), val, n = {int(geometry.count.sum())}",
        xlabel="c', mean of",
        ylabel="c, class vector of",
    )
    _fit_names(left)
    _curves(report, right)
    axes = pays.subplots(1, 3)
    collateral_maps(report.measured, report.forecast, axes=list(axes), decimals=1)
    for ax in axes[:2]:
        ax.tick_params(axis="x", labelsize=8)
        _fit_names(ax)
    gate = report.editability.deploy
    over = f"Who pays: change of every class's accuracy under every class's edit, λ = {report.lambda_:g}, gate {gate!r}"
    pays.suptitle(over, x=0.01, ha="left", fontsize=11)
    return fig


def verdict_pair(reports, *, titles=("", "")):
    """Two verdicts side by side: light and numbers, ACC_f against ACC_r of every method, forecast curve; returns the figure.

    reports: two `Verdict`s; a method looks the same in both columns, and ACC_r has one scale. Raises ValueError for
    another number of reports or titles.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    if len(reports) != 2 or len(titles) != 2:
        raise ValueError(
            f"a pair is two reports and two titles; got {len(reports)} and {len(titles)}"
        )
    known = [_known(r) for r in reports]
    said = [textwrap.wrap(_forecast(r), 82) for r in reports]
    tall = LINE * (3.7 + max(map(len, known)) + max(map(len, said)))
    with mpl.rc_context(LARGER):
        fig = plt.figure(figsize=(13, tall + 8.9), layout="constrained")
        fig.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
        head, methods, key, curves, last = fig.subfigures(
            5, 1, height_ratios=(tall, 4.1, 1.25, 2.9, 0.65)
        )
        looks = _joint_looks(reports)
        middles, bottoms = methods.subplots(1, 2), curves.subplots(1, 2, sharey=True)
        found = {}
        for i, (report, title) in enumerate(zip(reports, titles, strict=True)):
            ax = _sheet(head, 0.01 + 0.5 * i, 0.48, tall)
            _light(ax, report, title or report.name)
            _lines(ax, known[i], 0.0, 2.7)
            ax.text(
                0,
                3.0 + len(known[i]),
                "\n".join(said[i]),
                fontsize=10.5,
                va="top",
                color=QUIET,
                linespacing=1.4,
            )
            trade_off(_shown(report), ax=middles[i])
            gate, n = report.editability.deploy, len(report.study.outcomes)
            middles[i].set_title(f"Methods on test, gate {gate!r} unless named, n = {n} classes")
            found |= {
                n: h for n, h in _restyled(middles[i], report, looks).items() if n not in found
            }
            _curves(report, bottoms[i])
        _one_scale(middles)
        middles[1].set_ylabel("")
        bottoms[1].set_ylabel("")
        kinds = bottoms[0].get_legend_handles_labels()
        for ax in bottoms:
            ax.get_legend().remove()
        look = {"loc": "upper center", "ncols": 3, "fontsize": 10.5, "labelspacing": 0.4}
        key.legend(found.values(), found.keys(), **look)
        last.legend(*kinds, **look)
    return fig


def _curves(report, ax) -> None:
    forecast_curves(report.curves, axes=[ax])
    n, gate = len(report.study.outcomes), report.editability.deploy
    ax.set_title(f"Class vector, gate {gate!r}, over strength: mean of n = {n} classes")


def _shown(report) -> pd.DataFrame:
    table = report.study.table
    return table[table["method"].isin(SHOWN)]


def _forecast(report) -> str:
    said = report.says()[0].split(": ", 1)[-1].replace("lambda", "λ").replace("<=", "≤")
    return said[:1].upper() + said[1:]


def _short(name) -> str:
    """Both ends of a long name: what tells classes apart is often the last part."""
    name, half = str(name), LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def _known(report) -> list[tuple[str, str, str]]:
    """Value, sentence and interval with n of each quantity that needs no edit."""
    rows = [r for r in report.table.itertuples() if not r.quantity.startswith("probe on class")]
    return [_quantity(r, *SENTENCES.get(r.quantity, (False, r.quantity))) for r in rows]


def _probed(report) -> list[tuple[str, str, str]]:
    start = f"probe on class {report.audited} "
    rows = [r for r in report.table.itertuples() if r.quantity.startswith(start)]
    return [_quantity(r, True, r.quantity.removeprefix(start)) for r in rows]


def _quantity(row, share: bool, sentence: str) -> tuple[str, str, str]:
    value, low, high = (
        f"{100 * x:.1f}" if share else f"{x:.2f}".replace("-", "−")
        for x in (row.value, row.low, row.high)
    )
    value = value + "%" * share if np.isfinite(row.value) else "unknown"
    interval = f"[{low}, {high}], " if np.isfinite(row.low) else ""
    unit = "classes" if "median" in row.quantity else row.split
    return value, sentence, f"{interval}n = {row.n:,} {unit}"


def _sheet(parent, left: float, wide: float, tall: float):
    """Axes to write on, outside the layout: inches across, lines down."""
    ax = parent.add_axes([left, 0, wide, 0.97])
    ax.set_axis_off()
    ax.set(xlim=(0, wide * parent.figure.get_figwidth()), ylim=(0.97 * tall / LINE, 0))
    return ax


def _light(ax, report, title: str) -> None:
    """The title, and under it a disc of the light's colour with the light's word and meaning."""
    colour = LIGHTS[report.light]
    fits = 7.4 * ax.get_xlim()[1]  # letters of 16 points
    ax.text(
        0, 0, title, fontsize=16 * min(1, fits / max(len(title), 1)), fontweight="bold", va="top"
    )
    ax.plot([0.13], [1.85], "o", markersize=17, color=colour, clip_on=False, label=report.light)
    ax.text(
        0.35,
        1.85,
        f"{report.light}: {MEANING[report.light]}",
        fontsize=13.5,
        fontweight="bold",
        va="center",
        color=colour,
    )


def _lines(ax, facts, left: float, top: float, *, over: str = "", width: float = 6.2) -> None:
    """A line a fact: the value bold and to the right, the sentence, the interval with n at the end of the line."""
    if over:
        ax.text(left, top, over, fontsize=11, va="top", color=QUIET)
        top += 1
    for i, (value, sentence, interval) in enumerate(facts):
        y = top + i
        ax.text(left + 0.72, y, value, fontsize=11, fontweight="bold", ha="right", va="top")
        ax.text(left + 0.8, y, sentence, fontsize=11, va="top")
        ax.text(left + width, y + 0.06, interval, fontsize=10, ha="right", va="top", color=QUIET)


def _fit_names(ax) -> None:
    """Names along a map, shortened; small, upright and not all of them where there are many."""
    for axis in (ax.xaxis, ax.yaxis):
        names = [_short(label.get_text()) for label in axis.get_ticklabels()]
        step, crowded = max(1, -(-len(names) // CROWDED)), len(names) > CROWDED
        turned = {"rotation": 90, "rotation_mode": "default", "ha": "center", "va": "top"}
        axis.set_ticks(
            axis.get_ticklocs()[::step],
            names[::step],
            **(turned if crowded and axis is ax.xaxis else {}),
        )
        if crowded:
            axis.set_tick_params(labelsize=7, pad=1)


def _settings(table: pd.DataFrame) -> dict[str, tuple]:
    """The label that `trade_off` gives a setting, to what the setting is: (method, gate, chosen)."""
    parts = table.dropna(subset=["acc_f", "acc_r"]).groupby(SETTING, sort=False)
    means = parts["lambda_"].mean().reset_index()
    return dict(
        zip(
            setting_names(means),
            zip(means["method"], means["gate"], means["chosen"], strict=True),
            strict=True,
        )
    )


def _joint_looks(reports) -> dict:
    """Setting to the mark that it has where the methods of all reports are drawn in one panel."""
    from matplotlib.figure import Figure

    table = pd.concat([_shown(r) for r in reports], ignore_index=True)
    settings = _settings(table)
    ax = trade_off(table, ax=Figure().subplots())
    return {settings[line.get_label()]: line for line in ax.lines if line.get_label() in settings}


def _restyled(ax, report, looks) -> dict:
    """Gives the marks of a panel their joint looks, and takes its legend away; returns name to handle."""
    settings, found = _settings(_shown(report)), {}
    lines = {line.get_label(): line for line in ax.lines}
    for label, handle in zip(*ax.get_legend_handles_labels()[::-1], strict=True):
        if label in settings:
            setting = settings[label]
            if like := looks.get(setting):
                look = {
                    "color": like.get_color(),
                    "marker": like.get_marker(),
                    "fillstyle": like.get_fillstyle(),
                }
                lines[label].set(**look, markerfacecoloralt="white")
            found[_named(setting, settings.values(), report.editability.deploy)] = handle
        elif label.startswith("not in view"):
            found[label.replace("not in view", f"not in view, {report.name}", 1)] = handle
        elif not label.startswith("λ*"):
            found[label.split(" ACC_r ")[0] + " ACC_r" if " ACC_r " in label else label] = handle
    ax.get_legend().remove()
    return found


def _named(setting, settings, deploy: str) -> str:
    method, gate, chosen = setting
    own = [s for s in settings if s[0] == method]
    gated = (
        ""
        if gate == deploy or len({s[1] for s in own}) == 1
        else ", no gate"
        if gate == "none"
        else f", {gate} gate"
    )
    both = sum(s[1] == gate for s in own) > 1
    return f"{method}{gated}{(', λ chosen on val' if chosen else ', λ = −1') if both else ''}"


def _one_scale(axes) -> None:
    low, high = np.min([ax.get_ylim()[0] for ax in axes]), np.max([ax.get_ylim()[1] for ax in axes])
    high += 0.03 * (high - low)  # marks at the end stay whole
    for ax in axes:
        for goal in ax.collections:  # the ideal corner reaches up to the end of the scale
            corners = goal.get_paths()[0].vertices
            corners[corners[:, 1] == corners[:, 1].max(), 1] = high
        ax.set_ylim(low, high)
