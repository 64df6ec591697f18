"""The collapse panel: how classes draw together over a fine-tuning, as curves and as a film."""

from collections.abc import Mapping
from functools import cache
from textwrap import dedent

import ipywidgets as w
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets as t
from matplotlib.colors import to_hex

from .. import plots
from ..checks import same_classes
from ..diagnostics.collapse.report import ideal
from ..errors import PanelError
from ..plots.collapse import PANELS
from ..words import number
from .base import Panel, class_choice, in_range, one_of, some_of
from .canvas import Charts, Scatter
from .payload import chart, colour_bytes, packed, series, table

ONLY = "run"  # the name of a history that was given without one
COLOURS = ("accent", "contrast", "green", "violet", "ink", "muted")  # of runs, while they suffice
LOGARITHMIC = ("nc1", "cdnv")
MOST_DOTS = 40  # epochs that are drawn with dots


class CollapsePanel(Panel):
    """Neural collapse over the epochs of fine-tunings, beside a film of samples and class means.

    Traits: run, the name of the history that film, table and the marked kept epoch are of; epoch,
    from 0, before fine-tuning, to the last of the run (a shorter run brings it back to its own
    last); metrics, what is drawn, of `plots.collapse.PANELS`; focus, a class beside which the
    others fade, or "".

    `tables` are those of all histories, with a column run.

    Args:
        histories: a `CollapseHistory`, or a mapping of names to several of the same classes, which
            may differ in length.
        folder: where files go.
    Raises:
        MismatchError: for histories of different classes.
        PanelError: for none.
    """

    title = "Neural collapse: do classes shrink to points, and does the head line up with them?"
    run = t.Unicode("")
    epoch = t.Int(0)
    metrics = t.Tuple(())
    focus = t.Unicode("")

    def __init__(self, histories, *, folder=""):
        super().__init__(folder=folder)
        self.single = not isinstance(histories, Mapping)
        self.histories = {ONLY: histories} if self.single else dict(histories)
        if not self.histories:
            raise PanelError("no history to show: make some with collapse_over_training")
        self.run, first = next(iter(self.histories.items()))
        self.classes = first.classes
        for name, history in self.histories.items():
            same_classes(history.classes, self.classes, repr(name), repr(self.run))
        self._film = cache(lambda run: film(self.histories[run]))
        self._charts = cache(self._make_charts)
        tables = [h.table.assign(run=name) for name, h in self.histories.items()]
        self.tables = pd.concat(tables, ignore_index=True)
        self._valued = set(self.tables.loc[np.isfinite(self.tables["value"]), "metric"])
        self.metrics = [metric for metric in PANELS if metric in self._valued] or list(PANELS)
        self.epoch = self.last
        self._lay_out()

    # what may be set

    @t.validate("run", "epoch", "metrics", "focus")
    def _possible(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        if name == "epoch":
            return in_range(f"epoch of {self.run!r}", value, 0, self.last)
        if name == "metrics":
            return some_of(value, PANELS, "metric")
        if name == "focus":
            return value and one_of(value, self.classes, "class")
        return one_of(value, self.histories, name)

    # what is shown

    @property
    def history(self):
        """The `CollapseHistory` of the run."""
        return self.histories[self.run]

    @property
    def last(self) -> int:
        """The last epoch of the run."""
        return len(self.history.means) - 1

    @property
    def kept(self) -> int | None:
        """The epoch that the run's classifier is of, None where the history doesn't say."""
        rows = self.history.history
        return next(iter(rows.loc[rows["kept"], "epoch"].tolist()), None)

    def values(self) -> pd.DataFrame:
        """The drawn metrics at this epoch: metric, value, low, high, null_high, ideal, n."""
        rows = self.history.table
        rows = rows[rows["epoch"] == self.epoch].set_index("metric").reindex(list(self.metrics))
        dim = self.history.means.shape[2]
        rows["ideal"] = [ideal(metric, len(self.classes), dim) for metric in self.metrics]
        return rows.reset_index()

    def charted(self) -> tuple[str, ...]:
        """The metrics that have a chart: those drawn that have a value in any run."""
        return tuple(metric for metric in self.metrics if metric in self._valued)

    def _make_charts(self, metrics, run):
        colours = run_colours(list(self.histories))
        charts = [metric_chart(self.tables, m, colours, run, self.kept) for m in metrics]
        return {"charts": charts, "key": key(self.tables, metrics, colours)}

    def show(self, _=None) -> None:
        """Put the state into the widgets; an epoch after the last of the run becomes the last."""
        wanted, last = self.epoch, self.last
        if wanted > last:
            self.epoch = last  # this shows the state
            self.say(f"{self.run!r} ends at epoch {last}: that is shown, not {wanted}")
            return
        if not self.frame.problem:
            self.say("")
        for control in self.epochs:
            control.max = last
        when = f"epoch {wanted} of {last}" if wanted else "before fine-tuning"
        when += f", {self.run}" * (not self.single)
        frames = self._film(self.run)
        caption = f"{when}; {frames['caption']}"
        self.film.put(**frames | {"step": float(wanted), "caption": caption})
        names = self.charted()
        self.charts.put(**self._charts(names, self.run), markers=[wanted] * len(names))
        self.words.value = self._table(when)
        self.code = self._code()

    def _table(self, when):
        rows, cells = self.values(), []
        for r in rows.itertuples():
            value = number(r.value, r.low, r.high, ".3g").replace("nan", "no value")
            null = f"{r.null_high:.3g}".replace("nan", "")
            cells.append((PANELS[r.metric], value, null, f"{r.ideal:.3g}".replace("nan", "?")))
        kept = "" if self.kept is None else f"; epoch {self.kept} was kept"
        caption = f"{when}, n = {rows['n'].max():.0f} held-out images{kept}"
        head = ("", "value [95 %]", "95 % of null", "ideal")
        return table(head, cells, caption=caption[0].upper() + caption[1:])

    def _picked(self, place):
        self.epochs[1].value = round(place[1])  # the slider keeps it in its range

    def _lay_out(self):
        self.charts = Charts(label="neural collapse over the epochs", columns=3, height=160)
        self.tie(self.charts, list, self._picked, at="picked")
        self.film = Scatter(
            label="held-out samples and class means on the plane of the last means",
            colours=colour_bytes(plots.style.class_colours(len(self.classes))),
            names=list(self.classes),
        )
        names = ["", *self.classes]
        seen = {"read": lambda i: names[i + 1], "show": lambda name: names.index(name) - 1}
        self.bind("focus", self.film, at="focus", **seen)
        self.words = w.HTML()
        self.epochs = [
            w.Play(max=self.last, interval=500, tooltip="play the epochs"),
            w.IntSlider(max=self.last, description="epoch"),
        ]
        controls = [self.bind("epoch", control) for control in self.epochs]
        if not self.single:
            runs = w.Dropdown(description="run", options=list(self.histories))
            controls.append(self.bind("run", runs))
        every = [("every class", ""), *zip(self.classes, self.classes, strict=True)]
        controls.append(self.bind("focus", class_choice(every, "focus")))
        left = [self.charts, self.tags("metrics", PANELS, "metrics")]
        self.lay_out(w.HBox(controls), w.Box([w.VBox(left), w.VBox([self.film, self.words])]))

    # what is left behind

    def draw(self):
        """Curves as `plots.collapse_curves` draws them, beside the `plots.collapse_map`."""
        size, ratios = self._sizes()
        fig = plt.figure(figsize=size, layout="constrained")
        left, right = fig.subfigures(1, 2, width_ratios=ratios)
        at, title = self.epoch, "" if self.single else self.run
        look = {"at": at, "kept": self.kept, "figure": left}
        plots.collapse_curves(self.tables, metrics=self.metrics, **look)
        look = {"focus": self.focus, "figure": right, "title": title}
        plots.collapse_map(self.history, epochs=(at,), **look)
        return fig

    def _sizes(self):
        n = max(1, len(self.charted()))
        columns = min(4, n)
        width = round(2.9 * columns, 1)
        return (width + 4.7, max(3.6, 2.4 * -(-n // columns) + 0.4)), (width, 4.7)

    def stem(self) -> str:
        """Named by run and epoch."""
        return f"collapse_{'' if self.single else f'{self.run}_'}epoch_{self.epoch}"

    def describe(self) -> str:
        """Classes, runs and epochs."""
        runs = "" if self.single else f" in {len(self.histories)} runs"
        classes = f"{len(self.classes):,} classes"
        return f"neural-collapse panel of {classes} over {self.last} epochs{runs}"

    def _code(self):
        (size, ratios), title = self._sizes(), "" if self.single else self.run
        given = "{'run': history}" if self.single else "dict(histories)  # those of the panel"
        return dedent(f"""\
            import matplotlib.pyplot as plt
            import pandas as pd
            from classvec_lab import plots

            histories = {given}
            tables = [h.table.assign(run=name) for name, h in histories.items()]
            tables, metrics = pd.concat(tables, ignore_index=True), {list(self.metrics)!r}
            now = (tables["run"] == {self.run!r}) & (tables["epoch"] == {self.epoch})
            values = tables[now & tables["metric"].isin(metrics)]
            fig = plt.figure(figsize={size!r}, layout="constrained")
            left, right = fig.subfigures(1, 2, width_ratios={ratios!r})
            look = dict(at={self.epoch}, kept={self.kept!r}, figure=left)
            plots.collapse_curves(tables, metrics=metrics, **look)
            look = dict(focus={self.focus!r}, figure=right, title={title!r})
            plots.collapse_map(histories[{self.run!r}], epochs=({self.epoch},), **look)
            """)


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
    frames = history.points, history.means2d
    points, means = (frame[["x", "y"]].to_numpy() for frame in frames)
    both = np.concatenate([points, means])
    ends = np.stack([both.min(axis=0), both.max(axis=0)], axis=1)
    ends += 0.05 * np.diff(ends) * [-1, 1]
    shares = " + ".join(f"{share:.0%}" for share in frames[0].attrs["explained"])
    return {
        "points": packed(points),
        "means": packed(means),
        "labels": packed(history.labels),
        "box": ends.ravel().tolist(),
        "caption": f"plane of the last means, {shares} of their variance",
    }


def run_colours(runs) -> dict[str, str]:
    """A colour for each run: the theme's while they suffice, then evenly spaced hues."""
    many = len(runs) > len(COLOURS)
    colours = map(to_hex, plots.style.class_colours(len(runs))) if many else COLOURS
    return dict(zip(runs, colours, strict=False))
