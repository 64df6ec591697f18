"""Neural collapse at the sizes of ImageNet-1k and ImageNet-21k: time, peak memory, and the gain over plain NumPy.

Run: python benchmarks/collapse.py
"""

import resource
import time
import warnings
from functools import partial

import numpy as np
import torch
from torch import nn

from classvec_lab import ClassMoments, Features, neural_collapse

ROUNDS = 5  # of which the median is told; all parts are timed in each


def peak() -> float:
    """Peak memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def features(k: int, d: int, n: int) -> Features:
    """n float32 samples around k Gaussian class means in d dimensions."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((k, d), dtype=np.float32)
    z, y = rng.standard_normal((n, d), dtype=np.float32), np.arange(n) % k
    for start in range(0, n, 4096):
        z[start : start + 4096] += means[y[start : start + 4096]]
    return Features(z, y, [str(c) for c in range(k)])


def plain(f: Features, head: nn.Linear) -> dict[str, float]:
    """NC1, CDNV, NC2, uniformity, NC3 and NC4 as one would write them down, in float64."""
    z, k = f.z.astype(np.float64), len(f.classes)
    weight, bias = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
    means = np.stack([z[f.y == c].mean(axis=0) for c in range(k)])
    variance = np.array([np.square(z[f.y == c] - means[c]).sum(axis=1).mean() for c in range(k)])
    within, m = z - means[f.y], means - means.mean(axis=0)
    off = ~np.eye(k, dtype=bool)
    unit = m / np.linalg.norm(m, axis=1, keepdims=True)
    cosine, etf = unit @ unit.T, (np.eye(k) - 1 / k) / np.sqrt(k - 1)
    squared = np.stack([np.square(means - mean).sum(axis=1) for mean in means])
    apart = np.stack([np.linalg.norm(unit - u, axis=1) for u in unit])
    gram, product = m @ m.T, weight @ m.T
    nearest = np.concatenate(
        [
            np.square(x[:, None] - means).sum(-1).argmin(1)
            for x in np.array_split(z, len(z) // 16 + 1)
        ]
    )
    return {
        "nc1": np.trace(
            within.T @ within / len(z) @ np.linalg.pinv(m.T @ m / k, rcond=1e-10, hermitian=True)
        )
        / k,
        "cdnv": ((variance[:, None] + variance)[off] / (2 * squared[off])).mean(),
        "nc2_equiangular": np.abs(cosine + 1 / (k - 1))[off].mean(),
        "nc2_etf": np.linalg.norm(gram / np.linalg.norm(gram) - etf),
        "uniformity": -np.log(apart[off]).mean(),
        "nc3": np.linalg.norm(weight / np.linalg.norm(weight) - m / np.linalg.norm(m)),
        "nc3_etf": np.linalg.norm(product / np.linalg.norm(product) - etf),
        "nc4": (nearest == (z @ weight.T + bias).argmax(axis=1)).mean(),
    }


def timed(function, *arguments):
    """(result, seconds, growth of peak memory in GB)."""
    before, start = peak(), time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start, peak() - before


def head(k: int, d: int) -> nn.Linear:
    """A linear head drawn from a fixed seed."""
    torch.manual_seed(0)
    return nn.Linear(d, k)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*simplex ETF")
    neural_collapse(features(5, 8, 50), head(5, 8))  # imports

    k, d, n = 1000, 768, 51_200
    f, linear = features(k, d, n), head(k, d)
    _, _, memory = timed(neural_collapse, f, linear)
    z, mean = f.z.astype(np.float64), f.moments().mean
    parts = {
        "neural_collapse": (neural_collapse, f, linear),
        "one product Z Mᵀ": (np.matmul, z, mean.T),
        "one product ZᵀZ": (np.matmul, z.T, z),
        "one SVD of M": (partial(np.linalg.svd, full_matrices=False), mean),
    }
    rounds = [[timed(*part)[1] for part in parts.values()] for _ in range(ROUNDS)]
    whole, by_means, square, svd = np.transpose(rounds)
    print(f"K={k:,} D={d:,} N={n:,} float32 samples: {memory:.2f} GB over the data; median seconds")
    print(
        *(f"  {t:6.2f}  {name}" for name, t in zip(parts, np.median(rounds, 0), strict=True)),
        sep="\n",
    )
    for name, product in (("Z Mᵀ", by_means), ("ZᵀZ", square)):
        ratio = np.median(whole / (product + svd))
        print(f"  {ratio:6.2f} times one float64 product {name} and one SVD of the means")

    k, d, n = 200, 384, 8000
    f = features(k, d, n)
    report, quick, _ = timed(neural_collapse, f, head(k, d))
    expected, slow, _ = timed(plain, f, head(k, d))
    worst = max(abs(getattr(report, name) - value) / abs(value) for name, value in expected.items())
    print(
        f"K={k:,} D={d:,} N={n:,}: {quick:.3f} s against {slow:.2f} s in plain NumPy ({slow / quick:.0f} times), ",
        end="",
    )
    print(f"largest relative difference {worst:.1g}")

    k, d = 21_843, 1024
    rng = np.random.default_rng(0)
    moments = ClassMoments(k, d, pooled_scatter=True)
    for _ in range(2):
        for start in range(0, k, 4096):
            y = np.arange(start, min(start + 4096, k))
            moments.update(rng.normal(size=(len(y), d)), y)
    _, seconds, _ = timed(neural_collapse, moments, head(k, d))
    print(
        f"K={k:,} D={d:,} from moments: {seconds:.1f} s, {peak():.2f} GB in total for the process"
    )
