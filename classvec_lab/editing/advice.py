"""From forecasts to advice: which method forgets a class, by explicit rules, and the sentences that say so."""

import numpy as np
import pandas as pd

VECTOR, CONTRAST, HEAD, RETIRE = (
    "class vector",
    "z_ft - mu",
    "head direction",
    "retired to the mean",
)
MAPPING, MASK, NEGATION, RETRAINING = "mapping", "logit mask", "task negation", "retraining"
RECOMMENDED = (VECTOR, CONTRAST, HEAD, RETIRE, "weight mapping", MASK, NEGATION, RETRAINING)
MILD = 1.5  # |lambda| up to which a plain class vector counts as working
GREEN, AMBER, RED = "green", "amber", "red"


def recommend(
    curves: pd.DataFrame, smallest: pd.DataFrame, deploy: str, goal: str, tolerance: float
) -> pd.DataFrame:
    """One row a class: light, method, direction, gate, lambda_, acc_f, acc_r (forecast) and a sentence.

    light: "green" where the class vector behind the gate `deploy` is forecast to meet both bounds at |lambda| <= 1.5;
    "amber" where only a stronger one, another direction or another selection does; "red" where no
    step of the class vector's length does.
    method, for goal "edit": the class vector where green. Where amber, of all that meet the bounds: those behind
    `deploy` before those behind other gates, before the mapping into weights ("weight mapping", direction says along
    what); among them the smallest |lambda|, then class vector, z_ft - mu, head direction. Where red:
    relocation to the mean of the others, a step as long as the classes are apart, where it meets them; else "logit mask".
    goal "labels" (only the answers matter): "logit mask" throughout. It is perfect by construction: the class is never
    named again and no other answer gets worse. It changes nothing that the encoder knows.
    goal "representation" (a probe must not find the class either): "retraining" throughout, without the class.
    No latent edit does that: it is an invertible step behind the encoder.
    Never "task negation": subtracting a task vector takes away what fine-tuning taught about all classes at once, so it has
    no strength that forgets one class and keeps the others.
    """
    rows = []
    order = {name: i for i, name in enumerate((VECTOR, CONTRAST, HEAD, RETIRE))}
    for name, found in smallest.groupby("class", sort=False):
        found = found.dropna(subset="lambda_")
        plain = found[
            (found["method"] == VECTOR)
            & (found["gate"] == deploy)
            & (found["lambda_"].abs() <= MILD)
        ]
        own_length = found[found["method"] != RETIRE]
        light = GREEN if len(plain) else AMBER if len(own_length) else RED
        found = own_length if len(own_length) else found
        row = {"class": name, "light": light, "method": MASK, "direction": None, "gate": None}
        row |= {"lambda_": np.nan, "acc_f": np.nan, "acc_r": np.nan}
        own = curves[curves["class"] == name]
        best = None
        if len(found):
            best = plain.iloc[0] if len(plain) else min(
                (r for _, r in found.iterrows()),
                key=lambda r: (r["gate"] != deploy, r["gate"] == MAPPING, abs(r["lambda_"]), order[r["method"]]),
            )  # fmt: skip
        if goal == "edit" and best is not None:
            at = own.merge(
                best.to_frame().T[["method", "gate", "lambda_"]].astype({"lambda_": float})
            ).iloc[0]
            mapped = best["gate"] == MAPPING
            row |= {
                "method": "weight mapping" if mapped else best["method"],
                "direction": best["method"],
                "gate": best["gate"],
            }
            row |= {"lambda_": float(best["lambda_"]), "acc_f": at["acc_f"], "acc_r": at["acc_r"]}
        elif goal == "representation":
            row["method"] = RETRAINING
        else:
            row |= {"acc_f": 0.0}
        rows.append(row | {"sentence": _sentence(row, own, found, deploy, goal, tolerance)})
    return pd.DataFrame(rows)


def verdict(lights: pd.Series) -> str:
    """Green where every class is, red where more than half of the classes are, else amber."""
    if (lights == GREEN).all():
        return GREEN
    return RED if (lights == RED).mean() > 0.5 else AMBER


