"""`verdict`: will class vectors edit this pair of models, what serves, who pays, is the class recoverable?"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from ..checks import one_of
from ..diagnostics.orthogonality.report import Orthogonality, orthogonality
from ..editing.advice import behind
from ..editing.audit.report import Audit
from ..editing.calibration import negatives_needed
from ..editing.strength import Bounds
from ..errors import EditError
from ..readout import predict
from ..statistics import Estimate, share, wilson
from ..vectors import ClassVectors
from ..words import percent, points
from .experiment import Experiment
from .forget import FINE_TUNED, RETRAINED, ForgetStudy, forget_study
from .outlook import Editability, editability
from .replay import CollateralSurvey, strengths, survey_collateral

SHOWN = (
    "class vector", "z_ft - μ", "head direction", "head-aware class vector", "mapping, retired to the mean",
    "mapping, retired and scattered", "logit mask",
)  # fmt: skip

PROBED = ("class vector", "mapping, retired to the mean", "mapping, retired and scattered")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What edits do on val, said beforehand, and what they did on test, on one page.

    table: one row a quantity with `value`, its 95 % interval `low` and `high` (NaN where none is
    known), `n` and `split`. geometry: of the class vectors on val. editability: what edits do on val,
    and the advice. study: the edits on test. collateral: the class vector behind the gate
    `editability.deploy`, on val and on test. audits: by method, of the class `audited`.
    """

    name: str
    table: pd.DataFrame
    geometry: Orthogonality
    editability: Editability
    study: ForgetStudy
    collateral: CollateralSurvey
    audited: str
    audits: dict[str, Audit]

    @property
    def light(self) -> str:
        """ "green", "amber" or "red", said before the test split is read."""
        return self.editability.light

    @property
    def recommended(self) -> str:
        """The method recommended for most classes."""
        return str(self.editability.recommendation["method"].mode().iloc[0])

    def routes(self) -> pd.DataFrame:
        """Where test samples of the audited class go: by method, the retrained and the fine-tuned model among them."""
        found = {o.method for o in self.study.outcomes[self.audited]}
        routes = self.study.routes([m for m in (RETRAINED, FINE_TUNED, *SHOWN) if m in found])
        return routes[routes["target"] == self.audited].reset_index(drop=True)

    def says(self) -> tuple[str, ...]:
        """The page in sentences: what was said beforehand, then what was measured."""
        score, lambda_ = self.collateral.score, self.collateral.lambda_
        at, every = score[score["lambda_"] == lambda_].iloc[0], score.iloc[-1]
        beats = (
            "beats"
            if every["gain_low"] > 0
            else "does not beat"
            if every["gain_high"] < 0
            else "is not shown to beat"
        )
        edited, other, change, n = self.collateral.pays()
        found = [
            *self.editability.says()[:3],
            f"Recommended for most classes: {self.recommended}.",
            f"Measured on test at lambda = {lambda_:+g} {behind(self.collateral.gate)}: ACC_f "
            f"{at['acc_f_measured']:.1%}, on val {at['acc_f_replay']:.1%} (mean over {at['n']:.0f} "
            f"classes). Over all lambda the mean on val is at most "
            f"{100 * abs(every['acc_f_replay_error']):.1f} points off; cell by cell it {beats} 'no "
            f"change' (mean absolute error {every['replay']:.1%} against {every['no_change']:.1%}).",
            f"Who pays: editing {edited} changes {other}'s accuracy by {points(change)} (n = {n}), the largest loss."
            if change < 0
            else "Who pays: no other class loses accuracy under any class's edit.",
        ]
        for method in (m for m in PROBED if m in self.audits):
            probe = self.audits[method].get("probe")
            text = (
                f"Recoverable after {method}: a probe finds "
                f"{percent(probe['value'], probe['low'], probe['high'])} of class {self.audited} "
                f"(n = {probe['n']:.0f})"
            )
            if np.isfinite(probe["retrained"]):
                text += f"; in a model retrained without it {probe['retrained']:.1%}"
            found.append(f"{text}.")
        return tuple(found)


