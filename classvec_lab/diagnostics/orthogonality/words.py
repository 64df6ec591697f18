"""An orthogonality report in words: sentences that say the opposite when the numbers do."""

import numpy as np

from ...words import number, percent
from .grams import off_diagonal

DELTA = 0.1  # cosines within ±DELTA count as independent, where the user gives no other
EXPLAINED = 0.5, 0.2  # shares of the displacement above which it's "most" and "a part"
AGREES = 0.02  # largest gap between mean and expectation that is called agreement
HOLDS = 0.05  # largest root mean square that a failing assumption adds to an entry and yet "holds"
INSIDE = 0.95, 0.5  # shares of entries no larger than chance that are called all of them and most


def orthogonality_says(report, delta: float = DELTA) -> tuple[str, ...]:
    """The sentences of an `Orthogonality` report.

    What class explains, theory, the largest pair, equivalence within ±delta, assumptions, chance,
    and which pairs have no interval.
    """
    values = off_diagonal(report.cosine)
    if not np.isfinite(values).any():
        return (
            "Fine-tuning moved no class mean, so there is no class vector and nothing to measure.",
        )
    said = []
    if np.isfinite(report.explained):
        row = report.scalars.set_index("scalar").loc["explained"]
        part = ("most", "a part", "little")[np.digitize(row["value"], EXPLAINED, right=True)]
        said.append(
            f"Class explains {part} of what fine-tuning did to single images: "
            f"{percent(row['value'], row['low'], row['high'], 0)} of their displacement."
        )
    row = report.summary().iloc[0]
    mean, expected = row["off_diagonal"], row["expected"]
    verdict = "agrees with" if abs(mean - expected) < AGREES else "differs from"
    said.append(
        f"The mean off-diagonal cosine, {number(mean, row['low'], row['high'], '+.3f')}, {verdict} "
        f"the {expected:+.3f} that theory expects for these {len(report.cosine)} classes (gap "
        f"{abs(mean - expected):.3f}); perfect orthogonality would be 0."
    )
    pairs = report.table(largest=1)
    pair = pairs[pairs["kappa"] != pairs["z_ft"]].iloc[0]
    said.append(
        f"The largest entry is {number(pair['cosine'], pair['low'], pair['high'])}: taking the "
        f"class vector of {pair['kappa']} away from images of {pair['z_ft']} would "
        f"{'push it away as well' if pair['cosine'] > 0 else 'pull it closer'}."
    )
    if row["no_interval"] < 1:
        shown = report.equivalence((delta,)).iloc[0]
        said.append(
            f"{percent(row['differ'], digits=0)} of the pairs differ from 0 at 5 % over all at "
            f"once. Independence within ±{delta:g} is shown for "
            f"{percent(shown['inside'], digits=0)} of them, refuted for "
            f"{percent(shown['outside'], digits=0)}, and undecided for "
            f"{percent(shown['undecided'], digits=0)}."
        )
    worst, *others = report.assumptions.sort_values("rms_added", ascending=False).itertuples()
    said.append(
        "The assumptions of Theorem 3.3 "
        f"{'hold closely' if worst.rms_added < HOLDS else 'do not all hold'}: the largest "
        f"departure is from '{worst.assumption}', which adds {worst.rms_added:.2f} to an "
        "entry (root mean square); then "
        + "; ".join(f"{r.assumption} {r.rms_added:.2f}" for r in others)
        + f". Shift ratio {report.shift_ratio:.2f}, spread of the pre-trained means "
        f"{report.collapse_ratio:.2f} of the fine-tuned."
    )
    if report.directions:
        reach = np.quantile(np.abs(report.directions["cosine"]), 0.95)
        inside = np.mean(np.abs(values) <= reach)
        words = ("no larger than", "mostly no larger than", "mostly larger than")
        size = words[np.digitize(inside, INSIDE)]
        said.append(
            f"The off-diagonal entries are {size} those of random directions that spread as the "
            f"features do: {percent(inside, digits=0)} lie within their ±{reach:.2f} (isotropic "
            f"directions would suggest ±{1.96 / np.sqrt(report.dim):.2f})."
        )
    if report.intervals and row["no_interval"]:
        reasons = [r for r in off_diagonal(report.intervals["cosine"].unresolved) if r]
        said.append(
            f"{percent(row['no_interval'], digits=0)} of the pairs have no interval: "
            f"{max(set(reasons), key=reasons.count)}."
        )
    return tuple(said)
