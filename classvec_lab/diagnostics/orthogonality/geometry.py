"""What an off-diagonal cosine is made of: the three scalars of its expectation, and exact additive terms."""

import numpy as np
import pandas as pd

from .grams import Grams, diagonal, double_centre

TERMS = ("shift·mu", "shift·u'", "u·mu", "u·u'", "-p·mu", "-p·u'")
ASSUMPTIONS = {
    "collapsed pre-trained means": ("-p·mu", "-p·u'"),
    "simplex ETF of fine-tuned means": ("u·u'",),
    "negligible common shift": ("shift·mu",),
    "shift and centre orthogonal to the classes": ("shift·u'", "u·mu"),
}
MEANING = {
    "shift_ratio": "s = |mu - mean z_pre| / |u|: common shift against class spread",
    "offset_ratio": "q = |mu| / |u|: distance of the fine-tuned means' centre from 0",
    "shift_cosine": "rho = cos(mu - mean z_pre, mu)",
    "collapse_ratio": "|p| / |u|: spread of the pre-trained means against that of the fine-tuned ones",
    "expected": "(s q rho - 1/(C-1)) / sqrt((1 + s²)(1 + q²)): expected off-diagonal cosine",
    "explained": "share of the displacement f_ft(x) - f_pre(x), about its mean, that class explains (R²)",
    "shared": "share of the mean squared displacement that is one shift common to all images",
}


def expected_cosine(s, q, rho, n_classes: int):
    """Off-diagonal cos(kappa_c, z_ft^c') for collapsed pre-trained means and a simplex ETF mu + u_c.

    s = |shift| / |u|, q = |mu| / |u|, rho = cos(shift, mu), with shift and mu orthogonal to every u_c:
    (s q rho - 1/(C-1)) / sqrt((1 + s²)(1 + q²)). Theorem 3.3 of Kim and Do (2025) is s = 0, C large.
    """
    return (s * q * rho - 1 / (n_classes - 1)) / np.sqrt((1 + s**2) * (1 + q**2))


NEEDS = {  # squared lengths that must be told from 0 for a scalar to have an interval
    "shift_ratio": ("shift", "u"),
    "offset_ratio": ("mu", "u"),
    "shift_cosine": ("shift", "mu"),
    "collapse_ratio": ("p", "u"),
    "expected": ("shift", "mu", "u"),
}
NEEDS_NAMES = tuple(NEEDS)


def squares(grams: Grams) -> dict[str, np.ndarray]:
    """|shift|², |mu|², mean |u_c|² and mean |p_c|², each of the shape of the leading axes of `grams`; linear in them."""
    pre = grams.zz - grams.kz - np.swapaxes(grams.kz, -1, -2) + grams.kk
    spread = {
        name: diagonal(double_centre(gram)).mean(axis=-1)
        for name, gram in (("u", grams.zz), ("p", pre))
    }
    return {"shift": grams.kk.mean(axis=(-2, -1)), "mu": grams.zz.mean(axis=(-2, -1)), **spread}


def scalars(grams: Grams, count: np.ndarray) -> dict[str, np.ndarray]:
    """The quantities of `MEANING`, each of the shape of the leading axes of `grams`; `count` (C,) samples a class."""
    length = {name: np.sqrt(np.maximum(value, 0)) for name, value in squares(grams).items()}
    share = count / count.sum()
    common = np.einsum("c,...cd,d->...", share, grams.kk, share)
    between, power = diagonal(grams.kk) @ share - common, grams.power @ share
    with np.errstate(invalid="ignore", divide="ignore"):
        s, q = length["shift"] / length["u"], length["mu"] / length["u"]
        # a shift or centre of length zero has no direction, and then its product with the other is zero
        rho = np.where(
            s * q > 0, grams.kz.mean(axis=(-2, -1)) / (length["shift"] * length["mu"]), 0.0
        )
        return {
            "shift_ratio": s,
            "offset_ratio": q,
            "shift_cosine": rho,
            "collapse_ratio": length["p"] / length["u"],
            "expected": expected_cosine(s, q, rho, len(count)),
            "explained": between / (power - common),
            "shared": common / power,
        }


