"""What the edit panel is about: terms on a class each, and their gates, edits, curves and code."""

import warnings
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import pandas as pd
import traitlets as t

from ..editing import LiveEdits, calibrate_gate, gate_curve
from ..editing.calibration import RelaxedRate
from ..edits import Edit
from ..errors import EditError, PanelError
from ..gates import DEPLOYED, SCORES, Gate
from .base import in_range, one_of

ACTIONS = ("forget", "strengthen", "switch")
NO_GATE = "none"
STRONGEST = 5.0
GIVEN = {"predicted": ", classifier=ft", "discriminant": ", moments=train_moments"}
# where the strength curve is read
FACTORS = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, STRONGEST)


@dataclass(frozen=True)
class EditTerm:
    """One term: forget (-strength κ), strengthen (+strength κ), or switch (strength (κ_to - κ)).

    Args:
        action: "forget", "strengthen" or "switch".
        class_name: the class whose κ it is, and for which the gate fires.
        strength: in [0, 5].
        to: the class that a switch leads to.
        gate: a score of `calibrate_gate`, or "none".
        gamma: the gate's threshold, None for the calibrated one.
        on: whether it counts.
    """

    action: str
    class_name: str
    strength: float = 1.5
    to: str = ""
    gate: str = DEPLOYED
    gamma: float | None = None
    on: bool = True

    def __str__(self) -> str:
        way = f" → {self.to}" if self.action == "switch" else ""
        gate = "no gate" if self.gate == NO_GATE else f"{self.gate} gate"
        off = "" if self.on else "(off) "
        return f"{off}{self.action} {self.class_name}{way}, strength {self.strength:.2f}, {gate}"

    @property
    def factor(self) -> float:
        """The strength with its sign."""
        return -self.strength if self.action == "forget" else self.strength

    @property
    def stem(self) -> str:
        """Action and classes, for the name of a file."""
        return "_".join(filter(None, ("edit", self.action, self.class_name, self.to)))


