"""What a study of forgetting says, computed from its table and the bounds that it was held to."""

import pandas as pd

from .. import words
from ..editing.advice import behind, cannot_lose
from ..editing.strength import BOUNDS, Bounds
from ..gates import DEPLOYED
from ..statistics import ends, over_trainings
from .forget import summarise_methods
from .methods import MAPPING, RETRAINED

RANDOM = "random vector"
RIVALS = {
    RANDOM: "A random direction of the same norm, gate and strength",
    "z_ft - μ": "z_ft - μ, which needs no pre-trained model,",
    "head direction": "The head's own direction",
    "logit mask": "Masking the logit, which removes nothing,",
}
FORGETS = {
    "below": "forgets", "above": "does not forget", "not told from": "is not shown to forget",
}  # fmt: skip
COMPARED = {
    "more": "forgets less than the class vector",
    "less": "forgets more than the class vector",
    "no change shown": "is not shown to forget less or more than the class vector",
}
KEEPS = {
    "below": "leaves the others alone", "above": "costs the others accuracy",
    "not told from": "is not shown to leave the others alone",
}  # fmt: skip


def study_says(
    table: pd.DataFrame, bounds: Bounds = BOUNDS, gate: str = DEPLOYED, *, n_classes: int = 0
) -> tuple[str, ...]:
    """The sentences: the class vector, its control, rivals, its gate, mappings, retraining.

    A claim rests on the interval of a mean, a comparison on that of the paired differences over
    targets, both over trainings where there are several.

    Args:
        table: `ForgetStudy.table`, or several joined.
        bounds: those that the study was made with; ACC_f and ACC_r are held to them.
        gate: the main one, behind which the class vector speaks.
        n_classes: of the data set; of two it is said what they decide.
    """
    main = table.query("method == 'class vector' and gate == @gate and chosen")
    if not len(main):
        return ()
    row, found = summarise_methods(main).iloc[0], []
    free = table.query("method == 'class vector' and gate == 'none' and chosen")
    if gate != "none" and len(free):
        it = summarise_methods(free).iloc[0]
        found.append(
            "Without a gate, where nothing but the class vectors' independence spares the others, "
            f"the class vector {verdict(free, bounds)}: ACC_f {words.percent(*ends(it, 'acc_f'))}, "
            f"ACC_r {words.points(it['change_r'])} (mean lambda {it['lambda_']:+.2f})."
        )
    found += [
        f"The class vector {behind(gate)}, its strength chosen on val (mean lambda "
        f"{row['lambda_']:+.2f}), {verdict(main, bounds, gate != DEPLOYED)}: ACC_f "
        f"{words.percent(*ends(row, 'acc_f'))} (worst {row['worst_target']} with "
        f"{words.percent(row['worst_acc_f'])}), ACC_r {words.percent(*ends(row, 'acc_r'))} "
        f"({words.points(row['change_r'])}), n = {counted(row)}.",
        *cannot_lose(gate, n_classes),
    ]
    same = table.query("gate in (@gate, 'none') and not chosen")
    at = same.query("method == 'class vector' and gate == @gate and lambda_ == -1")
    if len(at):
        share = words.percent(*ends(summarise_methods(at).iloc[0], "acc_f"))
        found.append(f"At the published lambda = -1 it leaves ACC_f {share}.")
    for method, text in RIVALS.items():
        if len(rival := same[same["method"] == method]):
            found.append(_against(text, rival, main))
    if gate != "none":
        found.append(
            f"The gate fires on {words.percent(row['false_fire'])} of the other classes' samples "
            f"and misses {words.percent(row['miss'])} of the class's; on its worst sibling it "
            f"fires on {words.percent(row['sibling_fires'])}: a pooled rate hides siblings."
        )
    if row["out_of_reach"] > 0:
        found.append(
            f"{words.percent(row['out_of_reach'])} of the class's samples are named rightly and "
            "missed by the gate: no strength brings ACC_f below that."
        )
    for _, own in table[table["family"] == MAPPING].groupby("method", sort=False):
        it = summarise_methods(own).iloc[0]
        found.append(
            f"{it['method'].capitalize()} {verdict(own, bounds)}: ACC_f "
            f"{words.percent(*ends(it, 'acc_f'))} "
            f"(worst {words.percent(it['worst_acc_f'])}), ACC_r {words.points(it['change_r'])}, "
            f"from {it['n_parameters']:.0f} stored numbers and without a gate."
        )
    known = summarise_methods(table[table["routing_js"].notna() & (table["method"] != RETRAINED)])
    if len(known):
        best = known.loc[known["routing_js"].idxmin()]
        found.append(
            f"Nearest to retraining in where the class's samples go: {best['method']} "
            f"({best['routing_js']:.2f} bits; the class vector {row['routing_js']:.2f}; 0 is the "
            "same, 1 disjoint)."
        )
    return tuple(found)


def verdict(rows: pd.DataFrame, bounds: Bounds, losable: bool = True) -> str:
    """Whether a method forgets and what it costs: ACC_f and the share of ACC_r lost beside the
    bounds.

    Args:
        rows: of one method and setting, columns acc_f, acc_r, change_r, seed.
        losable: whether the others can lose at all; else nothing is said of them.
    """
    lost = -rows["change_r"] / (rows["acc_r"] - rows["change_r"])
    found = []
    for said, values, limit in (
        (FORGETS, rows["acc_f"], bounds.threshold),
        (KEEPS, lost, bounds.tolerance),
    )[: 1 + losable]:
        found.append(said[words.bound(*over_trainings(values, rows["seed"]), limit)])
    return " and ".join(found)


def _against(text: str, rival: pd.DataFrame, main: pd.DataFrame) -> str:
    cells = ["target", "seed"]
    gap = (rival.groupby(cells)["acc_f"].mean() - main.set_index(cells)["acc_f"]).reset_index()
    mean, row = over_trainings(gap["acc_f"], gap["seed"]), summarise_methods(rival).iloc[0]
    shown = words.change(mean.low, mean.high)
    sentence = (
        f"{text} {COMPARED[shown]}: ACC_f {words.percent(*ends(row, 'acc_f'))}, "
        f"{words.points(*mean)} beside it, ACC_r "
        f"{words.points(row['change_r'])}."
    )
    matters = "matters" if shown == "more" else "is not shown to matter"
    random = rival["method"].iloc[0] == RANDOM
    return f"{sentence} So the direction {matters}." if random else sentence


def counted(row: pd.Series) -> str:
    """What the means of a summary's row are over, in words: "3 trainings"."""
    one = {"classes": "class", "trainings": "training"}[row["unit"]]
    return words.several(row["n"], one, row["unit"])
