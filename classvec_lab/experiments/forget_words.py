"""What a study of forgetting says, computed from its table and the bounds that it was held to."""

import numpy as np
import pandas as pd

from ..editing import BOUNDS, Bounds, behind, cannot_lose
from ..gates import DEPLOYED
from ..statistics import crossed_mean, ends
from ..words import bound, change, percent, points, several
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

    A claim rests on the interval of a mean, a comparison on that of the paired differences, both
    over targets and trainings (`crossed_mean`).

    Args:
        table: `ForgetStudy.table`, or several joined.
        bounds: those that the study was made with; ACC_f and ACC_r are held to them.
        gate: the main one, behind which the class vector speaks.
        n_classes: of the data set; of two it is said what they decide.
    """
    main = table.query("method == 'class vector' and gate == @gate and chosen")
    if not len(main):
        return ()
    row, found = _means(main), []
    free = table.query("method == 'class vector' and gate == 'none' and chosen")
    if gate != "none" and len(free):
        it = _means(free)
        found.append(
            "Without a gate, where nothing but the class vectors' independence spares the others, "
            f"the class vector {verdict(free, bounds)}: {_left(it)}, "
            f"ACC_r {points(it['change_r'])} (mean lambda {it['lambda_']:+.2f})."
        )
    found += [
        f"The class vector {behind(gate)}, its strength chosen on val (mean lambda "
        f"{row['lambda_']:+.2f}), {verdict(main, bounds, gate != DEPLOYED)}: {_left(row)}, ACC_r "
        f"{percent(*ends(row, 'acc_r'))} ({points(row['change_r'])}), n = {counted(row)}.",
        *cannot_lose(gate, n_classes),
    ]
    same = table.query("gate in (@gate, 'none') and not chosen")
    at = same.query("method == 'class vector' and gate == @gate and lambda_ == -1")
    if len(at):
        means = at.groupby("target")["acc_f"].mean()
        found.append(
            f"At the published lambda = -1 it leaves {_left(_means(at))}: "
            f"{(means > bounds.threshold).sum()} of {several(len(means), 'class', 'classes')}"
            f" keep more than the {percent(bounds.threshold)} of a forgotten one."
        )
    for method, text in RIVALS.items():
        if len(rival := same[same["method"] == method]):
            found.append(_against(text, rival, main, bounds))
    if gate != "none":
        found.append(
            f"The gate fires on {percent(row['false_fire'])} of the other classes' samples "
            f"and misses {percent(row['miss'])} of the class's; on its worst sibling it "
            f"fires on {percent(row['sibling_fires'])}: a pooled rate hides siblings."
        )
    if row["out_of_reach"] > 0:
        found.append(
            f"{percent(row['out_of_reach'])} of the class's samples are named rightly and "
            "missed by the gate: no strength brings ACC_f below that."
        )
    for _, own in table[table["family"] == MAPPING].groupby("method", sort=False):
        it = _means(own)
        found.append(
            f"{it['method'].capitalize()} {verdict(own, bounds)}: {_left(it)}, ACC_r "
            f"{points(it['change_r'])}, "
            f"from {it['n_parameters']:.0f} stored numbers and without a gate."
        )
    trained = table[table["method"] == RETRAINED]
    if len(trained):
        it = _means(trained)
        knows = bound(*ends(it, "acc_f"), bounds.threshold) == "above"
        found.append(
            f"Retrained without the class, the reference, the model has {_left(it)} and ACC_r "
            f"{percent(*ends(it, 'acc_r'))}, n = {counted(it)}"
            f"{': it names the class from before fine-tuning' if knows else ''}."
        )
    asked = table["routing_js"].notna() & (table["method"] != RETRAINED)
    known = summarise_methods(
        pd.concat([table[asked & (table["method"] != "class vector")], main[asked[main.index]]])
    )
    if len(known):
        best = known.loc[known["routing_js"].idxmin()]
        found.append(
            f"Nearest to retraining in where the class's samples go: {best['method']} "
            f"({best['routing_js']:.2f} bits; the class vector {row['routing_js']:.2f}; 0 is the "
            f"same, 1 disjoint; n = {several(best['n_routing_js'], 'class', 'classes')})."
        )
    return tuple(found)


def verdict(rows: pd.DataFrame, bounds: Bounds, losable: bool = True) -> str:
    """Whether a method forgets and what it costs: ACC_f and the share of ACC_r lost beside the
    bounds.

    Args:
        rows: of one method and setting, columns target, seed, acc_f, acc_r, change_r.
        losable: whether the others can lose at all; else nothing is said of them.
    """
    lost = -rows["change_r"] / (rows["acc_r"] - rows["change_r"])
    found = []
    for said, values, limit in (
        (FORGETS, rows["acc_f"], bounds.threshold),
        (KEEPS, lost, bounds.tolerance),
    )[: 1 + losable]:
        found.append(said[bound(*crossed_mean(values, rows["target"], rows["seed"]), limit)])
    return " and ".join(found)


def _against(text: str, rival: pd.DataFrame, main: pd.DataFrame, bounds: Bounds) -> str:
    both = rival.merge(main, on=["target", "seed"], suffixes=("", "_main"))
    gap = crossed_mean(both["acc_f"] - both["acc_f_main"], both["target"], both["seed"])
    shown, row = change(gap.low, gap.high), _means(rival)
    sentence = (
        f"{text} {COMPARED[shown]}: ACC_f {percent(*ends(row, 'acc_f'))}, "
        f"{points(*np.clip([*gap], -1, 1))} beside it (n = {gap.n} {gap.name}), ACC_r "
        f"{points(row['change_r'])}."
    )
    if rival["method"].iloc[0] != RANDOM:
        return sentence
    least = rival.loc[rival["acc_f"].idxmin()]
    forgotten = (rival["acc_f"] <= bounds.threshold).sum()
    matters = "is not shown to matter"
    if shown == "more":
        matters = "matters on average" if forgotten else "matters"
    return (
        f"{sentence} Of its {several(len(rival), 'draw')} the lowest leaves "
        f"{percent(least['acc_f'])} (of {least['target']}), and {forgotten} forget. "
        f"So the direction {matters}."
    )


def _means(rows: pd.DataFrame) -> pd.Series:
    """The summary of a table's rows of one method and setting."""
    return summarise_methods(rows).iloc[0]


def _left(row: pd.Series) -> str:
    worst = f"worst {row['worst_target']} with {percent(row['worst_acc_f'])}"
    none = "0 for each class"
    return f"ACC_f {percent(*ends(row, 'acc_f'))} ({worst if row['worst_acc_f'] else none})"


def counted(row: pd.Series) -> str:
    """What the means of a summary's row are over, in words: "10 classes × 3 trainings"."""
    return f"{row['n']} {row['unit']}"
