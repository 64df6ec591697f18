"""What the numbers of neural collapse say, in sentences that depend on nothing else."""

import numpy as np

# a sample's root mean square distance from its class mean, as a share of the distance between two means
_TIGHT, _LOOSE = 0.25, 0.7
_ALIGNED, _PARTLY = 0.9, 0.5  # mean cosine of a class's head row (mean row taken off) and its mean
_AGREES, _DISAGREES = 0.98, 0.9  # share of samples
_NC2 = {"nc2_equinorm": "lengths", "nc2_equiangular": "angles", "nc2_etf": "whole Gram matrix"}


def says(report) -> tuple[str, ...]:
    """Sentences on a `NeuralCollapse`: tightness, regularity of the means, the worst class, alignment, agreement."""
    sentences = [
        _spread(report),
        *_regularity(report),
        _worst(report),
        _alignment(report),
        _agreement(report),
        _unmeasured(report),
    ]
    return tuple(s for s in sentences if s)


def _spread(report) -> str:
    if not np.isfinite(report.cdnv):
        return f"CDNV can't say how tight the classes are: {report.notes['cdnv']}."
    share = np.sqrt(report.cdnv)
    verdict = (
        "tight and well separated"
        if share < _TIGHT
        else "separated but not collapsed"
        if share < _LOOSE
        else "spread out and not well separated"
    )
    nc1 = f"; NC1 {report.nc1:.3g}{_interval(report, 'nc1')}" if np.isfinite(report.nc1) else ""
    return (
        f"Classes are {verdict}: a sample lies about {share:.2f} of the distance between two class means from its own "
        f"(CDNV {report.cdnv:.3g}{_interval(report, 'cdnv')}{nc1})."
    )


def _regularity(report) -> list[str]:
    k, d = len(report.classes), report.dim
    if not report.etf_possible:
        return [
            f"{k} means can't form a simplex ETF in {d} dimensions (at most {d + 1} can), so NC2 doesn't apply: read CDNV, and "
            f"uniformity, {report.uniformity:.4g} against a bound of {report.ideal('uniformity'):.4g}."
        ]
    if k == 2:
        return [
            "With two classes the means lie opposite each other whatever the network: NC2 and uniformity say nothing."
        ]
    if not np.isfinite(report.nc2_etf):
        return []
    if not report.nulls:
        return [
            f"Against a simplex ETF the class means are off by {report.nc2_equinorm:.2g} in length, {report.nc2_equiangular:.2g} "
            f"in cosine and {report.nc2_etf:.2g} as a whole (all 0 for an exact ETF)."
        ]
    above = [
        f"{name} ({getattr(report, m):.3g} against {report.nulls[m][1]:.3g})"
        for m, name in _NC2.items()
        if report.exceeds(m)
    ]
    if not above:
        return [
            "Lengths and angles of the class means are as close to a simplex ETF as samples of an exact one would look."
        ]
    least = int(report.count.min())
    return [
        f"The class means are not a simplex ETF: with as few samples (from {least} a class) an exact one would look more regular "
        f"in 95 % of draws, for the {', the '.join(above)}."
    ]


def _worst(report) -> str:
    frame = report.classwise
    if len(frame) < 3 or not np.isfinite(frame["cdnv"]).all():
        return ""
    row = frame.loc[frame["rival_cdnv"].idxmax()]
    times = row["rival_cdnv"] / report.cdnv if report.cdnv else 1.0
    if times < 1.05:
        return "No pair of classes stands out: the largest CDNV is within 5 % of the mean."
    pair = f"{row['class']} and {row['rival']}"
    return f"The least separated pair is {pair}, with a CDNV of {row['rival_cdnv']:.3g}, {times:.1f} times the mean."


def _alignment(report) -> str:
    if not np.isfinite(report.nc3):
        return ""
    cosines = report.classwise["self_duality_centred"]
    mean, least = cosines.mean(), cosines.idxmin()
    verdict = (
        "aligned" if mean >= _ALIGNED else "partly aligned" if mean >= _PARTLY else "not aligned"
    )
    return (
        f"Head rows and class means are {verdict}: their mean cosine is {mean:.2f} with the head's mean row taken off, least for "
        f"{report.classes[least]} ({cosines[least]:.2f}); NC3 {report.nc3:.3g}{_interval(report, 'nc3')}, centred "
        f"{report.nc3_centred:.3g}{_interval(report, 'nc3_centred')}."
    )


def _agreement(report) -> str:
    if not np.isfinite(report.nc4):
        return ""
    verdict = (
        "decides as the nearest class mean would"
        if report.nc4 >= _AGREES
        else "mostly decides as the nearest class mean would"
        if report.nc4 >= _DISAGREES
        else "often decides otherwise than the nearest class mean would"
    )
    return f"The head {verdict}: they agree on {report.nc4:.1%} of {report.count.sum()} samples{_interval(report, 'nc4', '.1%')}."


def _unmeasured(report) -> str:
    absent = [m for m in ("nc1", "cdnv", "nc3", "nc4") if np.isnan(getattr(report, m))]
    return (
        "Not measured: " + "; ".join(f"{m} ({report.notes[m]})" for m in absent) + "."
        if absent
        else ""
    )


def _interval(report, metric: str, form: str = ".3g") -> str:
    low, high = report.intervals.get(metric, (np.nan, np.nan))
    return f", {low:{form}} to {high:{form}}" if np.isfinite(low) and np.isfinite(high) else ""
