"""The algebra of the edit panel: terms about a class each, their gates, edits, curves and code."""

from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from ..editing import LiveEdits, calibrate_gate, gate_curve
from ..edits import Edit
from ..errors import EditError, PanelError
from ..gates import SCORES, Gate
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
    gate: str = "margin"
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


class Algebra:
    """Turns terms into edits, their gates calibrated once on the features at hand.

    Args:
        live: the classifier's head and the features.
        vectors: the class vectors.
        moments: training moments with a pooled scatter, or None: for the discriminant gate.
        false_fire: the rate that gates are calibrated to.
    """

    def __init__(self, live: LiveEdits, vectors, moments, false_fire: float):
        self.live, self.vectors, self.moments = live, vectors, moments
        self.false_fire = false_fire
        self._gate = cache(self._calibrate)
        self._gate_curve = lru_cache(1)(
            lambda gate: gate_curve(gate, live.features, scores=live.scores(gate))
        )
        self._strength_curve = lru_cache(1)(
            lambda *terms: live.strengths([self.edit(term) for term in terms], 0, FACTORS)
        )

    @property
    def gate_scores(self) -> list[str]:
        """The gates that can be had: a discriminant one needs moments."""
        return [NO_GATE, *(s for s in SCORES if s != "discriminant" or self.moments is not None)]

    def check(self, term: EditTerm) -> None:
        """Raise PanelError, saying what is wrong, for a term that can't be."""
        switch = term.action == "switch"
        one_of(term.action, ACTIONS, "action")
        one_of(term.gate, self.gate_scores, "gate")
        in_range("strength", term.strength, 0, STRONGEST)
        for name in (term.class_name, term.to)[: 1 + (switch or term.to != "")]:
            one_of(name, self.vectors.classes, "class")
        if switch and term.to == term.class_name:
            raise PanelError(f"a switch leads from one class to another; got {term.to!r} twice")
        if self.calibrated(term) and term.gamma is not None:
            in_range("γ, beyond which a gate fires always or never,", term.gamma, *self.span(term))
        elif term.gamma is not None:
            raise PanelError(f"γ = {term.gamma:g} has no meaning without a gate: choose one")

    def calibrated(self, term: EditTerm) -> Gate | None:
        """The term's gate at its calibrated threshold; PanelError for too few features."""
        if term.gate == NO_GATE:
            return None
        return self._gate(term.class_name, term.gate)

    def _calibrate(self, name: str, score: str) -> Gate:
        how = {"score": score, "false_fire": self.false_fire, "moments": self.moments}
        how["classifier"] = self.live.classifier
        try:
            return calibrate_gate(self.live.features, self.vectors, name, **how)
        except EditError as error:
            raise PanelError(
                f"{error}, or choose the gate 'predicted', which has no threshold to set"
            ) from error

    def gate(self, term: EditTerm | None) -> Gate | None:
        """The term's gate at its own threshold; None without one."""
        gate = term and self.calibrated(term)
        return gate if gate is None or term.gamma is None else gate.at(term.gamma)

    def span(self, term: EditTerm) -> tuple[float, float]:
        """Lowest and highest γ of a term's gate: its scores on the features, with a little room."""
        gate = self.calibrated(term)
        scores = np.append(self.live.scores(gate), gate.threshold)
        low, high = float(scores.min()), float(scores.max())
        room = 0.02 * (high - low) or 0.01
        return low - room, high + room

    def gate_curve(self, term: EditTerm | None) -> pd.DataFrame | None:
        """Hits and false fires of a term's gate over γ, None without a gate."""
        gate = term and self.calibrated(term)
        return gate and self._gate_curve(gate)

    def strength_curve(self, term: EditTerm | None, others) -> pd.DataFrame | None:
        """ACC_f and ACC_r over a term's strength beside other terms, None where it is off."""
        if term and term.on:
            return self._strength_curve(replace(term, strength=1.0), *others)

    def edit(self, term: EditTerm) -> Edit:
        """The edit that a term stands for, behind its gate."""
        kappa = self.vectors[term.class_name]
        if term.action == "switch":
            kappa = self.vectors[term.to] - kappa
        return replace(term.factor * kappa, gate=self.gate(term), target=term.class_name)

    def code(self, terms) -> str:
        """Python that makes the same edits and a classifier that carries them."""
        lines = ["from classvec_lab import calibrate_gate, inject", "", "edits = []"]
        for term in terms:
            gate, kappa = self.calibrated(term), f"vectors[{term.class_name!r}]"
            if term.action == "switch":
                kappa = f"(vectors[{term.to!r}] - {kappa})"
            edit = f"{term.factor!r} * {kappa}"
            if gate is None:
                lines.append(f"edits.append({edit})  # without a gate it moves every image")
                continue
            more = f"score={term.gate!r}, false_fire={self.false_fire!r}{GIVEN.get(term.gate, '')}"
            lines.append(f"how = dict({more})")
            made = f"calibrate_gate(val_features, vectors, {term.class_name!r}, **how)"
            at = "" if term.gamma in (None, gate.threshold) else f".at({term.gamma!r})"
            lines += [f"gate = {made}{at}", f"edits.append(({edit}).gated(gate))"]
        return "\n".join([*lines, "edited = inject(ft, edits)"])
