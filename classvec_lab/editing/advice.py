"""From edits tried on validation to advice: which edit forgets a class, by explicit rules, and why."""

import numpy as np
import pandas as pd

from ..words import percent

VECTOR, CONTRAST, HEAD, RETIRE = (
    "class vector",
    "z_ft - mu",
    "head direction",
    "retired to the mean",
)
METHODS = (VECTOR, CONTRAST, HEAD, RETIRE)
MAPPING, MASK, RETRAINING = "mapping", "logit mask", "retraining"
GOALS = ("edit", "labels", "representation")
MILD = 1.5  # |lambda| up to which a plain class vector counts as working
GREEN, AMBER, RED = "green", "amber", "red"
LEFT = ["acc_f", "acc_f_low", "acc_f_high", "n_f", "acc_r", "acc_r_low", "acc_r_high", "n_r"]


def recommend(curves: pd.DataFrame, deploy: str, goal: str) -> pd.DataFrame:
    """Which edit to take for each class.

    The light is green where the class vector behind the gate `deploy` meets both bounds at
    |lambda| <= 1.5. It is amber where only a stronger one, another direction of its length or
    another selection does, and red where none of these does.

    For the goal "edit" the method is the class vector where the light is green. Elsewhere it is the
    first of all edits that meet the bounds, in this order: steps as long as the class vector before
    retirement to the mean of the others (a step as long as the classes are apart), the gate `deploy`
    before other gates before the mapping into weights, small |lambda| before large, then class
    vector, z_ft - mu, head direction. With deploy="none" no gate is advised, only the mapping. Where
    nothing meets the bounds it is the logit mask.

    For the goal "labels" (only the answers matter) the method is the logit mask: the class is never
    named again, no other answer gets worse, and nothing changes that the encoder knows. For
    "representation" (a probe must not find the class either) it is retraining without the class,
    since a latent edit is an invertible step behind the encoder. Task negation is never advised: it
    takes away what fine-tuning taught about all classes at once.

    Args:
        curves: `Editability.curves`.
        deploy: the gate that is meant to be used.
        goal: "edit", "labels" or "representation".
    Returns:
        A frame with one row a class: `class`, `light`, `method`, `direction`, `gate`, `lambda_`,
        ACC_f and ACC_r on validation with n and 95 % Wilson intervals, and a `sentence`.
    """
    serving = curves[curves["meets"]]
    if deploy == "none":
        serving = serving[serving["gate"].isin(["none", MAPPING])]
    plain = (serving["method"] == VECTOR) & (serving["gate"] == deploy)
    ranked = serving.assign(
        stronger=~(plain & (serving["lambda_"] >= -MILD)),
        longer=serving["method"] == RETIRE,
        mapped=serving["gate"] == MAPPING,
        other=serving["gate"] != deploy,
        size=-serving["lambda_"],
        order=serving["method"].map(METHODS.index),
    ).sort_values(["stronger", "longer", "other", "mapped", "size", "order"], kind="stable")
    best, rows = ranked.drop_duplicates("class").set_index("class"), []
    for name, own in curves.groupby("class", sort=False):
        row = {"class": name, "light": RED, "method": MASK, "direction": None, "gate": None}
        row |= dict.fromkeys(["lambda_", *LEFT], np.nan) | {"acc_f": 0.0}
        if name in best.index:
            found = best.loc[name]
            row["light"] = RED if found["longer"] else AMBER if found["stronger"] else GREEN
            if goal == "edit":
                row["method"] = "weight mapping" if found["mapped"] else found["method"]
                row |= {"direction": found["method"], "gate": found["gate"]}
                row |= found[["lambda_", *LEFT]].to_dict()
        if goal == "representation":
            row |= {"method": RETRAINING, "acc_f": np.nan}
        vector = own[(own["method"] == VECTOR) & (own["gate"] == deploy) & (own["lambda_"] < 0)]
        rows.append(row | {"sentence": f"{name}: {_sentence(row, vector, goal)}"})
    return pd.DataFrame(rows)


