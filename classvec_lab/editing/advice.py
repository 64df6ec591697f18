"""From edits tried on validation to advice: which edit forgets a class, by explicit rules."""

import numpy as np
import pandas as pd

from ..gates import DEPLOYED
from .strength import BOUNDS, Bounds, left, reserve

METHODS = VECTOR, CONTRAST, HEAD, RETIRE = (
    "class vector", "z_ft - mu", "head direction", "retired to the mean",
)  # fmt: skip
# what stands for a gate where the edit is written into weights, and the key that selects the class
MAPPINGS = {"mapping, null space": "nullspace", "mapping, discriminant": "discriminant"}
MASK = "logit mask"
MILD = 1.5  # |lambda| up to which a plain class vector counts as working
MATTERS = 0.5  # share of the class that random steps of that length must leave
LIGHTS = GREEN, AMBER, RED = "green", "amber", "red"
COLUMNS = (
    "class", "light", "method", "direction", "gate", "lambda_", "n_f", "acc_f", "acc_f_low",
    "acc_f_high", "n_r", "acc_r", "acc_r_low", "acc_r_high", "control", "sentence",
)  # fmt: skip


def recommend(curves: pd.DataFrame, deploy: str, bounds: Bounds = BOUNDS) -> pd.DataFrame:
    """Which edit to take for each class.

    The light is green where the class vector behind the gate `deploy` meets both bounds at
    |lambda| <= 1.5, and random directions of its length leave at least half of the class behind
    that gate at that strength, so that the direction is what forgets. It is amber where only a
    stronger one, another direction of its length or another selection meets the bounds, or a random
    step would do, and red where none of these does. Behind the gate "predicted" no other class can
    lose, whatever the edit: the bound on ACC_r tests nothing there.

    The method is the first of all edits that meet the bounds. They are ranked in this order: the
    class vector where the light is green, steps as long as the class vector before retirement to
    the mean of the others (a step as long as the classes are apart), the gate `deploy` before other
    gates before the mapping into weights, strengths by `reserve`, then class vector, z_ft - mu,
    head direction. With deploy="none" no gate is advised, only the mapping. Where nothing meets the
    bounds, the method is the logit mask.

    Args:
        curves: `Editability.curves`.
        deploy: the gate that is meant to be used.
        bounds: its `floor` ranks the strengths.
    Returns:
        A frame with one row a class: `class`, `light`, `method`, `direction`, `gate`, `lambda_`,
        ACC_f and ACC_r on validation with n and 95 % Wilson intervals, `control`, what random
        directions leave there, and a `sentence`.
    """
    serving = curves.query("meets")
    if deploy == "none":
        serving = serving[serving["gate"].isin(["none", *MAPPINGS])]
    mild = serving.eval("method == @VECTOR and gate == @deploy and lambda_ >= -@MILD and matters")
    retired = serving["method"] == RETIRE
    ranked = serving.assign(
        light=np.select([mild, ~retired], [0, 1], 2),
        other=serving["gate"] != deploy,
        mapped=serving["gate"].isin(MAPPINGS),
        size=reserve(serving["lambda_"], np.where(retired, 1.0, bounds.floor)),
        order=serving["method"].map(METHODS.index),
    ).sort_values(["light", "other", "mapped", "size", "order"])
    best = ranked.drop_duplicates("class").set_index("class").reindex(curves["class"].unique())
    best["light"] = np.array(LIGHTS)[best["light"].fillna(2).astype(int)]
    best["direction"] = best["method"]
    mapped = best["gate"].isin(MAPPINGS)
    best["method"] = best["method"].mask(mapped, "weight mapping").fillna(MASK)
    vector = curves.query("method == @VECTOR and gate == @deploy and lambda_ < 0")
    best["sentence"] = [
        f"{name}: {_sentence(row, vector[vector['class'] == name], bounds)}"
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
    if gate in MAPPINGS:
        return f"written into the weights ({gate.partition(', ')[2]})"
    return "without a gate" if gate == "none" else f"behind the gate {gate!r}"


def cannot_lose(gate: str, n_classes: int) -> tuple[str, ...]:
    """What the choice of gate or the number of classes decides before any edit is made."""
    said = []
    if gate == DEPLOYED:
        said.append(
            f"Behind the gate {gate!r} no other class can lose, by construction: a sample of "
            "another class on which it fires was named wrongly before. ACC_r tests nothing there. "
            "What can fail is ACC_f, and the random directions beside it."
        )
    if n_classes == 2:
        said.append(
            "With two classes, an edit that forgets one leaves one answer: ACC_r is then 100% or "
            "near it, the logit mask's included, a random step loses a class as often as not, and "
            "centred cosines between class vectors, and between means, are -1 by algebra. None of "
            "it says anything of the class vectors."
        )
    return tuple(said)


def _sentence(best: pd.Series, vector: pd.DataFrame, bounds: Bounds) -> str:
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
    reason, meeting = f"class vectors {behind(vector['gate'].iloc[0])}", vector.query("meets")
    hidden = vector["out_of_reach"].iloc[0]
    idle = meeting.query("lambda_ >= -@MILD and not matters")
    if len(idle):
        reason += (
            f" forget it at lambda {idle['lambda_'].max():g}, but random directions of the same "
            f"length leave only {idle['control'].iloc[0]:.1%} of it: any such step does"
        )
    elif len(meeting):
        reason += f" forget it only from lambda {meeting['lambda_'].max():g} on"
    elif hidden > bounds.threshold:
        reason += (
            f" do not forget it: the gate misses {hidden:.1%} of the class that is named rightly, "
            "and no strength forgets more"
        )
    elif vector["keeps"].any():
        least = vector.loc[vector["keeps"], "acc_f"].min()
        reason += (
            f" do not forget it down to lambda {vector['lambda_'].min():g}: "
            f"where the others are kept ACC_f stays at {least:.1%} or above"
        )
    else:
        reason += " lose the other classes at every strength"
    return f"{reason}; {remedy}"
