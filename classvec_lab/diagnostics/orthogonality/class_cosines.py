"""Cosines between class vectors and class means: whole, partly centred, in blocks, of very many."""

import numpy as np
import pandas as pd

from ...checks import in_range, one_of, record
from ...vectors import ClassVectors
from .geometry import scalars_of_means
from .grams import KINDS

BAND_CELLS = 16_000_000  # cosines held at once
N_BLOCKS, N_EXTREMES = 150, 30  # of very many classes
ROUNDING = 1e-10  # of a mean's length: a vector that it leaves shorter has lost all of its own


def unit_rows(values: np.ndarray, mean: np.ndarray | float = 0.0) -> np.ndarray:
    """Rows of `values` (A, m) less `mean`, divided by their lengths; NaN where nothing is left."""
    rest = np.asarray(values, float) - mean
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    return rest / np.where(length > ROUNDING * np.linalg.norm(mean), length, np.nan)


def cosine_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines (A, B) between the rows of a (A, m) and b (B, m); NaN where a row has length zero."""
    return unit_rows(a) @ unit_rows(b).T


class ClassCosines:
    """cos(a_c - s ā, b_c' - s b̄) for a share s of the mean over classes: 0 is raw, 1 centred.

    In every method `kind` is "cosine" (rows kappa, columns z_ft), "kappa_cosine" or "mean_cosine",
    and `share` is s. What is asked for takes one product; blocks never form a C × C matrix.

    Raises:
        MismatchError: for another kind.
    """

    def __init__(self, vectors: ClassVectors):
        self.classes = vectors.classes
        self._values = {"kappa": vectors.kappa, "z_ft": vectors.z_ft}
        self._mean = {side: values.mean(0) for side, values in self._values.items()}

    def units(self, kind: str, rows, columns, *, share: float = 0.0) -> list[np.ndarray]:
        """The two sides' vectors of length 1, (R, m) and (K, m); NaN where a side has none."""
        sides = zip(KINDS[one_of(kind, KINDS, "cosines")], (rows, columns), strict=True)
        return [unit_rows(self._values[side][at], share * self._mean[side]) for side, at in sides]

    def entries(self, kind: str, rows, columns, *, share: float = 0.0) -> np.ndarray:
        """Cosines (R, K) between the classes at positions `rows` and `columns`."""
        a, b = self.units(kind, rows, columns, share=share)
        return a @ b.T

    def frame(self, kind: str = "cosine", *, share: float = 0.0) -> pd.DataFrame:
        """All C × C cosines; at share 0 and 1 those of `Orthogonality`."""
        values = self.entries(kind, slice(None), slice(None), share=share)
        row, column = KINDS[kind]
        frame = pd.DataFrame(values, index=self.classes, columns=self.classes)
        return frame.rename_axis(index=row, columns=column)

    def block_means(
        self, kind: str, order: np.ndarray, starts: np.ndarray, *, share: float = 0.0
    ) -> np.ndarray:
        """Mean off-diagonal cosine (B, B) between blocks of classes; NaN where a block holds none.

        The mean of cosines is the inner product of mean unit vectors: this takes O(C m + B² m).

        Args:
            order: positions of the classes, (C,).
            starts: where each block begins in `order`, (B,), ascending from 0.
        """

        own = np.diag_indices(len(starts))

        def summed(a, b):
            """Sums (B, B) of all products of rows but those of a row with itself."""
            sums = np.add.reduceat(a, starts) @ np.add.reduceat(b, starts).T
            sums[own] -= np.add.reduceat(np.einsum("cm,cm->c", a, b), starts)
            return sums

        sides = [np.nan_to_num(side) for side in self.units(kind, order, order, share=share)]
        n = summed(*(side.any(1, keepdims=True).astype(float) for side in sides))
        return summed(*sides) / np.where(n > 0, n, np.nan)


@record
class CosineBlocks:
    """cos(kappa_c, z_ft^c') of C classes, summed up.

    blocks: frame of the mean off-diagonal cosine within each block of neighbouring classes (rows
    kappa, columns z_ft; labels are the first class of each block). extremes: one row for each of
    the 30 pairs of largest |cosine|: kappa, z_ft, cosine. off_diagonal: the mean of all
    off-diagonal cosines. `expected` as in `Orthogonality`.
    """

    blocks: pd.DataFrame
    extremes: pd.DataFrame
    off_diagonal: float
    expected: float


def cosine_blocks(vectors: ClassVectors) -> CosineBlocks:
    """Sum up the C × C cosines of thousands of classes, from class means and without holding them.

    There are at most 150 blocks, of classes in their given order. There are no intervals: they need
    samples, see `orthogonality`. `ClassCosines.block_means` has centred ones.

    Args:
        vectors: `ClassVectors` of two classes or more.
    Raises:
        MismatchError: for fewer than two classes.
    """
    n = len(vectors)
    in_range("the number of classes", n, 2, np.inf)
    cosines, every, names = ClassCosines(vectors), np.arange(n), np.array(vectors.classes)
    (a, b), found = cosines.units("cosine", every, every), []
    for rows in np.array_split(every, -(-n * n // BAND_CELLS)):
        cosine = a[rows] @ b.T
        size = np.nan_to_num(np.abs(cosine))
        size[np.equal.outer(rows, every)] = 0
        chosen = np.argpartition(size, -min(N_EXTREMES, size.size), axis=None)[-N_EXTREMES:]
        row, column = np.unravel_index(chosen, size.shape)
        part = pd.DataFrame(
            {"kappa": names[rows[row]], "z_ft": names[column], "cosine": cosine[row, column]}
        )
        found.append(part[size[row, column] > 0])
    extremes = pd.concat(found).sort_values("cosine", key=abs, ascending=False, kind="stable")
    starts = np.unique(every * N_BLOCKS // n, return_index=True)[1]
    means = cosines.block_means("cosine", every, starts)
    blocks = pd.DataFrame(means, index=names[starts], columns=names[starts])
    return CosineBlocks(
        blocks.rename_axis(index="kappa", columns="z_ft"),
        extremes.head(N_EXTREMES).reset_index(drop=True),
        cosines.block_means("cosine", every, np.array([0])).item(),
        scalars_of_means(vectors)["expected"],
    )
