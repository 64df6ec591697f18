"""What the numbers of neural collapse say, in sentences that depend on nothing else."""

import numpy as np

from ...words import number
from .geometry import ideal

# a sample's root mean square distance from its class mean, as a share of the distance between two
TIGHT, LOOSE = 0.25, 0.7
ALIGNED, PARTLY = 0.9, 0.5  # mean cosine of a class's head row (mean row taken off) and its mean
AGREES, DISAGREES = 0.98, 0.9  # share of samples on which head and nearest mean agree
STANDS_OUT = 1.05  # the largest CDNV over the mean from which a pair is named
NC2 = {"nc2_equinorm": "lengths", "nc2_equiangular": "angles", "nc2_etf": "whole Gram matrix"}


def collapse_says(report) -> tuple[str, ...]:
    """The sentences of a `NeuralCollapse` report.

    Tightness, regularity of the means, the worst pair, alignment, agreement, what isn't measured.
    """
    said, frame = [], report.per_class()

    def shown(metric: str, form: str = ".3g") -> str:
        return number(getattr(report, metric), *report.intervals.get(metric, ()), form=form)

    if np.isfinite(report.cdnv):
        share = np.sqrt(report.cdnv)
        words = ("tight and well separated", "separated but not collapsed")
        words += ("spread out and not well separated",)
        nc1 = f"; NC1 {shown('nc1')}" if np.isfinite(report.nc1) else ""
        said.append(
            f"Classes are {words[(share >= TIGHT) + (share >= LOOSE)]}: a sample lies about "
            f"{share:.2f} of the distance between two class means from its own (CDNV "
            f"{shown('cdnv')}{nc1})."
        )
    else:
        said.append(f"CDNV can't say how tight the classes are: {report.notes['cdnv']}.")
    if regularity := _regularity(report):
        said.append(regularity)
    if len(frame) > 2 and np.isfinite(frame["cdnv"]).all():
        row = frame.loc[frame["rival_cdnv"].idxmax()]
        times = row["rival_cdnv"] / report.cdnv if report.cdnv else 1.0
        said.append(
            f"The least separated pair is {row['class']} and {row['rival']}, with a CDNV of "
            f"{row['rival_cdnv']:.3g}, {times:.1f} times the mean."
            if times >= STANDS_OUT
            else "No pair of classes stands out: the largest CDNV is within "
            f"{STANDS_OUT - 1:.0%} of the mean."
        )
    if np.isfinite(report.nc3):
        cosines = frame.set_index("class")["self_duality_centred"]
        mean, words = cosines.mean(), ("aligned", "partly aligned", "not aligned")
        said.append(
            f"Head rows and class means are {words[(mean < ALIGNED) + (mean < PARTLY)]}: their "
            f"mean cosine is {mean:.2f} with the head's mean row taken off, least for "
            f"{cosines.idxmin()} ({cosines.min():.2f}); NC3 {shown('nc3')}, centred "
            f"{shown('nc3_centred')}."
        )
    if np.isfinite(report.nc4):
        words = ("decides as", "mostly decides as", "often decides otherwise than")
        said.append(
            f"The head {words[(report.nc4 < AGREES) + (report.nc4 < DISAGREES)]} the nearest class "
            f"mean would: they agree on {shown('nc4', '.1%')} of {report.count.sum()} samples."
        )
    absent = [m for m in ("nc1", "cdnv", "nc3", "nc4") if np.isnan(getattr(report, m))]
    if absent:
        said.append(f"Not measured: {'; '.join(f'{m} ({report.notes[m]})' for m in absent)}.")
    return tuple(said)


def _regularity(report) -> str:
    k, d = len(report.classes), report.dim
    if k > d + 1:
        return (
            f"{k} means can't form a simplex ETF in {d} dimensions (at most {d + 1} can), so NC2 "
            f"doesn't apply: read CDNV, and uniformity, {report.uniformity:.4g} against a bound of "
            f"{ideal('uniformity', k, d):.4g}."
        )
    if k == 2:
        return (
            "With two classes the means lie opposite each other whatever the network: NC2 and "
            "uniformity say nothing."
        )
    if not np.isfinite(report.nc2_etf):
        return ""
    if not report.nulls:
        return (
            f"Against a simplex ETF the class means are off by {report.nc2_equinorm:.2g} in "
            f"length, {report.nc2_equiangular:.2g} in cosine and {report.nc2_etf:.2g} as a whole "
            "(all 0 for an exact ETF)."
        )
    above = [
        f"{name} ({getattr(report, metric):.3g} against {report.nulls[metric][1]:.3g})"
        for metric, name in NC2.items()
        if report.exceeds(metric)
    ]
    return (
        "The class means are not a simplex ETF: with as few samples (from "
        f"{report.count.min()} a class) an exact one would look more regular in 95 % of draws, "
        f"for the {', the '.join(above)}."
        if above
        else "Lengths and angles of the class means are as close to a simplex ETF as samples of an "
        "exact one would look."
    )
