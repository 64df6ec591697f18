"""`verdict`: will class vectors edit this pair of models, which method serves, which class pays, is the class recoverable?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..diagnostics.orthogonality.report import Orthogonality, orthogonality
from ..editing.audit.report import Audit
from ..editing.calibration import negatives_needed
from ..editing.strength import BOUNDS, Bounds
from ..errors import EditError
from ..readout import predict
from ..statistics import wilson
from ..vectors import ClassVectors
from .experiment import Experiment
from .forecast_scores import survey_collateral
from .forget import ForgetStudy, forget_study
from .methods import FINE_TUNED, RETRAINED, standard_methods, training_methods
from .outlook import Editability, editability

SHOWN = (
    "class vector", "z_ft - μ", "head direction", "head-aware class vector", "mapping, retired to the mean",
    "mapping, retired and scattered", "logit mask",
)  # fmt: skip

PROBED = ("class vector", "mapping, retired to the mean", "mapping, retired and scattered")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What was forecast before any edit, and what happened then, on one page.

    table: one row a quantity with value, its 95 % interval (NaN where none is known), n and split. geometry: of the class
    vectors on val. editability: the forecasts; study: the edits, on test. forecast and measured: collateral matrices
    (change of every class's accuracy, columns, under every class's edit, rows) of the class vector at `lambda_` behind the
    gate `editability.deploy`. curves: by kind (forecast, measured, replayed on val) and lambda, mean ACC_f and ACC_r over the
    classes edited. score: the forecast's errors. audits: by method, of the class `audited`.
    """

    name: str
    table: pd.DataFrame
    geometry: Orthogonality
    editability: Editability
    study: ForgetStudy
    forecast: pd.DataFrame
    measured: pd.DataFrame
    lambda_: float
    curves: pd.DataFrame
    score: pd.DataFrame
    audited: str
    audits: dict[str, Audit]

    @property
    def light(self) -> str:
        """ "green", "amber" or "red", forecast before any edit."""
        return self.editability.light

    @property
    def recommended(self) -> str:
        """The method recommended for most classes."""
        return str(self.editability.recommendation["method"].mode().iloc[0])

    def pays(self) -> tuple[str, str, float, int]:
        """(class edited, other class, change of its accuracy, n): the largest loss measured on test under a class vector."""
        losses = self.measured.copy()
        for name in losses.index:
            losses.loc[name, name] = np.nan
        edited, other = losses.stack().idxmin()
        n = int((self.study.exp.features["test"].y == list(losses.columns).index(other)).sum())
        return edited, other, float(losses.loc[edited, other]), n

    def says(self) -> tuple[str, ...]:
        """The page in sentences, forecast first, then what was measured."""
        at = self.score[self.score["lambda_"] == self.lambda_].iloc[0]
        every = self.score.iloc[-1]
        beats = (
            "beats"
            if every["gain_low"] > 0
            else "does not beat"
            if every["gain_high"] < 0
            else "is not shown to beat"
        )
        edited, other, change, n = self.pays()
        found = [
            *self.editability.says()[:3],
            f"Recommended for most classes: {self.recommended}.",
            f"Measured at lambda = {self.lambda_:+g} behind the gate {self.editability.deploy!r}: ACC_f "
            f"{at['acc_f_measured']:.1%}, forecast {at['acc_f_forecast']:.1%} (mean over {at['n']:.0f} classes). Over all lambda "
            f"the forecast mean is at most {100 * abs(every['acc_f_error']):.1f} points off; cell by cell it {beats} 'no change' "
            f"(mean absolute error {every['forecast']:.1%} against {every['no_change']:.1%}; running the edits on val gives "
            f"{every['replay']:.1%}).",
            f"Who pays: editing {edited} changes {other}'s accuracy by {100 * change:+.1f} points (n = {n}), the largest loss."
            if change < 0
            else "Who pays: no other class loses accuracy under any class's edit.",
        ]
        for method, audit in self.audits.items():
            if method not in PROBED:
                continue
            probe = audit.get("probe")
            text = (
                f"Recoverable after {method}: a probe finds {probe['value']:.1%} [{probe['low']:.1%}, {probe['high']:.1%}] "
                f"of class {self.audited} (n = {probe['n']:.0f})"
            )
            known = np.isfinite(probe["retrained"])
            found.append(
                f"{text}; in a model retrained without it {probe['retrained']:.1%}."
                if known
                else f"{text}."
            )
        return tuple(found)


