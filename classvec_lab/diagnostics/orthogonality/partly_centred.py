"""Cosines between class vectors and class means with any share of their common mean taken off, whole or summed over blocks."""

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...vectors import ClassVectors
from .cosines import KINDS


class ClassCosines:
    """cos(a_c - s ā, b_c' - s b̄) for a share s of the mean over classes: s = 0 is raw, s = 1 centred on both sides.

    kind: "cosine" (rows kappa, columns z_ft), "kappa_cosine" or "mean_cosine". Lengths come from inner products, so a
    change of s costs one product of what is asked for, and blocks of classes never form a C × C matrix.
    """

    def __init__(self, vectors: ClassVectors):
        self.classes = vectors.classes
        self._sides = {}
        for name in ("kappa", "z_ft"):
            values = getattr(vectors, name)
            mean = values.mean(axis=0)
            self._sides[name] = (
                values,
                mean,
                np.einsum("cm,cm->c", values, values),
                values @ mean,
                float(mean @ mean),
            )

    def __len__(self) -> int:
        return len(self.classes)

    def entries(
        self, kind: str, rows: np.ndarray, columns: np.ndarray, *, share: float = 0.0
    ) -> np.ndarray:
        """Cosines (R, K) float64 between the classes at positions `rows` and `columns`; NaN where a side has length zero."""
        first, second = self._names(kind)
        a, b = self._unit(first, share, rows), self._unit(second, share, columns)
        return a @ b.T

    def frame(self, kind: str = "cosine", *, share: float = 0.0) -> pd.DataFrame:
        """All C × C cosines; at share 0 and 1 those of `Orthogonality`."""
        every = np.arange(len(self))
        row, column = self._names(kind)
        frame = pd.DataFrame(
            self.entries(kind, every, every, share=share), index=self.classes, columns=self.classes
        )
        return frame.rename_axis(index=row, columns=column)

    def block_means(
        self, kind: str, order: np.ndarray, starts: np.ndarray, *, share: float = 0.0
    ) -> np.ndarray:
        """Mean off-diagonal cosine (B, B) between blocks of classes; NaN where a block holds none.

        order: positions of the classes (C,); starts (B,), ascending from 0: where each block begins in it. The mean of
        the cosines is the inner product of the blocks' mean unit vectors, so this takes O(C m + B² m).
        """
        sides, known = [], []
        for name in self._names(kind):
            unit = self._unit(name, share, order)
            finite = np.isfinite(unit[:, 0])
            unit[~finite] = 0
            sides.append(unit)
            known.append(np.add.reduceat(finite, starts, dtype=np.float64))
        own = np.add.reduceat(np.einsum("cm,cm->c", *sides), starts)
        both = np.add.reduceat(
            (np.abs(sides[0]).any(axis=1) & np.abs(sides[1]).any(axis=1)).astype(np.float64), starts
        )
        totals = (
            np.add.reduceat(sides[0], starts, axis=0) @ np.add.reduceat(sides[1], starts, axis=0).T
        )
        n = np.outer(*known)
        totals[np.diag_indices(len(starts))] -= own
        n[np.diag_indices(len(starts))] -= both
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n > 0, totals / n, np.nan)

    def _unit(self, name: str, share: float, chosen: np.ndarray) -> np.ndarray:
        values, mean, square, along, mean_square = self._sides[name]
        length = np.sqrt(
            np.maximum(square[chosen] - 2 * share * along[chosen] + share**2 * mean_square, 0)
        )
        # cancellation leaves rounding noise where a vector is, or loses, all of its length
        length[length <= 1e-10 * np.sqrt(np.maximum(square[chosen], mean_square))] = 0
        with np.errstate(invalid="ignore", divide="ignore"):
            return (
                (values[chosen] - share * mean) / length[:, None]
                if share
                else values[chosen] / length[:, None]
            )

    @staticmethod
    def _names(kind: str) -> tuple[str, str]:
        if kind not in KINDS:
            raise MismatchError(f"no cosines {kind!r}; there are {', '.join(KINDS)}")
        return KINDS[kind][1:]
