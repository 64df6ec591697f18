"""Cosines of very many classes: computed a band of rows at a time, kept as block means and extremes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...vectors import ClassVectors
from . import geometry
from .partly_centred import ClassCosines
from .report import cosine_matrix

BAND_CELLS = 16_000_000  # cosines held at once


@dataclass(frozen=True, eq=False)
class CosineBlocks:
    """cos(kappa_c, z_ft^c') of C classes, summed up.

    blocks: frame of the mean off-diagonal cosine within each block of neighbouring classes (rows kappa,
    columns z_ft; labels are the first class of each block). extremes: one row for each of the pairs of largest
    |cosine|: kappa, z_ft, cosine, n_kappa, n_z_ft. summary: a frame with one row: mean, standard deviation
    and quantile-free shares beyond ±.1 and ±.2 of the off-diagonal entries, the mean diagonal, the expected
    off-diagonal value, and n. `expected` as in `Orthogonality`.
    """

    blocks: pd.DataFrame
    extremes: pd.DataFrame
    summary: pd.DataFrame
    expected: float


def cosine_blocks(
    vectors: ClassVectors, *, n_blocks: int = 150, n_extremes: int = 30, centred: bool = False
) -> CosineBlocks:
    """Sum up the C × C cosines without ever holding them: for thousands of classes, from class means alone.

    Classes are blocked in their given order. There are no intervals: they need samples, see `orthogonality`.
    Raises MismatchError for fewer than two classes or n_blocks, n_extremes below 1.
    """
    n_classes = len(vectors)
    if n_classes < 2 or n_blocks < 1 or n_extremes < 1:
        raise MismatchError(
            f"cosine_blocks needs two classes, one block and one extreme; got {n_classes}, {n_blocks}, {n_extremes}"
        )
    source = vectors.centred() if centred else vectors
    kappa, z = source.kappa, source.z_ft
    n_blocks = min(n_blocks, n_classes)
    block = np.arange(n_classes) * n_blocks // n_classes
    starts = np.searchsorted(block, np.arange(n_blocks))
    sums, diagonal = (
        np.zeros(5),
        np.empty(n_classes),
    )  # sum, sum of squares, beyond .1, beyond .2, n
    best = np.empty((0, 3))
    band = max(1, BAND_CELLS // n_classes)
    for start in range(0, n_classes, band):
        rows = np.arange(start, min(start + band, n_classes))
        cosine = cosine_matrix(kappa[rows], z)
        inside = np.arange(len(rows)), rows
        diagonal[rows] = cosine[inside]
        cosine[inside] = np.nan  # the diagonal is reported apart
        finite = np.isfinite(cosine)
        value = np.where(finite, cosine, 0)
        size = np.abs(value)
        sums += [
            value.sum(),
            np.square(value).sum(),
            (size > 0.1).sum(),
            (size > 0.2).sum(),
            finite.sum(),
        ]
        chosen = np.argpartition(size, -min(n_extremes, size.size), axis=None)[-n_extremes:]
        row, column = np.unravel_index(chosen, size.shape)
        best = np.concatenate([best, np.stack([rows[row], column, value[row, column]], axis=1)])
        best = best[np.argsort(-np.abs(best[:, 2]), kind="stable")[:n_extremes]]
    names = np.asarray(vectors.classes, dtype=object)
    means = ClassCosines(vectors).block_means(
        "cosine", np.arange(n_classes), starts, share=float(centred)
    )
    frame = pd.DataFrame(means, index=names[starts], columns=names[starts])
    a, b = best[:, 0].astype(int), best[:, 1].astype(int)
    extremes = pd.DataFrame(
        {
            "kappa": names[a],
            "z_ft": names[b],
            "cosine": best[:, 2],
            "n_kappa": vectors.count[a],
            "n_z_ft": vectors.count[b],
        }
    )
    expected = -1 / (n_classes - 1) if centred else geometry.scalars_of_means(vectors)["expected"]
    mean = sums[0] / sums[4] if sums[4] else np.nan
    row = {
        "expected": expected,
        "off_diagonal": mean,
        "standard_deviation": np.sqrt(max(sums[1] / sums[4] - mean**2, 0)) if sums[4] else np.nan,
        "beyond_0.1": sums[2] / sums[4] if sums[4] else np.nan,
        "beyond_0.2": sums[3] / sums[4] if sums[4] else np.nan,
        "diagonal": np.nanmean(diagonal) if np.isfinite(diagonal).any() else np.nan,
        "n_entries": int(sums[4]),
        "n_samples": int(vectors.count.sum()),
    }
    return CosineBlocks(
        frame.rename_axis(index="kappa", columns="z_ft"), extremes, pd.DataFrame([row]), expected
    )
