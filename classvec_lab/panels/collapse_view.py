"""What the canvases of the collapse panel are given: charts of metrics, and a film of samples."""

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from ..plots.collapse import PANELS
from ..plots.style import class_colours
from .payload import chart, packed, series

COLOURS = ("accent", "contrast", "green", "violet", "ink", "muted")  # of runs, while they suffice
LOGARITHMIC = ("nc1", "cdnv")
MOST_DOTS = 40  # epochs that are drawn with dots


def metric_chart(tables: pd.DataFrame, metric: str, colours: dict, chosen: str, kept) -> dict:
    """One metric over epochs, the axis as `plots.collapse_curves` has it.

    Args:
        tables: the tables of all histories, with a column run: a line each with its intervals, and
            NC2's null dashed.
        metric: which of the metrics.
        colours: of the runs, `run_colours`.
        chosen: the run whose line is thicker, where there are several.
        kept: the epoch to mark, or None.
    """
    rows, lines = tables[tables["metric"] == metric].sort_values("epoch"), []
    for run, colour in colours.items():
        own, several = rows[rows["run"] == run], len(colours) > 1
        name, width = run if several else "value", 3.0 if several and run == chosen else 1.8
        look = {"dots": len(own) <= MOST_DOTS, "width": width, "legend": False}
        lines.append(series(name, own, ("epoch", "value", "low", "high"), colour, **look))
        if np.isfinite(own["null_high"]).any():
            null, look = f"{name}: 95 % of its null", {"width": 1.4, "legend": False}
            lines.append(series(null, own, ("epoch", "null_high"), colour, (5, 3), **look))
    finite = rows[["value", "high", "null_high"]].replace(np.inf, np.nan)
    if metric in LOGARITHMIC and not (finite["value"] <= 0).any():
        axis = {"log": True}
    else:
        axis = {} if metric == "nc4" else {"ylim": [0, 1.06 * (finite.max(axis=None) or 1.0)]}
    if kept is not None:
        axis["marks"] = [{"x": kept, "label": "kept", "high": metric != "nc4"}]
    return chart(lines, title=PANELS[metric], xlabel="epoch", whole=True, **axis)


def key(tables: pd.DataFrame, metrics: tuple, colours: dict) -> list[dict]:
    """What stands under the charts: the runs where there are several, and NC2's null if drawn."""
    runs = colours.items() if len(colours) > 1 else ()
    lines = [{"name": run, "colour": colour} for run, colour in runs]
    if np.isfinite(tables.loc[tables["metric"].isin(metrics), "null_high"]).any():
        name, colour = "95 % of what an exact ETF would show", "ink" if runs else "accent"
        lines.append({"name": name, "colour": colour, "dash": [5, 3]})
    return lines


def film(history) -> dict:
    """The state of a `Scatter`: points, means, labels, the box around all, and a caption."""
    points, means = (frame[["x", "y"]].to_numpy() for frame in (history.points, history.means2d))
    both = np.concatenate([points, means])
    ends = np.stack([both.min(axis=0), both.max(axis=0)], axis=1)
    ends += 0.05 * np.diff(ends) * [-1, 1]
    shares = " + ".join(f"{share:.0%}" for share in history.explained)
    return {
        "points": packed(points),
        "means": packed(means),
        "labels": packed(history.labels),
        "box": ends.ravel().tolist(),
        "caption": f"plane of the last means, {shares} of their variance",
    }


def run_colours(runs) -> dict[str, str]:
    """A colour for each run: the theme's while they suffice, then evenly spaced hues."""
    n = len(runs)
    few = COLOURS if n != 2 else ("muted", "accent")  # as `plots.collapse_curves` has two
    return dict(zip(runs, few if n <= len(few) else map(to_hex, class_colours(n)), strict=False))
