"""An orthogonality report in words: sentences that say the opposite when the numbers do."""

import numpy as np

from ...words import number, percent, several
from .grams import off_diagonal

DELTA = 0.1  # cosines within ±DELTA count as independent, where the user gives no other
EXPLAINED = 0.5, 0.2  # shares of the displacement above which it's "most" and "a part"
HOLDS = 0.05  # root mean square from which what an assumption adds to an entry is its failure
NOTED = 0.02  # what has to be added to the forced mean for the reason to be named


def orthogonality_says(report, delta: float = DELTA) -> tuple[str, ...]:
    """The sentences of an `Orthogonality` report.

    What class explains, the pairs within ±delta, the spread of entries beside chance, the largest
    one, the assumptions, the mean and what forces it, and what limits the intervals. The mean comes
    last, since centring forces it whatever the geometry.
    """
    row, values = report.summary().iloc[0], report.estimate()
    mean = row["off_diagonal"]
    if not np.isfinite(mean):
        return (
            "Fine-tuning moved no class mean, so there is no class vector and nothing to measure.",
        )
    said, sampled = [], row["no_interval"] < 1
    forced, equal = (report.scalar(name, sampled) for name in ("expected", "equal_lengths"))
    if np.isfinite(report.explained):
        at = report.scalars.set_index("scalar").loc["explained"]
        part = ("most", "a part", "little")[np.digitize(at["corrected"], EXPLAINED, right=True)]
        said.append(
            f"Class explains {part} of what fine-tuning did to single images: "
            f"{percent(at['corrected'], at['low'], at['high'], 0)} of their displacement."
        )
    if sampled:
        shown = report.equivalence((delta,)).iloc[0]
        other = off_diagonal(report.significant(value=forced)).mean()
        etf = f", and {percent(other, digits=0)} from the {forced:+.2f} of an exact simplex ETF"
        said.append(
            f"Independence within ±{delta:g} is shown for {percent(shown['inside'], digits=0)} of "
            f"the {several(shown['n_entries'], 'pair')} of classes, refuted for "
            f"{percent(shown['outside'], digits=0)}, and open for "
            f"{percent(shown['undecided'], digits=0)} (two one-sided tests at 5 % for each); "
            f"{percent(row['differ'], digits=0)} differ from 0"
            f"{etf if np.isfinite(forced) else ''}, at 5 % over all at once (max-T)."
        )
    noise = f", where noise alone would give {row['noise_sd']:.2f}" if sampled else ""
    chance = (
        f", those of random directions that vary as the features do by {row['null_sd']:.2f}"
        if report.directions
        else ""
    )
    said.append(
        f"Single entries spread by {row['entries_sd']:.2f} (standard deviation{noise}; middle "
        f"95 %: {row['entries_low']:+.2f} to {row['entries_high']:+.2f}){chance}, those of an "
        "exact ETF by 0."
    )
    low, high = (end.to_numpy() for end in report.interval())
    size = np.where(np.isfinite(low) | (not sampled), np.abs(values), np.nan)
    np.fill_diagonal(size, np.nan)
    r, c = np.unravel_index(np.nanargmax(size), size.shape)
    kappa, z_ft = report.cosine.index[r], report.cosine.columns[c]
    said.append(
        f"The largest entry is {number(values[r, c], low[r, c], high[r, c])}: taking the "
        f"class vector of {kappa} away from images of {z_ft} would "
        f"{'push it away as well' if values[r, c] > 0 else 'pull it closer'}."
    )
    worst, *others = report.assumptions.sort_values("rms_added", ascending=False).itertuples()
    verdict = (
        "The assumptions of Theorem 3.3 do not all hold"
        if worst.rms_added >= HOLDS
        else f"No assumption of Theorem 3.3 adds as much as {HOLDS:g} to an entry"
    )
    said.append(
        f"{verdict}: the largest departure is from '{worst.assumption}', which adds "
        f"{worst.rms_added:.2f} to an entry (root mean square); then "
        + "; ".join(f"{r.assumption} {r.rms_added:.2f}" for r in others)
        + f". Shift ratio {report.scalar('shift_ratio', sampled):.2f}, spread of the pre-trained "
        f"means {report.scalar('collapse_ratio', sampled):.2f} of the fine-tuned."
    )
    if np.isfinite(forced):
        why = ", which have not collapsed," if abs(equal - forced) >= NOTED else ""
        said.append(
            f"The mean off-diagonal cosine, {number(mean, row['low'], row['high'], '+.3f')}, says "
            f"nothing about single pairs: centring forces {forced:+.3f} of it, from shift, offset "
            f"and C alone, whatever the geometry; the spread of the pre-trained means{why} adds "
            f"{round(equal - forced, 3) + 0:+.3f}, and unequal lengths "
            f"{round(mean - equal, 3) + 0:+.3f}."
        )
    if report.n_boot < report.asked:
        said.append(
            f"The intervals are from {report.n_boot:,} resamples of {report.asked:,} asked for: "
            f"more would take too long with {len(values):,} classes."
        )
    if report.intervals and row["no_interval"]:
        reasons = [r for r in off_diagonal(report.intervals["cosine"].unresolved) if r]
        said.append(
            f"{percent(row['no_interval'], digits=0)} of the pairs have no interval: "
            f"{max(set(reasons), key=reasons.count)}."
        )
    if len(report.cosine) == 2:
        said.append(
            "With two classes centred cosines between class vectors, and between means, are -1 by "
            "algebra, and all four of class vectors with means have one size."
        )
    return tuple(said)
