"""Gates compared: what each threshold costs, and which score serves an edit best on validation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..editing.calibration import calibrate_gate, gate_report
from ..editing.strength import BOUNDS, Bounds, strength_curve
from ..errors import EditError
from ..gates import SCORES, Gate
from ..statistics import mean_interval
from .experiment import Experiment

CHOICES = ("cosine", "margin", "discriminant", "predicted", "margin, Youden", "margin, soft")
SOFTNESS = 0.1  # width of the soft gate, in standard deviations of the scores on val


def named_gate(exp: Experiment, target: str, choice: str, bounds: Bounds = BOUNDS) -> Gate:
    """The gate that a name of `CHOICES` stands for, calibrated on val."""
    score, variant = _parts(choice)
    if variant == "Youden":
        return calibrate_gate(
            exp.features["val"], exp.vectors, target, score=score, guarantee="youden"
        )
    gate = exp.gate(target, score, bounds)
    if variant == "soft":
        return gate.soft(SOFTNESS * float(np.std(gate.scores(exp.features["val"].z))))
    return gate


def _parts(choice: str) -> tuple[str, str]:
    score, _, variant = choice.partition(", ")
    able = {"": SCORES, "Youden": ("cosine", "margin"), "soft": SCORES}
    if score not in able.get(variant, ()):
        raise EditError(f"no gate {choice!r} to compare; there are {'; '.join(CHOICES)}")
    return score, variant


def compare_gates(
    exp: Experiment,
    targets: Sequence[str],
    *,
    lambda_: float = -1.5,
    choices: Sequence[str] = CHOICES,
    bounds: Bounds = BOUNDS,
) -> pd.DataFrame:
    """The class vector at one strength behind every gate: one row a gate, target and split (val, test).

    Columns gate, target, split, lambda_, acc_f, acc_r, miss, false_fire, sibling_fires (the other class that fires
    most) and guarantee. To pick a gate by these figures on val voids its guarantee there: calibrate the
    picked one on other images.
    """
    targets, rows = exp.require_targets(targets), []
    for choice in choices:
        _parts(choice)
    for target in targets:
        for choice in choices:
            gate = named_gate(exp, target, choice, bounds)
            edit = exp.vectors[target].gated(gate)
            for split in ("val", "test"):
                features = exp.features[split]
                row = (
                    strength_curve(exp.ft, edit, features, lambdas=[lambda_])
                    .set_index("lambda_")
                    .loc[lambda_]
                )
                report = gate_report(gate, features).set_index("group")
                rates = {
                    "miss": 1 - report.loc["target", "rate"],
                    "false_fire": report.loc["others", "rate"],
                }
                rates["sibling_fires"] = report.loc[["other"], "rate"].max()
                accuracies = {name: row[name] for name in ("acc_f", "acc_r")}
                rows.append(
                    {
                        "gate": choice,
                        "target": target,
                        "split": split,
                        "lambda_": lambda_,
                        "guarantee": gate.guarantee,
                    }
                    | accuracies
                    | rates
                )
    return pd.DataFrame(rows)


def summarise_gates(table: pd.DataFrame) -> pd.DataFrame:
    """Means over targets (and seeds) of `compare_gates` by gate and split, with 95 % t-intervals, n, and the worst sibling."""
    rows = []
    for (gate, split, guarantee), part in table.groupby(["gate", "split", "guarantee"], sort=False):
        row = {"gate": gate, "split": split, "guarantee": guarantee, "n": len(part)}
        for name in ("acc_f", "acc_r", "miss", "false_fire"):
            mean, low, high = mean_interval(part[name])
            row |= {
                name: mean,
                f"{name}_low": np.clip(low, 0, 1),
                f"{name}_high": np.clip(high, 0, 1),
            }
        rows.append(
            row | {"worst_acc_f": part["acc_f"].max(), "worst_sibling": part["sibling_fires"].max()}
        )
    return pd.DataFrame(rows)
