"""Neural collapse: how tight classes are, how regular their means, how aligned the head."""

import warnings

import numpy as np
import pandas as pd
from torch import nn

from ...checks import in_range, listed, record
from ...errors import MismatchError
from ...features import Features
from ...moments import ClassMoments
from ...readout import find_rows
from ...statistics import rates
from .geometry import DIRECTIONS, Means, agreement, duality, etf_error, ideal, pairs, spread_along
from .resampling import resample
from .words import collapse_says

METRICS = (
    "nc1", "cdnv", "nc2_equinorm", "nc2_equiangular", "nc2_etf", "uniformity",
    "uniformity_variance", "nc3", "nc3_centred", "nc3_etf", "nc3_variance", "nc4",
)  # fmt: skip
NC3 = [metric for metric in METRICS if metric.startswith("nc3")]
NONE = (np.nan, np.nan)  # of a null
COLUMNS = [
    "class", "n", "variance", "norm", "norm_ratio", "cosine", "cdnv", "rival", "rival_cdnv",
    "self_duality", "self_duality_centred", "nc4", "low", "high",
]  # fmt: skip


@record
class NeuralCollapse:
    """The measures of neural collapse of K classes in D dimensions, see `neural_collapse`.

    nc1 = tr(Σ_W Σ_B⁺)/K with Σ_W over samples (maximum likelihood); cdnv the mean over pairs of
    (var_i + var_j) / (2 |mu_i - mu_j|²); nc2_equinorm, nc2_equiangular, nc2_etf the errors against
    a simplex ETF; uniformity and uniformity_variance those of log(1/|m_i - m_j|) over unit vectors;
    nc3, nc3_centred (without the head's mean row, which softmax ignores), nc3_etf; nc3_variance of
    the cosine between a class's row and mean; nc4 the share of samples, 0..1, on which head and
    nearest class mean agree. NaN where the note in `table` says why.
    metrics and classwise are what `table` and `per_class` give.
    """

    nc1: float
    cdnv: float
    nc2_equinorm: float
    nc2_equiangular: float
    nc2_etf: float
    uniformity: float
    uniformity_variance: float
    nc3: float
    nc3_centred: float
    nc3_etf: float
    nc3_variance: float
    nc4: float
    dim: int
    metrics: pd.DataFrame
    classwise: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """The metrics, one a row.

        Returns:
            A frame of `metric`; `value` and its 95 % interval `low`, `high`, free of the noise that
            so few samples put into class means; `plain`, of the means as they are, which `value`
            repeats where there is no interval; the mean `null` and 95 % point `null_high` of NC2
            under an exact ETF and this noise; `ideal`, under full collapse; `n`; and `note`, why
            there is no value or interval.
        """
        return self.metrics

    def per_class(self) -> pd.DataFrame:
        """The classes, one a row.

        Returns:
            A frame of `class`; `n`; `variance`, the mean of |h - mu_c|²; `norm` of m_c and
            `norm_ratio` to the mean norm; `cosine`, the mean over the other classes' means; `cdnv`,
            the mean over the others, and the `rival` with the largest (`rival_cdnv`);
            `self_duality`, cos(w_c, m_c), and `self_duality_centred`, with the head's mean row
            taken off; `nc4` and its 95 % Wilson interval `low`, `high`.
        """
        return self.classwise

    def says(self) -> tuple[str, ...]:
        """Four to eight sentences that follow from the numbers."""
        return collapse_says(self)


