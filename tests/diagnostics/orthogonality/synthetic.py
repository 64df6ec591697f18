"""Synthetic geometry: simplex ETFs, and samples around known class means under two models."""

import numpy as np

from classvec_lab import Features


def simplex(n_classes, dim, seed=0, radius=1.0):
    """A simplex ETF of n_classes points, centred at 0, and vectors orthogonal to it."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    centred = np.eye(n_classes) - 1 / n_classes
    u = radius * centred @ basis[:, :n_classes].T / np.sqrt(1 - 1 / n_classes)
    return u, basis[:, n_classes:].T


def world(n_classes, dim, rng, *, s=0.8, q=0.9, rho=0.3, p=0.3):
    """Class means (z_pre, z_ft): an ETF of radius 1 about a centre, a shift, and spread z_pre."""
    u, free = simplex(n_classes, dim, int(rng.integers(2**31)))
    mu, shift = q * free[0], s * (rho * free[0] + np.sqrt(1 - rho**2) * free[1])
    own = free[2 : 2 + n_classes] / 2 + u / 2
    return mu - shift + p * (own - own.mean(axis=0)), mu + u


def names(n_classes):
    """Class names c0, c1, …"""
    return [f"c{i}" for i in range(n_classes)]


def sampled(z_pre, z_ft, n, spread, rng, *, flat=True, together=0.5):
    """Features of n samples a class under both models.

    Noise of total standard deviation `spread`, correlated by `together`.

    The noise is the same in all directions (flat) or falls off as 1/k along random axes: a few
    directions hold most of it.
    """
    n_classes, dim = z_ft.shape
    scale = np.ones(dim) if flat else 1 / np.arange(1, dim + 1)
    axes = np.eye(dim) if flat else np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    scale = np.sqrt(scale / scale.sum())
    a, b = ((rng.normal(size=(n_classes, n, dim)) * scale) @ axes for _ in range(2))
    noise = spread * (together * a + np.sqrt(1 - together**2) * b), spread * a
    y = np.repeat(np.arange(n_classes), n)
    pre, ft = (
        (means[:, None] + x).reshape(-1, dim) for means, x in zip((z_pre, z_ft), noise, strict=True)
    )
    return Features(pre, y, names(n_classes)), Features(ft, y, names(n_classes))


def cosines(a, b):
    """Cosines between the rows of a and of b."""
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T
