"""`verdict`: will class vectors edit this pair of models, who pays, is the class recoverable?"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from ..checks import one_of, record
from ..diagnostics.orthogonality.report import Orthogonality, orthogonality
from ..diagnostics.orthogonality.words import DELTA
from ..editing import BOUNDS, Bounds, behind, left
from ..editing.audit.report import Audit
from ..errors import EditError
from ..gates import DEPLOYED
from ..progress import progress_bar
from ..readout import predict
from ..statistics import Estimate, median, share, with_ends
from ..vectors import ClassVectors
from ..words import percent, points, several
from .experiment import GATES, Experiment
from .forget import ForgetStudy, forget_study
from .gate_choice import rates_say
from .methods import FINE_TUNED, RECOMMENDED, RETRAINED, standard_methods, training_methods
from .prospects import Editability, outlook
from .replay import CollateralSurvey, strengths, survey_collateral

PROBED = ("class vector", "mapping, retired to the mean", "mapping, retired and scattered")
PAID = ("none", "margin", "mapping, discriminant")  # in which other classes can lose
AUDITED = ("class vector", "z_ft - μ", "head direction", "head-aware class vector", *PROBED[1:])


@record
class Verdict:
    """What edits do on val, said beforehand, and what they did on test, on one page.

    geometry: of the class vectors on val. editability: what edits do on val, and the advice.
    study: the edits on test. collateral: by gate or way of mapping, the class vector of every
    target on val and on test: behind the gate `editability.deploy` and in the `PAID` ways, where
    other classes can lose. audits: by method, of the class `audited`.
    """

    name: str
    geometry: Orthogonality
    editability: Editability
    study: ForgetStudy
    collateral: dict[str, CollateralSurvey]
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
        pairs, n = self.geometry.equivalence((DELTA,)).iloc[0], len(pre)
        found = {
            "accuracy of the fine-tuned model": share(predict(exp.ft, test) == test.y),
            "displacement explained by class (R²)": Estimate(
                explained.corrected, explained.low, explained.high, n
            ),
            "shift of a class over its spread, median": median(known["shift_to_spread"]),
            "head on the pre-trained representation": share(predict(exp.ft, pre) == pre.y),
            "share of |κ|² that the head reads, median": median(known["read_share"]),
            **{
                f"pairs of classes {found} within ±{DELTA:g} of orthogonal": Estimate(
                    pairs[column], np.nan, np.nan, int(pairs["n_entries"])
                )
                for found, column in (("shown", "inside"), ("refuted", "outside"))
            },
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

    @property
    def deployed(self) -> CollateralSurvey:
        """The survey behind the gate that is meant to be used."""
        return self.collateral[self.editability.deploy]

    @property
    def paying(self) -> list[str]:
        """The ways of `collateral` in which other classes can lose."""
        return [way for way in PAID if way in self.collateral]

    def routes(self) -> pd.DataFrame:
        """Where test samples of the audited class go, by method, with both reference models."""
        shown = (RETRAINED, FINE_TUNED, *AUDITED, "logit mask")
        return self.study.routes(shown, self.audited)

    def says(self) -> tuple[str, ...]:
        """The page in sentences: what was said beforehand, then what was measured."""
        told = self.editability
        here = self.deployed
        at = here.score.set_index("lambda_").loc[here.lambda_]
        advised = told.recommendation["method"].value_counts()
        found = [
            *told.says(),
            *rates_say(self.study.exp, told.bounds),
            "Recommended: "
            + ", ".join(
                f"{name} for {several(n, 'class', 'classes')}" for name, n in advised.items()
            )
            + ".",
            f"Measured on test at lambda = {here.lambda_:+g} {behind(told.deploy)}: ACC_f "
            f"{at['acc_f_measured']:.1%}, on validation {at['acc_f_replay']:.1%} (mean over "
            f"{at['n']:.0f} classes).",
            *verdicts_say(self.verdicts()),
            *map(self._pays, self.paying),
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

    def verdicts(self) -> pd.DataFrame:
        """`class_verdicts` of the study."""
        return class_verdicts(self.study, self.editability.deploy, self.editability.bounds)

    def _pays(self, way: str) -> str:
        """Who loses most in a way in which others can lose, and how much."""
        survey = self.collateral[way]
        edited, other, change, n = survey.pays()
        own = survey.measured.to_numpy()
        kept = own[survey.measured.index.to_numpy()[:, None] != survey.measured.columns.to_numpy()]
        mean = f"others change by {points(np.nanmean(kept))} on average over all pairs of classes"
        if change < 0:
            return (
                f"Who pays {behind(way)}, lambda = {survey.lambda_:+g}: {mean}; most for {other}, "
                f"by {points(change)} when {edited} is edited (n = {n})."
            )
        return f"Who pays {behind(way)}, lambda = {survey.lambda_:+g}: no class; {mean}."


def verdict(
    exp: Experiment,
    *,
    bounds: Bounds = BOUNDS,
    name: str = "",
    targets: Sequence[str] | None = None,
    retrained: Sequence[str] = (),
    deploy: str = DEPLOYED,
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
    told = outlook(exp, deploy, bounds)
    bar.update()
    ways = dict.fromkeys(way for way in (deploy, *PAID) if way in {*told.curves["gate"]})
    collateral = {way: survey_collateral(exp, targets, way, lambda_, bounds=bounds) for way in ways}
    bar.update()
    methods = standard_methods(deploy, ("none", "margin"), bounds)
    slow = training_methods(progress=progress)
    del methods["projection"], methods["LEACE"]
    only = dict.fromkeys(slow, retrained)
    study = forget_study(exp, targets, methods | slow, only=only, progress=progress)
    bar.update()
    audits = study.audits(AUDITED, audited, progress=progress)
    bar.update()
    bar.close()
    return Verdict(name, geometry, told, study, collateral, audited, audits)


def class_verdicts(
    study: ForgetStudy, deploy: str = DEPLOYED, bounds: Bounds = BOUNDS
) -> pd.DataFrame:
    """What was recommended for each class on val, and what it did on test.

    Args:
        study: with the method "recommended".
        deploy, bounds: those that it was made with.
    Returns:
        A frame with one row a class: class, light, method, direction, gate, lambda_, val_acc_f, and
        on test n_f, acc_f, n_r, acc_r with 95 % Wilson intervals, change_r, `verdict` and seed. The
        verdict is "forgotten" where ACC_f is within the threshold, "not forgotten" where its whole
        interval lies above, else "some left".
    """
    told = outlook(study.exp, deploy, bounds)
    columns = ["class", "light", "method", "direction", "gate", "lambda_", "acc_f"]
    said = told.recommendation[columns].rename(columns={"acc_f": "val_acc_f"})
    found = study.table[study.table["method"] == RECOMMENDED].rename(columns={"target": "class"})
    measured = ["n_f", *with_ends("acc_f"), "n_r", *with_ends("acc_r"), "change_r"]
    table = said.merge(found[["class", *measured]], on="class").assign(split="test")
    gone = table["acc_f"] <= bounds.threshold
    above = np.where(table["acc_f_low"] > bounds.threshold, "not forgotten", "some left")
    return table.assign(verdict=np.where(gone, "forgotten", above), seed=study.exp.seed)


def verdicts_say(table: pd.DataFrame) -> tuple[str, ...]:
    """Over all classes, what the recommended edits did on test.

    Args:
        table: see `class_verdicts`.
    """
    gone, n = (table["verdict"] == "forgotten").sum(), len(table)
    worst = table.loc[table["acc_f"].idxmax()]
    kept = f" (most for {worst['class']}: {left(worst, 'f')})" if worst["acc_f"] else ""
    return (
        f"The edits recommended on validation forget {gone} of {several(n, 'class', 'classes')} on "
        f"test: ACC_f {percent(table['acc_f'].mean())} on average{kept}, ACC_r "
        f"{points(table['change_r'].mean())}.",
    )
