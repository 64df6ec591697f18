"""From edits tried on validation to advice: which edit forgets a class, by explicit rules."""

import numpy as np
import pandas as pd

from ..words import percent

METHODS = VECTOR, CONTRAST, HEAD, RETIRE = (
    "class vector", "z_ft - mu", "head direction", "retired to the mean",
)  # fmt: skip
MAPPING, MASK = "mapping", "logit mask"
MILD = 1.5  # |lambda| up to which a plain class vector counts as working
LIGHTS = GREEN, AMBER, RED = "green", "amber", "red"
COLUMNS = (
    "class", "light", "method", "direction", "gate", "lambda_", "n_f", "acc_f", "acc_f_low",
    "acc_f_high", "n_r", "acc_r", "acc_r_low", "acc_r_high", "sentence",
)  # fmt: skip


def recommend(curves: pd.DataFrame, deploy: str) -> pd.DataFrame:
    """Which edit to take for each class.

    The light is green where the class vector behind the gate `deploy` meets both bounds at
    |lambda| <= 1.5. It is amber where only a stronger one, another direction of its length or
    another selection does, and red where none of these does.

    The method is the class vector where the light is green. Elsewhere it is the first of all edits
    that meet the bounds. They are ranked in this order: steps as long as the class vector before
    retirement to the mean of the others (a step as long as the classes are apart), the gate
    `deploy` before other gates before the mapping into weights, small |lambda| before large, then
    class vector, z_ft - mu, head direction. With deploy="none" no gate is advised, only the
    mapping. Where nothing meets the bounds, the method is the logit mask.

    Args:
        curves: `Editability.curves`.
        deploy: the gate that is meant to be used.
    Returns:
        A frame with one row a class: `class`, `light`, `method`, `direction`, `gate`, `lambda_`,
        ACC_f and ACC_r on validation with n and 95 % Wilson intervals, and a `sentence`.
    """
    serving = curves[curves["meets"]]
    if deploy == "none":
        serving = serving[serving["gate"].isin(["none", MAPPING])]
    plain = (serving["method"] == VECTOR) & (serving["gate"] == deploy)
    mild = plain & (serving["lambda_"] >= -MILD)
    ranked = serving.assign(
        light=np.select([mild, serving["method"] != RETIRE], [0, 1], 2),
        other=serving["gate"] != deploy,
        mapped=serving["gate"] == MAPPING,
        size=-serving["lambda_"],
        order=serving["method"].map(METHODS.index),
    ).sort_values(["light", "other", "mapped", "size", "order"])
    best = ranked.drop_duplicates("class").set_index("class").reindex(curves["class"].unique())
    best["light"] = np.array(LIGHTS)[best["light"].fillna(2).astype(int)]
    best["direction"] = best["method"]
    best["method"] = best["method"].mask(best["gate"] == MAPPING, "weight mapping").fillna(MASK)
    vector = curves[
        (curves["method"] == VECTOR) & (curves["gate"] == deploy) & (curves["lambda_"] < 0)
    ]
    best["sentence"] = [
        f"{name}: {_sentence(row, vector[vector['class'] == name])}"
        for name, row in best.iterrows()
    ]
    return best.reset_index().reindex(columns=COLUMNS)


def overall(lights: pd.Series) -> str:
    """Green where every class is, red where more than half of the classes are, else amber."""
    if (lights == GREEN).all():
        return GREEN
    return RED if (lights == RED).mean() > 0.5 else AMBER


def behind(gate: str) -> str:
    """How an edit with this gate acts, in words."""
    known = {"none": "without a gate", MAPPING: "written into the weights"}
    return known.get(gate, f"behind the gate {gate!r}")


def left(row, kind: str) -> str:
    """ACC_f or ACC_r ("f" or "r") of a row of curves, in words with its interval and n."""
    value, low, high = (row[f"acc_{kind}{end}"] for end in ("", "_low", "_high"))
    return f"ACC_{kind} {percent(value, low, high)} (n = {row[f'n_{kind}']:.0f})"


def _sentence(best: pd.Series, vector: pd.DataFrame) -> str:
    """Why this edit; vector: the curve of the class vector behind the gate to be deployed."""
    if best.method == MASK:
        remedy = (
            "no other edit tried forgets it. Mask the logit if only answers matter; retrain "
            "without the class if the representation must forget."
        )
    else:
        remedy = (
            f"{best.direction!r} at lambda {best.lambda_:g} {behind(best.gate)} leaves "
            f"{left(best, 'f')} and {left(best, 'r')} on validation."
        )
    if best.light == GREEN:
        return remedy
    if best.direction == RETIRE:
        remedy = f"no other step of that length does, but {remedy}"
    reason, meeting = f"class vectors {behind(vector['gate'].iloc[0])}", vector[vector["meets"]]
    if len(meeting):
        reason += f" forget it only from lambda {meeting['lambda_'].max():g} on"
    elif vector["keeps"].any():
        least = vector.loc[vector["keeps"], "acc_f"].min()
        reason += (
            f" do not forget it down to lambda {vector['lambda_'].min():g}: "
            f"where the others are kept ACC_f stays at {least:.1%} or above"
        )
    else:
        reason += " lose the other classes at every strength"
    return f"{reason}; {remedy}"
