"""The edit panel: class-vector arithmetic with sliders, read live through the head, kept as edit cards."""

from dataclasses import replace

import numpy as np
import pandas as pd
import traitlets as t

from ..editing import LiveEdits
from ..editing.calibration import gate_curve
from ..errors import MismatchError, PanelError
from .base import Panel, new_paths
from .canvas import plain
from .edit_view import EditView
from .terms import NO_GATE, STRONGEST, Algebra, EditTerm

FACTORS = (
    0,
    0.25,
    0.5,
    0.75,
    1,
    1.25,
    1.5,
    2,
    2.5,
    3,
    4,
    STRONGEST,
)  # where the strength curve is read
MOST_EDITS = 20
MOST_IMAGES = 24
MOST_LOGITS = 300_000_000  # 2.4 GB


class EditPanel(Panel):
    """Forget, strengthen or switch classes, several at once, and see at once what it does to every class.

    classifier: the fine-tuned one, with a linear or cosine head; vectors: class vectors, best of training images; features: its
    representations of a split to choose on (`split` names it); held_out: those of a split that no choice looks at,
    measured only when an edit is kept; dataset: the images of `features`; moments: training moments with a pooled scatter,
    for the discriminant gate. Nothing passes through the encoder: edits are read off the head and cached features.

    Traits. edits: `EditTerm`s; active: which of them the controls change; false_fire: what gates are calibrated to; kept: a frame
    of what was kept. `change(strength=…)` changes the active term, `add`, `remove` and `keep` do what they say; `readout` is what
    the panel shows.
    """

    title = "Edit: forget, strengthen or switch classes"
    edits = t.Tuple(())
    active = t.Int(0)
    false_fire = t.Float(0.01)
    kept = t.Instance(pd.DataFrame, ())

    def __init__(self, classifier, vectors, features, *, held_out=None, dataset=None, moments=None, split="val",
                 held_out_split="test", edits=None, folder=""):  # fmt: skip
        super().__init__(folder=folder)
        vectors.require(classes=classifier.classes)
        if dataset is not None and (
            len(dataset) != len(features) or not np.array_equal(dataset.targets, features.y)
        ):
            raise MismatchError(
                f"the images are not those of the features: {len(dataset)} images, {len(features)} features"
            )
        if len(features) * len(vectors) > MOST_LOGITS:
            raise PanelError(
                f"the edit panel holds a logit for each image and class, here {len(features):,} × {len(vectors):,}: "
                f"give it fewer images, at most {MOST_LOGITS // len(vectors):,}"
            )
        self.classifier, self.vectors, self.features = classifier, vectors, features
        self.held_out, self.split, self.held_out_split = held_out, split, held_out_split
        self.live = LiveEdits(classifier, features, split=split)
        self._tested = None
        self.algebra = Algebra(
            classifier, vectors, features, false_fire=self.false_fire, moments=moments
        )
        self.view = EditView(self, dataset)
        self.edits = (self._first(),) if edits is None else tuple(edits)
        self.observe(self._refresh, ["edits", "active"])
        self.observe(self._recalibrate, "false_fire")
        self._refresh()

    def _first(self) -> EditTerm:
        """Forget the first class behind the margin gate, or, where too few images are held out for one, the predicted gate."""
        term = EditTerm("forget", self.vectors.classes[0])
        try:
            self.algebra.calibrated(term)
        except PanelError:
            return replace(term, gate="predicted")
        return term

    # what may be set

    @t.validate("edits")
    def _all_possible(self, proposal):
        terms = tuple(proposal["value"])
        if len(terms) > MOST_EDITS:
            raise PanelError(f"at most {MOST_EDITS} edits at once; got {len(terms)}")
        for term in terms:
            if not isinstance(term, EditTerm):
                raise PanelError(
                    f"edits are EditTerms such as EditTerm('forget', 'cat'), not {type(term).__name__}"
                )
            self.algebra.check(term, self.span)
            self.algebra.gate(term)
        if self.active >= len(terms):
            self.active = max(len(terms) - 1, 0)
        return terms

    @t.validate("active")
    def _one_of_them(self, proposal):
        value = proposal["value"]
        if not 0 <= value < max(len(self.edits), 1):
            raise PanelError(
                f"there is no edit number {value + 1}: the panel holds {len(self.edits)}"
            )
        return value

    @t.validate("false_fire")
    def _a_rate(self, proposal):
        value = proposal["value"]
        if not 0 < value < 1:
            raise PanelError(f"false_fire is a rate between 0 and 1; got {value:g}")
        trial = Algebra(
            self.classifier,
            self.vectors,
            self.features,
            false_fire=value,
            moments=self.algebra.moments,
        )
        for term in self.edits:
            trial.gate(replace(term, gamma=None))
        self.algebra = trial
        return value

    def span(self, term: EditTerm) -> tuple[float, float]:
        """Lowest and highest γ that a term's gate may have: its scores on the features, with a little room."""
        gate = self.algebra.calibrated(term)
        scores = self.live.scores(gate)
        low, high = min(scores.min(), gate.threshold), max(scores.max(), gate.threshold)
        room = 0.02 * (high - low) or 0.01
        return float(low - room), float(high + room)

    # actions

    @property
    def term(self) -> EditTerm | None:
        """The active term, None where there is none."""
        return self.edits[self.active] if self.edits else None

    def change(self, **fields) -> None:
        """Change the active term. Another class or gate goes back to the calibrated γ; a switch without a goal takes one."""
        if self.term is None:
            raise PanelError("there is no edit to change: add one first")
        if fields.keys() & {"class_name", "gate"} and "gamma" not in fields:
            fields["gamma"] = None
        term = replace(self.term, **fields)
        if term.action == "switch" and "to" not in fields and term.to in ("", term.class_name):
            term = replace(term, to=next(c for c in self.vectors.classes if c != term.class_name))
        self.edits = (*self.edits[: self.active], term, *self.edits[self.active + 1 :])

    def add(self, term: EditTerm | None = None) -> None:
        """Add a term, by default forgetting the first class that no term is about, and make it the active one."""
        if term is None:
            used = {e.class_name for e in self.edits}
            name = next((c for c in self.vectors.classes if c not in used), self.vectors.classes[0])
            like = self.term or self._first()
            term = replace(like, action="forget", class_name=name, to="", gamma=None, on=True)
        self.edits = (*self.edits, term)
        self.active = len(self.edits) - 1

    def remove(self, which: int | None = None) -> None:
        """Take a term away, by default the active one."""
        which = self.active if which is None else which
        if not 0 <= which < len(self.edits):
            raise PanelError(
                f"there is no edit number {which + 1} to remove: the panel holds {len(self.edits)}"
            )
        active = self.active - (
            which < self.active
        )  # the active term stays so, or the one after it becomes it
        self.edits = (*self.edits[:which], *self.edits[which + 1 :])
        self.active = max(min(active, len(self.edits) - 1), 0)

    def working(self) -> list[EditTerm]:
        """The terms that are on and have a strength."""
        return [term for term in self.edits if term.on and term.strength > 0]

    def keep(self) -> list:
        """Write an edit card for each working term and measure them together on the held-out split; returns the paths.

        The cards are new files in `folder`; they carry the figures of both splits. Raises PanelError where nothing works.
        """
        terms = self.working()
        if not terms:
            raise PanelError("nothing to keep: every edit is off, of strength 0, or removed")
        edits = [self.algebra.edit(term).require_effect() for term in terms]
        shown = {self.split: self.live.read(edits).table()}
        if self.held_out is not None:
            self._tested = self._tested or LiveEdits(
                self.classifier, self.held_out, split=self.held_out_split
            )
            shown[self.held_out_split] = self._tested.read(edits).table()
        stem = "edit_" + "_".join(
            f"{term.action}_{term.class_name}{f'_{term.to}' if term.to else ''}"
            for term in terms[:3]
        )
        names = (
            [f".{k + 1}.safetensors" for k in range(len(edits))]
            if len(edits) > 1
            else [".safetensors"]
        )
        paths = new_paths(self.folder, stem, names)
        figures = {split: table.round(6).to_dict("records") for split, table in shown.items()}
        together = [edit.expression for edit in edits]
        for edit, path in zip(edits, paths, strict=True):
            edit.save(path, together_with=together, chosen_on=self.split, measured=plain(figures))
        row = {"card": ", ".join(p.name for p in paths), "edits": "; ".join(map(str, terms))}
        for split, table in shown.items():
            f, r = table.iloc[:-1], table.iloc[-1]
            row[f"ACC_f, {split}"] = ", ".join(
                f"{x.after:.1%} [{x.low:.1%}, {x.high:.1%}]" for x in f.itertuples()
            )
            row[f"ACC_r, {split}"] = f"{r['after']:.1%} [{r['low']:.1%}, {r['high']:.1%}]"
        self.kept = pd.concat([self.kept, pd.DataFrame([row])], ignore_index=True)
        self.say(f"kept {', '.join(str(p) for p in paths)}; load with Edit.load(path, ft)")
        return paths

    # what is shown

    def _recalibrate(self, _=None) -> None:
        self.edits = tuple(replace(term, gamma=None) for term in self.edits)
        self._refresh()

    def _refresh(self, change=None) -> None:
        self._working_edits = [self.algebra.edit(term) for term in self.working()]
        self.readout = self.live.read(self._working_edits)
        self.view.show(moved_only=change is not None and self._only_moved(change))
        self.code = self.algebra.code(self.working()) if self.working() else "# no edit is on"

    def _only_moved(self, change) -> bool:
        """Whether only the active term's strength changed: its strength curve then stays as it is."""
        old, new = change["old"], change["new"]
        if change["name"] != "edits" or len(old) != len(new) or not new:
            return False
        same = [a == b for k, (a, b) in enumerate(zip(old, new, strict=True)) if k != self.active]
        return all(same) and replace(old[self.active], strength=0.0) == replace(
            new[self.active], strength=0.0
        )

    def gate_curve(self) -> pd.DataFrame | None:
        """Hits and false fires of the active term's gate over γ, None without a gate."""
        if self.term is None or self.term.gate == NO_GATE:
            return None
        gate = self.algebra.gate(self.term)
        return gate_curve(gate, self.features, scores=self.live.scores(gate))

    def strength_curve(self) -> pd.DataFrame | None:
        """ACC_f and ACC_r over the active term's strength, the other terms as they are; None where the active one is off."""
        if self.term is None or not self.term.on:
            return None
        unit = [self.algebra.edit(replace(self.term, strength=1.0))]
        others = [
            self.algebra.edit(e)
            for k, e in enumerate(self.edits)
            if k != self.active and e.on and e.strength > 0
        ]
        return self.live.strengths(unit + others, 0, FACTORS)

    def changed(self) -> list[dict]:
        """The first samples whose prediction changed: position, label, predictions before and after, was and is it right."""
        names, r = self.vectors.classes, self.readout
        return [
            {"position": int(i), "label": names[r.y[i]], "before": names[r.before[i]], "after": names[r.after[i]],
             "was_right": bool(r.before[i] == r.y[i]), "is_right": bool(r.after[i] == r.y[i])}
            for i in r.changed[:MOST_IMAGES]
        ]  # fmt: skip

    # what is left behind

    def draw(self):
        """Every class before and after, the gate's curve, and the strength's."""
        from .. import plots

        term = self.term
        gate = None if term is None or term.gate == NO_GATE else self.algebra.gate(term)
        title = "; ".join(map(str, self.working())) or "no edit is on"
        axes = plots.edit_effect(
            self.readout.per_class(), edited=[e.class_name for e in self.working()], gate=self.gate_curve(),
            threshold=None if gate is None else gate.threshold, strength=self.strength_curve(),
            at=None if term is None else term.strength, title=f"{title} ({self.split}, n = {len(self.features)})",
        )  # fmt: skip
        return axes[0].figure

    def stem(self) -> str:
        """Named by what is edited."""
        return "edit_" + "_".join(f"{term.action}_{term.class_name}" for term in self.working()[:3])

    def describe(self) -> str:
        """Classes and images."""
        return f"edit panel of {len(self.vectors):,} classes on {len(self.features):,} images ({self.split})"
