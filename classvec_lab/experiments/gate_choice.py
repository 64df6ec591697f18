"""Gates compared behind one strength, and whether their guarantees can hold, in words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..editing.calibration import GUARANTEES, calibrate_gate, least_rate
from ..editing.strength import BOUNDS, Bounds
from ..gates import Gate
from ..statistics import summarise, with_ends
from ..words import several
from .experiment import Experiment
from .forget import gate_errors
from .methods import left_of, read

LAMBDA = -1.5
SOFTNESS = 0.1  # width of the soft gate, in standard deviations of the scores on val


def gate_choices(exp: Experiment, target: str, bounds: Bounds = BOUNDS) -> dict[str, Gate]:
    """The gates that are compared, by name, calibrated on val."""
    val = exp.features["val"]
    scores = ("cosine", "margin", "discriminant", "predicted")
    gates = {score: exp.gate(target, score, bounds) for score in scores}
    margin = gates["margin"]
    youden = calibrate_gate(val, exp.vectors, target, guarantee="youden")
    soft = margin.soft(SOFTNESS * float(np.std(margin.scores(val.z))))
    return gates | {"margin, Youden": youden, "margin, soft": soft}


def compare_gates(
    exp: Experiment, targets: Sequence[str], *, bounds: Bounds = BOUNDS
) -> pd.DataFrame:
    """The class vector at lambda = -1.5 behind each of `gate_choices`.

    To pick a gate by its figures on val voids its guarantee there: calibrate the picked one on
    other images.

    Returns:
        One row a gate, target and split (val, test): gate, guarantee, target, seed, split, those of
        `gate_errors`, and what is `left_of` the target and the others.
    Raises:
        EditError: for unknown classes, before any work.
    """
    rows = []
    for target in exp.require_targets(targets):
        for choice, gate in gate_choices(exp, target, bounds).items():
            for split in ("val", "test"):
                it, edit = exp.features[split], LAMBDA * exp.vectors[target].gated(gate)
                row = {"gate": choice, "guarantee": gate.guarantee, "target": target}
                row |= {"seed": exp.seed, "split": split}
                row |= gate_errors(gate.fires(it.z), it, target)
                rows.append(row | left_of(read(exp, edit, split), [target]))
    return pd.DataFrame(rows)


def summarise_gates(table: pd.DataFrame) -> pd.DataFrame:
    """One row a gate and split of `compare_gates`, or of several joined; see `summarise`."""
    names = with_ends("acc_f", "acc_r", "miss", "false_fire")
    columns = ["n", "unit", *names, "worst_acc_f", "worst_sibling_fires"]
    found = summarise(table, ["gate", "split", "guarantee"], columns)
    return found.rename(columns={"worst_sibling_fires": "worst_sibling"})


def rates_say(exp: Experiment, bounds: Bounds = BOUNDS) -> tuple[str, ...]:
    """One sentence where val is too small for the rate that gates were asked for, else none."""
    y, asked, guarantee = exp.val.targets, *bounds.gating.values()
    others = len(y) - np.bincount(y, minlength=len(exp.val.classes))
    least = [least_rate(n, guarantee) for n in others] if guarantee in GUARANTEES[:2] else [0]
    if max(least) <= asked:
        return ()
    most = "up to " if min(others) < max(others) else ""
    return (
        f"Gates are calibrated for {most}{100 * max(least):.3g}%, "
        f"the least that {several(min(others), 'validation sample')} of other classes allow; "
        f"{100 * asked:.3g}% was asked for.",
    )


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
