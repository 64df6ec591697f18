"""The strength of edits and their mappings into weights: what size buys, which samples move."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .editing import _columns, _counts, _legend, _split, errors, panels
from .style import ACCENT, CONTRAST, MUTED, class_colours

_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_MOST_DOTS = 400  # samples of a group that are drawn as dots


def strength_curves(
    curves: pd.DataFrame, *, gates: Sequence[str] | None = None, axes=None, title: str = ""
):
    """ACC_f and ACC_r over lambda, thin for each target and bold for their mean; returns the Axes.

    curves: `strength_curve`s joined, with columns target, gate and direction (and split). A panel for each
    direction, gate and split that is there, of the gates asked for. With one target its own 95 % band is drawn.
    """
    if gates is not None:
        absent = [g for g in gates if g not in set(curves["gate"])]
        if absent:
            raise ValueError(
                f"no gate {absent[0]!r} in these curves; there are {', '.join(dict.fromkeys(curves['gate']))}"
            )
        curves = curves[curves["gate"].isin(gates)]
    parts = _split(curves, ("direction", "gate", "split"), {"gate": gates})
    several = "direction" in curves and curves["direction"].nunique() > 1
    columns = min(
        curves["gate"].nunique() if several and curves["gate"].nunique() > 1 else len(parts), 3
    )
    axes = panels(
        axes, len(parts), columns=columns, size=_size(parts), sharey=True, sharex=True, over=title
    )
    titles = []
    for ax, (name, part) in zip(axes, parts.items(), strict=True):
        n = part["target"].nunique()
        for column, colour, label in (("acc_f", CONTRAST, "ACC_f"), ("acc_r", ACCENT, "ACC_r")):
            runs = [c for c in ("target", "seed", "draw") if c in part]
            for _, own in part.groupby(runs, sort=False):
                own = own.sort_values("lambda_")
                if n > 1:
                    ax.plot(own["lambda_"], own[column], color=colour, linewidth=0.8, alpha=0.3)
                elif f"{column}_low" in own:
                    band = own["lambda_"], own[f"{column}_low"], own[f"{column}_high"]
                    ax.fill_between(*band, color=colour, alpha=0.15, linewidth=0)
            mean = part.groupby("lambda_")[column].mean()
            ax.plot(
                mean.index,
                mean,
                color=colour,
                linewidth=2.2,
                marker=".",
                label=f"{label}, mean" if n > 1 else label,
            )
        _over_lambda(ax)
        said = (
            f"n = {n} targets"
            if n > 1
            else f"class {part['target'].iloc[0]}, n = {_counts(part['n_f'])} and {_counts(part['n_r'])}"
        )
        titles.append((name, said))
    together = max(len(name + said) for name, said in titles) < 34
    for ax, parts_of in zip(axes, titles, strict=True):
        ax.set_title((": " if together else "\n").join(filter(None, parts_of)))
    if curves["target"].nunique() > 1:
        axes[-1].plot([], [], color=MUTED, linewidth=0.8, label="one target")
    _name_axes(axes)
    return axes


def mapping_scatter(frame: pd.DataFrame, *, axes=None, title: str = ""):
    """ACC_f and ACC_r of mappings against the numbers they store (log), with 95 % intervals; returns the two Axes.

    frame: one row a mapping: mapping, n_parameters, acc_f and acc_r with _low and _high, worst_acc_f and perhaps n. Hollow:
    the worst target. Mappings of one size stand side by side, up to 5 % off their size each.
    """
    axes = panels(axes, 2, columns=2, size=(4.4, 3.5), over=title)
    frame = frame.dropna(subset="n_parameters")
    if (frame["n_parameters"] <= 0).any():
        name = frame.loc[frame["n_parameters"] <= 0, "mapping"].iloc[0]
        raise ValueError(
            f"mapping {name!r} stores no numbers; a logarithmic axis has no place for it"
        )
    again = frame.groupby("n_parameters").cumcount().to_numpy()
    among = frame.groupby("n_parameters")["mapping"].transform("size").to_numpy()
    reach = (
        np.log(max(frame["n_parameters"].max() / frame["n_parameters"].min(), 2)) / 60
        if len(frame)
        else 0
    )
    x = frame["n_parameters"].to_numpy(float) * np.exp(
        min(reach, 0.048) * (2 * again - among + 1) / np.maximum(among - 1, 1)
    )
    for k, (row, at) in enumerate(zip(frame.to_dict("records"), x, strict=True)):
        look = {
            "color": _colour(k, len(frame)),
            "marker": _SHAPES[(k + k // 10) % len(_SHAPES)],
            "markersize": 6.5,
            "linestyle": "none",
        }
        for ax, column in zip(axes, ("acc_f", "acc_r"), strict=True):
            spans = errors(pd.DataFrame([row]), column)
            ax.errorbar(
                [at],
                [row[column]],
                yerr=spans,
                capsize=2,
                linewidth=1.2,
                label=row["mapping"],
                **look,
            )
        axes[0].plot([at], [row["worst_acc_f"]], fillstyle="none", **look)
    axes[0].plot(
        [],
        [],
        color="black",
        marker="o",
        linestyle="none",
        fillstyle="none",
        label="worst target (hollow)",
    )
    n = f", n = {_counts(frame['n'])} targets" if "n" in frame else ""
    for ax, name in zip(axes, ("ACC_f, class to forget", "ACC_r, all other classes"), strict=True):
        ax.set_xscale("log")
        ax.set(xlabel="numbers stored", ylabel=name)
    axes[0].set_title(f"mean, 95 % interval{n}")
    axes[0].set_ylim(-0.03 * max(axes[0].get_ylim()[1], 0.1), max(axes[0].get_ylim()[1], 0.1))
    axes[1].legend(*axes[0].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(1.01, 1))
    return axes


def displacement_strips(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """How far mappings move the samples of each group, as a share of the step; returns the Axes.

    frame: one row a sample: mapping, group, amount. The box holds the middle half, its line the median, the whiskers 90 %
    of the samples; of large groups the dots are an evenly spaced selection. The dotted lines are 0, not moved, and 1,
    moved by the whole step.
    """
    groups, mappings = list(dict.fromkeys(frame["group"])), list(dict.fromkeys(frame["mapping"]))
    (ax,) = panels(
        None if ax is None else [ax],
        1,
        columns=1,
        size=(float(np.clip(2.4 + 1.9 * len(groups), 6, 14)), 3.8),
    )
    step = 0.8 / len(mappings)
    rng = np.random.default_rng(0)
    for level in (0, 1):
        ax.axhline(level, color="black", linestyle=":", linewidth=0.8, zorder=0)
    labels = []
    for g, group in enumerate(groups):
        own = frame[frame["group"] == group]
        labels.append(f"{group}\nn = {_counts(own.groupby('mapping')['amount'].count())}")
        for k, mapping in enumerate(mappings):
            values = np.sort(own.loc[own["mapping"] == mapping, "amount"].dropna().to_numpy())
            if not len(values):
                continue
            x, colour = g + step * (k - (len(mappings) - 1) / 2), _colour(k, len(mappings))
            dots = values[
                np.unique(
                    np.linspace(0, len(values) - 1, min(len(values), _MOST_DOTS))
                    .round()
                    .astype(int)
                )
            ]
            side = rng.uniform(-0.3, 0.3, len(dots)) * step
            ax.scatter(
                x + side,
                dots,
                s=7,
                color=colour,
                alpha=0.3,
                linewidths=0,
                rasterized=True,
                zorder=1,
            )
            line = {"color": "black", "linewidth": 1.1}
            ax.boxplot(
                [values], positions=[x], widths=0.62 * step, whis=(5, 95), showfliers=False, manage_ticks=False, zorder=2,
                patch_artist=True, boxprops={"facecolor": "none", **line}, medianprops={**line, "linewidth": 2.2},
                whiskerprops=line, capprops=line,
            )  # fmt: skip
    for k, mapping in enumerate(mappings):
        ax.scatter([], [], s=28, color=_colour(k, len(mappings)), label=mapping)
    for g in range(1, len(groups)):
        ax.axvline(g - 0.5, color="0.88", linewidth=0.8, zorder=0)
    ax.set_xticks(range(len(groups)), labels)
    ax.tick_params(axis="x", length=0)
    ax.set(xlim=(-0.5, len(groups) - 0.5), ylabel="moved by, share of the step", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def _size(shown) -> tuple[float, float]:
    return (3.6 if len(shown) > 1 else 5.4, 3.1)


def _name_axes(axes):
    for ax in axes[:: _columns(axes)]:
        ax.set_ylabel("accuracy")
    for ax in axes[-_columns(axes) :]:
        ax.set_xlabel("λ of z + λ κ_c")
    _legend(axes)


def _over_lambda(ax):
    ax.axvline(-1, color="black", linestyle=":", linewidth=0.9)
    ax.axvline(0, color=MUTED, linewidth=0.6)
    ax.set(ylim=(-0.03, 1.03))
    if not ax.xaxis_inverted():  # the edit grows to the right
        ax.invert_xaxis()


def _colour(k: int, n: int):
    """Colours that stay apart for the colour-blind, repeated beyond ten with other shapes."""
    return class_colours(min(n, 10))[k % 10]
