"""Are class vectors orthogonal to the other classes? Cosines with intervals, beside theory and beside nulls."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...vectors import ClassVectors
from . import geometry
from .cosines import KINDS, CosineIntervals, cosine_intervals
from .grams import FEWEST, GramBootstrap, Grams
from .nulls import permuted_labels, random_directions

N_DIRECTIONS = 300
MOST_CLASSES = 5_000  # beyond it a C × C matrix is no longer a thing to hold or to look at


@dataclass(frozen=True, eq=False)
class Orthogonality:
    """cos(kappa_c, z_ft^c') raw and centred, the values that theory and chance would give, and what explains the difference.

    cosine, cosine_centred: C × C frames, rows kappa_c, columns z_ft^c'; kappa_cosine and mean_cosine
    (and `_centred`) between class vectors and between fine-tuned means. `expected` is the
    three-scalar expectation of the raw off-diagonal cosine, `expected_centred` = -1/(C-1), see
    `geometry.expected_cosine`. With mu the mean of the fine-tuned class means, u_c = z_ft^c - mu, |u| the
    root mean square of their lengths and shift = mu - mean z_pre: shift_ratio s = |shift| / |u|,
    offset_ratio q = |mu| / |u|, shift_cosine rho = cos(shift, mu). count: samples behind each mean.

    With features: `explained` is the share of the displacement that class explains (R²), `intervals` maps
    each family of cosines to its `CosineIntervals`, `scalars` and `norms` are frames with intervals, and the nulls are
    `directions` (cosines of random directions with the features' own covariance, (draws, C), raw and
    centred) and `permuted` (labels permuted). Without them these are empty.
    """

    cosine: pd.DataFrame
    cosine_centred: pd.DataFrame
    kappa_cosine: pd.DataFrame
    kappa_cosine_centred: pd.DataFrame
    mean_cosine: pd.DataFrame
    mean_cosine_centred: pd.DataFrame
    expected: float
    expected_centred: float
    shift_ratio: float
    offset_ratio: float
    shift_cosine: float
    collapse_ratio: float
    count: pd.Series
    dim: int
    assumptions: pd.DataFrame
    explained: float = float("nan")
    intervals: Mapping[str, CosineIntervals] = field(default_factory=dict)
    scalars: pd.DataFrame | None = None
    norms: pd.DataFrame | None = None
    directions: Mapping[str, np.ndarray] = field(default_factory=dict)
    effective_dim: float = float("nan")
    permuted: pd.DataFrame | None = None

    @property
    def low(self) -> pd.DataFrame:
        """Lower ends of the 95 % intervals of `cosine`; NaN without features and where `unresolved` says why."""
        return self.interval("cosine")[0]

    @property
    def high(self) -> pd.DataFrame:
        """Upper ends of the 95 % intervals of `cosine`."""
        return self.interval("cosine")[1]

    def interval(
        self, kind: str = "cosine", *, level: float = 0.95
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(low, high) frames of a family: "cosine", "kappa_cosine" or "mean_cosine", with or without "_centred"."""
        frame = getattr(self, kind)
        if kind in self.intervals:
            return tuple(_like(frame, end) for end in self.intervals[kind].interval(level))
        empty = np.full(frame.shape, np.nan)
        return _like(frame, empty), _like(frame, empty)

    def significant(self, kind: str = "cosine", *, value: float = 0.0) -> pd.DataFrame:
        """C × C booleans: entries that differ from `value` at 5 % over all off-diagonal entries at once (max-T)."""
        frame = getattr(self, kind)
        known = self.intervals.get(kind)
        return _like(frame, known.differs_from(value) if known else np.zeros(frame.shape, bool))

    def table(self, *, largest: int | None = None) -> pd.DataFrame:
        """One row a pair of classes, raw and centred: cosine, noise-corrected value, 95 % interval, expectation, null, counts.

        `differs` is significance over all entries at once (max-T); null_low and null_high bound 95 % of
        random directions; note says why an interval is missing. `largest` keeps the diagonal and
        that many off-diagonal pairs of largest |cosine|.
        """
        names = np.asarray(self.cosine.index)
        rows, columns = (g.ravel() for g in np.indices(self.cosine.shape))
        table = pd.DataFrame({"kappa": names[rows], "z_ft": names[columns]})
        off = rows != columns
        for suffix, expected in (("", self.expected), ("_centred", self.expected_centred)):
            kind = f"cosine{suffix}"
            table[kind] = getattr(self, kind).to_numpy().ravel()
            known = self.intervals.get(kind)
            table[f"corrected{suffix}"] = known.estimate.ravel() if known else np.nan
            low, high = self.interval(kind)
            table[f"low{suffix}"], table[f"high{suffix}"] = (
                low.to_numpy().ravel(),
                high.to_numpy().ravel(),
            )
            table[f"differs{suffix}"] = self.significant(kind).to_numpy().ravel()
            table[f"expected{suffix}"] = np.where(off, expected, np.nan)
            if kind in self.directions:
                ends = np.quantile(self.directions[kind], [0.025, 0.975], axis=0)
                table[f"null_low{suffix}"], table[f"null_high{suffix}"] = ends[:, columns]
        table["n_kappa"], table["n_z_ft"] = (table[c].map(self.count) for c in ("kappa", "z_ft"))
        table["note"] = (
            self.intervals["cosine"].unresolved.ravel()
            if self.intervals
            else "no features given: no interval"
        )
        if largest is not None:
            rank = (-table["cosine"].abs()).where(off).rank(method="first")
            table = table[~off | (rank <= largest)].reset_index(drop=True)
        return table

    def summary(self) -> pd.DataFrame:
        """Each family of cosines, raw and centred: expected and mean off-diagonal entry with its interval, and the spread.

        off_diagonal is the plain mean and low, high the interval of its noise-corrected value;
        entries_low and entries_high bound the middle 95 % of the entries; differ is the share of entries that
        differ from 0 over all at once, no_interval the share without an interval.
        """
        rows = []
        for name, (_, row, column) in KINDS.items():
            for suffix in ("", "_centred"):
                kind = name + suffix
                values = getattr(self, kind).to_numpy()
                off = ~np.eye(len(values), dtype=bool)
                expected = {"cosine": self.expected, "cosine_centred": self.expected_centred}.get(
                    kind, np.nan
                )
                known = self.intervals.get(kind)
                corrected, se = known.mean_off if known else (np.nan, np.nan)
                rows.append(
                    {
                        "version": "centred" if suffix else "raw",
                        "between": f"{row} and {column}",
                        "expected": -1 / (len(values) - 1) if suffix else expected,
                        "off_diagonal": _mean(values[off]),
                        "low": corrected - 1.96 * se,
                        "high": corrected + 1.96 * se,
                        "entries_low": _quantile(values[off], 0.025),
                        "entries_high": _quantile(values[off], 0.975),
                        "differ": float(self.significant(kind).to_numpy()[off].mean())
                        if known
                        else np.nan,
                        "diagonal": _mean(np.diag(values)),
                        "no_interval": float(np.isnan(known.se[off]).mean()) if known else 1.0,
                        "n_entries": int(np.isfinite(values[off]).sum()),
                        "n_samples": int(self.count.sum()),
                    }
                )
        return pd.DataFrame(rows)

    def geometry(self) -> pd.DataFrame:
        """The scalars behind the expectation and the share of displacement that class explains: value, interval, n, meaning.

        `value` is of the means as they are, `corrected`, `low` and `high` are free of their noise.
        """
        plain = {k: getattr(self, k) for k in geometry.MEANING if k != "shared"}
        table = pd.DataFrame({"scalar": [*geometry.MEANING]})
        table["value"] = table["scalar"].map(plain)
        known = None if self.scalars is None else self.scalars.set_index("scalar")
        for column, source in (("corrected", "value"), ("low", "low"), ("high", "high")):
            table[column] = np.nan if known is None else table["scalar"].map(known[source])
        table["value"] = table["value"].fillna(table["corrected"])
        return table.assign(
            n_samples=int(self.count.sum()), meaning=table["scalar"].map(geometry.MEANING)
        )

    def equivalence(self, deltas=(0.05, 0.1, 0.2), *, level: float = 0.05) -> pd.DataFrame:
        """Is independence shown, not merely unrefuted? The share of off-diagonal entries within ±delta by two one-sided tests.

        One row a delta and version: share inside (90 % interval within ±delta for level .05), share of entries
        whose interval lies wholly outside, undecided (the rest), n_entries.
        """
        rows = []
        for kind in ("cosine", "cosine_centred"):
            known = self.intervals.get(kind)
            off = ~np.eye(len(self.cosine), dtype=bool)
            for delta in deltas if known else ():
                low, high = known.interval(1 - 2 * level)
                inside = known.inside(delta, level=level)[off].mean()
                outside = ((low > delta) | (high < -delta))[off].mean()
                version = "centred" if kind.endswith("centred") else "raw"
                rows.append((version, delta, inside, outside, 1 - inside - outside, int(off.sum())))
        return pd.DataFrame(
            rows, columns=["version", "delta", "inside", "outside", "undecided", "n_entries"]
        )

    def nulls(self) -> pd.DataFrame:
        """What the entries would be by chance, beside the measured: random directions (matched, isotropic), permuted labels."""
        off = ~np.eye(len(self.cosine), dtype=bool)
        rows = []
        for version in ("raw", "centred"):
            kind = "cosine" if version == "raw" else "cosine_centred"
            values = getattr(self, kind).to_numpy()
            for part, mask in (("off_diagonal", off), ("diagonal", ~off)):
                entries = values[mask]
                rows.append(
                    (
                        "measured",
                        version,
                        part,
                        _mean(entries),
                        _quantile(entries, 0.025),
                        _quantile(entries, 0.975),
                        mask.sum(),
                    )
                )
            if kind in self.directions:
                d = self.directions[kind].ravel()
                rows.append(
                    (
                        "random direction, features' covariance",
                        version,
                        "any",
                        d.mean(),
                        *np.quantile(d, [0.025, 0.975]),
                        len(d),
                    )
                )
        half = 1.96 / np.sqrt(self.dim)
        rows.append(("random direction, isotropic (theory)", "raw", "any", 0.0, -half, half, pd.NA))
        table = pd.DataFrame(
            rows, columns=["null", "version", "part", "mean", "low", "high", "n_entries"]
        )
        if self.permuted is not None:
            permuted = self.permuted.assign(
                null="labels permuted", n_entries=self.permuted["n_permutations"] * len(self.cosine)
            )
            table = pd.concat([table, permuted[table.columns]], ignore_index=True)
        return table

    def says(self) -> tuple[str, ...]:
        """What the numbers say, in sentences computed from them."""
        from .words import orthogonality_says

        return orthogonality_says(self)


def orthogonality(
    vectors: ClassVectors, *, features=None, n_boot: int = 1000, seed: int = 0
) -> Orthogonality:
    """Measure cos(kappa_c, z_ft^c') beside its expectation (Theorem 3.3 and its exact three-scalar form) and beside chance.

    features: the pair (pre, ft) of `Features` that the vectors were made from; their samples are then
    resampled within class, pre and ft together, n_boot times from `seed`, which gives every entry an
    interval whose norms are corrected for noise. n_boot=0 leaves the intervals out. A kappa of length
    zero has no direction: its row is NaN and a warning names the class.
    Raises MismatchError for fewer than two classes, more than 5,000 (see `cosine_blocks`), or features
    that are not those of the vectors.
    """
    n_classes = len(vectors)
    if not 2 <= n_classes <= MOST_CLASSES:
        instead = "use cosine_blocks" if n_classes > MOST_CLASSES else "it takes at least two"
        raise MismatchError(
            f"orthogonality compares classes; these class vectors hold {n_classes:,}: {instead}"
        )
    still = [c for c, k in zip(vectors.classes, vectors.kappa, strict=True) if not k.any()]
    if still:
        shown = ", ".join(still[:5]) + (" …" if len(still) > 5 else "")
        warnings.warn(
            f"kappa is zero for {len(still)} of {n_classes} classes ({shown}): identical models? their cosines are NaN",
            stacklevel=2,
        )
    centred = vectors.centred()
    grams = Grams(
        vectors.kappa @ vectors.z_ft.T,
        vectors.kappa @ vectors.kappa.T,
        vectors.z_ft @ vectors.z_ft.T,
        np.full(n_classes, np.nan),
    )
    frames = {}
    for suffix, v in (("", vectors), ("_centred", centred)):
        for kind, (_, row, column) in KINDS.items():
            frames[kind + suffix] = _frame(v, row, column)
    report = dict(
        **frames,
        **geometry.scalars_of_means(vectors),
        expected_centred=-1 / (n_classes - 1),
        count=pd.Series(vectors.count, index=list(vectors.classes), name="n"),
        dim=vectors.dim,
        assumptions=geometry.departures(grams),
    )
    if features is not None:
        report |= _sampled(vectors, features, n_boot, seed)
    return Orthogonality(**report)


def _sampled(vectors: ClassVectors, features, n_boot: int, seed: int) -> dict:
    pre, ft = features
    if n_boot < 0 or n_boot == 1:
        raise ValueError(f"n_boot must be 0 or at least 2; got {n_boot}")
    again = ClassVectors.from_features(pre, ft)
    if (
        again.classes != vectors.classes
        or not np.allclose(again.z_ft, vectors.z_ft)
        or not np.allclose(again.z_pre, vectors.z_pre)
    ):
        raise MismatchError(
            "these features are not those that the class vectors were made from: their classes or means differ"
        )
    kappa = np.asarray(ft.z, np.float64) - pre.z
    boot = GramBootstrap(kappa, ft.z, ft.y, len(vectors))
    few = [c for c, n in zip(vectors.classes, vectors.count, strict=True) if n < FEWEST]
    if few:
        shown = ", ".join(few[:5]) + (" …" if len(few) > 5 else "")
        warnings.warn(
            f"{len(few)} classes have fewer than {FEWEST} images ({shown}): no interval for them",
            stacklevel=3,
        )
    directions, effective_dim = random_directions(
        ft.z, n_draws=N_DIRECTIONS, rng=np.random.default_rng([seed, 2])
    )
    means = {"cosine": vectors.z_ft, "cosine_centred": vectors.centred().z_ft}
    result = {
        "explained": float(geometry.scalars(boot.point, boot.count)["explained"]),
        "directions": {kind: cosine_matrix(directions, m) for kind, m in means.items()},
        "effective_dim": effective_dim,
        "permuted": permuted_labels(
            kappa, ft.z, ft.y, len(vectors), rng=np.random.default_rng([seed, 1])
        ),
    }
    if n_boot:
        resampled = cosine_intervals(boot, n_boot=n_boot, seed=seed)
        result |= {
            "intervals": resampled.families,
            "scalars": resampled.scalars,
            "norms": pd.concat([vectors.table()[["class", "n"]], resampled.norms], axis=1),
            "assumptions": resampled.departures,
        }
    return result


def cosine_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines (A, B) between the rows of a (A, m) and b (B, m), float64; NaN where a row has length zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (
            x / np.linalg.norm(x, axis=1, keepdims=True)
            for x in (np.asarray(a, np.float64), np.asarray(b, np.float64))
        )
    return a @ b.T


def _frame(vectors: ClassVectors, row: str, column: str) -> pd.DataFrame:
    names = list(vectors.classes)
    frame = pd.DataFrame(
        cosine_matrix(getattr(vectors, row), getattr(vectors, column)), index=names, columns=names
    )
    return frame.rename_axis(index=row, columns=column)


def _like(frame: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, index=frame.index, columns=frame.columns)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _quantile(values: np.ndarray, q: float) -> float:
    return float(np.nanquantile(values, q)) if np.isfinite(values).any() else float("nan")
