"""Gates compared: what each threshold costs, and which score serves an edit best on validation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..editing.audit.metrics import worst_sibling
from ..editing.calibration import calibrate_gate
from ..editing.strength import BOUNDS, Bounds, strength_curve
from ..gates import Gate
from ..statistics import summarise, with_ends
from .experiment import Experiment

CHOICES = ("cosine", "margin", "discriminant", "predicted", "margin, Youden", "margin, soft")
SOFTNESS = 0.1  # width of the soft gate, in standard deviations of the scores on val


def named_gate(exp: Experiment, target: str, choice: str, bounds: Bounds = BOUNDS) -> Gate:
    """The gate that one of `CHOICES` stands for, calibrated on val."""
    val, (score, _, variant) = exp.features["val"], choice.partition(", ")
    if variant == "Youden":
        return calibrate_gate(val, exp.vectors, target, score=score, guarantee="youden")
    gate = exp.gate(target, score, bounds)
    return gate.soft(SOFTNESS * float(np.std(gate.scores(val.z)))) if variant else gate


def compare_gates(
    exp: Experiment,
    targets: Sequence[str],
    *,
    lambda_: float = -1.5,
    bounds: Bounds = BOUNDS,
) -> pd.DataFrame:
    """The class vector at one strength behind each of `CHOICES`.

    To pick a gate by its figures on val voids its guarantee there: calibrate the picked one on
    other images.

    Returns:
        One row a gate, target and split (val, test): gate, guarantee, target, seed, split, miss,
        false_fire, sibling_fires (of the other class that fires most), and of `strength_curve` at
        lambda_.
    Raises:
        EditError: for unknown classes, before any work.
    """
    rows = []
    for target in exp.require_targets(targets):
        for choice in CHOICES:
            gate = named_gate(exp, target, choice, bounds)
            edit = exp.vectors[target].gated(gate)
            for split in ("val", "test"):
                it = exp.features[split]
                own, fired = it.y == it.classes.index(target), gate.fires(it.z)
                row = {"gate": choice, "guarantee": gate.guarantee, "target": target}
                row |= {"seed": exp.seed, "split": split, "miss": 1 - fired[own].mean()}
                row["false_fire"] = fired[~own].mean()
                row["sibling_fires"] = worst_sibling(fired, it.y, target, it.classes).value
                curve = strength_curve(exp.ft, edit, it, lambdas=[lambda_]).set_index("lambda_")
                rows.append(row | dict(curve.loc[lambda_]))
    return pd.DataFrame(rows)


def summarise_gates(table: pd.DataFrame) -> pd.DataFrame:
    """One row a gate and split of `compare_gates`, or of several joined; see `summarise`."""
    names = with_ends("acc_f", "acc_r", "miss", "false_fire")
    columns = ["n", "unit", *names, "worst_acc_f", "worst_sibling_fires"]
    found = summarise(table, ["gate", "split", "guarantee"], columns)
    return found.rename(columns={"worst_sibling_fires": "worst_sibling"})
