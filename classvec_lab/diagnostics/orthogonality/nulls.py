"""What cosines are without class vectors: labels permuted, and the middle of what is drawn."""

import numpy as np

from .class_cosines import cosine_matrix
from .grams import diagonal, off_diagonal

# Permuted classes in all, over 10 to 100 permutations, or over as many as MOST_PERMUTED leave.
PERMUTED_CLASSES, MOST_PERMUTED = 400, 2_000
PARTS = {"off_diagonal": off_diagonal, "diagonal": diagonal}


def middle(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, 2.5 % and 97.5 % quantile) of the finite values; NaN where there is none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    return float(values.mean()), *map(float, np.quantile(values, [0.025, 0.975]))


def permuted_labels(
    kappa: np.ndarray, z: np.ndarray, y: np.ndarray, *, rng: np.random.Generator
) -> list[tuple]:
    """cos(kappa_c, z_ft^c') when labels are permuted, raw and centred, off and on the diagonal.

    What remains is the shift common to all images (raw) and the noise of the means (centred).

    Args:
        kappa, z: displacement and fine-tuned representation of each sample, (N, m), float64; they
            keep their pair.
        y: labels (N,), all classes present.
    Returns:
        Rows of `Orthogonality.nulls`.
    """
    both, count, drawn = np.concatenate([kappa.T, z.T]), np.bincount(y), []
    fewest = np.clip(MOST_PERMUTED // len(count), 1, 10)
    starts, n_draws = np.cumsum(count) - count, np.clip(PERMUTED_CLASSES // len(count), fewest, 100)
    for _ in range(n_draws):
        sums = np.add.reduceat(both.take(rng.permutation(len(y)), axis=1), starts, axis=1)
        raw = np.split(np.ascontiguousarray((sums / count).T), 2, axis=1)
        drawn.append([cosine_matrix(*raw), cosine_matrix(*(side - side.mean(0) for side in raw))])
    return [
        ("labels permuted", version, part, *middle(of(cosine)), n_draws * len(count))
        for version, cosine in zip(("raw", "centred"), np.stack(drawn, 1), strict=True)
        for part, of in PARTS.items()
    ]
