"""Are class vectors orthogonal to the other classes? Cosines with intervals, terms and nulls."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import field

import numpy as np
import pandas as pd

from ...checks import in_range, listed, record, same_classes
from ...errors import MismatchError
from ...features import Features
from ...vectors import ClassVectors
from . import geometry
from .class_cosines import ClassCosines, cosine_matrix
from .cosines import CosineIntervals, cosine_intervals
from .grams import FEWEST, KINDS, GramBootstrap, affordable, diagonal, inner_products, off_diagonal
from .nulls import PARTS, middle, permuted_labels
from .words import DELTA, orthogonality_says

N_DIRECTIONS = 300
MOST_CLASSES = 5_000  # beyond it a C × C matrix is no longer a thing to hold or to look at
VERSIONS = {"raw": "", "centred": "_centred"}  # and how their attributes end


@record
class Orthogonality:
    """cos(kappa_c, z_ft^c') raw and centred, beside an ETF's and chance, and what explains it.

    cosine, cosine_centred: C × C frames, rows kappa_c, columns z_ft^c'; kappa_cosine and
    mean_cosine (and `_centred`) between class vectors and between fine-tuned means. `expected` and
    `expected_centred` = -1/(C-1) are the off-diagonal cosine of every pair of an exact simplex ETF,
    raw and centred. Where the pre-trained means coincide the *mean* over pairs has that value
    whatever the geometry, so that only single pairs can refute an ETF. See `geometry.MEANING`, also
    for equal_lengths, shift_ratio, offset_ratio, shift_cosine, collapse_ratio, explained (the share
    of the displacement that class explains, R²) and shared, which need features. assumptions: a
    frame, see `geometry.departures`. count: samples behind each mean. scalars: what `geometry()`
    gives.

    With features: `n_boot` resamples were made, of the `asked` ones; `intervals` maps each family
    of cosines to its `CosineIntervals`, `norms` is a frame with one row a class, and the nulls are
    `directions` (cosines of random directions with the features' own covariance, (draws, C), raw
    and centred) and `permuted` (rows of `nulls`). Without them these are empty.
    """

    cosine: pd.DataFrame
    cosine_centred: pd.DataFrame
    kappa_cosine: pd.DataFrame
    kappa_cosine_centred: pd.DataFrame
    mean_cosine: pd.DataFrame
    mean_cosine_centred: pd.DataFrame
    expected: float
    equal_lengths: float
    expected_centred: float
    shift_ratio: float
    offset_ratio: float
    shift_cosine: float
    collapse_ratio: float
    explained: float
    shared: float
    count: pd.Series
    dim: int
    assumptions: pd.DataFrame
    scalars: pd.DataFrame
    intervals: Mapping[str, CosineIntervals] = field(default_factory=dict)
    norms: pd.DataFrame | None = None
    directions: Mapping[str, np.ndarray] = field(default_factory=dict)
    permuted: Sequence[tuple] = ()
    n_boot: int = 0
    asked: int = 0

    @property
    def low(self) -> pd.DataFrame:
        """Lower ends of the 95 % intervals of `cosine`; NaN where there is none."""
        return self.interval("cosine")[0]

    @property
    def high(self) -> pd.DataFrame:
        """Upper ends of the 95 % intervals of `cosine`."""
        return self.interval("cosine")[1]

    def _known(self, kind: str) -> CosineIntervals:
        if kind in self.intervals:
            return self.intervals[kind]
        none = np.full(self.cosine.shape, np.nan)
        why = np.full(none.shape, "no features given: no interval", dtype=object)
        return CosineIntervals(none, none, none, why, np.nan, (np.nan, np.nan))

    def interval(self, kind: str = "cosine") -> list[pd.DataFrame]:
        """The ends of the 95 % intervals of a family, of each entry by itself.

        Args:
            kind: "cosine", "kappa_cosine" or "mean_cosine", with or without "_centred".
        Returns:
            Two C × C frames, low and high; NaN without features and where `table` says why.
        """
        axes = getattr(self, kind).axes
        return [pd.DataFrame(end, *axes) for end in self._known(kind).interval()]

    def estimate(self, kind: str = "cosine") -> np.ndarray:
        """The cosines (C, C) that the intervals of a family are of: free of noise.

        The plain ones where the family's mean has no interval.
        """
        known = self._known(kind)
        plain = getattr(self, kind).to_numpy()
        return known.cosine if np.isfinite(known.mean_off[1]) else plain

    def chance(self, kind: str = "cosine") -> tuple[float, ...]:
        """The ends of the middle 95 % of random directions with the features' own covariance.

        () without features, and for families other than "cosine" and "cosine_centred".
        """
        return middle(self.directions[kind])[1:] if kind in self.directions else ()

    def significant(self, kind: str = "cosine", *, value: float = 0.0) -> pd.DataFrame:
        """C × C booleans: entries that differ from `value` at 5 % over all at once (max-T)."""
        return pd.DataFrame(self._known(kind).differs_from(value), *getattr(self, kind).axes)

    def table(self, *, largest: float = np.inf) -> pd.DataFrame:
        """The pairs of classes, one a row, raw and centred.

        Args:
            largest: keeps the diagonal and that many pairs of largest |cosine|; all by default.
        Returns:
            A frame of `kappa`, `z_ft`, `cosine` (of the means as they are), `corrected` (free of
            noise), its 95 % interval `low`, `high`, `differs` (from 0, over all entries at once),
            `expected`, `null_low` and `null_high` (95 % of random directions), the same again
            `_centred`, the samples `n_kappa` and `n_z_ft`, and `note`, why an interval is missing.
        """
        names, count = np.asarray(self.cosine.index), self.count.to_numpy()
        off = ~np.eye(len(names), dtype=bool)
        table = {"kappa": names[:, None], "z_ft": names}
        for suffix in VERSIONS.values():
            kind, expected = f"cosine{suffix}", getattr(self, f"expected{suffix}")
            known = self._known(kind)
            table |= {kind: getattr(self, kind), f"corrected{suffix}": known.cosine}
            table[f"low{suffix}"], table[f"high{suffix}"] = known.interval()
            table[f"differs{suffix}"] = known.differs_from()
            table[f"expected{suffix}"] = np.where(off, expected, np.nan)
            if kind in self.directions:
                ends = np.quantile(self.directions[kind], [0.025, 0.975], axis=0)
                table[f"null_low{suffix}"], table[f"null_high{suffix}"] = ends
        table |= {"n_kappa": count[:, None], "n_z_ft": count}
        table["note"] = self._known("cosine").unresolved
        flat = {name: np.broadcast_to(x, off.shape).ravel() for name, x in table.items()}
        size = np.where(off, self.cosine.abs().fillna(-1), np.inf).ravel()
        rank = pd.Series(-size).rank(method="first")  # the diagonal comes first
        return pd.DataFrame(flat)[rank <= len(names) + largest].reset_index(drop=True)

    def summary(self) -> pd.DataFrame:
        """The families of cosines, one a row, raw and centred.

        Returns:
            A frame of `version`, `between`, `off_diagonal`, the mean of the entries, with its
            interval `low`, `high`, `expected` (what centring forces of it), `plain`, the mean of
            the cosines of the means as they are, `entries_low` and `entries_high`, the middle 95 %
            of the entries, `entries_sd`, beside `noise_sd`, what their errors make of it, and
            `null_sd`, of random directions, `differ`, the share of entries that differ from 0 over
            all at once, `diagonal`, `no_interval`, the share without one, and counts. All but
            `plain` are free of noise where there are intervals, see `estimate`.
        """
        rows = []
        for kind, sides in KINDS.items():
            for version, suffix in VERSIONS.items():
                family = kind + suffix
                values, known = self.estimate(family), self._known(family)
                entries, (corrected, se) = off_diagonal(values), known.mean_off
                mean, low, high = middle(entries)
                if sampled := np.isfinite(se):
                    mean = corrected
                forced = self.scalar("expected", sampled) if kind == "cosine" else np.nan
                drawn = self.directions.get(family, np.full(1, np.nan))
                differ = off_diagonal(known.differs_from()).mean()
                rows.append(
                    {
                        "version": version,
                        "between": " and ".join(sides),
                        "expected": self.expected_centred if suffix else forced,
                        "off_diagonal": mean,
                        "low": corrected - 1.96 * se,
                        "high": corrected + 1.96 * se,
                        "plain": middle(off_diagonal(getattr(self, family)))[0],
                        "entries_low": low,
                        "entries_high": high,
                        "entries_sd": pd.Series(entries).std(ddof=0),
                        "noise_sd": np.sqrt(middle(off_diagonal(known.se) ** 2)[0]),
                        "null_sd": drawn.std(),
                        "differ": differ if self.intervals else np.nan,
                        "diagonal": middle(diagonal(values))[0],
                        "no_interval": np.isnan(off_diagonal(known.se)).mean(),
                        "n_entries": np.isfinite(entries).sum(),
                        "n_samples": self.count.sum(),
                    }
                )
        return pd.DataFrame(rows)

    def geometry(self) -> pd.DataFrame:
        """The scalars behind the mean cosine, and the share of displacement that class explains.

        Returns:
            A frame with one row a `scalar`: `value` of the means as they are, `corrected` free of
            their noise with its 95 % interval `low`, `high`, `n_samples`, and its `meaning`.
        """
        return self.scalars

    def scalar(self, name: str, corrected: bool = True) -> float:
        """One of `geometry()`: free of noise where that is known and wanted."""
        row = self.scalars.set_index("scalar").loc[name]
        return row["corrected"] if corrected and np.isfinite(row["corrected"]) else row["value"]

    def equivalence(self, deltas: Sequence[float]) -> pd.DataFrame:
        """Is independence shown, not merely unrefuted? Two one-sided tests at 5 %.

        Returns:
            A frame with one row a `version` and `delta`: the share of off-diagonal entries whose
            90 % interval lies `inside` ±delta, the share wholly `outside`, the rest `undecided`,
            and `n_entries`.
        """
        rows = []
        for version, suffix in VERSIONS.items():
            low, high = map(off_diagonal, self._known(f"cosine{suffix}").interval(0.9))
            for delta in deltas:
                inside = ((low > -delta) & (high < delta)).mean()
                outside = ((low > delta) | (high < -delta)).mean()
                rows.append((version, delta, inside, outside, 1 - inside - outside, len(low)))
        columns = ["version", "delta", "inside", "outside", "undecided", "n_entries"]
        return pd.DataFrame(rows, columns=columns)

    def nulls(self) -> pd.DataFrame:
        """What entries would be by chance, beside the measured; all of the means as they are.

        Returns:
            A frame of `null` (measured, random directions, permuted labels), `version`, `part`,
            `mean`, `low` and `high` (the middle 95 %), `n_entries`.
        """
        rows = []
        for version, suffix in VERSIONS.items():
            kind = f"cosine{suffix}"
            for part, of in PARTS.items():
                entries = of(getattr(self, kind))
                rows.append(("measured", version, part, *middle(entries), len(entries)))
            if kind in self.directions:
                drawn, name = self.directions[kind], "random direction, features' covariance"
                rows.append((name, version, "any", *middle(drawn), drawn.size))
        half = 1.96 / np.sqrt(self.dim)
        rows.append(("random direction, isotropic (theory)", "raw", "any", 0.0, -half, half, pd.NA))
        columns = ["null", "version", "part", "mean", "low", "high", "n_entries"]
        return pd.DataFrame([*rows, *self.permuted], columns=columns)

    def says(self, *, delta: float = DELTA) -> tuple[str, ...]:
        """What the numbers say, in sentences computed from them.

        Args:
            delta: cosines within ±delta count as independent.
        """
        return orthogonality_says(self, delta)


def orthogonality(
    vectors: ClassVectors,
    *,
    features: tuple[Features, Features] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> Orthogonality:
    """Measure cos(kappa_c, z_ft^c') beside an exact ETF's and beside chance.

    A kappa of length zero has no direction: its row is NaN, and a warning names the class.

    Args:
        vectors: `ClassVectors` of 2 to 5,000 classes; for more see `cosine_blocks`.
        features: the pair (pre, ft) of `Features` that the vectors were made from. Their samples
            are resampled within class, pre and ft together, which gives every entry an interval
            whose norms are corrected for noise.
        n_boot: resamples, of which many classes get fewer, see `grams.affordable`; 0 leaves the
            intervals out.
        seed: of resamples and nulls.
    Returns:
        An `Orthogonality`.
    Raises:
        MismatchError: for another number of classes, features that are not those of the vectors,
            and n_boot of 1 or below 0.
    Source: Kim and Do, NeurIPS 2025, theorem 3.3.
    """
    n_classes, few = len(vectors), (vectors.count < FEWEST) & (features is not None)
    in_range("the number of classes (for more, cosine_blocks)", n_classes, 2, MOST_CLASSES)
    for chosen, what, so in (
        (~vectors.kappa.any(1), "have a kappa of zero", "identical models? their cosines are NaN"),
        (few, f"have fewer than {FEWEST} images", "no interval for them"),
    ):
        if chosen.any():
            names = listed(np.array(vectors.classes)[chosen], 5)
            told = f"{chosen.sum()} of {n_classes} classes {what} ({names}): {so}"
            warnings.warn(told, stacklevel=2)
    cosines = ClassCosines(vectors)
    report = {
        kind + suffix: cosines.frame(kind, share=share)
        for share, suffix in enumerate(VERSIONS.values())
        for kind in KINDS
    }
    grams = inner_products(np.stack([vectors.kappa, vectors.z_ft]))
    report["assumptions"] = geometry.departures(grams)
    scalars = pd.DataFrame({"scalar": [*geometry.MEANING]})
    if features is not None:
        report |= _sampled(vectors, *features, n_boot, seed)
        scalars = scalars.assign(**report.pop("corrected"))
    scalars = scalars.reindex(columns=["scalar", "value", "corrected", "low", "high"])
    plain = scalars["scalar"].map(geometry.scalars_of_means(vectors))
    scalars["value"] = plain.fillna(scalars["corrected"])
    return Orthogonality(
        **report,
        **dict(zip(scalars["scalar"], scalars["value"], strict=True)),
        expected_centred=-1 / (n_classes - 1),
        count=pd.Series(vectors.count, index=list(vectors.classes), name="n"),
        dim=vectors.dim,
        scalars=scalars.assign(n_samples=vectors.count.sum(), meaning=[*geometry.MEANING.values()]),
    )


def _sampled(vectors: ClassVectors, pre: Features, ft: Features, n_boot: int, seed: int) -> dict:
    """What the samples behind the class vectors add to the report, and corrected scalars."""
    if n_boot:
        in_range("n_boot, where it is not 0,", n_boot, 2, np.inf)
    again = ClassVectors.from_features(pre, ft)
    same_classes(again.classes, vectors.classes, "the pair of features", "the class vectors")
    if again.dim != vectors.dim or not np.allclose(
        [again.z_pre, again.z_ft], [vectors.z_pre, vectors.z_ft]
    ):
        raise MismatchError(
            "these features are not those that the class vectors were made from: their means differ"
        )
    z, rng = ft.z.astype(float), np.random.default_rng([seed, 2])
    boot = GramBootstrap(z - pre.z, z, ft.y)
    # of the covariance of all samples; isotropic directions are far too mild a null
    directions = rng.normal(size=(N_DIRECTIONS, len(z))) @ (z - z.mean(0))
    means = {"cosine": vectors.z_ft, "cosine_centred": vectors.centred().z_ft}
    found = {
        "corrected": {"corrected": geometry.scalars(boot.point, boot.power, boot.count)},
        "directions": {kind: cosine_matrix(directions, mean) for kind, mean in means.items()},
        "permuted": permuted_labels(z - pre.z, z, ft.y, rng=np.random.default_rng([seed, 1])),
    }
    if n_boot:
        found |= {"asked": n_boot, "n_boot": affordable(n_boot, len(vectors))}
        found |= cosine_intervals(boot, n_boot=found["n_boot"], seed=seed)
        counted = pd.DataFrame({"class": vectors.classes, "n": vectors.count})
        found["norms"] = pd.concat([counted, found["norms"]], axis=1)
    return found
