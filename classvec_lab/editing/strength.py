"""How strong an edit must be: accuracy of the class and of the others against lambda, and the smallest that serves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..checks import in_range
from ..edits import Edit
from ..errors import EditError
from ..readout import Latent
from ..statistics import split_accuracy

LAMBDAS = (-0.5, -1.0, -1.5, -2.0, -3.0, -5.0)
THRESHOLD, TOLERANCE = 0.02, 0.01


@dataclass(frozen=True)
class Bounds:
    """What an edit must keep to, and what is tried: the decisions behind gates and strengths.

    Args:
        threshold: ACC_f at most, on val, for a class to count as forgotten.
        tolerance: share of the unedited ACC_r that may be lost, on val.
        lambdas: the strengths tried on val; -1 always is.
        false_fire: stated rate of a gate on the other classes.
        guarantee: what a gate's threshold promises, see `calibrate_gate`.
    Raises:
        EditError: for a share outside [0, 1].
    """

    threshold: float = THRESHOLD
    tolerance: float = TOLERANCE
    lambdas: Sequence[float] = LAMBDAS
    false_fire: float = 0.01
    guarantee: str = "marginal"

    def __post_init__(self):
        for name in ("threshold", "tolerance", "false_fire"):
            in_range(name, getattr(self, name), 0, 1, error=EditError)
        object.__setattr__(self, "lambdas", tuple(self.lambdas))

    @property
    def strength(self) -> dict:
        """What `choose_lambda` takes of them."""
        return {n: getattr(self, n) for n in ("lambdas", "threshold", "tolerance")}


BOUNDS = Bounds()


@dataclass(frozen=True, eq=False)
class Strength:
    """The curve of an edit over lambda on one split, and the smallest |lambda| that meets both bounds there.

    curve: lambda_, n_f and acc_f with its 95 % Wilson interval (acc_f_low, acc_f_high), n_r and acc_r likewise, meets;
    lambda 0 is the unedited model. lambda_ is NaN where no strength meets them; `best` then is the one with the
    lowest ACC_f among those that keep ACC_r, or, if none does, with the highest ACC_r.
    """

    edit: Edit
    curve: pd.DataFrame
    lambda_: float
    best: float
    threshold: float
    tolerance: float
    split: str = "val"

    def says(self) -> tuple[str, ...]:
        """What was chosen and what lambda = -1 does."""
        table = self.curve.set_index("lambda_")
        bounds = f"ACC_f <= {self.threshold:.0%} and ACC_r within {self.tolerance:.0%} of unedited on {self.split}"
        row = table.loc[self.best]
        if np.isfinite(self.lambda_):
            found = f"lambda = {self.lambda_:+g} is the smallest with {bounds}"
        else:
            found = f"no lambda tried brings {bounds}; the best is {self.best:+g}"
        sentences = [
            f"{self.edit.target}: {found}: ACC_f {row['acc_f']:.1%} [{row['acc_f_low']:.1%}, {row['acc_f_high']:.1%}] "
            f"(n = {row['n_f']:.0f}) and ACC_r {row['acc_r']:.1%} [{row['acc_r_low']:.1%}, {row['acc_r_high']:.1%}] "
            f"(n = {row['n_r']:.0f})."
        ]
        if -1.0 in table.index:
            sentences.append(
                f"At lambda = -1: ACC_f {table.loc[-1.0, 'acc_f']:.1%}, ACC_r {table.loc[-1.0, 'acc_r']:.1%}."
            )
        return tuple(sentences)


def strength_curve(
    classifier,
    edit: Edit,
    features,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    weights: np.ndarray | None = None,
) -> pd.DataFrame:
    """ACC_f (the edit's target) and ACC_r (all other classes) of lambda · edit behind its gate, at lambda 0 and all given.

    weights (N,): how far the edit acts on each sample, where that isn't its gate's doing (a mapping's k · z + o).
    The gate sees representations only; labels are used to count. Raises EditError for lambdas that are not finite.
    """
    edit.require(classifier).require_effect()
    classifier.require_classes(features.classes, "the features")
    alphas = np.unique(np.asarray([0.0, *lambdas], dtype=np.float64))[::-1]
    if not np.isfinite(alphas).all():
        raise EditError(f"lambdas must be finite numbers; got {list(lambdas)}")
    if weights is None:
        weights = np.ones(len(features.y)) if edit.gate is None else edit.gate.weights(features.z)
    if getattr(classifier, "edits", ()):  # their gates read the raw z, not the moved one
        from .injection import read_logits

        predicted = np.stack(
            [read_logits(classifier, alpha * edit, features.z).argmax(axis=1) for alpha in alphas]
        )
    else:
        predicted = Latent(classifier, features.z).predict(weights[:, None] * edit.vector, alphas)
    own = features.y == classifier.classes.index(edit.target)
    rows = []
    for alpha, hit in zip(alphas, predicted == features.y, strict=True):
        rows.append({"lambda_": alpha + 0.0} | split_accuracy(hit, own))
    return pd.DataFrame(rows)


def choose_lambda(
    classifier,
    edit: Edit,
    features,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    threshold: float = THRESHOLD,
    tolerance: float = TOLERANCE,
    split: str = "val",
    weights: np.ndarray | None = None,
) -> Strength:
    """The smallest |lambda| with ACC_f <= threshold and ACC_r >= (1 - tolerance) of the unedited one, on validation features.

    edit: of strength 1, gated as it shall be deployed; lambda = -1 is always tried. features: a split on
    which nothing is reported; weights: see `strength_curve`. Raises EditError where the split lacks the target or all others.
    """
    curve = strength_curve(classifier, edit, features, lambdas=(*lambdas, -1.0), weights=weights)
    if not (curve["n_f"].iloc[0] and curve["n_r"].iloc[0]):
        raise EditError(
            f"choosing lambda needs samples of {edit.target!r} and of other classes in the {split} split"
        )
    base = curve.loc[curve["lambda_"] == 0].iloc[0]
    keeps = curve["acc_r"] >= (1 - tolerance) * base["acc_r"]
    curve["meets"] = keeps & (curve["acc_f"] <= threshold) & (curve["lambda_"] != 0)
    tried = curve[curve["lambda_"] != 0]
    if curve["meets"].any():
        chosen = best = float(min(tried.loc[tried["meets"], "lambda_"], key=abs))
    else:
        chosen, kept = np.nan, tried[keeps[tried.index]]
        rule = ("acc_f", True) if len(kept) else ("acc_r", False)
        pool = (kept if len(kept) else tried).sort_values(
            [rule[0]], ascending=rule[1], kind="stable"
        )
        best = float(pool["lambda_"].iloc[0])
    return Strength(edit, curve, chosen, best, threshold, tolerance, split)
