"""Gates compared at one strength, strengths behind gates, and what guarantees can promise."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..editing import BOUNDS, Bounds, calibrate_gate, strength_curve
from ..editing.calibration import GUARANTEES, least_rate
from ..gates import Gate
from ..readout import predict
from ..statistics import summarise, with_ends
from ..words import several
from .experiment import Experiment
from .forget import gate_errors
from .methods import left_of, read

LAMBDA = -1.5
FIXED = (-1.0, -1.5)
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
                soft = gate is not None and gate.temperature > 0
                row = {
                    "gate": choice,
                    "guarantee": gate.guarantee if gate else "none",
                    "target": target,
                    "seed": exp.seed,
                    "split": split,
                    **gate_errors(fired, it, target, right, soft),
                    **left_of(read(exp, edit, split), [target]),
                }
                others = it.y != it.classes.index(target)
                rows.append(row | {"change_r": row["acc_r"] - float(right[others].mean())})
    return pd.DataFrame(rows)


def summarise_gates(table: pd.DataFrame) -> pd.DataFrame:
    """One row a gate and split of `compare_gates`, or of several joined; see `summarise`."""
    names = with_ends("acc_f", "acc_r", "change_r", "miss", "false_fire", "out_of_reach")
    columns = ["n", "unit", *names, "worst_acc_f", "worst_sibling_fires"]
    found = summarise(table, ["gate", "split", "guarantee"], columns)
    return found.rename(columns={"worst_sibling_fires": "worst_sibling"})


def compare_strengths(
    exp: Experiment, targets: Sequence[str], gates: Sequence[str], *, bounds: Bounds = BOUNDS
) -> pd.DataFrame:
    """The class vector at every strength tried behind each gate, on test.

    Args:
        gates: scores, or "none".
    Returns:
        `strength_curve`s of all targets and gates, with target, gate, seed, split, change_r (ACC_r
        less that of lambda = 0) and `chosen`, the lambda that was chosen on val.
    Raises:
        EditError: for unknown classes, before any work.
    """
    parts, lambdas = [], (*bounds.lambdas, -1.0, *FIXED)
    for target in exp.require_targets(targets):
        for gate in gates:
            edit = exp.vectors[target].gated(exp.gate(target, gate, bounds))
            curve = strength_curve(exp.ft, edit, exp.features["test"], lambdas=lambdas)
            base = curve.loc[curve["lambda_"] == 0, "acc_r"].item()
            chosen = curve["lambda_"] == exp.strength(target, gate, bounds).best
            curve = curve.assign(direction="class vector", target=target, gate=gate, seed=exp.seed)
            change = curve["acc_r"] - base
            parts.append(curve.assign(change_r=change, split="test", chosen=chosen))
    return pd.concat(parts, ignore_index=True)


def summarise_strengths(curves: pd.DataFrame) -> pd.DataFrame:
    """The lambda chosen on val beside fixed ones: one row a gate and rule; see `summarise`.

    Args:
        curves: of `compare_strengths`, or several joined.
    """
    rules = {"chosen on val": curves["chosen"]}
    rules |= {f"{x:g}": curves["lambda_"] == x for x in FIXED}
    table = pd.concat([curves[rows].assign(rule=rule) for rule, rows in rules.items()])
    names = ["lambda_", "n", "unit", *with_ends("acc_f", "change_r"), "worst_acc_f"]
    found = summarise(table, ["gate", "rule"], names)
    return found.sort_values("gate", kind="stable", ignore_index=True)


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
