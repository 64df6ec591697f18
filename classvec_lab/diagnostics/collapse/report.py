"""Neural collapse: how tight classes are, how regular their means, how aligned the head. Every number with its yardstick."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...moments import ClassMoments
from ...statistics import wilson
from .geometry import (
    Means,
    agreement,
    duality,
    etf_error,
    head_rows,
    pairs,
    spread_along,
    streamed_moments,
)
from .resampling import resample
from .words import says

METRICS = (
    "nc1", "cdnv", "nc2_equinorm", "nc2_equiangular", "nc2_etf", "uniformity", "uniformity_variance",
    "nc3", "nc3_centred", "nc3_etf", "nc3_variance", "nc4",
)  # fmt: skip
_NC3 = ("nc3", "nc3_centred", "nc3_etf", "nc3_variance")


@dataclass(frozen=True, eq=False)
class NeuralCollapse:
    """The measures of neural collapse of K classes in D dimensions, see `neural_collapse`; NaN where `notes` says why.

    nc1 = tr(Σ_W Σ_B⁺)/K with Σ_W over samples (maximum likelihood); cdnv the mean over pairs of
    (var_i + var_j) / (2 |mu_i - mu_j|²); nc2_equinorm, nc2_equiangular, nc2_etf the errors against a simplex ETF;
    uniformity and uniformity_variance those of log(1/|m_i - m_j|) over unit vectors; nc3, nc3_centred
    (without the head's mean row, which softmax ignores), nc3_etf; nc3_variance of the cosine between a class's
    row and mean; nc4 the share of samples, 0..1, on which head and nearest class mean agree.
    classes, count (K,), dim D and rank of the centred means. `intervals`: (low, high), 95 %, for the
    population's value; `nulls`: (mean, 95 % point) of NC2 under an exact ETF and this noise; `notes` and
    `interval_notes`: why there is no value, and why no interval.
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
    classes: tuple[str, ...]
    count: np.ndarray
    dim: int
    rank: int
    classwise: pd.DataFrame = field(repr=False)
    intervals: dict[str, tuple[float, float]] = field(repr=False)
    nulls: dict[str, tuple[float, float]] = field(repr=False)
    notes: dict[str, str] = field(repr=False)
    interval_notes: dict[str, str] = field(repr=False)

    @property
    def etf_possible(self) -> bool:
        """Whether K means can form a simplex ETF in D dimensions: K <= D + 1."""
        return len(self.classes) <= self.dim + 1

    def exceeds(self, metric: str) -> bool | None:
        """Whether an NC2 error lies above the 95 % point of its finite-sample null; None where there is no null."""
        return bool(getattr(self, metric) > self.nulls[metric][1]) if metric in self.nulls else None

    def ideal(self, metric: str) -> float:
        """The value of a metric under full collapse, see `ideal`."""
        return ideal(metric, len(self.classes), self.dim)

    def table(self) -> pd.DataFrame:
        """One row a metric: value, 95 % interval (`low`, `high`), finite-sample `null` and its 95 % point, ideal, n, note."""
        rows = []
        for metric in METRICS:
            low, high = self.intervals.get(metric, (np.nan, np.nan))
            null, null_high = self.nulls.get(metric, (np.nan, np.nan))
            value, note = (
                getattr(self, metric),
                self.notes.get(metric) or self.interval_notes.get(metric, ""),
            )
            if value < low or value > high:
                note = "the noise of so few samples moves the value off its interval, which is for the population's"
            rows.append(
                {
                    "metric": metric,
                    "value": value,
                    "low": low,
                    "high": high,
                    "null": null,
                    "null_high": null_high,
                    "ideal": self.ideal(metric),
                    "n": int(self.count.sum()),
                    "note": note,
                }
            )
        return pd.DataFrame(rows)

    def per_class(self) -> pd.DataFrame:
        """One row a class.

        n; variance, the mean of |h - mu_c|²; norm of m_c and its ratio to the mean norm; cosine, the mean
        over the other classes' means; cdnv, the mean over the others, and the rival with the largest
        (rival_cdnv); self_duality, cos(w_c, m_c), and with the head's mean row taken off; nc4 and its
        95 % Wilson interval.
        """
        return self.classwise.copy()

    def says(self) -> tuple[str, ...]:
        """Four to eight sentences that follow from the numbers."""
        return says(self)


def ideal(metric: str, n_classes: int, dim: int) -> float:
    """The value of a metric under full collapse; NaN where K > D + 1 leaves it unknown.

    For K > D + 1 the ETF errors are at least √(2 - 2 √(D/(K - 1))), and the uniformity of an ETF is
    a bound that isn't reached.
    """
    k = n_classes
    if metric == "uniformity":
        return float(-0.5 * np.log(2 * k / (k - 1)))
    if metric in ("nc2_etf", "nc3_etf"):
        return float(np.sqrt(2 - 2 * np.sqrt(min(1.0, dim / (k - 1)))))
    if metric in ("nc2_equiangular", "uniformity_variance") and k > dim + 1:
        return float("nan")
    return float(metric == "nc4")


def neural_collapse(features, head=None, *, n_boot: int = 0, seed: int = 0) -> NeuralCollapse:
    """Measure NC1 to NC4, CDNV and uniformity of representations and a head, in float64 and from thin factors.

    features: `Features`, or a `ClassMoments` (with pooled_scatter for NC1; no NC4, no intervals).
    head: nn.Linear, CosineHead, or any module with in_features and out_features (then NC4 only); None
    leaves out NC3 and NC4. A CosineHead normalises, so its NC4 compares normalised features with the
    means of normalised features; everything else is of the features as they are. The head's bias counts.
    n_boot: resamples for intervals and draws for the NC2 null, 0 for neither; these hold a float64 copy
    of the features. They are given where simulation showed 92 to 98 % coverage (NC3: 92 % or more): see
    `interval_notes`.
    Raises MismatchError for fewer than two classes, a class without samples (naming it), and a head of
    another shape. Warns where K > D + 1 makes a simplex ETF impossible, and where all means are equal.
    Papyan, Han and Donoho 2020 (NC1 to NC4); Galanti et al. 2022 (CDNV); Wu and Papyan 2024 (K >> D).
    """
    given = isinstance(features, ClassMoments)
    classes = tuple(str(i) for i in range(features.n_classes)) if given else features.classes
    count = features.count if given else np.bincount(features.y, minlength=len(classes))
    dim, k = (features.dim if given else features.z.shape[1]), len(classes)
    if k < 2:
        raise MismatchError(
            f"neural collapse compares classes; these features hold {k}: {', '.join(classes)}"
        )
    if not count.all():
        absent = [c for c, n in zip(classes, count, strict=True) if n == 0]
        shown = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
        raise MismatchError(
            f"{len(absent)} of {k} classes have no samples: {shown}; leave them out or add samples"
        )
    rows = head_rows(head, k, dim)
    if k > dim + 1:
        warnings.warn(
            f"{k} class means can't form a simplex ETF in {dim} dimensions: read uniformity and CDNV",
            stacklevel=2,
        )

    moments = features if given else streamed_moments(features, pooled_scatter=dim <= k)
    means = Means.of(moments.mean)
    variance = moments.scatter_trace / count
    values, notes = dict.fromkeys(METRICS, float("nan")), {}
    frame = {
        "class": list(classes),
        "n": count,
        "variance": variance,
        "norm": np.linalg.norm(means.m, axis=1),
    }
    collapsed = len(means.s) == 0
    if collapsed:
        notes = dict.fromkeys(METRICS, f"all {k} class means are equal")
        warnings.warn(
            f"the means of all {k} classes are equal: they have no geometry to measure",
            stacklevel=2,
        )
    if head is None:
        notes |= dict.fromkeys((*_NC3, "nc4"), "no head was given")
    elif rows is None:
        notes |= dict.fromkeys(_NC3, f"a {type(head).__name__} has no row for each class")
    if given:
        notes |= {
            "nc4": "moments hold no samples",
            **({} if moments.scatter is not None else {"nc1": "no pooled scatter"}),
        }

    hits = np.full(k, np.nan)
    if not collapsed:
        values |= _of_means(means, variance, classes, frame, notes)
        if "nc1" not in notes:
            spread = (
                spread_along(features, means)
                if moments.scatter is None
                else ((means.vt @ moments.scatter) * means.vt).sum(axis=1) / count.sum()
            )
            values["nc1"] = float((spread / means.s**2).sum())
        if "nc3" not in notes:
            found = duality(rows.weight, means)
            frame |= {
                "self_duality": found.pop("cosine"),
                "self_duality_centred": found.pop("cosine_centred"),
            }
            values |= found
            notes |= {
                name: "the head or one of its rows is zero"
                for name in _NC3
                if np.isnan(values[name])
            }
        if "nc4" not in notes:
            hits = agreement(features, means, head if rows is None else rows)
            values["nc4"] = float(hits.sum() / count.sum())
    frame["nc4"] = hits / count
    frame["low"], frame["high"] = wilson(hits, count)

    intervals, nulls, interval_notes = {}, {}, {}
    if n_boot and not collapsed:
        weight = None if rows is None else rows.weight
        intervals, nulls, interval_notes = resample(
            None if given else features, means, weight, classes, n_boot, seed
        )
    if np.isfinite(values["nc4"]):
        intervals["nc4"] = tuple(float(x) for x in wilson(hits.sum(), count.sum()))
    intervals = {name: ends for name, ends in intervals.items() if np.isfinite(values[name])}
    columns = ["class", "n", "variance", "norm", "norm_ratio", "cosine", "cdnv", "rival", "rival_cdnv",
               "self_duality", "self_duality_centred", "nc4", "low", "high"]  # fmt: skip
    return NeuralCollapse(
        **values,
        classes=tuple(classes),
        count=count,
        dim=dim,
        rank=len(means.s),
        classwise=pd.DataFrame(frame).reindex(columns=columns),
        intervals=intervals,
        nulls=nulls,
        notes=notes,
        interval_notes=interval_notes,
    )


def _of_means(means: Means, variance, classes, frame: dict, notes: dict) -> dict[str, float]:
    """What class means and variances alone decide; fills in the columns of `frame` and explains in `notes`."""
    k, norm = len(classes), frame["norm"]
    found = pairs(means.m, variance)
    rival = [classes[i] for i in found["rival"]]
    frame |= {
        "norm_ratio": norm / norm.mean(),
        "cosine": found["class_cosine"],
        "cdnv": found["class_cdnv"],
        "rival": rival,
    }
    frame["rival_cdnv"] = found["rival_cdnv"]
    values = {
        "cdnv": found["cdnv"],
        "uniformity": found["uniformity"],
        "uniformity_variance": found["uniformity_variance"],
    }
    values |= {"nc2_equinorm": norm.std() / norm.mean(), "nc2_equiangular": found["equiangular"]}
    values = {name: float(value) for name, value in values.items()} | {
        "nc2_etf": etf_error(means.s, k)
    }
    central = np.flatnonzero(np.isnan(found["class_cosine"]))
    for name in ("nc2_equiangular", "uniformity", "uniformity_variance"):
        if len(central):
            notes[name] = (
                f"the mean of {classes[central[0]]} lies at the centre of all means and has no direction"
            )
        elif k == 2:
            notes[name] = "two means always lie opposite each other"
    if k == 2:
        notes["nc2_equinorm"] = notes["nc2_etf"] = "two means always lie opposite each other"
    if np.isinf(values["cdnv"]):
        worst = int(np.argmax(found["rival_cdnv"]))
        notes["cdnv"] = f"the means of {classes[worst]} and {rival[worst]} coincide"
    if np.isinf(values["uniformity"]):
        notes["uniformity"] = notes["uniformity_variance"] = "two means have the same direction"
    return values
