"""What an off-diagonal cosine is made of: the scalars behind the mean, and exact additive terms.

With mu and mu_pre the means of the class means, kappa_c = shift + u_c - p_c and
z_ft^c' = mu + u_c', where shift = mu - mu_pre, u_c = z_ft^c - mu and p_c = z_pre^c - mu_pre.
Inner products (..., 3, C, C) are those of `grams`.
"""

import numpy as np
import pandas as pd

from ...statistics import zero_divisions
from ...vectors import ClassVectors
from .grams import diagonal, double_centre, off_diagonal

ASSUMPTIONS = (  # of Theorem 3.3
    "collapsed pre-trained means",
    "simplex ETF of fine-tuned means",
    "negligible common shift",
    "shift and centre orthogonal to the classes",
)
ETF = 1  # the position of the one that names a value other than zero
MEANING = {
    "shift_ratio": "s = |mu - mean z_pre| / |u|: common shift against class spread",
    "offset_ratio": "q = |mu| / |u|: distance of the fine-tuned means' centre from 0",
    "shift_cosine": "rho = cos(mu - mean z_pre, mu)",
    "collapse_ratio": (
        "|p| / |u|: spread of the pre-trained means against that of the fine-tuned ones"
    ),
    "expected": (
        "(s q rho - 1/(C-1)) / sqrt((1 + s²)(1 + q²)): what shift, offset and C force on the mean "
        "off-diagonal cosine, and the cosine of every pair of an exact ETF"
    ),
    "equal_lengths": (
        "the mean off-diagonal cosine, were all |kappa| and all |z_ft| alike: `expected` and what "
        "the spread of the pre-trained means adds"
    ),
    "explained": (
        "share of the displacement f_ft(x) - f_pre(x), about its mean, that class explains (R²)"
    ),
    "shared": "share of the mean squared displacement that is one shift common to all images",
}


def squares(grams: np.ndarray) -> np.ndarray:
    """|shift|², |mu|² and the means of |u_c|² and |p_c|², (..., 4); linear in `grams`."""
    kz, kk, zz = np.moveaxis(grams, -3, 0)
    pre = zz - kz - np.swapaxes(kz, -1, -2) + kk
    whole = [gram.mean(axis=(-2, -1)) for gram in (kk, zz)]
    spread = [diagonal(double_centre(gram)).mean(-1) for gram in (zz, pre)]
    return np.stack([*whole, *spread], axis=-1)


def scalars(
    grams: np.ndarray, power: np.ndarray, count: np.ndarray, known: np.ndarray | bool = True
) -> np.ndarray:
    """The quantities of `MEANING`, (..., 8).

    Args:
        grams: inner products (..., 3, C, C).
        power: mean of |f_ft(x) - f_pre(x)|² within each class, (..., C).
        count: samples of each class, (C,).
        known: which lengths of `squares` can be told from 0, (4,); what needs another is NaN.
    """
    kz, kk, _ = np.moveaxis(grams, -3, 0)
    share = count / count.sum()
    common = np.einsum("c,...cd,d->...", share, kk, share)
    between, power = diagonal(kk) @ share - common, power @ share
    lengths = np.where(known, np.sqrt(np.maximum(squares(grams), 0)), np.nan)
    own = [diagonal(gram).mean(-1) for gram in np.moveaxis(grams, -3, 0)]
    ratios = _ratios(*np.moveaxis(lengths, -1, 0), kz.mean(axis=(-2, -1)), own, len(count))
    with zero_divisions():
        return np.stack([*ratios, between / (power - common), common / power], axis=-1)


def scalars_of_means(vectors: ClassVectors) -> dict[str, float]:
    """Those of `MEANING` that need only class means: from `ClassVectors`, as their means are.

    There is no C × C array, and no cancellation as from inner products.
    """
    kappa, z = vectors.kappa, vectors.z_ft
    shift = kappa.mean(0)
    own = [np.vdot(a, b) / len(z) for a, b in ((kappa, z), (kappa, kappa), (z, z))]
    parts = shift, z.mean(0), z.std(0), vectors.z_pre.std(0)  # a std is as long as the spread
    found = _ratios(*map(np.linalg.norm, parts), shift @ z.mean(0), own, len(z))
    return dict(zip(MEANING, map(float, found), strict=False))


