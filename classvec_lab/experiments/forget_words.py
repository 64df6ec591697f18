"""What a study of forgetting says, computed from its summary."""

import numpy as np
import pandas as pd

VECTOR, RANDOM = "class vector", "random vector"
RIVALS = {
    "z_ft - μ": "z_ft - μ, which needs no pre-trained model,",
    "head direction": "The head's own direction",
    "logit mask": "Masking the logit, which removes nothing,",
}
WORKS = 0.02  # ACC_f up to which a class counts as forgotten


def study_says(summary: pd.DataFrame) -> tuple[str, ...]:
    """The sentences: what the class vector does, its control, the rivals, the gate's worst sibling, the mapping, retraining."""
    chosen = summary[
        (summary["method"] == VECTOR) & summary["chosen"] & (summary["gate"] != "none")
    ]
    if not len(chosen):
        return ()
    main = chosen.iloc[0]
    forgets = main["acc_f"] <= WORKS
    keeps = main["change_r"] >= -0.01
    effect = {
        (True, True): "forgets and leaves the others alone",
        (True, False): "forgets at the others' expense",
        (False, True): "leaves the others alone but does not forget",
        (False, False): "neither forgets nor leaves the others alone",
    }[bool(forgets), bool(keeps)]
    found = [
        f"The class vector behind the gate {main['gate']!r}, its strength chosen on val (mean lambda {main['lambda_']:+.2f}), "
        f"{effect}: ACC_f {_cell(main, 'acc_f')} (worst {main['worst_target']} with {main['worst_acc_f']:.1%}), ACC_r "
        f"{_cell(main, 'acc_r')} ({100 * main['change_r']:+.1f} points), n = {main['n']:.0f} classes and seeds."
    ]
    same = summary[(summary["gate"] == main["gate"]) & ~summary["chosen"]]
    if len(at := same[(same["method"] == VECTOR) & (same["lambda_"] == -1)]):
        found.append(f"At the published lambda = -1 it leaves ACC_f {_cell(at.iloc[0], 'acc_f')}.")
    if len(control := same[same["method"] == RANDOM]):
        gap = 100 * (control.iloc[0]["acc_f"] - main["acc_f"])
        verdict = "so the direction matters" if gap > 5 else "so the direction does not matter here"
        found.append(
            f"A random direction of the same norm, gate and strength leaves ACC_f {_cell(control.iloc[0], 'acc_f')}, "
            f"{abs(gap):.1f} points {'more' if gap >= 0 else 'less'}: {verdict}."
        )
    for method, text in RIVALS.items():
        if len(
            rival := summary[
                (summary["method"] == method) & (summary["gate"].isin([main["gate"], "none"]))
            ]
        ):
            found.append(_against(text, rival.iloc[0], main))
    if np.isfinite(main["sibling_fires"]):
        found.append(
            f"The gate fires on {main['false_fire']:.1%} of the other classes' samples and misses {main['miss']:.1%} of the "
            f"class's; on its worst sibling it fires on {main['sibling_fires']:.1%}: a pooled rate hides siblings."
        )
    for _, row in summary[summary["family"] == "weight mapping"].iterrows():
        found.append(
            f"{row['method'].capitalize()}: ACC_f {_cell(row, 'acc_f')} (worst {row['worst_acc_f']:.1%}), ACC_r "
            f"{100 * row['change_r']:+.1f} points, from {row['n_parameters']:.0f} stored numbers and without a gate."
        )
    known = summary[summary["routing_js"].notna() & (summary["method"] != "retrained without it")]
    if len(known):
        best = known.loc[known["routing_js"].idxmin()]
        found.append(
            f"Nearest to retraining in where the class's samples go: {best['method']} ({best['routing_js']:.2f} bits; the class "
            f"vector {main['routing_js']:.2f}; 0 is the same, 1 disjoint)."
        )
    return tuple(found)


def _against(text: str, rival: pd.Series, main: pd.Series) -> str:
    gap = 100 * (rival["acc_f"] - main["acc_f"])
    verdict = (
        "as much as the class vector"
        if abs(gap) < 1
        else "less than the class vector"
        if gap > 0
        else "more than the class vector"
    )
    return f"{text} forgets {verdict}: ACC_f {_cell(rival, 'acc_f')}, ACC_r {100 * rival['change_r']:+.1f} points."


def _cell(row: pd.Series, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.1%}" + (f" [{low:.1%}, {high:.1%}]" if np.isfinite(low) else "")