def verdict(
    exp: Experiment,
    *,
    name: str = "",
    targets: Sequence[str] | None = None,
    retrained: Sequence[str] | None = (),
    deploy: str = "predicted",
    lambda_: float = -1.5,
    audited: str = "",
    n_boot: int = 300,
    n_random: int = 5,
    bounds: Bounds = BOUNDS,
    progress: bool = True,
) -> Verdict:
    """Forecast from val, then edit every target and measure on test.

    targets: classes to edit, all by default; retrained: those with a retrained reference, None for all (each takes a
    fine-tuning). deploy: the gate, see `Editability`. lambda_: the strength of the collateral matrices, one of the forecast's.
    audited: the class whose audits are made, by default the first with a retrained reference, else the first target.
    Raises EditError for unknown classes or gates, before any long work.
    """
    targets, (deploy,) = exp.require_targets(targets), exp.require_gates([deploy])
    if not -np.inf < lambda_ < 0:
        raise EditError(
            f"forgetting moves a class back: lambda_ must be finite and below 0; got {lambda_}"
        )
    references = targets if retrained is None else retrained and exp.require_targets(retrained)
    if extra := [t for t in references if t not in targets]:
        raise EditError(
            f"a retrained reference is for a target; {extra[0]!r} is none of {', '.join(targets)}"
        )
    audited = exp.require_targets([audited])[0] if audited else (*references, *targets)[0]
    if audited not in targets:
        raise EditError(
            f"the class to audit, {audited!r}, must be one of the targets {', '.join(targets)}"
        )
    val = exp.pre_features["val"], exp.features["val"]
    geometry = orthogonality(
        ClassVectors.from_features(*val), features=val, n_boot=n_boot, seed=exp.seed
    )
    told = editability(
        exp.ft, exp.vectors, exp.features["train"], val[1], pre_val=val[0], deploy=deploy, lambdas=bounds.lambdas,
        threshold=bounds.threshold, tolerance=bounds.tolerance, false_fire=bounds.false_fire, seed=exp.seed,
    )  # fmt: skip
    collateral = survey_collateral(exp, targets, deploy, lambda_, bounds)
    fewest = len(val[1]) - int(np.bincount(val[1].y).max())
    margin = ("margin",) if fewest >= negatives_needed(bounds.false_fire, bounds.guarantee) else ()
    gates = tuple(dict.fromkeys((deploy, "none", *margin)))
    methods, slow = standard_methods(deploy, gates, bounds, n_random=n_random), training_methods()
    del methods["projection"], methods["LEACE"]
    study = forget_study(
        exp, targets, methods | slow, only=dict.fromkeys(slow, references), progress=progress
    )
    have = {outcome.method for outcome in study.outcomes[audited]}
    shown = [m for m in SHOWN if m in have]
    audits = {m: study.audit(m, audited) for m in shown if m != "logit mask"}
    table = pd.DataFrame(_quantities(exp, geometry, told, study, audits, audited))
    return Verdict(
        name, table, geometry, told, study, collateral.forecast, collateral.measured, lambda_, collateral.curves,
        collateral.score, audited, audits,
    )  # fmt: skip


def routed(report: Verdict) -> pd.DataFrame:
    """Where test samples of the audited class go: by method, the retrained and the fine-tuned model among them."""
    found = {o.method for o in report.study.outcomes[report.audited]}
    routes = report.study.routes([m for m in (RETRAINED, FINE_TUNED, *SHOWN) if m in found])
    return routes[routes["target"] == report.audited].reset_index(drop=True)


def _quantities(
    exp, geometry: Orthogonality, told: Editability, study: ForgetStudy, audits, audited: str
):
    first = next(iter(study.outcomes))
    hits = study.find(FINE_TUNED, first).predicted == exp.features["test"].y
    yield _share("accuracy of the fine-tuned model", hits, "test")
    scalars = geometry.geometry().set_index("scalar")
    explained = scalars.loc["explained"]
    yield {
        "quantity": "displacement explained by class (R²)", "value": explained["corrected"], "low": explained["low"],
        "high": explained["high"], "n": len(exp.features["val"]), "split": "val",
    }  # fmt: skip
    shift = told.table["shift_to_spread"]
    yield _median("shift of a class over its spread, median", shift)
    pre = exp.pre_features["val"]
    yield _share("head on the pre-trained representation", predict(exp.ft, pre) == pre.y, "val")
    yield _median("share of |κ|² that the head reads, median", told.table["read_share"])
    summary = geometry.summary()
    row = summary.iloc[0]
    yield {
        "quantity": "mean cosine of κ to other classes' means", "value": row["off_diagonal"], "low": row["low"],
        "high": row["high"], "n": len(exp.features["val"]), "split": "val",
    }  # fmt: skip
    yield {
        "quantity": "the same, expected from three scalars", "value": geometry.expected, "low": np.nan, "high": np.nan,
        "n": len(exp.features["val"]), "split": "val",
    }  # fmt: skip
    for method, audit in audits.items():
        probe = audit.get("probe")
        yield {
            "quantity": f"probe on class {audited} after {method}", "value": probe["value"], "low": probe["low"],
            "high": probe["high"], "n": int(probe["n"]), "split": "test",
        }  # fmt: skip
    if audits and np.isfinite(value := next(iter(audits.values())).get("probe")["retrained"]):
        n = int(next(iter(audits.values())).get("probe")["n"])
        low, high = wilson(value * n, n)
        quantity = f"probe on class {audited} in a model retrained without it"
        yield {
            "quantity": quantity,
            "value": value,
            "low": float(low),
            "high": float(high),
            "n": n,
            "split": "test",
        }


def _share(quantity: str, hits: np.ndarray, split: str) -> dict:
    low, high = wilson(hits.sum(), len(hits))
    return {
        "quantity": quantity,
        "value": hits.mean(),
        "low": float(low),
        "high": float(high),
        "n": len(hits),
        "split": split,
    }


def _median(quantity: str, values: pd.Series) -> dict:
    """The median over classes; the interval is the range of the order statistics that bounds it with 95 % confidence."""
    from scipy.stats import binom

    ordered = np.sort(values.dropna())
    n = len(ordered)
    k = int(binom.ppf(0.025, n, 0.5))
    low, high = (ordered[k - 1], ordered[n - k]) if k >= 1 else (np.nan, np.nan)
    return {
        "quantity": quantity,
        "value": float(np.median(ordered)),
        "low": low,
        "high": high,
        "n": n,
        "split": "val",
    }