class EditTerms(t.HasTraits):
    """The state of an `EditPanel`, and what follows from it. `begin` gives it its features."""

    edits = t.Tuple(())
    active = t.Int(0)
    false_fire = t.Float(0.01)

    def begin(self, live: LiveEdits, vectors, moments) -> None:
        """Set what the edits are of; once, before any trait is set.

        Args:
            live: the classifier's head and the features.
            vectors: the class vectors.
            moments: training moments with a pooled scatter, or None: for the discriminant gate.
        """
        self.live, self.vectors, self.moments = live, vectors, moments
        self.classes = vectors.classes
        self.gate_scores = [s for s in (NO_GATE, *SCORES) if moments or s != "discriminant"]
        self._gate = cache(self._calibrate)
        self._gate_curve = lru_cache(1)(
            lambda gate: gate_curve(gate, live.features, scores=live.scores(gate))
        )
        self._strengths = lru_cache(1)(
            lambda _, *terms: live.strengths([self.edit(term) for term in terms], FACTORS)
        )

    # what may be set

    @t.validate("edits", "active", "false_fire")
    def _possible(self, proposal):
        name, value = proposal.trait.name, proposal.value
        match name:
            case "active":
                in_range("the position of the active edit", value, 0, max(len(self.edits) - 1, 0))
            case "false_fire":
                in_range(name, value, 0, 1, open_low=True, open_high=True)
                for term in self.edits:
                    self._gate(term.class_name, term.gate, value)
                self.edits = tuple(replace(term, gamma=None) for term in self.edits)
            case "edits":
                for term in value:
                    self.check(term)
                self.active = min(self.active, max(len(value) - 1, 0))
        return value

    def check(self, term: EditTerm) -> None:
        """Raise PanelError, saying what is wrong, for a term that can't be."""
        if not isinstance(term, EditTerm):
            raise PanelError(f"edits are EditTerms such as EditTerm('forget', 'cat'); got {term!r}")
        switch = one_of(term.action, ACTIONS, "action") == "switch"
        one_of(term.gate, self.gate_scores, "gate")
        in_range("strength", term.strength, 0, STRONGEST)
        one_of(term.class_name, self.classes, "class")
        if switch or term.to:
            one_of(term.to, self.classes, "class")
        if switch and term.to == term.class_name:
            raise PanelError(f"a switch leads from one class to another; got {term.to!r} twice")
        gate, gamma = self.calibrated(term), term.gamma
        if gamma is not None:
            if gate is None:
                raise PanelError(f"γ = {gamma:g} has no meaning without a gate: choose one")
            in_range("γ, beyond which a gate fires always or never,", gamma, *self.span(gate))

    # actions

    @property
    def term(self) -> EditTerm | None:
        """The active term, None where there is none."""
        return self.edits[self.active] if self.edits else None

    def _with(self, *terms):
        """The terms, with these in place of the active one."""
        return (*self.edits[: self.active], *terms, *self.edits[self.active + 1 :])

    def change(self, **fields) -> None:
        """Change fields of the active term.

        Another class or gate goes back to the calibrated γ; a switch without a goal takes one.
        """
        if self.term is None:
            raise PanelError("there is no edit to change: add one first")
        if fields.keys() & {"class_name", "gate"}:
            fields = {"gamma": None, **fields}
        term = replace(self.term, **fields)
        if term.action == "switch" and "to" not in fields and term.to in ("", term.class_name):
            term = replace(term, to=next(c for c in self.classes if c != term.class_name))
        self.edits = self._with(term)

    def add(self) -> None:
        """Add a term and activate it.

        It is like the active one, and forgets the first class that no term is about.
        """
        used = [term.class_name for term in self.edits]
        name = next((c for c in self.classes if c not in used), self.classes[0])
        like = self.term or EditTerm("forget", name)
        term = replace(like, action="forget", class_name=name, to="", gamma=None, on=True)
        try:
            self.calibrated(term)
        except PanelError:
            term = replace(term, gate=DEPLOYED)
        self.edits += (term,)
        self.active = len(self.edits) - 1

    def remove(self) -> None:
        """Take the active term away."""
        if self.term is None:
            raise PanelError("there is no edit to remove")
        self.edits = self._with()

    # what follows

    def working(self) -> list[EditTerm]:
        """The terms that are on and have a strength."""
        return [term for term in self.edits if term.on and term.strength > 0]

    def calibrated(self, term: EditTerm) -> Gate | None:
        """The term's gate at its calibrated threshold; PanelError for too few features."""
        return self._gate(term.class_name, term.gate, self.false_fire)

    def _calibrate(self, name, score, false_fire):
        if score == NO_GATE:
            return None
        how = {"moments": self.moments, "classifier": self.live.classifier}
        how |= {"score": score, "false_fire": false_fire}
        try:  # the rate is the user's to state: the control stands beside
            with warnings.catch_warnings(action="error", category=RelaxedRate):
                return calibrate_gate(self.live.features, self.vectors, name, **how)
        except (EditError, RelaxedRate) as error:
            raise PanelError(
                f"{error.args[0]}, or choose the gate 'predicted', which has no threshold to set"
            ) from error

    def gate(self, term: EditTerm | None) -> Gate | None:
        """The term's gate at its own threshold; None without one."""
        gate = term and self.calibrated(term)
        return gate if gate is None or term.gamma is None else gate.at(term.gamma)

    def span(self, gate: Gate) -> tuple[float, float]:
        """Lowest and highest γ of a gate: its scores on the features, with a little room."""
        scores = np.append(self.live.scores(gate), gate.threshold)
        low, high = float(scores.min()), float(scores.max())
        room = 0.02 * (high - low) or 0.01
        return low - room, high + room

    def gate_curve(self) -> pd.DataFrame | None:
        """Hits and false fires of the active term's gate over γ, None without a gate."""
        gate = self.term and self.calibrated(self.term)
        return gate and self._gate_curve(gate)

    def strength_curve(self) -> pd.DataFrame | None:
        """ACC_f and ACC_r over the active term's strength beside the others, None if it is off."""
        if self.term is None or not self.term.on:
            return None
        others = [term for term in self._with() if term in self.working()]
        return self._strengths(self.false_fire, replace(self.term, strength=1.0), *others)

    def edit(self, term: EditTerm) -> Edit:
        """The edit that a term stands for, behind its gate."""
        kappa = self.vectors[term.class_name]
        if term.action == "switch":
            kappa = self.vectors[term.to] - kappa
        return replace(term.factor * kappa, gate=self.gate(term), target=term.class_name)

    def write(self) -> str:
        """Python that makes the working edits and a classifier that carries them."""
        if not self.working():
            return "# no edit is on"
        lines = ["from classvec_lab import calibrate_gate, inject", "", "edits = []"]
        for term in self.working():
            gate, kappa = self.calibrated(term), f"vectors[{term.class_name!r}]"
            if term.action == "switch":
                kappa = f"(vectors[{term.to!r}] - {kappa})"
            lines.append(f"edit = {term.factor!r} * {kappa}")
            if gate:  # without one it moves every image
                more = f"score={term.gate!r}, false_fire={self.false_fire!r}"
                lines.append(f"how = dict({more}{GIVEN.get(term.gate, '')})")
                made = f"gate = calibrate_gate(val_features, vectors, {term.class_name!r}, **how)"
                at = "" if term.gamma in (None, gate.threshold) else f".at({term.gamma!r})"
                lines += [made + at, "edit = edit.gated(gate)"]
            lines.append("edits.append(edit)")
        return "\n".join([*lines, "edited = inject(ft, edits)"])