def _ratios(shift, mu, u, p, product, own, n_classes: int) -> tuple:
    """The first six of `MEANING`, from lengths, <shift, mu>, and the means over classes `own` of
    <kappa_c, z_c>, |kappa_c|² and |z_c|².

    `expected` is cos(kappa_c, z_ft^c') of each pair for collapsed pre-trained means and a simplex
    ETF mu + u_c, with shift and mu orthogonal to every u_c. Theorem 3.3 of Kim and Do (2025) is
    s = 0, C large. As the mean over pairs it needs no ETF: with p = 0 the u_c sum to zero, so that
    <kappa_c, z_c'> has the mean <shift, mu> - |u|²/(C-1) wherever they lie.
    """
    with zero_divisions():
        s, q = shift / u, mu / u
        # a shift or centre of length zero has no direction: its product with the other is zero
        rho = np.where(shift * mu == 0, 0.0, product / (shift * mu))
        expected = (s * q * rho - 1 / (n_classes - 1)) / np.sqrt((1 + s**2) * (1 + q**2))
        across, kappa, z = (n_classes * product - own[0]) / (n_classes - 1), *own[1:]
        equal = np.where(np.isfinite(expected + p), across / np.sqrt(kappa * z), np.nan)
        return s, q, rho, p / u, expected, equal


def contributions(grams: np.ndarray) -> np.ndarray:
    """What the failure of each of `ASSUMPTIONS` adds to cos(kappa_c, z_ft^c'), (4, ..., C, C).

    The parts add up to the cosine: they gather its six products of (shift, u_c, -p_c) and
    (mu, u_c'), divided by the two lengths. NaN where a length is 0.
    """
    kz, kk, zz = np.moveaxis(grams, -3, 0)
    kappa, z = (np.where(x > 0, x, np.nan) for x in (diagonal(kk), diagonal(zz)))
    common = kz.mean(axis=(-2, -1), keepdims=True)
    row, column = (kz.mean(axis=axis, keepdims=True) - common for axis in (-1, -2))
    centre = zz.mean(axis=-1, keepdims=True) - zz.mean(axis=(-2, -1), keepdims=True)
    spread = double_centre(zz)
    collapsed = row - centre + (double_centre(kz) - spread)
    parts = np.stack(np.broadcast_arrays(collapsed, spread, common, column + centre))
    parts /= np.sqrt(kappa[..., :, None] * z[..., None, :])
    return parts


def departures(grams: np.ndarray, resampled: np.ndarray | None = None) -> pd.DataFrame:
    """Which assumption of Theorem 3.3 fails, and by how much.

    Args:
        grams: inner products (3, C, C).
        resampled: resamples of them, (b, 3, C, C); without these there are no intervals.
    Returns:
        A frame with one row an assumption: `mean_added`, the mean over pairs of classes of what its
        failure adds to the cosine, with its 95 % interval `low`, `high`; `rms_added`, the root mean
        square, beside `rms_noise`, what the noise of the means alone adds; `n_pairs`. An ETF's own
        value, the mean over pairs, is no failure.
    """
    again = grams[None] * np.nan if resampled is None else resampled
    added, moved = (off_diagonal(contributions(x)) for x in (grams, again))
    known = np.isfinite(added).all(0)
    known |= not known.any()
    added, moved = added[..., known], moved[..., known]
    for part in (added[ETF], moved[ETF]):
        part -= part.mean(axis=-1, keepdims=True)
    mean, half = added.mean(-1), 1.96 * np.std(moved.mean(-1), axis=-1)
    mean[ETF], half[ETF] = 0 * abs(mean[ETF]), 0 * half[ETF]  # by construction
    table = {
        "assumption": ASSUMPTIONS,
        "mean_added": mean,
        "low": mean - half,
        "high": mean + half,
        "rms_added": np.sqrt(np.mean(added**2, axis=-1)),
        "rms_noise": np.sqrt(np.mean(np.var(moved, axis=1), axis=-1)),
        "n_pairs": len(known),
    }
    return pd.DataFrame(table)
