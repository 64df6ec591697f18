"""What runs over numbers of classes and lengths of training say."""

import pandas as pd


def counts_say(runs: pd.DataFrame) -> tuple[str, ...]:
    """Which expectation the runs lie nearer to, and what more classes and longer training do.

    Args:
        runs: one row a fine-tuning: dataset, n_classes, epochs, off_diagonal (the mean raw
            cos(kappa_c, z_ft^c')), expected (from the three scalars), entries_sd, shift_ratio.
    """
    said = []
    for dataset, own in runs.groupby("dataset", sort=False):
        gap = (own["off_diagonal"] - own["expected"]).abs().mean()
        textbook = (own["off_diagonal"] + 1 / (own["n_classes"] - 1)).abs().mean()
        said.append(
            f"{dataset}: over {len(own)} runs the mean off-diagonal cosine lies {gap:.3f} from the "
            f"three-scalar expectation and {textbook:.3f} from -1/(C-1): "
            f"{'nearer to' if gap < textbook else 'no nearer to'} the former."
        )
        for over, other in (("n_classes", "epochs"), ("epochs", "n_classes")):
            at = own[own[other] == own[other].max()].groupby(over)
            means = at[["off_diagonal", "entries_sd", "shift_ratio"]].mean()
            a, *_, b = [*means.itertuples()] * 2
            if len(means) > 1:
                nearer = abs(b.off_diagonal) < abs(a.off_diagonal)
                said.append(
                    f"{dataset}: from {a.Index} to {b.Index} {over.removeprefix('n_')} the mean "
                    f"moves from {a.off_diagonal:+.3f} to {b.off_diagonal:+.3f}, "
                    f"{'closer to' if nearer else 'further from'} 0; single entries spread by "
                    f"{a.entries_sd:.2f} and {b.entries_sd:.2f}; shift ratio {a.shift_ratio:.2f} "
                    f"and {b.shift_ratio:.2f}."
                )
    return tuple(said)