def overall(lights: pd.Series) -> str:
    """Green where every class is, red where more than half of the classes are, else amber."""
    if (lights == GREEN).all():
        return GREEN
    return RED if (lights == RED).mean() > 0.5 else AMBER


def behind(gate: str) -> str:
    """How an edit with this gate acts, in words."""
    known = {"none": "without a gate", MAPPING: "written into the weights"}
    return known.get(gate, f"behind the gate {gate!r}")


def sentences(report) -> tuple[str, ...]:
    """What `Editability.says` says."""
    advice, table = report.recommendation, report.table
    green, amber, red = ((advice["light"] == light).sum() for light in (GREEN, AMBER, RED))
    by = behind(report.deploy)
    found = [
        f"{report.light.upper()}: on validation, class vectors at |lambda| <= {MILD:g} {by} forget "
        f"{green} of {len(advice)} classes (ACC_f <= {100 * report.threshold:g}%, ACC_r within "
        f"{100 * report.tolerance:g}% of unedited). Stronger or other edits of that length "
        f"forget {amber} more; none forgets {red}."
    ]
    text = (
        f"Fine-tuning moved a class by {table['shift_to_spread'].median():.2f} times its spread "
        f"(median), {table['read_share'].median():.0%} of the squared length where the head can see it"
    )
    if (n := table["n_pre"].sum()) > 0:
        right = (table["head_on_pre"] * table["n_pre"]).sum()
        text += (
            f"; the head already names {right / n:.1%} of the pre-trained representations (n = {n})"
        )
    found.append(f"{text}.")
    curves = report.curves[report.curves["lambda_"] == -1]
    back = curves[(curves["method"] == VECTOR) & (curves["gate"] == report.deploy)]
    worst = back.loc[back["acc_f"].idxmax()]
    found.append(
        f"Lambda = -1 gives a class its pre-trained mean back: {by} that meets both bounds for "
        f"{back['meets'].sum()} of {len(back)} classes on validation, with ACC_f {back['acc_f'].mean():.1%} "
        f"on average and at worst {_left(worst, 'f')}, for class {worst['class']}."
    )
    return *found, *advice.loc[advice["light"] != GREEN, "sentence"]


def _left(row, kind: str) -> str:
    value, low, high = (row[f"acc_{kind}{end}"] for end in ("", "_low", "_high"))
    return f"ACC_{kind} {percent(value, low, high)} (n = {row[f'n_{kind}']:.0f})"


def _sentence(row: dict, vector: pd.DataFrame, goal: str) -> str:
    """Why this row; vector: the curve of the class vector behind the gate to be deployed."""
    if goal == "labels":
        return "mask its logit; only the answers change, and perfectly so."
    if goal == "representation":
        return "retrain without it; a latent edit or a mask leaves what the encoder knows of the class."
    remedy = (
        "no other edit tried forgets it. Mask the logit if only answers matter; retrain without the "
        "class if the representation must forget."
    )
    if row["direction"] is not None:
        remedy = (
            f"{row['direction']!r} at lambda {row['lambda_']:g} {behind(row['gate'])} leaves "
            f"{_left(row, 'f')} and {_left(row, 'r')} on validation."
        )
        if row["light"] == GREEN:
            return remedy
        if row["light"] == RED:
            remedy = f"no other step of that length does, but {remedy}"
    reason, meeting = f"class vectors {behind(vector['gate'].iloc[0])}", vector[vector["meets"]]
    kept = vector[vector["keeps"]]
    if len(meeting):
        reason += f" forget it only from lambda {meeting['lambda_'].max():g} on"
    elif len(kept):
        reason += (
            f" do not forget it down to lambda {vector['lambda_'].min():g}: where the others are kept "
            f"ACC_f stays at {kept['acc_f'].min():.1%} or above"
        )
    else:
        reason += " lose the other classes at every strength"
    return f"{reason}; {remedy}"
