"""Gates compared behind one strength, and whether their guarantees can hold, in words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..editing.calibration import calibrate_gate
from ..editing.strength import BOUNDS, Bounds
from ..gates import Gate
from ..readout import predict
from ..statistics import summarise, with_ends
from ..words import several
from .experiment import Experiment
from .forget import gate_errors
from .methods import left_of, read

LAMBDA = -1.5
SOFTNESS = 0.1  # width of the soft gate, in standard deviations of the scores on val


def gate_choices(exp: Experiment, target: str, bounds: Bounds = BOUNDS) -> dict[str, Gate | None]:
    """The gates that are compared, by name, calibrated on val; None stands for no gate."""
    val = exp.features["val"]
    scores = ("none", "predicted", "margin", "cosine", "discriminant")
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
        `gate_errors`, what is `left_of` the target and the others, and change_r.
    Raises:
        EditError: for unknown classes, before any work.
    """
    rows = []
    for target in exp.require_targets(targets):
        for choice, gate in gate_choices(exp, target, bounds).items():
            for split in ("val", "test"):
                it, edit = exp.features[split], LAMBDA * exp.vectors[target].gated(gate)
                right, fired = predict(exp.ft, it) == it.y, gate and gate.fires(it.z)
                row = {"gate": choice, "guarantee": gate.guarantee if gate else "none"}
                row |= {"target": target, "seed": exp.seed, "split": split}
                soft = gate is not None and gate.temperature > 0
                row |= gate_errors(fired, it, target, right, soft)
                row |= left_of(read(exp, edit, split), [target])
                others = it.y != it.classes.index(target)
                rows.append(row | {"change_r": row["acc_r"] - float(right[others].mean())})
    return pd.DataFrame(rows)


def summarise_gates(table: pd.DataFrame) -> pd.DataFrame:
    """One row a gate and split of `compare_gates`, or of several joined; see `summarise`."""
    names = with_ends("acc_f", "acc_r", "change_r", "miss", "false_fire", "out_of_reach")
    columns = ["n", "unit", *names, "worst_acc_f", "worst_sibling_fires"]
    found = summarise(table, ["gate", "split", "guarantee"], columns)
    return found.rename(columns={"worst_sibling_fires": "worst_sibling"})


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
