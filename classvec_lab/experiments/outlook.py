"""Will class vectors edit this model? Edits are tried on validation, and each class gets advice."""

import numpy as np
import pandas as pd

from ..checks import listed, one_of, record
from ..editing import calibrate_gate, contrast_direction, head_direction, relocation
from ..editing.advice import (
    CONTRAST,
    GREEN,
    HEAD,
    LIGHTS,
    MAPPING,
    MILD,
    RETIRE,
    VECTOR,
    behind,
    left,
    overall,
    recommend,
)  # fmt: skip
from ..editing.strength import BOUNDS, Bounds
from ..editing.weights.mapping import map_edit
from ..errors import EditError, MismatchError, ModelError
from ..readout import check_labelled, head_rows, predict
from ..statistics import accuracy
from .experiment import GATES
from .replay import replay_edits

TRIED = ("none", "predicted", "margin", MAPPING)  # gates


@record
class Editability:
    """What forgetting each class does on validation, and which method to take.

    table: one row a class: `n` (validation samples), `norm_kappa`, `spread` (root mean square
    distance of validation samples to their class mean), `shift_to_spread` (the first over the
    second: below about 1 fine-tuning moved the class less than its samples differ), `alignment`
    (cosine of the centred class vector with the head's centred row), `read_share` (share of
    |kappa_c|² in the span of the head's centred rows: the head sees no more of it), `head_on_pre`
    (accuracy of the head on z_pre, what lambda = -1 gives back) with its 95 % Wilson interval
    (`_low`, `_high`) and `n_pre`.
    curves: one row a method, gate, class and lambda_ (0 included): `acc_f` and `acc_r` (all other
    classes) on validation with 95 % Wilson intervals, `n_f` and `n_r`, `keeps` (ACC_r is within the
    tolerance) and `meets` (ACC_f is within the threshold, too).
    recommendation: see `recommend`. light: "green", "amber" or "red", see `overall`.
    deploy: the gate behind the light.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    recommendation: pd.DataFrame
    light: str
    deploy: str
    bounds: Bounds

    def says(self) -> tuple[str, ...]:
        """The light, the geometry behind it, what lambda = -1 does, and each class not green."""
        advice, table = self.recommendation, self.table
        green, amber, red = ((advice["light"] == light).sum() for light in LIGHTS)
        by, n = behind(self.deploy), table["n_pre"].sum()
        right = (table["head_on_pre"] * table["n_pre"]).sum()
        at = "lambda_ == -1 and method == 'class vector' and gate == @self.deploy"
        back = self.curves.query(at)
        worst = back.loc[back["acc_f"].idxmax()]
        return (
            f"{self.light.upper()}: On validation, class vectors at |lambda| <= {MILD:g} {by} "
            f"forget {green} of {len(advice)} classes (ACC_f <= {100 * self.bounds.threshold:g}%, "
            f"ACC_r within {100 * self.bounds.tolerance:g}% of unedited); other edits of that "
            f"length forget {amber} more, none forgets {red}.",
            f"Fine-tuning moved a class by {table['shift_to_spread'].median():.2f} times its "
            f"spread (median), {table['read_share'].median():.0%} of the squared length where the "
            f"head can see it; the head already names {right / n:.1%} of z_pre (n = {n}).",
            f"Lambda = -1 gives a class its pre-trained mean back; {by} {back['meets'].sum()} of "
            f"{len(back)} classes then meet both bounds on validation. ACC_f is "
            f"{back['acc_f'].mean():.1%} on average, worst for {worst['class']}: "
            f"{left(worst, 'f')}.",
            *advice.loc[advice["light"] != GREEN, "sentence"],
        )


def editability(
    classifier, vectors, train, val, *, pre_val, deploy: str = "predicted", bounds: Bounds = BOUNDS
) -> Editability:
    """Forget every class by latent edits on validation features, and recommend a method for each.

    Four directions are tried. Three have the length |kappa_c|: the class vector, z_ft - mu, which
    needs no pre-trained model, and the head's own centred row. The fourth is relocation to the mean
    of the other classes, at its own length, which lambda = -1 completes. Each is tried without a
    gate, behind the gates "predicted", "margin" and `deploy`, and with the closed-form linear gate
    that `map_edit` writes into weights, which is left out where it can't be made.

    The gates are calibrated on the same validation features on which the edits are judged. Their
    false fires there are therefore as stated, not an unbiased estimate, and so is the smallest
    lambda that serves. Measure the edit that is chosen on other images.

    Args:
        classifier: the fine-tuned `Classifier`.
        vectors: `ClassVectors` of training images.
        train: labelled `Features` of the fine-tuned encoder.
        val: the same, of images that neither training nor the vectors have seen.
        pre_val: `Features` of the pre-trained encoder on the images of val.
        deploy: the gate that is meant to be used: a score or "none".
        bounds: when a class counts as forgotten, the strengths, and what gates are calibrated for.
    Raises:
        MismatchError: for models, classes or dimensions that differ, or classes without samples.
        EditError: for an unknown gate, lambdas that are not negative, or a class that was not
            moved.
    """
    one_of(deploy, GATES, "gate", EditError)
    for side, part in (("ft", train), ("ft", val), ("pre", pre_val)):
        check_labelled(classifier, part, vectors)
        vectors.require(**{side: getattr(vectors, side) and part.model})
    if absent := [c for i, c in enumerate(val.classes) if not (val.y == i).any()]:
        raise MismatchError(f"no sample of class {listed(absent)} in the validation set")
    kappa, moments = {c: vectors[c] for c in vectors.classes}, train.moments(pooled_scatter=True)
    edits = {
        VECTOR: {c: k.require_effect() for c, k in kappa.items()},
        CONTRAST: {c: contrast_direction(vectors, c).scaled_to(k.norm) for c, k in kappa.items()},
        HEAD: {
            c: head_direction(classifier, vectors, c).scaled_to(k.norm) for c, k in kappa.items()
        },
        RETIRE: {c: -relocation(vectors, c) for c in kappa},
    }
    gating = {"classifier": classifier, "moments": moments, **bounds.gating}
    lambdas, parts = (*bounds.lambdas, -1.0), []
    for gate in dict.fromkeys((*TRIED, deploy)):
        try:  # how far the gate lets the edit of every class act on each sample
            if gate == "none":
                amounts = [np.ones(len(val))] * len(kappa)
            elif gate == MAPPING:
                amounts = map_edit(classifier, kappa.values(), moments).amounts(val.z).T
            else:
                gates = [calibrate_gate(val, vectors, c, score=gate, **gating) for c in kappa]
                amounts = [found.weights(val.z) for found in gates]
        except (EditError, ModelError):
            if gate == deploy:
                raise
            continue
        for method, units in edits.items():
            curves = replay_edits(classifier, units, val, lambdas, amounts).curves()
            parts.append(curves.assign(method=method, gate=gate))
    curves = pd.concat(parts, ignore_index=True)
    unedited = curves.groupby(["method", "gate", "class"])["acc_r"].transform("first")
    keeps = curves["acc_r"] >= (1 - bounds.tolerance) * unedited
    meets = keeps & (curves["acc_f"] <= bounds.threshold) & (curves["lambda_"] < 0)
    curves = curves.assign(keeps=keeps, meets=meets)
    advice = recommend(curves, deploy)
    table, light = _table(classifier, vectors, val, pre_val), overall(advice["light"])
    return Editability(table, curves, advice, light, deploy, bounds)


def _table(classifier, vectors, val, pre_val) -> pd.DataFrame:
    head, kappa, held = head_rows(classifier), vectors.kappa, val.moments()
    moved, norm = kappa - kappa.mean(axis=0), np.linalg.norm(kappa, axis=1)
    lengths = np.linalg.norm(moved, axis=1) * np.linalg.norm(head.centred, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        table = pd.DataFrame({"class": vectors.classes, "n": held.count, "norm_kappa": norm})
        table["spread"] = np.sqrt(held.variance)
        table["shift_to_spread"] = table["norm_kappa"] / table["spread"]
        table["alignment"] = np.einsum("cm,cm->c", moved, head.centred) / lengths
        table["read_share"] = np.square(kappa @ head.basis.T).sum(axis=1) / norm**2
    found = accuracy(predict(classifier, pre_val), pre_val.y, vectors.classes).iloc[:-1]
    columns = ["head_on_pre", "head_on_pre_low", "head_on_pre_high", "n_pre"]
    table[columns] = found[["accuracy", "low", "high", "n"]]
    return table
