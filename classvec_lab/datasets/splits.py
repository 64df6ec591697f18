"""Seeded splits and samples, stratified by class, that never part the images of one group."""

from collections.abc import Collection, Hashable, Sequence

import numpy as np
import pandas as pd

from ..errors import DatasetError

SPLITS = ("train", "val", "test")
MAX_VAL = 5000  # images: a validation part carved out of a large training set needs no more


def _apportion(
    counts: np.ndarray, total: int, lowest: np.ndarray | int, highest: np.ndarray
) -> np.ndarray:
    """Seats per class by largest remainder within lowest..highest; their sum is `total` where
    bounds allow.
    """
    quota = total * counts / counts.sum()
    seats = np.clip(np.floor(quota).astype(int), lowest, highest)
    while seats.sum() < total and (seats < highest).any():
        seats[np.argmax(np.where(seats < highest, quota - seats, -np.inf))] += 1
    while seats.sum() > total and (seats > lowest).any():
        seats[np.argmin(np.where(seats > lowest, quota - seats, np.inf))] -= 1
    return seats


def _draw(labels: np.ndarray, seats: np.ndarray, seed: int) -> np.ndarray:
    """Mask of `seats[c]` images drawn from each class c of `labels` (0..C-1)."""
    lots = pd.Series(np.random.default_rng(seed).random(len(labels)))
    return lots.groupby(labels).rank(method="first").to_numpy() <= seats[labels]


def stratified_sample(targets: Sequence[int], n: int, seed: int) -> np.ndarray:
    """Positions of `n` images, ascending, in proportion to the classes of `targets` (N,), largest
    remainders first.

    Every class gets at least one image where n allows; n >= N gives all positions.
    """
    _, labels, counts = np.unique(targets, return_inverse=True, return_counts=True)
    seats = _apportion(counts, n, int(n >= len(counts)), counts)
    return np.flatnonzero(_draw(labels, seats, seed))


def hold_out(
    targets: Sequence[int], fraction: float, seed: int, groups: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Part N images into (kept, held): ascending positions, disjoint, together all; held is about
    `fraction` of N.

    Every class with at least two images has one on either side. With `groups` (N,) no group has
    images on both sides; every class keeps an image, and one that comes from a single group is not
    held. Raises DatasetError for too few images or groups.
    """
    _, labels, counts = np.unique(targets, return_inverse=True, return_counts=True)
    if groups is None:
        wanted = round(fraction * len(labels))
        seats = _apportion(counts, wanted, np.minimum(counts - 1, 1), counts - 1)
        held, units = _draw(labels, seats, seed), f"images to hold some out: {len(labels)}"
    else:
        codes, names = pd.factorize(pd.Series(groups, dtype=object))
        held = _draw_groups(pd.crosstab(codes, labels).to_numpy(), fraction, seed)[codes]
        units = f"groups to hold one out: {len(names)}"
    if not held.any():
        raise DatasetError(f"too few {units} for {len(counts)} classes, and one needs at least 2")
    return np.flatnonzero(~held), np.flatnonzero(held)


def _draw_groups(sizes: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Mask of groups that together hold about `fraction` of each class, and leave some of each.

    sizes (groups, classes): images. Groups are drawn by lot, and held where that helps.
    """
    kept = sizes.sum(axis=0)
    wanted = fraction * kept
    held = np.zeros(len(sizes), dtype=bool)
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        size = sizes[group]
        nearer = np.abs(wanted - size).sum() < np.abs(wanted).sum()
        if nearer and (kept > size).all():
            held[group], kept, wanted = True, kept - size, wanted - size
    free = (kept > sizes).all(axis=1)
    if free.any() and not held.any():  # all are too large: the one that comes nearest
        held[np.argmin(np.where(free, np.abs(wanted - sizes).sum(axis=1), np.inf))] = True
    return held


def carve(
    targets: Sequence[int],
    split: str,
    seed: int,
    *,
    given: Collection[str] = (),
    groups: Sequence[Hashable] | None = None,
) -> np.ndarray:
    """Positions of `split` in a pool of images, ascending; the parts of one (pool, seed, given) are
    disjoint.

    `given` names the splits that come ready-made: with none, the pool is cut 60/20/20; else it is
    the training part, from which a missing test takes 20 % and a missing val min(10 %, 5,000
    images).
    """
    targets = np.asarray(targets)
    groups = None if groups is None else pd.Series(groups, dtype=object)
    test = 0.0 if "test" in given else 0.2
    val = 0.0 if "val" in given else min(0.1, MAX_VAL / len(targets)) if given else 0.2
    needed = 1 + (test > 0) + (val > 0)
    if groups is not None and (n_groups := groups.nunique()) < needed:
        raise DatasetError(
            f"too few groups: there are {n_groups}, and {needed} are needed to split without "
            "parting one"
        )
    rest = np.arange(len(targets))
    for name, fraction in (("test", test), ("val", val)):
        if fraction:
            of_rest = None if groups is None else groups.iloc[rest]
            kept, held = hold_out(targets[rest], fraction * len(targets) / len(rest), seed, of_rest)
            if split == name:
                return rest[held]
            rest = rest[kept]
    return rest
