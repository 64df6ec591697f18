"""The algebra of the edit panel: terms that forget, strengthen or switch a class, and the edits and code they stand for."""

from dataclasses import dataclass, replace

import numpy as np

from ..editing import calibrate_gate
from ..edits import Edit
from ..errors import ClassvecError, MismatchError, PanelError
from ..gates import SCORES, Gate
from .base import require_choice

ACTIONS = ("forget", "strengthen", "switch")
NO_GATE = "none"
STRONGEST = 5.0


@dataclass(frozen=True)
class EditTerm:
    """One term: forget (-strength κ), strengthen (+strength κ), or switch (strength (κ_to - κ)), behind a gate for `class_name`.

    strength in 0..5; to: the class a switch leads to; gate: a score of `calibrate_gate` or "none"; gamma: its threshold, None
    for the calibrated one; on: whether it counts.
    """

    action: str
    class_name: str
    strength: float = 1.5
    to: str = ""
    gate: str = "margin"
    gamma: float | None = None
    on: bool = True

    def __str__(self) -> str:
        what = f"{self.action} {self.class_name}" + (
            f" → {self.to}" if self.action == "switch" else ""
        )
        gate = "no gate" if self.gate == NO_GATE else f"{self.gate} gate"
        return f"{'' if self.on else '(off) '}{what}, strength {self.strength:.2f}, {gate}"


class Algebra:
    """Turns terms into edits: class vectors, and gates that are calibrated once on the features at hand."""

    def __init__(self, classifier, vectors, features, *, false_fire: float = 0.01, moments=None):
        self.classifier, self.vectors, self.features, self.moments = (
            classifier,
            vectors,
            features,
            moments,
        )
        self.false_fire = false_fire
        self._gates: dict[tuple, Gate] = {}

    @property
    def gate_scores(self) -> tuple[str, ...]:
        """The gates that can be had: a discriminant one needs moments."""
        return (NO_GATE, *(s for s in SCORES if s != "discriminant" or self.moments is not None))

    def check(self, term: EditTerm, span) -> EditTerm:
        """The term; raises PanelError, saying what is wrong, for one that can't be. span(term): lowest and highest gamma."""
        require_choice("the action", term.action, ACTIONS)
        require_choice("the class", term.class_name, self.vectors.classes)
        require_choice("the gate", term.gate, self.gate_scores)
        if term.to or term.action == "switch":
            require_choice("the class to switch to", term.to, self.vectors.classes)
        if term.action == "switch" and term.to == term.class_name:
            raise PanelError(
                f"a switch leads from one class to another; got {term.class_name!r} twice"
            )
        if not (np.isfinite(term.strength) and 0 <= term.strength <= STRONGEST):
            raise PanelError(f"a strength lies in 0 to {STRONGEST:g}; got {term.strength:g}")
        if term.gamma is not None:
            if term.gate == NO_GATE:
                raise PanelError(
                    f"γ = {term.gamma:g} has no meaning without a gate: choose one of {', '.join(self.gate_scores[1:])}"
                )
            low, high = span(term)
            if not low <= term.gamma <= high:
                raise PanelError(
                    f"γ = {term.gamma:g} lies outside the scores of this gate, {low:.3g} to {high:.3g}: it would "
                    f"{'always' if term.gamma < low else 'never'} fire"
                )
        return term

    def gate(self, term: EditTerm) -> Gate | None:
        """The gate of a term; PanelError where it can't be calibrated on these features."""
        if term.gate == NO_GATE:
            return None
        gate = self.calibrated(term)
        return gate if term.gamma is None or term.gamma == gate.threshold else gate.at(term.gamma)

    def calibrated(self, term: EditTerm) -> Gate:
        """The term's gate at its calibrated threshold."""
        key = term.class_name, term.gate, self.false_fire
        if key not in self._gates:
            more = {
                "predicted": {"classifier": self.classifier},
                "discriminant": {"moments": self.moments},
            }.get(term.gate, {})
            try:
                self._gates[key] = calibrate_gate(
                    self.features,
                    self.vectors,
                    term.class_name,
                    score=term.gate,
                    false_fire=self.false_fire,
                    **more,
                )
            except MismatchError:
                raise
            except ClassvecError as error:
                raise PanelError(
                    f"{error}, or choose the gate 'predicted', which has no threshold to set"
                ) from error
        return self._gates[key]

    def edit(self, term: EditTerm) -> Edit:
        """The edit that a term stands for, behind its gate."""
        kappa = self.vectors[term.class_name]
        if term.action == "switch":
            edit = term.strength * (self.vectors[term.to] - kappa)
        else:
            edit = (-term.strength if term.action == "forget" else term.strength) * kappa
        return replace(edit, gate=self.gate(term), target=term.class_name)

    def code(self, terms) -> str:
        """Python that makes the same edits and a classifier that carries them."""
        lines = ["from classvec_lab import calibrate_gate, inject", "", "edits = ["]
        for term in terms:
            k = f"vectors[{term.class_name!r}]"
            if term.action == "switch":
                edit = f"{term.strength!r} * (vectors[{term.to!r}] - {k})"
            else:
                edit = f"{-term.strength if term.action == 'forget' else term.strength!r} * {k}"
            lines.append(f"    ({edit}){self._gate_code(term)},")
        lines += ["]", "edited = inject(ft, edits)"]
        if any(term.gate == NO_GATE for term in terms):
            lines.insert(1, "# an edit without a gate moves every image")
        return "\n".join(lines)

    def _gate_code(self, term: EditTerm) -> str:
        if term.gate == NO_GATE:
            return ""
        more = {"predicted": ", classifier=ft", "discriminant": ", moments=train_moments"}.get(
            term.gate, ""
        )
        at = (
            ""
            if term.gamma is None or term.gamma == self.calibrated(term).threshold
            else f".at({term.gamma!r})"
        )
        how = f"score={term.gate!r}, false_fire={self.false_fire!r}{more}"
        return f".gated(calibrate_gate(val_features, vectors, {term.class_name!r}, {how}){at})"