def contributions(grams: Grams):
    """Yield (name, (..., C, C)) of the exact terms of cos(kappa_c, z_ft^c'), which add up to it.

    With mu and mu_pre the means of the class means, kappa_c = shift + u_c - p_c and z_ft^c' = mu +
    u_c', where shift = mu - mu_pre, u_c = z_ft^c - mu and p_c = z_pre^c - mu_pre. Each of the six
    products is divided by |kappa_c| |z_ft^c'|.
    """
    kz, zz = grams.kz, grams.zz
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.sqrt(diagonal(grams.kk)[..., :, None] * diagonal(zz)[..., None, :])
        common = kz.mean(axis=(-2, -1), keepdims=True)
        row, column = (
            kz.mean(axis=-1, keepdims=True) - common,
            kz.mean(axis=-2, keepdims=True) - common,
        )
        centre = zz.mean(axis=-1, keepdims=True) - zz.mean(axis=(-2, -1), keepdims=True)
        spread = double_centre(zz)
        for name, term in zip(
            TERMS,
            (common, column, centre, spread, row - centre, double_centre(kz) - spread),
            strict=True,
        ):
            yield name, term / length


def _added(grams: Grams):
    """Yield (assumption, (..., pairs)): what its failure adds to the off-diagonal cosines."""
    off = ~np.eye(grams.kk.shape[-1], dtype=bool)
    terms = {name: values[..., off] for name, values in contributions(grams)}
    for assumption, names in ASSUMPTIONS.items():
        with np.errstate(invalid="ignore"):  # where there is no kappa
            added = sum(terms[n] for n in names)
            # the ETF's own value, the mean over pairs, is no failure
            yield (
                assumption,
                added - added.mean(axis=-1, keepdims=True)
                if assumption.startswith("simplex")
                else added,
            )


def departures(grams: Grams, resampled: Grams | None = None) -> pd.DataFrame:
    """Which assumption of Theorem 3.3 fails, and by how much: what each adds to the off-diagonal cosines.

    One row an assumption: the mean over pairs of classes of what its failure adds, with its 95 % interval, and
    the root mean square, beside what the noise of the means alone would add (rms_noise). `resampled` holds
    resamples (b, C, C); without it there are no intervals.
    """
    again = dict(_added(resampled)) if resampled is not None else {}
    rows = []
    for assumption, added in _added(grams):
        known = np.isfinite(added)
        row = {
            "assumption": assumption,
            "mean_added": np.nan,
            "low": np.nan,
            "high": np.nan,
            "rms_added": np.nan,
            "rms_noise": np.nan,
        }
        if known.any():
            row |= {
                "mean_added": added[known].mean(),
                "rms_added": np.sqrt(np.mean(added[known] ** 2)),
            }
            if again:
                moved = again[assumption][:, known]
                half = 1.96 * np.std(moved.mean(axis=1))
                row |= {"low": row["mean_added"] - half, "high": row["mean_added"] + half}
                row["rms_noise"] = np.sqrt(np.mean(np.var(moved, axis=0)))
            if assumption.startswith("simplex"):
                row |= {
                    name: 0.0 if np.isfinite(row[name]) else np.nan
                    for name in ("mean_added", "low", "high")
                }  # by construction
        rows.append(row)
    return pd.DataFrame(rows).assign(n_pairs=len(added))


def scalars_of_means(vectors) -> dict[str, float]:
    """Those of `MEANING` that need only the class means of `ClassVectors`, as they are: no C × C array, no cancellation."""
    mu = vectors.z_ft.mean(axis=0)
    shift = mu - vectors.z_pre.mean(axis=0)
    u = np.sqrt(np.mean(np.sum((vectors.z_ft - mu) ** 2, axis=1)))
    p = np.sqrt(np.mean(np.sum((vectors.z_pre - mu + shift) ** 2, axis=1)))
    lengths = np.linalg.norm(shift), np.linalg.norm(mu)
    with np.errstate(invalid="ignore", divide="ignore"):
        s, q = lengths[0] / u, lengths[1] / u
        rho = shift @ mu / (lengths[0] * lengths[1]) if s * q > 0 else 0.0
        values = s, q, rho, p / u, expected_cosine(s, q, rho, len(vectors))
    return {name: float(v) for name, v in zip(NEEDS_NAMES, values, strict=True)}