def sentences(report) -> tuple[str, ...]:
    """What `Editability.says` says."""
    advice, table, n = report.recommendation, report.table, len(report.classes)
    counts = advice["light"].value_counts()
    found = [
        f"{report.light.upper()}: class vectors at |lambda| <= {MILD:g} behind the gate {report.deploy!r} are forecast "
        f"to forget {counts.get(GREEN, 0)} of {n} classes (ACC_f <= {report.threshold:.0%}, ACC_r within "
        f"{report.tolerance:.0%} of unedited). Only a stronger or another edit: {counts.get(AMBER, 0)}; none that was tried: "
        f"{counts.get(RED, 0)}."
    ]
    text = f"Fine-tuning moved a class by {table['shift_to_spread'].median():.2f} times its spread (median)"
    text += f", {table['read_share'].median():.0%} of the squared length where the head can see it"
    if table["head_on_pre"].notna().any():
        right, total = (table["head_on_pre"] * table["n_pre"]).sum(), table["n_pre"].sum()
        text += f"; the head already names {right / total:.1%} of the pre-trained representations (n = {total:.0f})"
    found.append(f"{text}.")
    plain = report.curves[
        (report.curves["method"] == VECTOR) & (report.curves["gate"] == report.deploy)
    ]
    back = plain[plain["lambda_"] == -1]
    left = back["acc_f"].mean()
    why = "it is not enough" if left > report.threshold else "it is enough on average"
    found.append(
        f"Lambda = -1 only gives a class its pre-trained mean back: ACC_f is forecast at {left:.1%} "
        f"(worst {back['acc_f'].max():.1%}), so {why}."
    )
    found += list(advice.loc[advice["light"] != GREEN, "sentence"])
    return tuple(found)


def _sentence(
    row: dict, own: pd.DataFrame, found: pd.DataFrame, deploy: str, goal: str, tolerance: float
) -> str:
    name = row["class"]
    if goal == "labels":
        return f"{name}: mask its logit; only the answers change, and perfectly so."
    if goal == "representation":
        return f"{name}: retrain without it; a latent edit or a mask leaves what the encoder knows of the class."
    if row["light"] == "green":
        return (
            f"{name}: the class vector at lambda {row['lambda_']:g} behind the gate {row['gate']!r} is forecast to leave "
            f"ACC_f {row['acc_f']:.1%} and ACC_r {row['acc_r']:.1%}."
        )
    plain = own[(own["method"] == VECTOR) & (own["gate"] == deploy) & (own["lambda_"] != 0)]
    kept = plain[plain["acc_r"] >= (1 - tolerance) * plain["base_r"]]
    known = found.loc[(found["method"] == VECTOR) & (found["gate"] == deploy), "lambda_"]
    if len(known):
        text = f"{name}: a class vector forgets it from lambda {known.iloc[0]:g} on"
    else:
        text = (
            f"{name}: class vectors will not forget it down to lambda {plain['lambda_'].min():g}, "
        )
        if len(kept):
            text += f"where the others are kept ACC_f stays at {kept['acc_f'].min():.1%} or above"
        else:
            text += "and the other classes are lost at every strength"
    if row["light"] == "red" and row["direction"] is not None:
        return (
            f"{text}; no other step of that length will either, but a longer one, {row['direction']} behind {row['gate']!r}, "
            f"will (forecast ACC_f {row['acc_f']:.1%}, ACC_r {row['acc_r']:.1%})."
        )
    if row["light"] == "red":
        return (
            f"{text}; no other latent edit tried will either. Mask the logit if only answers matter; "
            "retrain without the class if the representation must forget."
        )
    if len(known) and (row["method"], row["gate"], row["lambda_"]) == (
        VECTOR,
        deploy,
        known.iloc[0],
    ):
        return f"{text} (forecast ACC_f {row['acc_f']:.1%}, ACC_r {row['acc_r']:.1%})."
    means = (
        f"written into the weights along the {row['direction']}"
        if row["gate"] == MAPPING
        else f"behind {row['gate']!r}"
    )
    subject = "a mapping" if row["gate"] == MAPPING else f"the {row['method']}"
    return (
        f"{text}; {subject} will at lambda {row['lambda_']:g}, {means} "
        f"(forecast ACC_f {row['acc_f']:.1%}, ACC_r {row['acc_r']:.1%})."
    )
