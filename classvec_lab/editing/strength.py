"""How strong an edit must be: accuracy against lambda, and the lambda that is taken."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..checks import in_range, record
from ..edits import Edit
from ..errors import EditError
from ..readout import Latent, predict
from ..statistics import ends, split_accuracy
from ..words import percent
from .injection import inject

LAMBDAS = (-0.5, -1.0, -1.5, -2.0, -3.0, -5.0)
THRESHOLD, TOLERANCE = 0.02, 0.01
# lambda = -1 brings the class mean to where it was; half as much again is a reserve for new images
FLOOR = 1.5
FEW = 15  # images of a class in val: below, those of training count as well
ROUNDING, LAST = 1e-9, 1e9


@dataclass(frozen=True)
class Bounds:
    """What an edit must keep to, and what is tried: the decisions behind gates and strengths.

    Args:
        threshold: ACC_f at most, on val, for a class to count as forgotten.
        tolerance: share of the unedited ACC_r that may be lost, on val.
        lambdas: the strengths tried on val; -1 always is.
        floor: the |lambda| below which none is taken that serves, if a stronger one serves, too.
        false_fire: stated rate of a gate on the other classes.
        guarantee: what a gate's threshold promises, see `calibrate_gate`.
    Raises:
        EditError: for a share outside [0, 1], and a floor below 0.
    """

    threshold: float = THRESHOLD
    tolerance: float = TOLERANCE
    lambdas: Sequence[float] = LAMBDAS
    floor: float = FLOOR
    false_fire: float = 0.01
    guarantee: str = "marginal"

    def __post_init__(self):
        for name in ("threshold", "tolerance", "false_fire"):
            in_range(name, getattr(self, name), 0, 1, error=EditError)
        in_range("floor", self.floor, 0, np.inf, error=EditError)
        vars(self).update(lambdas=tuple(self.lambdas))

    @property
    def strength(self) -> dict:
        """What `choose_lambda` takes of them."""
        return {n: getattr(self, n) for n in ("lambdas", "threshold", "tolerance", "floor")}

    @property
    def gating(self) -> dict:
        """What `calibrate_gate` takes of them."""
        return {"false_fire": self.false_fire, "guarantee": self.guarantee}


BOUNDS = Bounds()


@record
class Strength:
    """The curve of an edit over lambda on val, and the lambda that is taken, see `choose_lambda`.

    Args:
        curve: as `strength_curve` gives it, with a column meets; lambda_ 0 is the unedited model.
        lambda_: NaN where no strength meets the bounds.
        best: lambda_, or where that is NaN the one with the least ACC_f plus lost ACC_r.
        threshold: ACC_f at most; tolerance: share of ACC_r that may be lost.
        out_of_reach: share of the target's samples that are right and that the gate doesn't see:
            no strength brings ACC_f below it.
    """

    edit: Edit
    curve: pd.DataFrame
    lambda_: float
    best: float
    threshold: float
    tolerance: float
    out_of_reach: float = 0.0

    @property
    def cost(self) -> float:
        """ACC_f less ACC_r at `best`: of two edits the one that costs less is the better one."""
        row = self.curve.set_index("lambda_").loc[self.best]
        return float(row["acc_f"] - row["acc_r"])

    def says(self) -> tuple[str, ...]:
        """What was chosen and what lambda = -1 does."""
        table = self.curve.set_index("lambda_")
        bounds = (
            f"ACC_f <= {100 * self.threshold:.4g}% and "
            f"ACC_r within {100 * self.tolerance:.4g}% of unedited on val"
        )
        found = f"lambda = {self.lambda_:+g} is taken, with {bounds}"
        if np.isnan(self.lambda_):
            found = f"no lambda tried brings {bounds}; the best is {self.best:+g}"
        row = table.loc[self.best]
        sentences = [f"{self.edit.target}: {found}: {left(row, 'f')} and {left(row, 'r')}."]
        if -1.0 in table.index:
            f, r = (percent(table.loc[-1.0, f"acc_{x}"]) for x in "fr")
            sentences.append(f"At lambda = -1: ACC_f {f}, ACC_r {r}.")
        if self.out_of_reach:
            hidden = percent(self.out_of_reach)
            sentences.append(
                f"The gate does not see {hidden} of the class's samples that are named rightly: no "
                f"strength brings ACC_f below {hidden}."
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
    """ACC_f (the edit's target) and ACC_r (all other classes) of lambda · edit behind its gate.

    The gate sees representations only; labels are used to count.

    Args:
        lambdas: strengths, finite; 0 is always tried.
        weights: (N,), how far the edit acts on each sample, where that isn't its gate's doing (a
            mapping's k · z + o).
    Returns:
        One row a strength, falling: lambda_, n_f, acc_f and its 95 % Wilson interval (acc_f_low,
        acc_f_high), and the same for r.
    Raises:
        EditError: for lambdas that are not finite.
    """
    edit.require(classifier).require_effect()
    classifier.require_classes(features.classes, "the features")
    alphas = np.unique([0.0, *lambdas])[::-1]
    if not np.isfinite(alphas).all():
        raise EditError(f"lambdas must be finite numbers; got {list(lambdas)}")
    if getattr(classifier, "edits", ()):  # their gates read the raw z, not the moved one
        models = [inject(classifier, a * edit) if a else classifier for a in alphas]
        predicted = [predict(model, features) for model in models]
    else:
        if weights is None:
            weights = edit.gate.weights(features.z) if edit.gate else np.ones(len(features))
        predicted = Latent(classifier, features.z).predict(weights[:, None] * edit.vector, alphas)
    own = features.y == classifier.classes.index(edit.target)
    hits = zip(alphas + 0.0, np.asarray(predicted) == features.y, strict=True)
    return pd.DataFrame([{"lambda_": alpha} | split_accuracy(hit, own) for alpha, hit in hits])


def scarce(val, train, target: str | None = None):
    """Training `Features` of the classes of which val has fewer than 15 samples; None without any.

    Of 4 samples none is left by luck. Training images are named rightly more often, which asks
    rather too much of an edit than too little.

    Args:
        target: this class alone.
    """
    rows = (np.bincount(val.y, minlength=len(val.classes)) < FEW)[train.y]
    if target is not None:
        rows &= train.y == val.classes.index(target)
    return replace(train, z=train.z[rows], y=train.y[rows], data=None) if rows.any() else None


def choose_lambda(
    classifier,
    edit: Edit,
    features,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    threshold: float = THRESHOLD,
    tolerance: float = TOLERANCE,
    floor: float = FLOOR,
    weights: np.ndarray | None = None,
) -> Strength:
    """A lambda with ACC_f <= threshold and ACC_r >= (1 - tolerance) · unedited, with a reserve.

    The smallest |lambda| that serves on val leaves new images of the class where val has few: of
    those that serve, the one is taken that is nearest to `floor` from above, else the largest below
    it. Where none serves, ACC_f plus the loss of ACC_r decides, so that the choice is no worse than
    any fixed one in that sum.

    Args:
        edit: of strength 1, gated as it shall be deployed.
        features: of the validation split, on which nothing is reported.
        lambdas: strengths to try; -1 always is.
        floor: a |lambda|.
        weights: see `strength_curve`.
    Raises:
        EditError: where they lack the target or all others.
    """
    curve = strength_curve(classifier, edit, features, lambdas=(*lambdas, -1.0), weights=weights)
    base = curve.set_index("lambda_").loc[0.0]
    if not (base["n_f"] and base["n_r"]):
        raise EditError(
            f"choosing lambda needs samples of {edit.target!r} and of other classes "
            "in the val split"
        )
    edited, kept = curve["lambda_"] != 0, curve["acc_r"] >= (1 - tolerance) * base["acc_r"]
    curve["meets"] = edited & kept & (curve["acc_f"] <= threshold)
    tried, serves = curve[edited], curve["meets"].any()
    cost = tried["acc_f"] - tried["acc_r"]
    tried = tried[tried["meets"] if serves else cost <= cost.min() + ROUNDING]
    best = min(tried["lambda_"], key=lambda x: reserve(x, floor))
    chosen, hidden = best if serves else np.nan, 0.0
    if weights is None and edit.gate is not None:
        own = features.y == classifier.classes.index(edit.target)
        right = predict(classifier, features) == features.y
        hidden = float((right & (edit.gate.weights(features.z) == 0))[own].mean())
    return Strength(edit, curve, chosen, float(best), threshold, tolerance, hidden)


def left(row, kind: str) -> str:
    """ACC_f or ACC_r ("f" or "r") of a row of curves, in words with its interval and n."""
    acc = percent(*ends(row, f"acc_{kind}"))
    return f"ACC_{kind} {acc} (n = {row[f'n_{kind}']:.0f})"


def reserve(lambdas, floor: float = FLOOR) -> np.ndarray:
    """Ranks of strengths, the lowest first: from `floor` up, and after these from it down to 0."""
    size = np.abs(lambdas)
    return np.where(size >= floor - ROUNDING, size, LAST - size)
