"""What cosines would be without any class vectors: random directions as the features spread, and permuted labels."""

import numpy as np
import pandas as pd

from .grams import double_centre

PERMUTED_CLASSES = 400  # permuted classes in all, over 10 to 100 permutations


def random_directions(
    z: np.ndarray, *, n_draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Directions (n_draws, m) drawn with the features' own covariance, and its effective dimension.

    z (N, m): fine-tuned representations. The directions are normal with the covariance of all samples
    about their mean; isotropic ones, whose cosines have standard deviation 1/√m, are far too mild a null.
    The effective dimension is (tr S)² / tr S², from the spread of the squared lengths.
    """
    centred = np.asarray(z, np.float64) - np.mean(z, axis=0, dtype=np.float64)
    directions = rng.normal(size=(n_draws, len(centred))) @ centred / np.sqrt(len(centred))
    squared = np.einsum("nm,nm->n", directions, directions)
    with np.errstate(invalid="ignore", divide="ignore"):
        return directions, float(2 * squared.mean() ** 2 / squared.var())


def permuted_labels(
    kappa: np.ndarray, z: np.ndarray, y: np.ndarray, n_classes: int, *, rng: np.random.Generator
) -> pd.DataFrame:
    """cos(kappa_c, z_ft^c') when labels are permuted: mean, 2.5 % and 97.5 % quantile, raw and centred, off and on the diagonal.

    kappa, z (N, m): displacement and fine-tuned representation of each sample, which keep their pair.
    What remains is the shift common to all images (raw) and the noise of the means (centred).
    """
    from scipy.sparse import csr_array

    n = len(y)
    both = np.concatenate([np.asarray(kappa, np.float64), np.asarray(z, np.float64)], axis=1)
    size = np.bincount(y, minlength=n_classes)
    n_permutations = int(np.clip(PERMUTED_CLASSES // n_classes, 10, 100))
    off = ~np.eye(n_classes, dtype=bool)
    entries = {(v, p): [] for v in ("raw", "centred") for p in ("off_diagonal", "diagonal")}
    for _ in range(n_permutations):
        groups = csr_array(
            (np.ones(n), rng.permutation(n), np.concatenate([[0], np.cumsum(size)])),
            shape=(n_classes, n),
        )
        k, m = np.split(groups @ both / size[:, None], 2, axis=1)
        grams = k @ m.T, k @ k.T, m @ m.T
        for version, (km, kk, mm) in (
            ("raw", grams),
            ("centred", tuple(map(double_centre, grams))),
        ):
            with np.errstate(invalid="ignore", divide="ignore"):
                cosine = km / np.sqrt(np.diag(kk)[:, None] * np.diag(mm))
            entries[version, "off_diagonal"].append(cosine[off])
            entries[version, "diagonal"].append(cosine[~off])
    rows = []
    for (version, part), values in entries.items():
        values = np.concatenate(values)
        low, high = (
            np.nanquantile(values, [0.025, 0.975])
            if np.isfinite(values).any()
            else (np.nan, np.nan)
        )
        mean = np.nanmean(values) if np.isfinite(values).any() else np.nan
        rows.append((version, part, mean, low, high, n_permutations, n))
    return pd.DataFrame(
        rows, columns=["version", "part", "mean", "low", "high", "n_permutations", "n_samples"]
    )