def neural_collapse(
    features: Features | ClassMoments,
    head: nn.Module | None = None,
    *,
    n_boot: int = 0,
    seed: int = 0,
) -> NeuralCollapse:
    """Measure NC1 to NC4, CDNV and uniformity of representations and a head.

    In float64 and from thin factors. A CosineHead normalises, so its NC4 compares normalised
    features with the means of normalised features; everything else is of the features as they are.
    The head's bias counts. Intervals are given where simulation showed 92 to 98 % coverage (NC3:
    92 % or more); elsewhere the note in the table says why not. Warns where K > D + 1 makes a
    simplex ETF impossible, and where all means are equal.

    Args:
        features: `Features`, or a `ClassMoments` (with pooled_scatter for NC1; no NC4, no
            intervals).
        head: nn.Linear or CosineHead; None, or another module, leaves out NC3 and NC4.
        n_boot: resamples for intervals and draws for the NC2 null; 0 for neither.
        seed: of both.
    Returns:
        A `NeuralCollapse`.
    Raises:
        MismatchError: for fewer than two classes, a class without samples, a head of another shape,
            and n_boot of 1 or below 0.
    Source: Papyan, Han and Donoho 2020 (NC1 to NC4); Galanti et al. 2022 (CDNV); Wu and Papyan 2024
    (K much larger than D).
    """
    if isinstance(features, ClassMoments):
        samples, moments, classes = None, features, tuple(map(str, range(features.n_classes)))
    else:
        samples, classes = features, features.classes
        # NC1 costs N m² / 2 from the pooled scatter, and N m K from the samples themselves
        pooled = 2 * len(classes) > features.z.shape[1]
        moments = features.moments(pooled_scatter=pooled)
    k, dim, count = moments.n_classes, moments.dim, moments.count
    in_range("the number of classes", k, 2, np.inf)
    absent = np.array(classes)[count == 0]
    if len(absent):
        raise MismatchError(
            f"{len(absent)} of {k} classes have no samples: {listed(absent, 5)}; leave them out or "
            "add samples"
        )
    rows = find_rows(head)
    if rows is not None and rows.weight.shape != (k, dim):
        raise MismatchError(
            "the head maps {1} dimensions to {0} classes; ".format(*rows.weight.shape)
            + f"the features have {dim} dimensions and {k} classes"
        )
    if n_boot:
        in_range("n_boot, where it is not 0,", n_boot, 2, np.inf)
    means, variance = Means.of(moments.mean), moments.scatter_trace / count
    values, hits = dict.fromkeys(METRICS, np.nan), np.full(k, np.nan)
    frame = {"class": list(classes), "n": count, "variance": variance}
    intervals, nulls, notes = {}, {}, {}
    if n_boot and len(means.s):
        weight = rows and rows.weight
        intervals, nulls, notes = resample(samples, means, weight, classes, n_boot, seed)

    def explain(metrics, why: str) -> None:
        notes.update(dict.fromkeys(metrics, why))

    if k > dim + 1:
        warnings.warn(
            f"{k} class means can't form a simplex ETF in {dim} dimensions: "
            "read uniformity and CDNV",
            stacklevel=2,
        )
    if len(means.s):
        found, classwise = pairs(means.m, variance)
        values |= found | {"nc2_etf": etf_error(means.s, k)}
        rival = [classes[i] for i in classwise["rival"]]
        frame |= classwise | {"rival": rival}
        central = np.flatnonzero(np.isnan(classwise["cosine"]))
        if len(central):
            where = "lies at the centre of all means and has no direction"
            explain(DIRECTIONS, f"the mean of {classes[central[0]]} {where}")
        if k == 2:
            opposite = "two means always lie opposite each other"
            explain((*DIRECTIONS, "nc2_equinorm", "nc2_etf"), opposite)
        if np.isinf(values["cdnv"]):
            worst = int(classwise["rival_cdnv"].argmax())
            explain(["cdnv"], f"the means of {classes[worst]} and {rival[worst]} coincide")
        if np.isinf(values["uniformity"]):
            explain(DIRECTIONS[1:], "two means have the same direction")
        if moments.scatter is not None:
            spread = ((means.vt @ moments.scatter) * means.vt).sum(1) / count.sum()
            values["nc1"] = (spread / means.s**2).sum()
        elif samples is not None:
            values["nc1"] = (spread_along(samples, means) / means.s**2).sum()
        if rows is not None:
            found, cosines = duality(rows.weight, means)
            values |= found
            frame |= cosines
            zero = [metric for metric in NC3 if np.isnan(values[metric])]
            explain(zero, "the head or one of its rows is zero")
            if samples is not None:
                hits = agreement(samples, rows, moments.mean)
    else:
        explain(METRICS, f"all {k} class means are equal")
        warnings.warn(
            f"the means of all {k} classes are equal: they have no geometry to measure",
            stacklevel=2,
        )
    if rows is None:
        lacking = f"a {type(head).__name__} has no row for each class"
        explain((*NC3, "nc4"), "no head was given" if head is None else lacking)
    if samples is None:
        explain(["nc4"], "moments hold no samples")
        if moments.scatter is None:
            explain(["nc1"], "no pooled scatter")
    frame["nc4"], frame["low"], frame["high"] = rates(hits, count)
    intervals["nc4"] = rates(hits.sum(), count.sum())
    values["nc4"] = intervals["nc4"][0]
    table = []
    for metric, plain in values.items():
        known = metric in intervals and np.isfinite(plain)
        found = intervals[metric] if known else (plain, *NONE)
        numbers = (*found, plain, *nulls.get(metric, NONE), ideal(metric, k, dim))
        table.append((metric, *numbers, count.sum(), notes.get(metric, "")))
    columns = ["metric", "value", "low", "high", "plain", "null", "null_high", "ideal", "n", "note"]
    return NeuralCollapse(
        **values,
        dim=dim,
        metrics=pd.DataFrame(table, columns=columns),
        classwise=pd.DataFrame(frame).reindex(columns=COLUMNS),
    )