def verdict(
    exp: Experiment,
    *,
    bounds: Bounds = Bounds(),
    name: str = "",
    targets: Sequence[str] | None = None,
    retrained: Sequence[str] | None = (),
    deploy: str = "predicted",
    lambda_: float = -1.5,
    audited: str = "",
    n_boot: int = 300,
    n_random: int = 5,
    progress: bool = True,
) -> Verdict:
    """Try edits on val, then edit every target and measure on test.

    Args:
        exp: the pair of models and their data.
        bounds: when a class counts as forgotten, and what gates are calibrated for.
        name: title of the page.
        targets: classes to edit, all by default.
        retrained: those with a retrained reference, None for all (each takes a fine-tuning).
        deploy: the gate, one of the scores or "none".
        lambda_: the strength of the collateral matrices.
        audited: the class whose audits are made, by default the first with a retrained reference,
            else the first target.
        n_boot: resamples behind the intervals of the geometry.
        n_random: draws of the random direction.
        progress: whether to show a bar.
    Raises:
        EditError: for unknown classes or gates, before any long work.
    """
    targets, (deploy,) = exp.require_targets(targets), exp.require_gates([deploy])
    strengths([lambda_])
    if audited:
        one_of(audited, targets, "target to audit", EditError)
    y = exp.val.targets
    enough = negatives_needed(bounds.false_fire, bounds.guarantee)
    margin = ("margin",) if len(y) - np.bincount(y).max() >= enough else ()
    study = forget_study(
        exp, targets, bounds=bounds, gates=tuple(dict.fromkeys((deploy, "none", *margin))),
        main_gate=deploy, retrained=retrained, n_random=n_random, erasers=False, progress=progress,
    )  # fmt: skip
    audited = audited or (retrained or targets)[0]
    pre, val = exp.pre_features["val"], exp.features["val"]
    geometry = orthogonality(
        ClassVectors.from_features(pre, val), features=(pre, val), n_boot=n_boot, seed=exp.seed
    )
    told = editability(
        exp.ft,
        exp.vectors,
        exp.features["train"],
        val,
        pre_val=pre,
        deploy=deploy,
        **asdict(bounds),
    )
    collateral = survey_collateral(exp, targets, deploy, lambda_, bounds=bounds)
    have = {outcome.method for outcome in study.outcomes[audited]}
    audits = {m: study.audit(m, audited) for m in SHOWN if m in have and m != "logit mask"}
    rows = [
        {"quantity": quantity, **asdict(found), "split": split}
        for quantity, found, split in _quantities(exp, geometry, told, study, audits, audited)
    ]
    table = pd.DataFrame(rows).drop(columns="name")
    return Verdict(name, table, geometry, told, study, collateral, audited, audits)


def _quantities(
    exp, geometry: Orthogonality, told: Editability, study: ForgetStudy, audits, audited: str
) -> Iterator[tuple[str, Estimate, str]]:
    base = study.find(FINE_TUNED, audited).readouts["test"]
    yield "accuracy of the fine-tuned model", share(base.predicted == base.y), "test"
    pre, table, n = exp.pre_features["val"], told.table, int(geometry.count.sum())
    found = _estimate(geometry.geometry().set_index("scalar").loc["explained"], "corrected", n)
    yield "displacement explained by class (R²)", found, "val"
    yield "shift of a class over its spread, median", median(table["shift_to_spread"]), "val"
    right = predict(exp.ft, pre) == pre.y
    yield "head on the pre-trained representation", share(right), "val"
    yield "share of |κ|² that the head reads, median", median(table["read_share"]), "val"
    found = _estimate(geometry.summary().iloc[0], "off_diagonal", n)
    yield "mean cosine of κ to other classes' means", found, "val"
    found = Estimate(geometry.expected, np.nan, np.nan, n)
    yield "the same, expected from three scalars", found, "val"
    for method, audit in audits.items():
        probe = audit.get("probe")
        n = int(probe["n"])
        yield f"probe on class {audited} after {method}", _estimate(probe, "value", n), "test"
    if audits and np.isfinite(value := probe["retrained"]):
        found = Estimate(value, *map(float, wilson(value * n, n)), n)
        yield f"probe on class {audited} in a model retrained without it", found, "test"


def _estimate(row: pd.Series, name: str, n: int) -> Estimate:
    return Estimate(row[name], row["low"], row["high"], n)


def median(values: pd.Series) -> Estimate:
    """The median over classes; the interval is the range of the order statistics that bounds it with 95 % confidence."""
    from scipy.stats import binom

    ordered = np.sort(values.dropna())
    n = len(ordered)
    k = int(binom.ppf(0.025, n, 0.5))
    low, high = (ordered[k - 1], ordered[n - k]) if k >= 1 else (np.nan, np.nan)
    return Estimate(float(np.median(ordered)), low, high, n)
