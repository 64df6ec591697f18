"""Cosines between class vectors and class means: whole, partly centred, in blocks, of very many."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...checks import in_range, one_of
from ...vectors import ClassVectors
from .geometry import scalars_of_means
from .grams import KINDS

BAND_CELLS = 16_000_000  # cosines held at once
ROUNDING = 1e-10  # of a mean's length: a vector that it leaves shorter has lost all of its own


def unit_rows(values, mean=0.0):
    """Rows of `values` (A, m) less `mean`, divided by their lengths; NaN where nothing is left."""
    rest = np.asarray(values, np.float64) - mean
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    return rest / np.where(length > ROUNDING * np.linalg.norm(mean), length, np.nan)


def cosine_matrix(a, b):
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
        sides = {"kappa": vectors.kappa, "z_ft": vectors.z_ft}
        self._sides = {name: (values, values.mean(0)) for name, values in sides.items()}

    def units(self, kind: str, rows, columns, *, share: float = 0.0):
        """The two sides' vectors of length 1, (R, m) and (K, m); NaN where a side has none."""
        names = KINDS[one_of(kind, KINDS, "cosines")]
        sides = zip(names, (rows, columns), strict=True)
        found = ((*self._sides[name], chosen) for name, chosen in sides)
        return [unit_rows(values[chosen], share * mean) for values, mean, chosen in found]

    def entries(self, kind: str, rows, columns, *, share: float = 0.0):
        """Cosines (R, K) between the classes at positions `rows` and `columns`."""
        a, b = self.units(kind, rows, columns, share=share)
        return a @ b.T

    def frame(self, kind: str = "cosine", *, share: float = 0.0) -> pd.DataFrame:
        """All C × C cosines; at share 0 and 1 those of `Orthogonality`."""
        values = self.entries(kind, slice(None), slice(None), share=share)
        row, column = KINDS[kind]
        frame = pd.DataFrame(values, index=self.classes, columns=self.classes)
        return frame.rename_axis(index=row, columns=column)

    def block_means(self, kind: str, order, starts, *, share: float = 0.0):
        """Mean off-diagonal cosine (B, B) between blocks of classes; NaN where a block holds none.

        The mean of cosines is the inner product of mean unit vectors: this takes O(C m + B² m).

        Args:
            order: positions of the classes, (C,).
            starts: where each block begins in `order`, (B,), ascending from 0.
        """

        def summed(values):
            return np.add.reduceat(values, starts, axis=0)

        a, b = (np.nan_to_num(side) for side in self.units(kind, order, order, share=share))
        known = [side.any(1).astype(np.float64) for side in (a, b)]
        total, n = summed(a) @ summed(b).T, np.outer(*map(summed, known))
        own = np.diag_indices(len(starts))
        total[own] -= summed(np.einsum("cm,cm->c", a, b))
        n[own] -= summed(known[0] * known[1])
        return total / np.where(n > 0, n, np.nan)


@dataclass(frozen=True, eq=False)
class CosineBlocks:
    """cos(kappa_c, z_ft^c') of C classes, summed up.

    blocks: frame of the mean off-diagonal cosine within each block of neighbouring classes (rows
    kappa, columns z_ft; labels are the first class of each block). extremes: one row for each of
    the pairs of largest |cosine|: kappa, z_ft, cosine, n_kappa, n_z_ft. summary: a frame with one
    row: expected, mean (`off_diagonal`) and standard deviation of the off-diagonal entries, and n.
    `expected` as in `Orthogonality`.
    """

    blocks: pd.DataFrame
    extremes: pd.DataFrame
    summary: pd.DataFrame
    expected: float


def cosine_blocks(
    vectors: ClassVectors, *, n_blocks: int = 150, n_extremes: int = 30, centred: bool = False
) -> CosineBlocks:
    """Sum up the C × C cosines of thousands of classes, from class means and without holding them.

    There are no intervals: they need samples, see `orthogonality`.

    Args:
        vectors: `ClassVectors` of two classes or more.
        n_blocks: at most so many blocks of classes, in their given order.
        n_extremes: pairs of largest |cosine| to list.
        centred: whether both sides lose their mean over classes.
    Raises:
        MismatchError: for fewer than two classes, one block or one extreme.
    """
    n_classes = len(vectors)
    in_range("the number of classes", n_classes, 2, np.inf)
    in_range("n_blocks and n_extremes", min(n_blocks, n_extremes), 1, np.inf)
    cosines, every, share = ClassCosines(vectors), np.arange(n_classes), float(centred)
    names, count = np.asarray(vectors.classes, dtype=object), vectors.count
    a, b = cosines.units("cosine", every, every, share=share)
    total, found, band = np.zeros(3), [], max(1, BAND_CELLS // n_classes)
    for start in range(0, n_classes, band):
        cosine = a[start : start + band] @ b.T
        np.fill_diagonal(cosine[:, start:], np.nan)
        known = cosine[np.isfinite(cosine)]
        total += known.size, known.sum(), np.square(known).sum()
        size = np.nan_to_num(np.abs(cosine))
        chosen = np.argpartition(size, -min(n_extremes, size.size), axis=None)[-n_extremes:]
        row, column = np.unravel_index(chosen, size.shape)
        value, row = cosine[row, column], row + start
        part = {"kappa": names[row], "z_ft": names[column], "cosine": value}
        found.append(pd.DataFrame(part | {"n_kappa": count[row], "n_z_ft": count[column]}))
    extremes = pd.concat(found, ignore_index=True).dropna()
    extremes = extremes.sort_values("cosine", key=lambda x: -x.abs(), kind="stable")
    n, *sums = total
    mean, square = np.array(sums) / (n or np.nan)
    row = {
        "expected": -1 / (n_classes - 1) if centred else scalars_of_means(vectors)["expected"],
        "off_diagonal": mean,
        "standard_deviation": np.sqrt(max(square - mean**2, 0)),
        "n_entries": int(n),
        "n_samples": int(count.sum()),
    }
    starts = np.unique(every * n_blocks // n_classes, return_index=True)[1]
    means = cosines.block_means("cosine", every, starts, share=share)
    blocks = pd.DataFrame(means, index=names[starts], columns=names[starts])
    return CosineBlocks(
        blocks.rename_axis(index="kappa", columns="z_ft"),
        extremes.head(n_extremes).reset_index(drop=True),
        pd.DataFrame([row]),
        row["expected"],
    )
