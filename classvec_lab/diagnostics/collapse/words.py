"""What the numbers of neural collapse say, in sentences that depend on nothing else."""

import numpy as np

from ...words import number

# a sample's root mean square distance from its class mean, as a share of the distance between two
TIGHT = 0.25, 0.7
ALIGNED = 0.9, 0.5  # mean cosine of a class's head row (mean row taken off) and its mean
AGREES = 0.98, 0.9  # share of samples on which head and nearest mean agree
STANDS_OUT = 1.05  # the largest CDNV over the mean from which a pair is named
NC2 = {"nc2_equinorm": "lengths", "nc2_equiangular": "angles", "nc2_etf": "whole Gram matrix"}


def collapse_says(report) -> tuple[str, ...]:
    """The sentences of a `NeuralCollapse` report.

    Tightness, regularity of the means, the worst pair, alignment, agreement, what isn't measured.
    """
    said, frame, table = [], report.per_class(), report.table().set_index("metric")

    def shown(metric: str, form: str = ".3g") -> str:
        return number(*table.loc[metric, ["value", "low", "high"]], form=form)

    if np.isfinite(report.cdnv):
        share = np.sqrt(table.value["cdnv"])
        words = ("tight and well separated", "separated but not collapsed")
        words += ("spread out and not well separated",)
        nc1 = f"; NC1 {shown('nc1')}" if np.isfinite(report.nc1) else ""
        said.append(
            f"Classes are {words[np.digitize(share, TIGHT)]}: a sample lies about {share:.2f} of "
            f"the distance between two class means from its own (CDNV {shown('cdnv')}{nc1})."
        )
    else:
        said.append(f"CDNV can't say how tight the classes are: {table.note['cdnv']}.")
    k, d = len(frame), report.dim
    null = table.loc[[*NC2]]
    above = [
        f"{NC2[row.Index]} ({row.value:.3g} against {row.null_high:.3g})"
        for row in null.query("value > null_high").itertuples()
    ]
    if k > d + 1:
        said.append(
            f"{k} means can't form a simplex ETF in {d} dimensions (at most {d + 1} can), so NC2 "
            f"doesn't apply: read CDNV, and uniformity, {report.uniformity:.4g} against a bound of "
            f"{table.ideal['uniformity']:.4g}."
        )
    elif k == 2:
        said.append(
            "With two classes the means lie opposite each other whatever the network: NC2 and "
            "uniformity say nothing."
        )
    elif np.isfinite(report.nc2_etf) and null["null_high"].isna().all():
        said.append(
            f"Against a simplex ETF the class means are off by {report.nc2_equinorm:.2g} in "
            f"length, {report.nc2_equiangular:.2g} in cosine and {report.nc2_etf:.2g} as a whole "
            "(all 0 for an exact ETF)."
        )
    elif above:
        said.append(
            "The class means are not a simplex ETF: with as few samples (from "
            f"{frame['n'].min()} a class) an exact one would look more regular in 95 % of draws, "
            f"for the {', the '.join(above)}."
        )
    elif np.isfinite(report.nc2_etf):
        said.append(
            "Lengths and angles of the class means are as close to a simplex ETF as samples of an "
            "exact one would look."
        )
    if len(frame) > 2 and np.isfinite(frame["cdnv"]).all():
        row = frame.loc[frame["rival_cdnv"].idxmax()]
        pair = frame["class"][frame["class"].isin([row["class"], row["rival"]])]
        times = row["rival_cdnv"] / report.cdnv if report.cdnv else 1.0
        said.append(
            f"The least separated pair is {' and '.join(pair)}, with a CDNV of "
            f"{row['rival_cdnv']:.3g}, {times:.1f} times the mean."
            if times >= STANDS_OUT
            else "No pair of classes stands out: the largest CDNV is within "
            f"{STANDS_OUT - 1:.0%} of the mean."
        )
    if np.isfinite(report.nc3):
        cosines = frame.set_index("class")["self_duality_centred"]
        mean, words = cosines.mean(), ("aligned", "partly aligned", "not aligned")
        said.append(
            f"Head rows and class means are {words[np.digitize(mean, ALIGNED)]}: their mean cosine "
            f"is {mean:.2f} with the head's mean row taken off, least for {cosines.idxmin()} "
            f"({cosines.min():.2f}); NC3 {shown('nc3')}, centred {shown('nc3_centred')}."
        )
    if np.isfinite(report.nc4):
        words = ("decides as", "mostly decides as", "often decides otherwise than")
        said.append(
            f"The head {words[np.digitize(report.nc4, AGREES)]} the nearest class mean would: they "
            f"agree on {shown('nc4', '.1%')} of {frame['n'].sum()} samples."
        )
    absent = table.loc[["nc1", "cdnv", "nc3", "nc4"]].query("value.isna()")
    if len(absent):
        why = (f"{metric} ({note})" for metric, note in absent["note"].items())
        said.append(f"Not measured: {'; '.join(why)}.")
    return tuple(said)
