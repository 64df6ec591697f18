"""Intervals and block sums of cosines, timed beside the plain way. Run: python benchmarks/orthogonality.py [C m N resamples]"""

import resource
import sys
import time

import numpy as np

from classvec_lab import ClassVectors, Features, orthogonality
from classvec_lab.diagnostics.orthogonality import cosine_blocks


def timed(function) -> tuple[float, object]:
    """Seconds of wall-clock time, and the result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def peak() -> float:
    """Largest memory held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def plain(pre, ft, n_boot: int) -> np.ndarray:
    """A loop over resamples: draw samples of each class with replacement, take means, take cosines."""
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(ft.y == c) for c in range(len(ft.classes))]
    drawn = []
    for _ in range(n_boot):
        chosen = [rng.choice(r, len(r)) for r in rows]
        z = np.stack([ft.z[c].mean(axis=0, dtype=np.float64) for c in chosen])
        kappa = z - np.stack([pre.z[c].mean(axis=0, dtype=np.float64) for c in chosen])
        lengths = np.linalg.norm(kappa, axis=1)[:, None] * np.linalg.norm(z, axis=1)
        drawn.append(kappa @ z.T / lengths)
    return np.std(drawn, axis=0)


if __name__ == "__main__":
    n_classes, dim, n, n_boot = (
        map(int, sys.argv[1:5]) if len(sys.argv) > 4 else (43, 512, 10_000, 1_000)
    )
    rng = np.random.default_rng(0)
    y, means = rng.integers(n_classes, size=n), rng.normal(size=(n_classes, dim))
    names = [f"c{i}" for i in range(n_classes)]
    pre, ft = (
        Features((rng.normal(size=(n, dim)) + s * means[y]).astype(np.float32), y, names)
        for s in (0.3, 1.0)
    )
    vectors = ClassVectors.from_features(pre, ft)
    orthogonality(vectors, features=(pre, ft), n_boot=10)  # libraries are loaded once
    print(f"C = {n_classes}, m = {dim}, N = {n:,}, {n_boot:,} resamples")
    fast, report = timed(lambda: orthogonality(vectors, features=(pre, ft), n_boot=n_boot))
    few = max(n_boot // 50, 2)
    slow = timed(lambda: plain(pre, ft, few))[0] * n_boot / few
    print(f"orthogonality, all families, scalars and nulls   {fast:8.2f} s")
    print(
        f"plain loop, one family, percentile               {slow:8.2f} s (from {few} resamples)   ratio {slow / fast:.1f}"
    )
    n_classes, dim = 1_000, 768
    y = np.repeat(np.arange(n_classes), rng.integers(20, 51, size=n_classes))
    means, names = rng.normal(size=(n_classes, dim)), [f"c{i}" for i in range(n_classes)]
    pre, ft = (
        Features((3 * rng.normal(size=(len(y), dim)) + s * means[y]).astype(np.float32), y, names)
        for s in (0.3, 1.0)
    )
    vectors = ClassVectors.from_features(pre, ft)
    many, report = timed(lambda: orthogonality(vectors, features=(pre, ft)))
    told, _ = timed(report.says)
    print(
        f"orthogonality, C = {n_classes:,}, m = {dim}, N = {len(y):,}        {many:8.2f} s   its sentences {told:.1f} s   {report.n_boot} resamples of {report.asked:,}   peak {peak():.2f} GB"
    )
    del pre, ft, report
    n_classes, dim = 21_843, 1_024
    z_pre, z_ft = rng.normal(size=(2, n_classes, dim))
    vectors = ClassVectors(z_pre, z_ft, np.full(n_classes, 50), [f"c{i}" for i in range(n_classes)])
    seconds, _ = timed(lambda: cosine_blocks(vectors))
    print(
        f"cosine_blocks, C = {n_classes:,}, m = {dim:,}             {seconds:8.2f} s   peak memory of the process {peak():.2f} GB"
    )
