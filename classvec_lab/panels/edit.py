"""The edit panel: class-vector arithmetic with sliders, read live, kept as edit cards."""

from functools import partial

import traitlets as t
from ipywidgets import HTML, BoundedFloatText, Box, Checkbox, FloatSlider, HBox, Select, VBox

from .. import plots
from ..editing import LiveEdits, cannot_lose
from ..errors import PanelError
from ..words import percent
from .base import Panel, choice, new_paths
from .canvas import Bars, Charts, Gallery
from .edit_view import changed_images, class_bars, effect_table, gate_chart, strength_chart
from .payload import plain, table
from .terms import ACTIONS, STRONGEST, EditTerms

MOST_LOGITS = 300_000_000  # 2.4 GB


class EditPanel(Panel, EditTerms):
    """Forget, strengthen or switch classes, and see at once what it does to every class.

    Nothing passes through the encoder: edits are read off the head and cached features. Traits:
    edits, the `EditTerm`s; active, which of them the controls change; false_fire, the rate in
    (0, 1) that gates are calibrated to; kept, what was kept, a mapping each time.
    `change(strength=…)` changes the active term, `add`, `remove` and `keep` do what they say, and
    `readout` is what the panel shows.

    Args:
        classifier: the fine-tuned one, with a linear or cosine head.
        vectors: class vectors, best of training images.
        features: its representations of a split to choose on.
        held_out: those of a split that no choice looks at, measured when an edit is kept.
        dataset: the images of `features`.
        moments: training moments with a pooled scatter, for the discriminant gate.
        folder: where files go.
    Raises:
        MismatchError: where classes, dimensions or images don't agree.
        PanelError: for more logits than 2.4 GB hold.
    """

    title = "Edit: forget, strengthen or switch classes"
    kept = t.Tuple(())

    def __init__(
        self, classifier, vectors, features, *, held_out=None, dataset=None, moments=None, folder=""
    ):
        super().__init__(folder=folder)
        if len(features) * len(vectors) > MOST_LOGITS:
            raise PanelError(
                f"the edit panel holds a logit for each image and class, here {len(features):,} × "
                f"{len(vectors):,}: give it fewer images, at most {MOST_LOGITS // len(vectors):,}"
            )
        self.gallery = Gallery(dataset, features, label="images whose prediction changed")
        self.splits = {"val": features} | ({"test": held_out} if held_out else {})
        self.begin(LiveEdits(classifier, features), vectors, moments)
        self.add()
        self.list = Select(rows=3)
        self.fields = {
            "on": Checkbox(description="on", indent=False),
            "action": choice("", ACTIONS),
            "class_name": choice("class", self.classes),
            "to": choice("→", self.classes),
            "strength": FloatSlider(description="strength |λ|", max=STRONGEST, step=0.05),
            "gate": choice("gate", self.gate_scores),
            "gamma": FloatSlider(description="γ", readout_format=".3f"),
        }
        for field, control in {"active": self.list, **self.fields}.items():
            control.observe(partial(self._set, field), "value")
        self.charts = self.picks(
            Charts(label="gate and strength curves; click to set γ or the strength"), self._picked
        )
        self.bars = Bars(label="accuracy of each class before and after")
        self.table, self.kept_table = HTML(), HTML()
        add = self.button("Add", "one more edit", self.add)
        remove = self.button("Remove", "take the selected edit away", self.remove)
        reset = self.button(
            "Calibrated γ",
            "back to the threshold calibrated to the false-fire rate",
            lambda: self.change(gamma=None),
        )
        rate = BoundedFloatText(description="false fire", max=1, step=0.005)
        tooltip = "write an edit card, and measure it on the held-out split"
        keep = self.button("Keep", tooltip, self.keep, icon="save", button_style="primary")
        *first, gate, gamma = self.fields.values()
        title = HTML("<b>each class: tick before, bar after, change in points</b>")
        self.lay_out(
            HBox([self.list, add, remove]),
            HBox(first),
            HBox([gate, gamma, reset, self.bind("false_fire", rate)]),
            Box([self.charts, VBox([title, self.bars])]),
            self.table,
            self.gallery,
            self.kept_table,
            buttons=[keep],
        )

    def keep(self) -> list:
        """Write an edit card for each working term, with the figures of both splits.

        Returns:
            The paths of the cards, new files in `folder`.
        Raises:
            PanelError: where no term works.
        """
        terms = self.working()
        if not terms:
            raise PanelError("nothing to keep: every edit is off, of strength 0, or removed")
        edits = [self.edit(term).require_effect() for term in terms]
        measured, line = {}, {"card": "", "edits": "; ".join(map(str, terms))}
        for split, features in self.splits.items():
            live = LiveEdits(self.live.classifier, features, split=split)
            rows = live.read(edits).table()
            measured[split] = plain(rows.to_dict("records"))
            *forgotten, rest = (percent(r.after, r.low, r.high) for r in rows.itertuples())
            line |= {f"ACC_f, {split}": ", ".join(forgotten), f"ACC_r, {split}": rest}
        facts = {
            "together_with": [edit.expression for edit in edits],
            "chosen_on": "val",
            "measured": measured,
        }
        paths = [
            edit.save(*new_paths(self.folder, term.stem, [".safetensors"]), **facts)
            for term, edit in zip(terms, edits, strict=True)
        ]
        self.kept += (line | {"card": ", ".join(path.name for path in paths)},)
        self.say(f"kept {', '.join(map(str, paths))}; load with Edit.load(path, ft)")
        return paths

    # what is shown

    def show(self) -> None:
        """Put the state into the widgets."""
        term, gate = self.term, self.gate(self.term)
        self.readout = self.live.read(list(map(self.edit, self.working())))
        self._show_controls()
        charts, self._markers = [], {}
        if gate:
            charts.append(gate_chart(self.gate_curve(), term))
            self._markers["gamma"] = gate.threshold
        if term and term.on:
            charts.append(strength_chart(self.strength_curve(), term))
            self._markers["strength"] = term.strength
        self.charts.put(charts=charts, markers=list(self._markers.values()))
        note = f"val split, n = {len(self.readout.y)}: what you choose on"
        if "test" in self.splits:
            note += "; test is measured when you keep an edit"
        decided = cannot_lose(term.gate, len(self.classes)) if term and term.on else ()
        self.table.value = effect_table(self.readout, *decided, note)
        head = next(iter(self.kept), ())
        self.kept_table.value = table(head, [k.values() for k in self.kept], caption="Kept")
        self.bars.put(**class_bars(self.readout))
        self.gallery.groups = [changed_images(self.readout)]

    def _picked(self, chart, x):
        """A click on a chart moves the slider whose curve it is."""
        field = list(self._markers)[chart]
        self.fields[field].value = round(x, 2 if field == "strength" else 6) + 0.0

    # controls

    def _set(self, field, change):
        """What a user does to a control of the active term, or to the list of terms."""
        value = change.new
        if not self._showing:
            active = partial(setattr, self, field, value or 0)
            self.guarded(active if field == "active" else partial(self.change, **{field: value}))
            self._show_controls()  # a refused value goes back

    def _show_controls(self):
        """The controls as the active term has them."""
        term, gate, gamma = self.term, self.gate(self.term), self.fields["gamma"]
        self._showing = True
        self.list.options = tuple((f"{k + 1}  {e}", k) for k, e in enumerate(self.edits))
        self.list.value = self.active if term else None
        for field, control in self.fields.items():
            control.disabled = term is None
            value = getattr(term, field, "")
            if value not in ("", None):  # no goal, or the calibrated γ
                control.value = value
        gamma.disabled = gate is None
        if gate:
            with gamma.hold_trait_notifications():
                gamma.min, gamma.max = self.span(gate)
                gamma.step, gamma.value = (gamma.max - gamma.min) / 1000, gate.threshold
        switches = term and term.action == "switch"
        self.fields["to"].layout.display = "flex" if switches else "none"
        self._showing = False

    # what is left behind

    def draw(self):
        """Every class before and after, the gate's curve, and the strength's."""
        gate, title = self.gate(self.term), "; ".join(map(str, self.working()))
        axes = plots.edit_effect(
            self.readout.per_class(),
            edited=self.readout.targets,
            gate=self.gate_curve(),
            threshold=gate and gate.threshold,
            strength=self.strength_curve(),
            at=self.term and self.term.strength,
            title=f"{title or 'no edit is on'} (val, n = {len(self.readout.y)})",
        )
        return axes[0].figure

    def stem(self) -> str:
        """Named by what is edited."""
        return "_and_".join(term.stem for term in self.working()[:3]) or "edit"
