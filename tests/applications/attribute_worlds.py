"""Synthetic representations with an attribute whose shifts are known."""

from functools import partial
from types import SimpleNamespace

import numpy as np

from classvec_lab import Features
from classvec_lab.applications import Trial, attribute_vectors
from classvec_lab.datasets.corruptions import corrupted

VALUES = ("snow", "fog")
DARK = partial(corrupted, kind="contrast", strength=1.5)


def dark_trial(exp, **facts):
    """Three external images of each class, without and with little contrast."""
    tests = {"dark": DARK, "clean": None}
    return Trial(exp, exp.train, 3, {"dark": DARK}, tests, seed=0, **facts)


def world(
    *, n_classes=4, dim=24, n=6, spread=0.3, common=4.0, own=1.0, seed=0, held=200, model=None
):
    """Gaussian classes; value a adds common_a + own_{a,c}; `n` external samples a class, paired."""
    rng = np.random.default_rng(seed)
    classes = tuple(f"c{i}" for i in range(n_classes))
    means = 3 * rng.standard_normal((n_classes, dim))
    shift = common * rng.standard_normal((2, 1, dim)) / np.sqrt(dim)
    shift = shift + own * rng.standard_normal((2, n_classes, dim)) / np.sqrt(dim)

    def drawn(count):
        y = np.arange(count * n_classes) % n_classes
        return y, means[y] + spread * rng.standard_normal((len(y), dim))

    def features(y, z):
        return Features(z, y, classes, model=model)

    y, z = drawn(n)
    few = features(y, z)
    noise = 0.1 * spread * rng.standard_normal((2, *z.shape))
    having = {v: features(y, z + shift[a, y] + noise[a]) for a, v in enumerate(VALUES)}
    plain = features(*drawn(held))
    y, z = drawn(held)
    tests = {v: (features(y, z + shift[a, y]), np.full(len(y), a)) for a, v in enumerate(VALUES)}
    tests["clean"] = features(y, z), np.full(len(y), -1)
    vectors = attribute_vectors(few, having, plain=plain)
    return SimpleNamespace(
        classes=classes,
        means=means,
        shift=shift,
        few=few,
        having=having,
        plain=plain,
        tests=tests,
        vectors=vectors,
    )
