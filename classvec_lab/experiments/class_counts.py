"""What runs over numbers of classes and lengths of training say."""

import pandas as pd

from ..words import percent, several


def counts_say(runs: pd.DataFrame) -> tuple[str, ...]:
    """What of independence is shown, what more classes and longer training do, and the mean.

    The mean over pairs is forced by centring. How far it lies from what is forced tells of the
    pre-trained means alone.

    Args:
        runs: one row a fine-tuning: dataset, n_classes, epochs; delta and the shares of pairs for
            which independence within ±delta is shown, refuted and open; entries_sd and null_sd,
            the spread of the entries and of random directions; shift_ratio; off_diagonal, the mean
            raw cos(kappa_c, z_ft^c'), and expected, what shift, offset and C force of it.
    """
    said, measures = [], ["shown", "refuted", "open", "entries_sd", "null_sd", "shift_ratio"]
    for dataset, own in runs.groupby("dataset", sort=False):
        most = own[own["n_classes"] == own["n_classes"].max()]
        last = most[most["epochs"] == most["epochs"].max()]
        at, first = last[measures].mean(), last.iloc[0]
        said.append(
            f"{dataset}: with {first.n_classes} classes after {several(first.epochs, 'epoch')}, "
            f"independence within ±{first.delta:g} is shown for {percent(at.shown, digits=0)} of "
            f"the pairs, refuted for {percent(at.refuted, digits=0)} and open for "
            f"{percent(at.open, digits=0)} (mean of {several(len(last), 'run')}); single entries "
            f"spread by {at.entries_sd:.2f}, those of random directions that vary as the features "
            f"do by {at.null_sd:.2f}, those of an exact simplex ETF by 0."
        )
        for over, other in (("n_classes", "epochs"), ("epochs", "n_classes")):
            means = own[own[other] == own[other].max()].groupby(over)[measures].mean()
            a, *_, b = [*means.itertuples()] * 2
            if len(means) > 1:
                said.append(
                    f"{dataset}: from {a.Index} to {b.Index} {over.removeprefix('n_')} the share "
                    f"of pairs shown goes from {percent(a.shown, digits=0)} to "
                    f"{percent(b.shown, digits=0)}, of those refuted from "
                    f"{percent(a.refuted, digits=0)} to {percent(b.refuted, digits=0)}; single "
                    f"entries spread by {a.entries_sd:.2f} and {b.entries_sd:.2f} (random "
                    f"directions by {a.null_sd:.2f} and {b.null_sd:.2f}); shift ratio "
                    f"{a.shift_ratio:.2f} and {b.shift_ratio:.2f}."
                )
        gap = (own["off_diagonal"] - own["expected"]).abs()
        worst = own.loc[gap.idxmax()]
        said.append(
            f"{dataset}: the mean off-diagonal cosine says nothing about single pairs, since "
            "centring forces it, from shift, offset and C alone. Pre-trained means that are not "
            f"one point, and unequal lengths, move it by {gap.mean():.3f} on average over "
            f"{several(len(own), 'run')}, at most by {gap.max():.3f} ({worst.n_classes} classes, "
            f"{several(worst.epochs, 'epoch')})."
        )
    return tuple(said)
