"""Reports in words: every sentence is computed from the numbers, and says the opposite when they do."""

import numpy as np


def number(value: float, low: float = np.nan, high: float = np.nan, *, digits: int = 2) -> str:
    """A value with its interval where there is one: "0.77 (0.75 to 0.79)"."""
    text = f"{value:.{digits}f}"
    return (
        f"{text} ({low:.{digits}f} to {high:.{digits}f})"
        if np.isfinite([low, high]).all()
        else text
    )


def share(value: float, low: float = np.nan, high: float = np.nan) -> str:
    """A share in per cent with its interval where there is one: "77 % (75 to 79 %)"."""
    text = f"{100 * value:.0f} %"
    return (
        f"{text} ({100 * low:.0f} to {100 * high:.0f} %)"
        if np.isfinite([low, high]).all()
        else text
    )


def orthogonality_says(report) -> tuple[str, ...]:
    """The sentences of an `Orthogonality` report: what class explains, theory, single pairs, equivalence, assumptions, chance."""
    values = report.cosine.to_numpy()
    if not np.isfinite(values).any():
        return (
            "Fine-tuning moved no class mean, so there is no class vector and nothing to measure.",
        )
    off = ~np.eye(len(values), dtype=bool)
    said = []
    known = (
        {}
        if report.scalars is None
        else report.scalars.set_index("scalar")[["low", "high"]].T.to_dict("list")
    )
    if np.isfinite(report.explained):
        part = (
            "most" if report.explained > 0.5 else "a part" if report.explained > 0.2 else "little"
        )
        said.append(
            f"Class explains {part} of what fine-tuning did to single images: "
            f"{share(report.explained, *known.get('explained', ()))} of their displacement."
        )
    mean = float(np.nanmean(values[off]))
    interval = report.intervals.get("cosine")
    ends = (
        [interval.mean_off[0] + k * 1.96 * interval.mean_off[1] for k in (-1, 1)]
        if interval
        else []
    )
    gap = abs(mean - report.expected)
    verdict = "agrees with" if gap < 0.02 else "differs from"
    said.append(
        f"The mean off-diagonal cosine, {number(mean, *ends, digits=3)}, {verdict} the {report.expected:.3f} that theory "
        f"expects for these {len(values)} classes (gap {gap:.3f}); perfect orthogonality would be 0."
    )
    said.append(_pairs(report, values, off, interval))
    if interval is not None and np.isfinite(interval.se[off]).any():
        row = report.equivalence((0.1,)).iloc[0]
        said.append(
            f"Independence within ±0.1 is shown for {share(row['inside'])} of the pairs, refuted for {share(row['outside'])}, "
            f"and undecided for {share(row['undecided'])}."
        )
    said.append(_assumptions(report))
    if report.directions:
        reach = np.quantile(np.abs(report.directions["cosine"]), 0.95)
        inside = np.mean(np.abs(values[off]) <= reach)
        size = (
            "no larger than"
            if inside >= 0.95
            else "mostly no larger than"
            if inside >= 0.5
            else "mostly larger than"
        )
        said.append(
            f"The off-diagonal entries are {size} those of random directions that spread as the features do: {share(inside)} "
            f"lie within their ±{reach:.2f} (isotropic directions would suggest ±{1.96 / np.sqrt(report.dim):.2f})."
        )
    if interval is not None and not np.isfinite(interval.se[off]).all():
        reasons = [r for r in interval.unresolved[off] if r]
        said.append(
            f"{share(len(reasons) / off.sum())} of the pairs have no interval: {max(set(reasons), key=reasons.count)}."
        )
    return tuple(said)


def _pairs(report, values, off, interval) -> str:
    size = np.where(off & np.isfinite(values), np.abs(values), -1)
    c, d = np.unravel_index(size.argmax(), size.shape)
    names = report.cosine.index
    ends = [end.iloc[c, d] for end in report.interval("cosine")]
    leak = "would push it away as well" if values[c, d] > 0 else "would pull it closer"
    text = (
        f"The largest entry is {number(values[c, d], *ends)}: taking the class vector of {names[c]} away from images "
        f"of {names[d]} {leak}"
    )
    if interval is None or not np.isfinite(interval.se[off]).any():
        return f"{text}."
    differ = report.significant("cosine").to_numpy()[off].mean()
    return f"{text}; {share(differ)} of the pairs differ from 0 at 5 % over all at once."


def _assumptions(report) -> str:
    table = report.assumptions.sort_values("rms_added", ascending=False)
    worst = table.iloc[0]
    rest = "; ".join(f"{row.assumption} {row.rms_added:.2f}" for row in table.iloc[1:].itertuples())
    verdict = "hold closely" if worst["rms_added"] < 0.05 else "do not all hold"
    return (
        f"The assumptions of Theorem 3.3 {verdict}: the largest departure is from '{worst['assumption']}', which adds "
        f"{worst['rms_added']:.2f} to an entry (root mean square); then {rest}. Shift ratio {report.shift_ratio:.2f}, spread of "
        f"the pre-trained means {report.collapse_ratio:.2f} of the fine-tuned."
    )
