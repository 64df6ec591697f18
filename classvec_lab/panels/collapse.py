"""The collapse panel: how classes draw together over a fine-tuning, as curves and as a film."""

from textwrap import dedent

import ipywidgets as w
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets as t

from .. import plots
from ..diagnostics.collapse.report import ideal
from ..plots.collapse import LOGARITHMIC, PANELS
from ..words import number
from .base import Panel, choice, in_range, one_of, some_of
from .canvas import Charts, Scatter
from .payload import chart, colour_bytes, series, table

MOST_DOTS = 40  # epochs that are drawn with dots
NULL = {"name": "95 % of what an exact ETF would show", "colour": "accent", "dash": [5, 3]}


class CollapsePanel(Panel):
    """Neural collapse over the epochs of a fine-tuning, beside a film of samples and class means.

    Traits: epoch, from 0, before fine-tuning, to the last; metrics, what is drawn, of those of
    `plots.collapse.PANELS` that have a value; focus, a class beside which the others fade, or "".

    Args:
        history: a `CollapseHistory`.
        folder: where files go.
    """

    title = "Neural collapse: do classes shrink to points, and does the head line up with them?"
    epoch = t.Int(0)
    metrics = t.Tuple(())
    focus = t.Unicode("")

    def __init__(self, history, *, folder=""):
        super().__init__(folder=folder)
        self.history, self.classes, self.last = history, history.classes, len(history.means) - 1
        self.kept = int(history.history.set_index("epoch")["kept"].idxmax())
        valued = set(history.table.dropna(subset="value")["metric"])
        self.known = self.metrics = tuple(metric for metric in PANELS if metric in valued)
        self._charts = {m: metric_chart(history.table, m, self.kept) for m in self.known}
        self.epoch = self.last
        self.charts = self.picks(
            Charts(label="neural collapse over the epochs", columns=3, height=160),
            lambda _, x: setattr(self, "epoch", round(x)),
        )
        frames = history.points, history.means2d
        points, means = (frame[["x", "y"]] for frame in frames)
        ends = pd.concat([points, means]).agg(["min", "max"]).to_numpy().T
        shares = " + ".join(f"{share:.0%}" for share in frames[0].attrs["explained"])
        self._plane = f"plane of the last means, {shares} of their variance"
        self.film = Scatter(
            label="held-out samples and class means on the plane of the last means",
            colours=colour_bytes(plots.style.class_colours(len(self.classes))),
            names=self.classes,
            points=points,
            means=means,
            labels=history.labels,
            box=(ends + 0.05 * np.diff(ends) * [-1, 1]).ravel().tolist(),
        )
        names = ["", *self.classes]
        self.bind(
            "focus",
            self.film,
            read=lambda i: names[i + 1],
            show=lambda name: names.index(name) - 1,
            at="focus",
        )
        self.words = w.HTML()
        every = [("every class", ""), *zip(self.classes, self.classes, strict=True)]
        controls = [
            self.bind("epoch", w.Play(max=self.last, interval=500, tooltip="play the epochs")),
            self.bind("epoch", w.IntSlider(max=self.last, description="epoch")),
            self.bind("focus", choice("focus", every)),
        ]
        left = [self.charts, self.tags("metrics", self.known, "metrics")]
        self.lay_out(w.HBox(controls), w.Box([w.VBox(left), w.VBox([self.film, self.words])]))

    # what may be set

    @t.validate("epoch", "metrics", "focus")
    def _possible(self, proposal):
        name, value = proposal.trait.name, proposal.value
        match name:
            case "epoch":
                return in_range(name, value, 0, self.last)
            case "metrics":
                return some_of(value, self.known, "metric")
            case "focus":
                return value and one_of(value, self.classes, "class")

    # what is shown

    def values(self) -> pd.DataFrame:
        """The drawn metrics at this epoch: metric, value, low, high, null_high, ideal, n."""
        rows = self.history.table.query("epoch == @self.epoch").set_index("metric")
        rows, dim = rows.reindex(list(self.metrics)), self.history.means.shape[2]
        rows["ideal"] = [ideal(metric, len(self.classes), dim) for metric in self.metrics]
        return rows.reset_index()

    def show(self) -> None:
        """Put the state into the widgets."""
        rows, cells = self.values(), []
        for r in rows.itertuples():
            value = number(r.value, r.low, r.high, ".3g").replace("nan", "no value")
            null = f"{r.null_high:.3g}".replace("nan", "")
            cells.append((PANELS[r.metric], value, null, f"{r.ideal:.3g}".replace("nan", "?")))
        when = f"Epoch {self.epoch} of {self.last}" if self.epoch else "Before fine-tuning"
        n = f"n = {rows['n'].max():.0f} held-out images; epoch {self.kept} was kept"
        self.words.value = table(
            ("", "value [95 %]", "95 % of null", "ideal"), cells, caption=f"{when}, {n}"
        )
        self.film.put(step=float(self.epoch), caption=f"{when}; {self._plane}")
        self.charts.put(
            charts=[self._charts[metric] for metric in self.metrics],
            markers=[self.epoch] * len(self.metrics),
            key=[NULL] * bool(rows["null_high"].notna().any()),
        )

    # what is left behind

    def draw(self):
        """Curves as `plots.collapse_curves` draws them, beside the `plots.collapse_map`."""
        size, ratios = self._sizes()
        fig = plt.figure(figsize=size, layout="constrained")
        left, right = fig.subfigures(1, 2, width_ratios=ratios)
        plots.collapse_curves(
            self.history.table, metrics=self.metrics, at=self.epoch, kept=self.kept, figure=left
        )
        plots.collapse_map(self.history, epochs=(self.epoch,), focus=self.focus, figure=right)
        return fig

    def _sizes(self):
        n = len(self.metrics)
        width = round(2.9 * min(4, n), 1)
        return (width + 4.7, max(3.6, 2.4 * -(-n // 4) + 0.4)), (width, 4.7)

    def stem(self) -> str:
        """Named by the epoch."""
        return f"collapse_epoch_{self.epoch}"

    def write(self) -> str:
        """The calls that draw this epoch."""
        size, ratios = self._sizes()
        return dedent(f"""\
            import matplotlib.pyplot as plt
            from classvec_lab import plots

            table, metrics = history.table, {list(self.metrics)!r}
            values = table[(table["epoch"] == {self.epoch}) & table["metric"].isin(metrics)]
            fig = plt.figure(figsize={size!r}, layout="constrained")
            left, right = fig.subfigures(1, 2, width_ratios={ratios!r})
            look = dict(at={self.epoch}, kept={self.kept}, figure=left)
            plots.collapse_curves(table, metrics=metrics, **look)
            look = dict(focus={self.focus!r}, figure=right)
            plots.collapse_map(history, epochs=({self.epoch},), **look)
            """)


def metric_chart(rows: pd.DataFrame, metric: str, kept: int) -> dict:
    """One metric over epochs with its intervals, NC2's null dashed, as `plots.collapse_curves`.

    Args:
        rows: the table of a `CollapseHistory`.
        metric: which of the metrics.
        kept: the epoch to mark.
    """
    rows = rows[rows["metric"] == metric]
    look = {"dots": len(rows) <= MOST_DOTS, "legend": False}
    lines = [series(rows, ("epoch", "value", "low", "high"), "value", "accent", **look)]
    if rows["null_high"].notna().any():
        null = "95 % of its null", "accent", (5, 3)
        lines.append(series(rows, ("epoch", "null_high"), *null, width=1.4, legend=False))
    top = rows[["value", "high", "null_high"]].replace(np.inf, np.nan).max(axis=None) or 1.0
    axis = {} if metric == "nc4" else {"ylim": [0, 1.06 * top]}
    if metric in LOGARITHMIC and not (rows["value"] <= 0).any():
        axis = {"log": True}
    marks = [{"x": kept, "label": "kept", "high": metric != "nc4"}]
    return chart(PANELS[metric], "epoch", lines, whole=True, marks=marks, **axis)
