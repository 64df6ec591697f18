"""Surveys over targets and models: strength curves, whether guarantees can hold, and relearning, a frame each."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ..editing.audit.relearn import relearn_time
from ..editing.calibration import exchangeability
from ..editing.strength import BOUNDS, Bounds, strength_curve
from .experiment import Experiment
from .forget import FINE_TUNED, ForgetStudy


def survey_strengths(
    exps: Iterable[Experiment],
    targets: Sequence[str],
    gates: Sequence[str],
    bounds: Bounds = BOUNDS,
) -> pd.DataFrame:
    """`strength_curve` of the class vector on test for every exp, target and gate, with columns that name them."""
    curves = []
    for exp in exps:
        for target in targets:
            for gate in dict.fromkeys(gates):
                unit = (
                    exp.vectors[target]
                    if gate == "none"
                    else exp.vectors[target].gated(exp.gate(target, gate, bounds))
                )
                curve = strength_curve(exp.ft, unit, exp.features["test"], lambdas=bounds.lambdas)
                named = {
                    "direction": "class vector",
                    "gate": gate,
                    "target": target,
                    "seed": exp.seed,
                    "split": "test",
                }
                curves.append(curve.assign(**named))
    return pd.concat(curves, ignore_index=True)


def survey_guarantees(
    exp: Experiment, targets: Sequence[str], gate: str, bounds: Bounds = BOUNDS
) -> pd.DataFrame:
    """Whether each gate's guarantee can hold on the test split, see `exchangeability`: one row a target, with a sentence."""
    rows = []
    for target in targets if gate != "none" else ():
        found = exchangeability(
            exp.gate(target, gate, bounds), exp.features["val"], exp.features["test"]
        )
        row = {
            "target": target,
            "guarantee": found.guarantee,
            "balance_p": found.balance_p,
            "scores_p": found.scores_p,
        }
        rows.append(row | {"n": found.n_new, "doubtful": found.doubtful, "says": found.says()[0]})
    columns = ["target", "guarantee", "balance_p", "scores_p", "n", "doubtful", "says"]
    return pd.DataFrame(rows, columns=columns)


def guarantees_say(survey: pd.DataFrame) -> tuple[str, ...]:
    """The sentences of the gates whose guarantee is in doubt, or one for all."""
    if not len(survey):
        return ("Without a gate there is nothing to guarantee.",)
    if not survey["guarantee"].isin(["marginal", "pac"]).any():
        return (f"The {len(survey)} gates carry no guarantee.",)
    if not survey["doubtful"].any():
        return (
            f"Nothing speaks against the guarantee of any of the {len(survey)} gates on the test split.",
        )
    return tuple(survey.loc[survey["doubtful"], "says"])


def survey_relearning(
    study: ForgetStudy,
    targets: Sequence[str],
    methods: Sequence[str],
    *,
    max_steps: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Steps until accuracy on a target is back to nine tenths of the fine-tuned model's, on val, see `relearn_time`.

    One row a target and method that the study has, with steps (text, "> 100" where it never came back) and censored; no rows
    for max_steps = 0.
    """
    columns = ["target", "method", "steps", "censored", "threshold", "split"]
    rows, data = [], study.exp.data
    for target in targets if max_steps else ():
        base = study.find(FINE_TUNED, target).readouts["val"]
        goal = float((base.predicted == base.y)[base.y == base.index(target)].mean())
        have = {o.method for o in study.outcomes[target]}
        for method in (m for m in methods if m in have and m != FINE_TUNED):
            task = {
                "evaluate": data["val"],
                "target": target,
                "original_accuracy": goal,
                "max_steps": max_steps,
                "seed": seed,
            }
            found = relearn_time(study.find(method, target).classifier, data["train"], **task)
            row = {
                "target": target,
                "method": method,
                "steps": str(found),
                "censored": found.censored,
            }
            rows.append(row | {"threshold": np.round(found.threshold, 6), "split": "val"})
    return pd.DataFrame(rows, columns=columns)
