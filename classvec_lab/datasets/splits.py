"""Seeded splits and samples, stratified by class, that never part the images of one group."""

import warnings
from collections.abc import Collection, Hashable, Sequence

import numpy as np
import pandas as pd

from ..errors import DatasetError

SPLITS = ("train", "val", "test")
MAX_VAL = 5000  # images: a validation part carved out of a large training set needs no more


def check_split(name: str, split: str) -> None:
    """Raise DatasetError unless `split` is "train", "val" or "test"."""
    if split not in SPLITS:
        raise DatasetError(f"{name} has the splits {', '.join(SPLITS)}; got split={split!r}")


def _apportion(
    counts: np.ndarray, total: int, lowest: np.ndarray, highest: np.ndarray
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
    order = np.lexsort([np.random.default_rng(seed).random(len(labels)), labels])
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order] = rank < seats[labels[order]]
    return chosen


def stratified_sample(targets: Sequence[int], n: int, seed: int) -> np.ndarray:
    """Positions of `n` images, ascending, in proportion to the classes of `targets` (N,), largest
    remainders first.

    Every class gets at least one image where n allows; n >= N gives all positions. Raises
    DatasetError for n < 1.
    """
    targets = np.asarray(targets)
    if n < 1:
        raise DatasetError(f"a sample needs at least one image, got n={n}")
    if n >= len(targets):
        return np.arange(len(targets))
    _, labels, counts = np.unique(targets, return_inverse=True, return_counts=True)
    lowest = np.full(len(counts), int(n >= len(counts)))
    return np.flatnonzero(_draw(labels, _apportion(counts, n, lowest, counts), seed))


def hold_out(
    targets: Sequence[int], fraction: float, seed: int, groups: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Part N images into (kept, held): ascending positions, disjoint, together all; held is about
    `fraction` of N.

    Every class with at least two images has one on either side. With `groups` (N,) no group has
    images on both sides; every class keeps an image, and one that comes from a single group is not
    held. Raises DatasetError for a fraction outside 0..1 and for too few images or groups.
    """
    targets = np.asarray(targets)
    if not 0 < fraction < 1:
        raise DatasetError(f"the held fraction must lie between 0 and 1, got {fraction!r}")
    _, labels, counts = np.unique(targets, return_inverse=True, return_counts=True)
    if groups is None:
        seats = _apportion(
            counts, round(fraction * len(targets)), np.minimum(counts - 1, 1), counts - 1
        )
        held = _draw(labels, seats, seed)
        if not held.any():
            raise DatasetError(
                f"{len(targets)} images are too few to hold some out: a class needs at least 2"
            )
    else:
        held = _hold_groups(
            labels, max(1, round(fraction * len(targets))), seed, _codes(groups, len(targets))
        )
    return np.flatnonzero(~held), np.flatnonzero(held)


def _codes(groups: Sequence[Hashable], n: int) -> np.ndarray:
    codes, _ = pd.factorize(pd.Series(list(groups), dtype=object))
    if len(codes) != n:
        raise DatasetError(f"groups must name one group an image: {n} images, {len(codes)} groups")
    if (codes < 0).any():
        raise DatasetError(f"image {int(np.argmin(codes))} has no group (None or NaN)")
    return codes


def _hold_groups(labels: np.ndarray, n_held: int, seed: int, codes: np.ndarray) -> np.ndarray:
    """Mask of the held images: whole groups, classes balanced as far as the groups allow."""
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    n_groups, n_classes = codes.max() + 1, labels.max() + 1
    if n_groups < 2:
        raise DatasetError(
            f"too few groups: there is {n_groups}, and at least 2 are needed to hold one out"
        )
    member = np.zeros((n_groups, n_classes), dtype=bool)
    member[codes, labels] = True
    fixed = member[:, member.sum(axis=0) == 1].any(
        axis=1
    )  # the only group of some class: held, the class would be lost
    free = np.flatnonzero(~fixed[codes])
    if len(free) == 0:
        raise DatasetError(
            f"too few groups: there are {n_groups} for {n_classes} classes, and each is the only "
            "one of some class; "
            "at least 2 groups in a class are needed to hold one out"
        )
    n_free, folds = int((~fixed).sum()), round(len(free) / n_held)
    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    if n_free == 1:
        candidates = [free]
    elif 2 <= folds < n_free and folds <= np.bincount(labels[free]).max():
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # a class smaller than the number of folds is dealt with below
            candidates = [free[test] for _, test in splitter.split(free, labels[free], codes[free])]
    else:  # too few groups or images for as many folds: whole groups at random
        n_groups_held = int(np.clip(round(n_free * n_held / len(free)), 1, n_free - 1))
        splitter = GroupShuffleSplit(20, test_size=n_groups_held, random_state=state)
        candidates = [free[test] for _, test in splitter.split(free, groups=codes[free])]

    def badness(held: np.ndarray) -> float:
        missing = n_classes - len(np.unique(labels[held]))
        return missing / n_classes + abs(held.sum() - n_held) / n_held

    masks = [
        _with_every_class_kept(codes, member, candidate)
        for candidate in candidates
        if len(candidate)
    ]
    return min(masks, key=badness)


def _with_every_class_kept(
    codes: np.ndarray, member: np.ndarray, candidate: np.ndarray
) -> np.ndarray:
    """The candidate's mask after groups were given back until the kept side has every class."""
    held = np.zeros(len(member), dtype=bool)
    held[codes[candidate]] = True
    sizes = np.bincount(codes)
    for label in range(member.shape[1]):
        owners = np.flatnonzero(member[:, label])
        if held[owners].all():
            held[owners[np.argmin(sizes[owners])]] = False
    return held[codes]


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
    groups = None if groups is None else pd.Series(list(groups), dtype=object)
    test = 0.0 if "test" in given else 0.2
    val = 0.0 if "val" in given else min(0.1, MAX_VAL / len(targets)) if given else 0.2
    if groups is not None and (n_groups := groups.nunique()) < (
        needed := 1 + (test > 0) + (val > 0)
    ):
        raise DatasetError(
            f"too few groups: there are {n_groups}, and {needed} are needed to split without "
            "parting one"
        )
    rest = np.arange(len(targets))
    for name, fraction in (("test", test), ("val", val)):
        if fraction:
            kept, held = hold_out(
                targets[rest],
                fraction * len(targets) / len(rest),
                seed,
                None if groups is None else groups.iloc[rest],
            )
            if split == name:
                return rest[held]
            rest = rest[kept]
    return rest
