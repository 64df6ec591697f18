"""How strong an edit must be: accuracy against lambda, and the smallest lambda that serves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import words
from ..checks import in_range
from ..edits import Edit
from ..errors import EditError
from ..readout import Latent, predict
from ..statistics import split_accuracy
from .injection import inject

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

    @property
    def gating(self) -> dict:
        """What `calibrate_gate` takes of them."""
        return {"false_fire": self.false_fire, "guarantee": self.guarantee}


BOUNDS = Bounds()


@dataclass(frozen=True, eq=False)
class Strength:
    """The curve of an edit over lambda on val, and the smallest |lambda| that serves.

    Args:
        curve: as `strength_curve` gives it, with a column meets; lambda_ 0 is the unedited model.
        lambda_: NaN where no strength meets the bounds.
        best: lambda_, or where that is NaN the one with the lowest ACC_f among those that keep
            ACC_r, or, if none does, with the highest ACC_r.
        threshold: ACC_f at most; tolerance: share of ACC_r that may be lost.
    """

    edit: Edit
    curve: pd.DataFrame
    lambda_: float
    best: float
    threshold: float
    tolerance: float

    def says(self) -> tuple[str, ...]:
        """What was chosen and what lambda = -1 does."""
        table = self.curve.set_index("lambda_")
        bounds = (
            f"ACC_f <= {100 * self.threshold:.4g}% and "
            f"ACC_r within {100 * self.tolerance:.4g}% of unedited on val"
        )
        found = f"lambda = {self.lambda_:+g} is the smallest with {bounds}"
        if np.isnan(self.lambda_):
            found = f"no lambda tried brings {bounds}; the best is {self.best:+g}"
        row = table.loc[self.best]
        f, r = (
            f"{words.percent(row[f'acc_{x}'], row[f'acc_{x}_low'], row[f'acc_{x}_high'])} "
            f"(n = {row[f'n_{x}']:.0f})"
            for x in "fr"
        )
        sentences = [f"{self.edit.target}: {found}: ACC_f {f} and ACC_r {r}."]
        if -1.0 in table.index:
            f, r = (words.percent(table.loc[-1.0, f"acc_{x}"]) for x in "fr")
            sentences.append(f"At lambda = -1: ACC_f {f}, ACC_r {r}.")
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
            weights = np.ones(len(features)) if edit.gate is None else edit.gate.weights(features.z)
        predicted = Latent(classifier, features.z).predict(weights[:, None] * edit.vector, alphas)
    own = features.y == classifier.classes.index(edit.target)
    hits = zip(alphas + 0.0, np.asarray(predicted) == features.y, strict=True)
    return pd.DataFrame([{"lambda_": alpha} | split_accuracy(hit, own) for alpha, hit in hits])


def choose_lambda(
    classifier,
    edit: Edit,
    features,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    threshold: float = THRESHOLD,
    tolerance: float = TOLERANCE,
    weights: np.ndarray | None = None,
) -> Strength:
    """The smallest |lambda| with ACC_f <= threshold and ACC_r >= (1 - tolerance) · unedited.

    Args:
        edit: of strength 1, gated as it shall be deployed.
        features: of the validation split, on which nothing is reported.
        lambdas: strengths to try; -1 always is.
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
    keeps = curve["acc_r"] >= (1 - tolerance) * base["acc_r"]
    curve["meets"] = keeps & (curve["acc_f"] <= threshold) & (curve["lambda_"] != 0)
    tried = curve[curve["lambda_"] != 0]
    if curve["meets"].any():
        chosen = best = float(min(tried.loc[tried["meets"], "lambda_"], key=abs))
    else:
        kept = tried[keeps[tried.index]]
        row = kept["acc_f"].idxmin() if len(kept) else tried["acc_r"].idxmax()
        chosen, best = np.nan, float(curve.loc[row, "lambda_"])
    return Strength(edit, curve, chosen, best, threshold, tolerance)
