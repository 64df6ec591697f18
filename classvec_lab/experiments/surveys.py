"""Surveys over targets: relearning, and whether gates' guarantees can hold, in words."""

from collections.abc import Sequence

import pandas as pd

from ..editing.audit.relearn import BACK, relearn_time
from ..readout import predict
from ..words import several
from .forget import ForgetStudy
from .methods import FINE_TUNED


def guarantees_say(survey: pd.DataFrame) -> tuple[str, ...]:
    """The sentences of the gates whose guarantee is in doubt, or one for all.

    Args:
        survey: one row a gate, of `exchangeability`: guarantee, doubtful, says.
    """
    if not len(survey):
        return ("Without a gate there is nothing to guarantee.",)
    if survey["doubtful"].any():
        return tuple(survey.loc[survey["doubtful"], "says"])
    stated = survey["guarantee"].isin(["marginal", "pac"]).any()
    start = "Nothing speaks against the guarantee of" if stated else "No guarantee goes with"
    return (f"{start} the {several(len(survey), 'gate')} on the test split.",)


def survey_relearning(
    study: ForgetStudy,
    targets: Sequence[str],
    methods: Sequence[str],
    *,
    max_steps: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Steps until accuracy on a target is back to nine tenths of the fine-tuned model's, on val.

    Args:
        methods: names; those that the study lacks are left out.
        max_steps: see `relearn_time`; 0 for no rows.
    Returns:
        One row a target and method: target, method, steps (text, "> 100" where it never came
        back), censored, threshold, split.
    """
    rows, exp, val = [], study.exp, study.exp.features["val"]
    hit = predict(exp.ft, val) == val.y
    for target in targets if max_steps else ():
        goal = float(hit[val.y == val.classes.index(target)].mean())
        task = {"evaluate": exp.val, "target": target, "original_accuracy": goal, "seed": seed}
        for method in (m for m in methods if study.has(m, target) and m != FINE_TUNED):
            model = study.find(method, target).classifier
            steps = relearn_time(model, exp.train, max_steps=max_steps, **task)
            told = f"> {max_steps}" if steps is None else str(steps)
            rows.append((target, method, told, steps is None, round(BACK * goal, 6), "val"))
    columns = ["target", "method", "steps", "censored", "threshold", "split"]
    return pd.DataFrame(rows, columns=columns)
