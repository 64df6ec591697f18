"""What cosines are without class vectors: random directions as features spread, permuted labels."""

import numpy as np
import pandas as pd

from .class_cosines import cosine_matrix

PERMUTED_CLASSES = 400  # permuted classes in all, over 10 to 100 permutations
COLUMNS = ("null", "version", "part", "mean", "low", "high", "n_entries")


def middle(values) -> tuple[float, float, float]:
    """(mean, 2.5 % and 97.5 % quantile) of the finite values; NaN where there is none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    return float(values.mean()), *map(float, np.quantile(values, [0.025, 0.975]))


def random_directions(z, *, n_draws: int, rng: np.random.Generator):
    """Directions (n_draws, m) drawn with the features' own covariance, of any common length.

    They are normal with the covariance of all samples about their mean; isotropic ones, whose
    cosines have standard deviation 1/√m, are far too mild a null.

    Args:
        z: fine-tuned representations, (N, m).
    """
    z = np.asarray(z, np.float64)
    return rng.normal(size=(n_draws, len(z))) @ (z - z.mean(0))


def permuted_labels(kappa, z, y, n_classes: int, *, rng: np.random.Generator) -> pd.DataFrame:
    """cos(kappa_c, z_ft^c') when labels are permuted, raw and centred, off and on the diagonal.

    What remains is the shift common to all images (raw) and the noise of the means (centred).

    Args:
        kappa, z: displacement and fine-tuned representation of each sample, (N, m); they keep
            their pair.
        y: labels (N,), all classes present.
    Returns:
        A frame with the columns COLUMNS; `low` and `high` hold the middle 95 %.
    """
    from scipy.sparse import csr_array

    both = np.concatenate([np.asarray(kappa, np.float64), np.asarray(z, np.float64)], axis=1)
    size, n = np.bincount(y, minlength=n_classes), len(y)
    starts = np.concatenate([[0], np.cumsum(size)])
    drawn, off = [], ~np.eye(n_classes, dtype=bool)
    for _ in range(int(np.clip(PERMUTED_CLASSES // n_classes, 10, 100))):
        groups = csr_array((np.ones(n), rng.permutation(n), starts), shape=(n_classes, n))
        raw = np.split(groups @ both / size[:, None], 2, axis=1)
        centred = (side - side.mean(0) for side in raw)
        drawn.append([cosine_matrix(*raw), cosine_matrix(*centred)])
    rows = []
    for version, cosine in zip(("raw", "centred"), np.stack(drawn, 1), strict=True):
        for part, chosen in (("off_diagonal", off), ("diagonal", ~off)):
            summed = middle(cosine[:, chosen])
            rows.append(("labels permuted", version, part, *summed, len(drawn) * n_classes))
    return pd.DataFrame(rows, columns=COLUMNS)
