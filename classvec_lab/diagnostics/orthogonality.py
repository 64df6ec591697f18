"""Are class vectors orthogonal to the other classes? Cosines beside the value that theory expects."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import MismatchError
from ..vectors import ClassVectors


@dataclass(frozen=True, eq=False)
class Orthogonality:
    """cos(kappa_c, z_ft^c') raw and centred, the expected off-diagonal values, and what they are made of.

    cosine, cosine_centred: C × C frames, rows kappa_c, columns z_ft^c'. `expected` is the
    three-scalar expectation of the raw off-diagonal cosine, `expected_centred` = -1/(C-1).
    With mu the mean of the fine-tuned class means, u_c = z_ft^c - mu, |u| the root mean square of
    their lengths and shift = mu - mean z_pre: shift_ratio s = |shift| / |u|, offset_ratio
    q = |mu| / |u|, shift_cosine rho = cos(shift, mu). count: samples behind each mean.
    """

    cosine: pd.DataFrame
    cosine_centred: pd.DataFrame
    expected: float
    expected_centred: float
    shift_ratio: float
    offset_ratio: float
    shift_cosine: float
    count: pd.Series

    def table(self) -> pd.DataFrame:
        """One row a pair of classes: both cosines, the expected ones (off the diagonal), and the two sample counts."""
        pairs = self.cosine.stack().rename("cosine").to_frame()
        pairs["cosine_centred"] = self.cosine_centred.stack()
        pairs = pairs.rename_axis(["kappa", "z_ft"]).reset_index()
        off = pairs["kappa"] != pairs["z_ft"]
        pairs["expected"] = np.where(off, self.expected, np.nan)
        pairs["expected_centred"] = np.where(off, self.expected_centred, np.nan)
        pairs["n_kappa"], pairs["n_z_ft"] = (pairs[c].map(self.count) for c in ("kappa", "z_ft"))
        return pairs

    def summary(self) -> pd.DataFrame:
        """Raw and centred: expected off-diagonal cosine, mean and middle 95 % of the entries, diagonal."""
        rows = []
        for name, frame, expected in (
            ("raw", self.cosine, self.expected),
            ("centred", self.cosine_centred, self.expected_centred),
        ):
            values = frame.to_numpy()
            off = values[~np.eye(len(values), dtype=bool)]
            low, high = np.nanquantile(off, [0.025, 0.975]) if np.isfinite(off).any() else (np.nan, np.nan)
            rows.append(
                {
                    "version": name,
                    "expected": expected,
                    "off_diagonal": _mean(off),
                    "entries_low": low,
                    "entries_high": high,
                    "diagonal": _mean(np.diag(values)),
                    "n_entries": int(np.isfinite(off).sum()),
                    "n_samples": int(self.count.sum()),
                }
            )
        return pd.DataFrame(rows)

    def geometry(self) -> pd.DataFrame:
        """The three scalars of the expectation, one row each, with their meaning."""
        return pd.DataFrame(
            [
                ("shift_ratio", self.shift_ratio, "|mu - mean z_pre| / |u|: common shift against class spread"),
                ("offset_ratio", self.offset_ratio, "|mu| / |u|: distance of the fine-tuned means' centre from 0"),
                ("shift_cosine", self.shift_cosine, "cos(mu - mean z_pre, mu)"),
            ],
            columns=["scalar", "value", "meaning"],
        )


def orthogonality(vectors: ClassVectors) -> Orthogonality:
    """Measure cos(kappa_c, z_ft^c') beside its expectation (Theorem 3.3 and its exact three-scalar form).

    For collapsed pre-trained means and a simplex ETF after fine-tuning,
    E cos = (s q rho - 1/(C-1)) / sqrt((1 + s²)(1 + q²)) off the diagonal; -1/(C-1) needs both sides
    centred. A kappa of length zero has no direction: its row is NaN and a warning names the class.
    Raises MismatchError for fewer than two classes.
    """
    n_classes = len(vectors)
    if n_classes < 2:
        raise MismatchError(f"orthogonality compares classes; these class vectors hold {n_classes}")
    still = [c for c, k in zip(vectors.classes, vectors.kappa, strict=True) if not k.any()]
    if still:
        shown = ", ".join(still[:5]) + (" …" if len(still) > 5 else "")
        warnings.warn(
            f"kappa is zero for {len(still)} of {n_classes} classes ({shown}): identical models? their cosines are NaN",
            stacklevel=2,
        )
    mu = vectors.z_ft.mean(axis=0)
    u = np.sqrt(np.mean(np.sum((vectors.z_ft - mu) ** 2, axis=1)))
    shift = mu - vectors.z_pre.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        s, q = np.linalg.norm(shift) / u, np.linalg.norm(mu) / u
        # a shift or centre of length zero has no direction, and then its product with the other is zero
        rho = float(shift @ mu / (np.linalg.norm(shift) * np.linalg.norm(mu))) if s * q > 0 else 0.0
        expected = (s * q * rho - 1 / (n_classes - 1)) / np.sqrt((1 + s**2) * (1 + q**2))
    centred = vectors.centred()
    return Orthogonality(
        cosine=_frame(vectors.kappa, vectors.z_ft, vectors.classes),
        cosine_centred=_frame(centred.kappa, centred.z_ft, vectors.classes),
        expected=float(expected),
        expected_centred=-1 / (n_classes - 1),
        shift_ratio=float(s),
        offset_ratio=float(q),
        shift_cosine=rho,
        count=pd.Series(vectors.count, index=list(vectors.classes), name="n"),
    )


def cosine_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines (A, B) between the rows of a (A, m) and b (B, m), float64; NaN where a row has length zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (np.asarray(a, np.float64), np.asarray(b, np.float64)))
    return a @ b.T


def _frame(kappa: np.ndarray, z: np.ndarray, classes) -> pd.DataFrame:
    frame = pd.DataFrame(cosine_matrix(kappa, z), index=list(classes), columns=list(classes))
    return frame.rename_axis(index="kappa", columns="z_ft")


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
