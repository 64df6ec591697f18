"""Will class vectors edit this model? Edits are tried on validation, and each class gets advice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..checks import listed, one_of
from ..editing.advice import (
    AMBER,
    CONTRAST,
    GREEN,
    HEAD,
    MAPPING,
    METHODS,
    MILD,
    RED,
    RETIRE,
    VECTOR,
    behind,
    left,
    overall,
    recommend,
)  # fmt: skip
from ..editing.calibration import calibrate_gate
from ..editing.directions import contrast_direction, head_direction, relocation
from ..editing.strength import LAMBDAS, THRESHOLD, TOLERANCE, Bounds
from ..editing.weights.mapping import map_edit
from ..errors import EditError, MismatchError, ModelError
from ..gates import SCORES
from ..readout import check_labelled, head_rows, predict
from ..statistics import accuracy
from .replay import Replayed, replay_edits

GATES = ("none", *SCORES, MAPPING)
DEFAULT_GATES = ("none", "predicted", "margin", MAPPING)


@dataclass(frozen=True, eq=False)
class Editability:
    """What forgetting each class does on validation, and which method to take.

    table: one row a class: `n` (validation samples), `norm_kappa`, `spread` (root mean square
    distance of validation samples to their class mean), `shift_to_spread` (the first over the
    second: below about 1 fine-tuning moved the class less than its samples differ), `alignment`
    (cosine of the centred class vector with the head's centred row), `read_share` (share of
    |kappa_c|² in the span of the head's centred rows: the head sees no more of it), `head_on_pre`
    (accuracy of the head on z_pre, what lambda = -1 gives back) with its 95 % Wilson interval
    (`_low`, `_high`) and `n_pre`; NaN without pre_val.
    curves: one row a method, gate, class and lambda_ (0 included): `acc_f` and `acc_r` (all other
    classes) on validation with 95 % Wilson intervals, `n_f` and `n_r`, `keeps` (ACC_r is within the
    tolerance) and `meets` (ACC_f is within the threshold, too).
    recommendation: see `recommend`. light: "green", "amber" or "red", see `overall`.
    deploy: the gate behind the light. replays: (method, gate) to `Replayed`.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    recommendation: pd.DataFrame
    light: str
    deploy: str
    bounds: Bounds
    replays: Mapping[tuple[str, str], Replayed] = field(repr=False)

    def collateral(
        self, method: str = VECTOR, gate: str | None = None, lambda_: float = -1.5
    ) -> pd.DataFrame:
        """Change of every class's accuracy (columns) under every class's edit (rows) on validation.

        Args:
            method: one of the methods tried.
            gate: one of the gates tried, by default the one to be deployed.
            lambda_: one of the strengths tried.
        Returns:
            A frame (C, C) of changes in [-1, 1].
        Raises:
            EditError: for what was not tried, saying what was.
        """
        key = one_of((method, gate or self.deploy), self.replays, "replay of", EditError)
        return self.replays[key].change(lambda_)

    def says(self) -> tuple[str, ...]:
        """The light, the geometry behind it, what lambda = -1 does, and each class not green."""
        advice, table = self.recommendation, self.table
        green, amber, red = ((advice["light"] == light).sum() for light in (GREEN, AMBER, RED))
        by, n = behind(self.deploy), table["n_pre"].sum()
        right = (table["head_on_pre"] * table["n_pre"]).sum()
        seen = f"; the head already names {right / n:.1%} of z_pre (n = {n})" if n else ""
        at = self.curves[self.curves["lambda_"] == -1]
        back = at[(at["method"] == VECTOR) & (at["gate"] == self.deploy)]
        worst = back.loc[back["acc_f"].idxmax()]
        return (
            f"{self.light.upper()}: On validation, class vectors at |lambda| <= {MILD:g} {by} "
            f"forget {green} of {len(advice)} classes (ACC_f <= {100 * self.bounds.threshold:g}%, "
            f"ACC_r within {100 * self.bounds.tolerance:g}% of unedited); other edits of that "
            f"length forget {amber} more, none forgets {red}.",
            f"Fine-tuning moved a class by {table['shift_to_spread'].median():.2f} times its "
            f"spread (median), {table['read_share'].median():.0%} of the squared length where the "
            f"head can see it{seen}.",
            f"Lambda = -1 gives a class its pre-trained mean back; {by} {back['meets'].sum()} of "
            f"{len(back)} classes then meet both bounds on validation. ACC_f is "
            f"{back['acc_f'].mean():.1%} on average, worst for {worst['class']}: "
            f"{left(worst, 'f')}.",
            *advice.loc[advice["light"] != GREEN, "sentence"],
        )


def editability(
    classifier,
    vectors,
    train,
    val,
    *,
    pre_val=None,
    gates: Sequence[str] | None = None,
    deploy: str | None = None,
    lambdas: Sequence[float] = LAMBDAS,
    threshold: float = THRESHOLD,
    tolerance: float = TOLERANCE,
    false_fire: float = 0.01,
    guarantee: str = "marginal",
) -> Editability:
    """Forget every class by latent edits on validation features, and recommend a method for each.

    Four directions are tried. Three have the length |kappa_c|: the class vector, z_ft - mu, which
    needs no pre-trained model, and the head's own centred row. The fourth is relocation to the mean
    of the other classes, at its own length, which lambda = -1 completes.

    The gates are calibrated on the same validation features on which the edits are judged. Their
    false fires there are therefore as stated, not an unbiased estimate, and so is the smallest
    lambda that serves. Measure the edit that is chosen on other images.

    Args:
        classifier: the fine-tuned `Classifier`.
        vectors: `ClassVectors` of training images.
        train: labelled `Features` of the fine-tuned encoder.
        val: the same, of images that neither training nor the vectors have seen.
        pre_val: `Features` of the pre-trained encoder on the images of val.
        gates: of "none", "predicted", "margin", "cosine", "discriminant", and "mapping", the
            closed-form linear gate that `map_edit` writes into weights. By default all of "none",
            "predicted", "margin" and "mapping" that this model and this many samples allow.
        deploy: the gate that is meant to be used, by default "predicted", else the first.
        lambdas: negative strengths; -1, which gives the pre-trained mean back, is always added.
        threshold: largest ACC_f with which a class counts as forgotten.
        tolerance: largest share of the unedited ACC_r that may be lost.
        false_fire: rate on the other classes for which gates are calibrated.
        guarantee: what holds of it, see `calibrate_gate`.
    Raises:
        MismatchError: for models, classes or dimensions that differ, or classes without samples.
        EditError: for unknown gates, lambdas that are not negative, too few samples for a gate that
            was asked for, or a class that was not moved.
    """
    bounds = Bounds(threshold, tolerance, (*lambdas, -1.0), false_fire, guarantee)
    asked = {*(gates or ()), deploy} - {None}
    for gate in asked:
        one_of(gate, GATES, "gate", EditError)
    for side, part in (("ft", train), ("ft", val), ("pre", pre_val)):
        if part is not None:
            check_labelled(classifier, part, vectors)
            if None not in (part.model, getattr(vectors, side)):
                vectors.require(**{side: part.model})
    if absent := [c for i, c in enumerate(val.classes) if not (val.y == i).any()]:
        raise MismatchError(f"no sample of class {listed(absent)} in the validation set")
    moments = train.moments(pooled_scatter=True)
    edits, replays = _directions(classifier, vectors), {}
    for gate in dict.fromkeys((*(gates or DEFAULT_GATES), *asked)):
        try:
            amounts = _amounts(gate, classifier, vectors, moments, val, bounds)
        except (EditError, ModelError):
            if gate in asked:
                raise
            continue
        for method in METHODS:
            replays[method, gate] = replay_edits(
                classifier, edits[method], val, bounds.lambdas, amounts
            )
    tried = [gate for _, gate in replays]
    deploy = deploy or ("predicted" if "predicted" in tried else tried[0])
    curves = _curves(replays, bounds)
    advice = recommend(curves, deploy)
    return Editability(
        _table(classifier, vectors, val, pre_val), curves, advice,
        overall(advice["light"]), deploy, bounds, replays,
    )  # fmt: skip


def _directions(classifier, vectors) -> dict[str, dict]:
    """Method to target to edit of strength 1."""
    edits = {method: {} for method in METHODS}
    for c in vectors.classes:
        edits[VECTOR][c] = edit = vectors[c].require_effect()
        edits[CONTRAST][c] = contrast_direction(vectors, c).scaled_to(edit.norm)
        edits[HEAD][c] = head_direction(classifier, vectors, c).scaled_to(edit.norm)
        edits[RETIRE][c] = -relocation(vectors, c)
    return edits


def _amounts(name: str, classifier, vectors, moments, val, bounds: Bounds) -> Sequence[np.ndarray]:
    """How far a gate lets the edit of every class act on each sample of val."""
    if name == "none":
        return [np.ones(len(val))] * len(vectors)
    if name == MAPPING:
        edits = [vectors[c] for c in vectors.classes]
        return map_edit(classifier, edits, moments).amounts(val.z).T
    options = {"false_fire": bounds.false_fire, "guarantee": bounds.guarantee, "moments": moments}
    options |= {"score": name, "classifier": classifier}
    return [calibrate_gate(val, vectors, c, **options).weights(val.z) for c in vectors.classes]


def _curves(replays, bounds: Bounds) -> pd.DataFrame:
    """`Editability.curves`."""
    parts = [r.curves().assign(method=m, gate=gate) for (m, gate), r in replays.items()]
    curves = pd.concat(parts, ignore_index=True)
    unedited = curves.groupby(["method", "gate", "class"])["acc_r"].transform("first")
    keeps = curves["acc_r"] >= (1 - bounds.tolerance) * unedited
    meets = keeps & (curves["acc_f"] <= bounds.threshold) & (curves["lambda_"] < 0)
    return curves.assign(keeps=keeps, meets=meets)


def _table(classifier, vectors, val, pre_val) -> pd.DataFrame:
    head, kappa = head_rows(classifier), vectors.kappa
    centred, basis = head.centred, head.basis
    moved, norm = kappa - kappa.mean(axis=0), np.linalg.norm(kappa, axis=1)
    held = val.moments()
    spread = np.sqrt(held.variance)
    lengths = np.linalg.norm(moved, axis=1) * np.linalg.norm(centred, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        table = pd.DataFrame(
            {
                "class": vectors.classes,
                "n": held.count,
                "norm_kappa": norm,
                "spread": spread,
                "shift_to_spread": norm / spread,
                "alignment": np.einsum("cm,cm->c", moved, centred) / lengths,
                "read_share": np.square(kappa @ basis.T).sum(axis=1) / norm**2,
            }
        )
    none = np.zeros(0, dtype=int)
    predicted, y = (none, none) if pre_val is None else (predict(classifier, pre_val), pre_val.y)
    found = accuracy(predicted, y, vectors.classes)[["accuracy", "low", "high", "n"]].iloc[:-1]
    table[["head_on_pre", "head_on_pre_low", "head_on_pre_high", "n_pre"]] = found
    return table
