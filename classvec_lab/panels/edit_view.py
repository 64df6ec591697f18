"""What the edit panel is made of: controls of the active term, curves, tables, bars and thumbnails."""

from html import escape

import ipywidgets as w
import numpy as np
import traitlets as t

from .base import class_choice
from .canvas import Bars, Charts, Gallery, chart, packed, series
from .tables import table
from .terms import ACTIONS, NO_GATE, STRONGEST

_STYLE = {"description_width": "initial"}
MOST_BARS = 60


class EditView:
    """The widgets of an `EditPanel`; controls change the panel's active term, `show` puts the panel's state into them."""

    def __init__(self, panel, dataset):
        self.panel, self._showing = panel, False
        self._controls()
        self.charts = Charts(
            label="gate and strength curves; click to set γ or the strength",
            columns=2,
            height=250,
            picks=True,
        )
        self.charts.observe(self._picked, "picked")
        self.table = w.HTML(layout=w.Layout(overflow="auto"))
        self.bars = Bars(label="accuracy of each class before and after")
        self.gallery = Gallery(dataset, label="images whose prediction changed")
        self.kept = w.HTML(layout=w.Layout(overflow="auto"))
        self._made, self._curves_of = {}, ()  # charts, and what they are of
        self._lay_out()

    def _controls(self) -> None:
        classes = list(self.panel.vectors.classes)
        self.list = w.Select(
            options=[], rows=3, layout=w.Layout(width="auto", flex="1 1 330px", min_width="260px")
        )
        self.list.observe(
            lambda c: self._change(lambda: setattr(self.panel, "active", c["new"] or 0)), "value"
        )
        self.on = w.Checkbox(description="on", indent=False, layout=w.Layout(width="48px"))
        self.action = w.Dropdown(options=ACTIONS, layout=w.Layout(width="115px"))
        self.name = class_choice(classes, "class")
        self.to = class_choice(classes, "→")
        self.strength = w.FloatSlider(min=0, max=STRONGEST, step=0.05, description="strength |λ|", style=_STYLE,
                                      readout_format=".2f", layout=w.Layout(width="340px"))  # fmt: skip
        scores = self.panel.algebra.gate_scores
        self.gate = w.Dropdown(
            options=scores, description="gate", style=_STYLE, layout=w.Layout(width="160px")
        )
        self.gamma = w.FloatSlider(min=-1, max=1, step=0.001, description="γ", style=_STYLE, readout_format=".3f",
                                   layout=w.Layout(width="320px"))  # fmt: skip
        fields = {"on": self.on, "action": self.action, "class_name": self.name, "to": self.to,
                  "strength": self.strength, "gate": self.gate, "gamma": self.gamma}  # fmt: skip
        self.of_term = tuple(fields.values())
        for field, control in fields.items():
            control.observe(
                lambda c, field=field: self._change(lambda: self.panel.change(**{field: c["new"]})),
                "value",
            )
        self.reset = _button(
            "Calibrated γ", "back to the threshold calibrated to the false-fire rate"
        )
        self.reset.on_click(lambda _: self._change(lambda: self.panel.change(gamma=None)))
        self.rate = w.BoundedFloatText(
            min=0,
            max=1,
            step=0.005,
            description="false fire",
            style=_STYLE,
            layout=w.Layout(width="140px"),
        )
        self.panel.bind(self.rate, "false_fire")
        self.add, self.remove = (
            _button("Add", "one more edit"),
            _button("Remove", "take the selected edit away"),
        )
        self.add.on_click(lambda _: self._change(self.panel.add))
        self.remove.on_click(lambda _: self._change(self.panel.remove))
        self.keep = w.Button(description="Keep", icon="save", button_style="primary", layout=w.Layout(width="auto"),
                             tooltip="write an edit card, and measure it on the held-out split")  # fmt: skip
        self.keep.on_click(lambda _: self.panel.guarded(self.panel.keep))

    def _lay_out(self) -> None:
        row = w.Layout(flex_flow="row wrap", align_items="center")
        terms = w.HBox([self.list, self.add, self.remove], layout=row)
        first = w.HBox([self.on, self.action, self.name, self.to, self.strength], layout=row)
        second = w.HBox([self.gate, self.gamma, self.reset, self.rate], layout=row)
        half = w.Layout(flex="1 1 430px", min_width="300px")
        self.charts.layout = half
        right = w.VBox(
            [w.HTML("<b>each class: tick before, bar after, change in points</b>"), self.bars],
            layout=half,
        )
        body = w.HBox(
            [self.charts, right], layout=w.Layout(flex_flow="row wrap", align_items="flex-start")
        )
        self.panel.lay_out(
            terms, first, second, body, self.table, self.gallery, self.kept, buttons=(self.keep,)
        )
        t.dlink((self.panel, "kept"), (self.kept, "value"), _kept)

    def _change(self, action) -> None:
        if self._showing:
            return
        self.panel.guarded(action)
        self.controls()  # a refused value goes back

    def _picked(self, change) -> None:
        if len(change["new"]) != 2 or self.panel.term is None:
            return
        which, x = change["new"]
        kinds = self._kinds()
        if which >= len(kinds):
            return
        if kinds[which] == "gate":
            low, high = self.panel.span(self.panel.term)
            self._change(lambda: self.panel.change(gamma=float(np.clip(x, low, high))))
        else:
            self._change(
                lambda: self.panel.change(strength=float(np.round(np.clip(x, 0, STRONGEST), 2)))
            )

    def _kinds(self) -> list[str]:
        term = self.panel.term
        return [
            k
            for k, there in (
                ("gate", term and term.gate != NO_GATE),
                ("strength", term and term.on),
            )
            if there
        ]

    # showing

    def show(self, *, moved_only: bool = False) -> None:
        """Everything as the panel's state has it; `moved_only` leaves the curves and moves their markers."""
        self.controls()
        self._show_curves(moved_only)
        self._show_table()
        self._show_bars()
        self._show_gallery()

    def controls(self) -> None:
        """The controls as the active term has them."""
        panel, term = self.panel, self.panel.term
        self._showing = True
        try:
            options = [(f"{k + 1}  {e}", k) for k, e in enumerate(panel.edits)]
            if self.list.options != tuple(options):
                self.list.options = options
            self.list.value = panel.active if panel.edits else None
            for control in (*self.of_term, self.reset, self.remove, self.keep):
                control.disabled = term is None
            if term is None:
                return
            self.on.value, self.action.value, self.name.value = (
                term.on,
                term.action,
                term.class_name,
            )
            self.strength.value, self.gate.value = term.strength, term.gate
            self.to.layout.display = "flex" if term.action == "switch" else "none"
            if term.to:
                self.to.value = term.to
            gated = term.gate != NO_GATE
            self.gamma.disabled = self.reset.disabled = not gated
            if gated:
                self._show_gamma(term)
        finally:
            self._showing = False

    def _show_gamma(self, term) -> None:
        low, high = self.panel.span(term)
        with self.gamma.hold_trait_notifications():
            if (self.gamma.min, self.gamma.max) != (low, high):
                self.gamma.min, self.gamma.max = min(low, self.gamma.max), max(high, self.gamma.min)
                self.gamma.min, self.gamma.max = low, high
                self.gamma.step = (high - low) / 1000
            self.gamma.value = self.panel.algebra.gate(term).threshold

    def _show_curves(self, moved_only: bool) -> None:
        term, kinds = self.panel.term, self._kinds()
        key = term and (term.action, term.class_name, term.gate, self.panel.false_fire)
        if self._curves_of != key:
            self._made, self._curves_of = {}, key
        if not moved_only:
            self._made.pop("strength", None)
        make = {"gate": self._gate_chart, "strength": self._strength_chart}
        for kind in kinds:
            if kind not in self._made:
                self._made[kind] = make[kind]()
        markers = {
            "gate": self.panel.algebra.gate(term).threshold if "gate" in kinds else None,
            "strength": term and term.strength,
        }
        with self.charts.hold_sync():
            self.charts.charts = [self._made[kind] for kind in kinds]
            self.charts.markers = [markers[kind] for kind in kinds]

    def _gate_chart(self) -> dict:
        curve, name = self.panel.gate_curve(), self.panel.term.class_name
        x = curve["threshold"]
        lines = [
            series(f"fires on {name}", x, 1 - curve["miss"], "accent"),
            series("false fires, all others", x, curve["false_fire"], "contrast"),
            series("worst other class", x, curve["worst"], "contrast", dash=(4, 3), width=1.4),
        ]
        return chart(
            lines,
            title=f"gate: {self.panel.term.gate}",
            xlabel="threshold γ",
            ylim=[-0.03, 1.03],
            percent=True,
        )

    def _strength_chart(self) -> dict:
        curve, name = self.panel.strength_curve(), self.panel.term.class_name
        lines = [
            series(
                f"{label}",
                curve["factor"],
                curve[c],
                colour,
                low=curve[f"{c}_low"],
                high=curve[f"{c}_high"],
            )
            for c, label, colour in (
                ("acc_f", f"ACC_f ({name})", "contrast"),
                ("acc_r", "ACC_r (not edited)", "accent"),
            )
        ]
        marks = [{"x": 1.0, "label": "λ = 1"}]
        return chart(
            lines,
            title=f"{self.panel.term.action} {name}",
            xlabel="strength |λ|",
            ylim=[-0.03, 1.03],
            percent=True,
            marks=marks,
        )

    def _show_table(self) -> None:
        readout = self.panel.readout
        head = (
            "class",
            "n",
            "before",
            "after [95 %]",
            "change [95 %]",
            "random direction",
            "mostly called now",
        )
        rows = ""
        for row in readout.table().itertuples():
            label = f"{row[1]} (ACC_r)" if row[1] == "all others" else f"{row[1]} (ACC_f)"
            cells = (
                f"{row.n}", f"{row.before:.1%}", f"<b>{row.after:.1%}</b> [{row.low:.1%}, {row.high:.1%}]",
                f"{100 * row.change:+.1f} [{100 * row.change_low:+.1f}, {100 * row.change_high:+.1f}]",
                "" if np.isnan(row.random) else f"{row.random:.1%}",
                f"{escape(row.called)} ({row.called_share:.0%})" if row.called else "",
            )  # fmt: skip
            rows += f"<tr><th scope='row'>{escape(label)}</th>{''.join(f'<td>{c}</td>' for c in cells)}</tr>"
        notes = [
            f"gate for {r.target}: fires on {r.fires:.1%} of the class and {r.false_fires:.2%} of the others"
            f" (worst: {r.worst_class}, {r.worst_fires:.1%})"
            for r in readout.fires().itertuples()
        ]
        note = f"{self.panel.split} split, n = {len(readout.y)}: what you choose on"
        if self.panel.held_out is not None:
            note += f"; {self.panel.held_out_split} is measured when you keep an edit"
        titles = "".join(f"<th scope='col'>{h}</th>" for h in head)
        said = "".join(f"<div>{escape(n)}</div>" for n in [*notes, note])
        shown = (
            f"<table class='cv-table'><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"
        )
        self.table.value = f"{shown}<div class='cv-notes'>{said}</div>"

    def _show_bars(self) -> None:
        frame = self.panel.readout.per_class()
        edited = [self.panel.vectors.index(e.class_name) for e in self.panel.working()]
        rows = np.arange(len(frame))
        if len(frame) > MOST_BARS:
            moved = (frame["after"] - frame["before"]).abs().fillna(0).to_numpy(copy=True)
            moved[edited] = 2
            rows = np.sort(np.argsort(-moved, kind="stable")[:MOST_BARS])
        part = frame.iloc[rows]
        with self.bars.hold_sync():
            self.bars.names, self.bars.counts = (
                [str(c) for c in part["class"]],
                [int(n) for n in part["n"]],
            )
            self.bars.before, self.bars.after = (
                packed(part["before"].to_numpy()),
                packed(part["after"].to_numpy()),
            )
            self.bars.edited = [int(np.flatnonzero(rows == e)[0]) for e in dict.fromkeys(edited)]

    def _show_gallery(self) -> None:
        n = len(self.panel.readout.changed)
        shown = self.panel.changed()
        items = [
            {
                "key": c["position"],
                "caption": f"{c['before']} → {c['after']}",
                "title": f"no. {c['position']}, labelled {c['label']}: {c['before']} → {c['after']}",
                "tone": "good" if c["is_right"] else "bad" if c["was_right"] else "",
            }
            for c in shown
        ]
        more = f", the first {len(shown)}" if n > len(shown) else ""
        title = f"{n:,} images whose prediction changed{more} (red frame: it was right)"
        self.gallery.groups = [{"title": title, "items": items, "empty": "none"}]


def _button(text: str, tooltip: str) -> w.Button:
    return w.Button(description=text, tooltip=tooltip, layout=w.Layout(width="auto"))


def _kept(frame) -> str:
    """What was kept, as an HTML table; "" for nothing."""
    return (
        ""
        if frame.empty
        else table([str(c) for c in frame.columns], frame.to_numpy().tolist(), caption="Kept")
    )
