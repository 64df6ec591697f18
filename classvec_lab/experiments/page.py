"""`verdict`: will class vectors edit this pair of models, who pays, is the class recoverable?"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from ..checks import one_of, record
from ..diagnostics.orthogonality.report import Orthogonality, orthogonality
from ..editing.advice import behind
from ..editing.audit.report import Audit
from ..editing.strength import BOUNDS, Bounds
from ..errors import EditError
from ..progress import progress_bar
from ..readout import predict
from ..statistics import Estimate, median, share
from ..vectors import ClassVectors
from ..words import percent, points
from .experiment import GATES, Experiment
from .forget import ForgetStudy, forget_study
from .methods import FINE_TUNED, RETRAINED, standard_methods, training_methods
from .outlook import Editability, editability
from .replay import CollateralSurvey, strengths, survey_collateral

PROBED = ("class vector", "mapping, retired to the mean", "mapping, retired and scattered")
AUDITED = ("class vector", "z_ft - μ", "head direction", "head-aware class vector", *PROBED[1:])


@record
class Verdict:
    """What edits do on val, said beforehand, and what they did on test, on one page.

    geometry: of the class vectors on val. editability: what edits do on val, and the advice.
    study: the edits on test. collateral: the class vector behind the gate `editability.deploy`, on
    val and on test. audits: by method, of the class `audited`.
    """

    name: str
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

    @cached_property
    def table(self) -> pd.DataFrame:
        """The numbers of the page.

        Returns:
            A frame with one row a quantity: `quantity`, `value`, its 95 % interval `low` and `high`
            (NaN where none is known), `n` and `split`.
        """
        exp, known = self.study.exp, self.editability.table
        test, pre = exp.features["test"], exp.pre_features["val"]
        explained = self.geometry.geometry().set_index("scalar").loc["explained"]
        cosine, n = self.geometry.summary().iloc[0], len(pre)
        found = {
            "accuracy of the fine-tuned model": share(predict(exp.ft, test) == test.y),
            "displacement explained by class (R²)": Estimate(
                explained.corrected, explained.low, explained.high, n
            ),
            "shift of a class over its spread, median": median(known["shift_to_spread"]),
            "head on the pre-trained representation": share(predict(exp.ft, pre) == pre.y),
            "share of |κ|² that the head reads, median": median(known["read_share"]),
            "mean cosine of κ to other classes' means": Estimate(
                cosine.off_diagonal, cosine.low, cosine.high, n
            ),
            "the same, expected from three scalars": Estimate(
                self.geometry.expected, np.nan, np.nan, n
            ),
        }
        start = f"probe on class {self.audited}"
        for method, audit in self.audits.items():
            found[f"{start} after {method}"] = audit.probes["edited"].recall
        if "retrained" in audit.probes:
            recall = audit.probes["retrained"].recall
            found[f"{start} in a model retrained without it"] = recall
        table = pd.DataFrame({"quantity": quantity, **vars(e)} for quantity, e in found.items())
        after = table["quantity"].str.match("accuracy|probe")
        return table.drop(columns="name").assign(split=np.where(after, "test", "val"))

    def routes(self) -> pd.DataFrame:
        """Where test samples of the audited class go, by method, with both reference models."""
        shown = (RETRAINED, FINE_TUNED, *AUDITED, "logit mask")
        return self.study.routes(shown, self.audited)

    def says(self) -> tuple[str, ...]:
        """The page in sentences: what was said beforehand, then what was measured."""
        score, lambda_ = self.collateral.score, self.collateral.lambda_
        at, every = score[score["lambda_"] == lambda_].iloc[0], score.iloc[-1]
        gain = points(every.gain, every.gain_low, every.gain_high)
        edited, other, change, n = self.collateral.pays()
        advised = self.editability.recommendation["method"]
        found = [
            *self.editability.says()[:3],
            f"Recommended for most classes: {advised.mode().iloc[0]}.",
            f"Measured on test at lambda = {lambda_:+g} {behind(self.collateral.gate)}: ACC_f "
            f"{at.acc_f_measured:.1%}, on validation {at.acc_f_replay:.1%} (mean over {at.n:.0f} "
            "classes). Over all lambda the mean on validation is at most "
            f"{100 * abs(every.acc_f_replay_error):.1f} points off. Class by class it errs by "
            f"{100 * every.replay:.1f} points, 'no change' by {100 * every.no_change:.1f}: "
            f"a gain of {gain}.",
            f"Who pays: editing {edited} changes {other}'s accuracy by {points(change)} (n = {n}), "
            "the largest loss."
            if change < 0
            else "Who pays: no other class loses accuracy under any class's edit.",
        ]
        for method in PROBED:
            probes = self.audits[method].probes
            recall = probes["edited"].recall
            text = (
                f"Recoverable after {method}: a probe finds {percent(*recall)} of class "
                f"{self.audited} (n = {recall.n})"
            )
            if "retrained" in probes:
                text += f"; in a model retrained without it {probes['retrained'].recall.value:.1%}"
            found.append(f"{text}.")
        return tuple(found)


def verdict(
    exp: Experiment,
    *,
    bounds: Bounds = BOUNDS,
    name: str = "",
    targets: Sequence[str] | None = None,
    retrained: Sequence[str] = (),
    deploy: str = "predicted",
    lambda_: float = -1.5,
    audited: str = "",
    progress: bool = True,
) -> Verdict:
    """Try edits on val, then edit every target and measure on test.

    Args:
        exp: the pair of models and their data.
        bounds: when a class counts as forgotten, and what gates are calibrated for.
        name: title of the page.
        targets: classes to edit, all by default.
        retrained: those with a retrained reference; each takes a fine-tuning.
        deploy: the gate, one of the scores or "none".
        lambda_: the strength of the collateral matrices.
        audited: the class whose audits are made, by default the first with a retrained reference,
            else the first target.
        progress: whether to show a bar over the five steps, and those of the longest.
    Raises:
        EditError: for unknown classes or gates, before any long work.
    """
    targets, deploy = exp.require_targets(targets), one_of(deploy, GATES, "gate", EditError)
    audited = audited or (retrained or targets)[0]
    for target in (audited, *retrained):
        one_of(target, targets, "target", EditError)
    strengths([lambda_])
    pre, val = exp.pre_features["val"], exp.features["val"]
    bar = progress_bar(total=5, desc="verdict", unit="step", disable=not progress)
    geometry = orthogonality(
        ClassVectors.from_features(pre, val), features=(pre, val), n_boot=300, seed=exp.seed
    )
    bar.update()
    train, of = exp.features["train"], {"deploy": deploy, "bounds": bounds}
    told = editability(exp.ft, exp.vectors, train, val, pre_val=pre, **of)
    bar.update()
    collateral = survey_collateral(exp, targets, deploy, lambda_, bounds=bounds)
    bar.update()
    margin = {"margin"} & {*told.curves["gate"]}  # where val is large enough for it
    methods = standard_methods(deploy, ("none", *margin), bounds)
    slow = training_methods(progress=progress)
    del methods["projection"], methods["LEACE"]
    only = dict.fromkeys(slow, retrained)
    study = forget_study(exp, targets, methods | slow, only=only, progress=progress)
    bar.update()
    audits = study.audits(AUDITED, audited, progress=progress)
    bar.update()
    bar.close()
    return Verdict(name, geometry, told, study, collateral, audited, audits)
