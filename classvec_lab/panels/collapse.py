"""The collapse panel: how classes draw together over a fine-tuning, epoch by epoch, as curves and as a film."""

from collections.abc import Mapping
from functools import cached_property

import ipywidgets as w
import numpy as np
import pandas as pd
import traitlets as t

from ..diagnostics.collapse.report import ideal
from ..errors import MismatchError, PanelError
from ..plots.collapse import PANELS
from .base import Panel, class_choice, require_choice
from .canvas import Charts, Scatter
from .collapse_view import class_bytes, film, key, metric_chart
from .tables import interval, table

ONLY = "run"  # the name of a history that was given without one


class CollapsePanel(Panel):
    """Neural collapse over the epochs of one or more fine-tunings, beside a film of held-out samples and class means.

    histories: a `CollapseHistory` or a mapping of names to several of the same classes, which may differ in length.

    Traits. run: the name of the history that film, table and the marked kept epoch are of; epoch: 0, before fine-tuning, to
    the last of the run (a shorter run brings it back to its own last); metrics: what is drawn, of
    `plots.collapse.PANELS`; focus: a class beside which the others fade, or "".
    """

    title = "Neural collapse: do classes shrink to points, and does the head line up with them?"
    run = t.Unicode("")
    epoch = t.Int(0)
    metrics = t.Tuple(())
    focus = t.Unicode("")

    def __init__(self, histories, *, folder=""):
        super().__init__(folder=folder)
        self.single = not isinstance(histories, Mapping)
        self.histories = (
            {ONLY: histories} if self.single else {str(name): h for name, h in histories.items()}
        )
        _check_histories(self.histories)
        self.classes = next(iter(self.histories.values())).classes
        self._films: dict[str, dict] = {}
        self.charts = Charts(
            label="neural collapse over the epochs", columns=3, height=160, picks=True
        )
        self.film = Scatter(
            label="held-out samples and class means on the plane of the last means",
            colours=class_bytes(len(self.classes)),
        )
        self.film.names = list(self.classes)
        self.words = w.HTML(layout=w.Layout(overflow="auto"))
        self.run = next(iter(self.histories))
        self.metrics = tuple(m for m in PANELS if self._has_value(m)) or tuple(PANELS)
        self.epoch = self.last
        self._lay_out()
        self.observe(self._show_run, "run")
        self.observe(self._show_charts, "metrics")
        self.observe(self._show_epoch, "epoch")
        self.observe(self._show_focus, "focus")
        self._show_run()

    # what may be set

    @t.validate("run")
    def _a_run(self, proposal):
        require_choice("run", proposal["value"], tuple(self.histories))
        return proposal["value"]

    @t.validate("epoch")
    def _an_epoch(self, proposal):
        if not 0 <= proposal["value"] <= self.last:
            raise PanelError(
                f"epoch lies between 0, before fine-tuning, and {self.last}, the last of {self.run!r}; got {proposal['value']}"
            )
        return proposal["value"]

    @t.validate("metrics")
    def _some_metrics(self, proposal):
        names = tuple(proposal["value"])
        for name in names:
            require_choice("a metric", name, tuple(PANELS))
        if not names:
            raise PanelError(f"no metric would be left: draw at least one of {', '.join(PANELS)}")
        return tuple(m for m in PANELS if m in names)

    @t.validate("focus")
    def _a_class(self, proposal):
        if proposal["value"]:
            require_choice("focus", proposal["value"], self.classes)
        return proposal["value"]

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
        return int(rows.loc[rows["kept"], "epoch"].iloc[0]) if rows["kept"].any() else None

    @cached_property
    def tables(self) -> pd.DataFrame:
        """The tables of all histories, with a column run."""
        return pd.concat(
            [h.table.assign(run=name) for name, h in self.histories.items()], ignore_index=True
        )

    def values(self) -> pd.DataFrame:
        """The drawn metrics of the run at this epoch: metric, value, low, high, null_high, ideal, n."""
        rows = self.history.table
        rows = (
            rows[rows["epoch"] == self.epoch]
            .set_index("metric")
            .reindex(list(self.metrics))
            .reset_index()
        )
        dim = self.history.means.shape[2]
        rows["ideal"] = [ideal(m, len(self.classes), dim) for m in rows["metric"]]
        return rows[["metric", "value", "low", "high", "null_high", "ideal", "n"]]

    def charted(self) -> tuple[str, ...]:
        """The metrics that have a chart: those drawn that have a value in any run."""
        return tuple(m for m in self.metrics if self._has_value(m))

    def _has_value(self, metric: str) -> bool:
        return bool(np.isfinite(self.tables.loc[self.tables["metric"] == metric, "value"]).any())

    def _show_run(self, _=None) -> None:
        wanted = self.epoch
        if wanted > self.last:
            self.epoch = self.last
        for control in (self._slider, self._play):
            control.max = self.last
        film = self._film()
        with self.film.hold_sync():
            for name in ("points", "means", "labels", "box"):
                setattr(self.film, name, film[name])
        self._show_charts()
        if wanted > self.last:
            self.say(f"{self.run!r} ends at epoch {self.last}: that is shown, not {wanted}")

    def _show_charts(self, _=None) -> None:
        with self.charts.hold_sync():
            self.charts.charts = [
                metric_chart(self.tables, m, self.run, self.kept) for m in self.charted()
            ]
            self.charts.key = key(self.tables, self.charted())
        self._show_epoch()

    def _show_epoch(self, _=None) -> None:
        if not self.frame.problem:
            self.say("")
        self.film.step = float(self.epoch)
        self.film.caption = f"{self._when()}; plane of the last means, {self._film()['explained']} of their variance"
        self.charts.markers = [self.epoch] * len(self.charted())
        self.words.value = self._table()
        self._write_code()

    def _show_focus(self, _=None) -> None:
        place = self.classes.index(self.focus) if self.focus else -1
        if self.film.focus != place:
            self.film.focus = place
        self._write_code()

    def _when(self) -> str:
        run = f", {self.run}" if not self.single else ""
        return f"{'before fine-tuning' if self.epoch == 0 else f'epoch {self.epoch} of {self.last}'}{run}"

    def _name(self) -> str:
        return "" if self.single else self.run

    def _film(self) -> dict:
        if self.run not in self._films:
            self._films[self.run] = film(self.history)
        return self._films[self.run]

    def _table(self) -> str:
        rows = self.values()
        cells = [
            (
                PANELS[r.metric],
                _number(r.value),
                interval(r.low, r.high, ".3g"),
                _number(r.null_high, ""),
                _number(r.ideal, "?"),
            )
            for r in rows.itertuples()
        ]
        n = rows["n"].dropna()
        kept = "" if self.kept is None else f"; epoch {self.kept} was kept"
        caption = f"{self._when()}, n = {int(n.iloc[0]) if len(n) else 0} held-out images{kept}"
        return table(
            ("", "value", "95 % interval", "95 % of null", "ideal"),
            cells,
            caption=caption[0].upper() + caption[1:],
        )

    def _seen(self, change) -> None:
        self.focus = self.classes[change["new"]] if 0 <= change["new"] < len(self.classes) else ""

    def _picked(self, change) -> None:
        if len(change["new"]) == 2:
            self.epoch = min(max(round(float(change["new"][1])), 0), self.last)

    # what is left behind

    def draw(self):
        """Curves as `plots.collapse_curves` draws them, this epoch marked, beside its `plots.collapse_map`."""
        import matplotlib.pyplot as plt

        from .. import plots

        size, ratios = self._sizes()
        fig = plt.figure(figsize=size, layout="constrained")
        left, right = fig.subfigures(1, 2, width_ratios=ratios)
        plots.collapse_curves(
            self.tables, metrics=self.metrics, at=self.epoch, kept=self.kept, figure=left
        )
        plots.collapse_map(
            self.history, epochs=(self.epoch,), focus=self.focus, figure=right, title=self._name()
        )
        return fig

    def _sizes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        n = max(1, len(self.charted()))
        columns = min(4, n)
        ratios = (round(2.9 * columns, 1), 4.7 if len(self.classes) <= 20 else 3.1)
        return (round(sum(ratios), 1), max(3.6, 2.4 * -(-n // columns) + 0.4)), ratios

    def stem(self) -> str:
        """Named by run and epoch."""
        return f"collapse_{'' if self.single else f'{self.run}_'}epoch_{self.epoch}"

    def describe(self) -> str:
        """Classes, runs and epochs."""
        runs = "" if self.single else f" in {len(self.histories)} runs"
        return (
            f"neural-collapse panel of {len(self.classes):,} classes over {self.last} epochs{runs}"
        )

    def _write_code(self) -> None:
        size, ratios = self._sizes()
        given = (
            f"histories = {{{ONLY!r}: history}}"
            if self.single
            else "# histories as they were given to the panel"
        )
        focus = f", focus={self.focus!r}" if self.focus else ""
        self.code = f"""import matplotlib.pyplot as plt
import pandas as pd
from classvec_lab import plots

{given}
tables = pd.concat([h.table.assign(run=name) for name, h in histories.items()], ignore_index=True)
metrics = {list(self.metrics)!r}
values = tables[(tables["run"] == {self.run!r}) & (tables["epoch"] == {self.epoch}) & tables["metric"].isin(metrics)]
fig = plt.figure(figsize={size!r}, layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios={ratios!r})
plots.collapse_curves(tables, metrics=metrics, at={self.epoch}, kept={self.kept!r}, figure=left)
plots.collapse_map(histories[{self.run!r}], epochs=({self.epoch},){focus}, figure=right, title={self._name()!r})"""

    def _controls(self) -> list[w.Widget]:
        style = {"description_width": "initial"}
        self._play = w.Play(max=self.last, interval=500, tooltip="play the epochs")
        self._slider = w.IntSlider(
            max=self.last, description="epoch", layout=w.Layout(width="330px"), style=style
        )
        made = [self.bind(self._play, "epoch"), self.bind(self._slider, "epoch")]
        if not self.single:
            runs = w.Dropdown(
                options=list(self.histories),
                description="run",
                layout=w.Layout(width="200px"),
                style=style,
            )
            made.append(self.bind(runs, "run"))
        every = [("every class", ""), *((name, name) for name in self.classes)]
        focus = class_choice(every, "focus", width="190px")
        return [*made, self.bind(focus, "focus")]

    def _lay_out(self) -> None:
        tags = w.TagsInput(
            allowed_tags=list(PANELS), allow_duplicates=False, layout=w.Layout(min_width="120px")
        )
        shown = w.HBox(
            [
                w.Label("metrics", layout=w.Layout(flex="0 0 auto")),
                self.bind(tags, "metrics", read=tuple, show=list),
            ]
        )
        self.charts.observe(self._picked, "picked")
        self.film.observe(self._seen, "focus")
        left = w.VBox([self.charts, shown], layout=w.Layout(flex="1 1 520px", min_width="320px"))
        right = w.VBox(
            [self.film, self.words],
            layout=w.Layout(flex="1 1 400px", min_width="320px", max_width="560px"),
        )
        body = w.HBox(
            [left, right], layout=w.Layout(flex_flow="row wrap", align_items="flex-start")
        )
        self.lay_out(
            w.HBox(self._controls(), layout=w.Layout(flex_flow="row wrap", align_items="center")),
            body,
        )


def _check_histories(histories: Mapping) -> None:
    if not histories:
        raise PanelError(
            "the collapse panel shows histories; it was given none: make some with collapse_over_training"
        )
    first, *rest = histories.items()
    for name, history in rest:
        if history.classes != first[1].classes:
            raise MismatchError(
                f"the histories {first[0]!r} and {name!r} are of different classes: show them in panels of their own"
            )


def _number(value: float, otherwise: str = "no value") -> str:
    return f"{value:.3g}" if np.isfinite(value) else otherwise
