"""Seeded splits and samples, stratified by class, that never part the images of one group."""

import re
from collections.abc import Collection, Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from ..checks import listed
from ..errors import DatasetError
from .base import ImageDataset, integer

SPLITS = ("train", "val", "test")
MAX_VAL = 5000  # images: a validation part carved out of a large training set needs no more
# draws of groups at most, the share of images by which one is good enough, groups of either side of
# which pairs are exchanged, and what counts as no gain
DRAWS, CLOSE, TRIED, SAME = 8, 0.02, 50, 1e-9
FEW = 10  # groups of which every choice is tried
_BESIDE = (
    "(?:seg|x|sets?|sub|data|split|part|images?|imgs?|photos?|files?|folders?|jpe?g|png|[0-9]+)"
)
_SPLIT = re.compile(
    rf"((?:.*?[\W_])??)(?:{_BESIDE}[\W_]*)*(?:(?P<train>train(?:ing|val)?|trn)|(?P<val>val(?:id)?|"
    rf"validat(?:e|ion)|dev(?:elopment)?)|(?P<test>test(?:ing)?|tst))(?:[\W_]*{_BESIDE})*"
)


def find_parts(names: Iterable[str]) -> dict[str, str]:
    """The names that are a split's, each with it: "Training", "seg_test", "valImages", "dev".

    Other words before it, as in "bullet_train", are let pass only where several splits share them.
    """
    read = {name: match for name in names if (match := _SPLIT.fullmatch(name.lower()))}
    rests = [rest for rest, _ in {(match[1], match.lastgroup) for match in read.values()}]
    return {n: m.lastgroup for n, m in read.items() if not m[1] or rests.count(m[1]) > 1}


def _apportion(counts, total, lowest, highest):
    """Seats per class by largest remainder within lowest..highest; their sum is `total` where
    bounds allow.
    """
    quota = total * counts / counts.sum()
    seats = np.clip(np.floor(quota).astype(int), lowest, highest)
    while step := np.sign(total - seats.sum()):
        free = seats < highest if step > 0 else seats > lowest
        if not free.any():
            break
        seats[np.argmax(np.where(free, step * (quota - seats), -np.inf))] += step
    return seats


def _draw(labels, seats, seed):
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
    targets: Sequence[int],
    fraction: float,
    seed: int,
    groups: Sequence[Hashable] | None = None,
    *,
    leave: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Part N images into (kept, held): ascending positions, disjoint, together all; held is about
    `fraction` of N.

    Every class with at least two images has one on either side. With `groups` (N,) no group has
    images on both sides. Every class keeps an image; one that comes from at least two groups is
    held, and keeps `leave` groups if it has more, unless its groups hold other classes that speak
    against it. Raises DatasetError for too few images or groups.
    """
    _, labels, counts = np.unique(targets, return_inverse=True, return_counts=True)
    if groups is None:
        wanted = round(fraction * len(labels))
        seats = _apportion(counts, wanted, np.minimum(counts - 1, 1), counts - 1)
        held, units = _draw(labels, seats, seed), f"images to hold some out: {len(labels)}"
    else:
        codes, names = pd.factorize(pd.Series(groups, dtype=object))
        held = _draw_groups(pd.crosstab(codes, labels).to_numpy(), fraction, seed, leave)[codes]
        units = f"groups to hold one out: {len(names)}"
    if not held.any():
        raise DatasetError(f"too few {units} for {len(counts)} classes, and one needs at least 2")
    return np.flatnonzero(~held), np.flatnonzero(held)


def _draw_groups(sizes, fraction, seed, leave):
    """Mask of groups that hold about `fraction` of each class, the best of several draws by lot.

    sizes (groups, classes): images. Every class is kept. A class from more than one group is held,
    and `leave` of its groups are kept, where it has so many and its groups hold no other class.
    """
    rng, n_groups = np.random.default_rng(seed), (sizes > 0).sum(axis=0)
    wanted, leave = fraction * sizes.sum(axis=0), np.minimum(leave, n_groups - 1)
    costs, drawn = _costs(sizes, wanted, leave), []
    if len(sizes) <= FEW:  # all there are, in an order by lot
        masks = rng.permutation(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1
        images = masks @ sizes
        cost = costs(images, masks @ (sizes > 0)).sum(axis=1)
        return masks[(cost + np.abs(images.sum(axis=1) - wanted.sum())).argmin()] > 0
    for _ in range(DRAWS):
        size, of = sizes.max(axis=1), sizes.argmax(axis=1)
        lots = pd.DataFrame({"of": of, "lot": rng.random(len(sizes)), "size": size})
        upto = lots.sort_values("lot").groupby("of")["size"].cumsum().sort_index()
        held = np.array(upto - size / 2 < wanted[of])
        drawn.append(_improved(held, sizes, wanted, costs, rng))
        if drawn[-1][0] <= CLOSE * wanted.sum():
            break
    return min(drawn, key=lambda draw: draw[0])[1]


def _costs(sizes, wanted, leave):
    """What it costs, by class, to hold so many images and groups of classes `of`."""
    n_groups, weight = (sizes > 0).sum(axis=0), 2.0 * sizes.sum() + 1

    def costs(images, groups, of=slice(None)):
        left = n_groups[of] - groups
        unlike = (left < leave[of]) | ((groups < 1) & (leave[of] > 0))
        return np.abs(images - wanted[of]) + weight * (unlike + (1 + len(wanted)) * (left < 1))

    return costs


def _improved(held, sizes, wanted, costs, rng):
    """(cost, mask) after groups changed sides, one or two at a time, for as long as that helps."""
    group, label = np.nonzero(sizes)
    count, size, total = sizes[group, label], sizes.sum(axis=1), wanted.sum()
    while True:
        images, groups = (np.bincount(label, x * held[group], len(wanted)) for x in (count, 1))
        now, over, sign = costs(images, groups), images.sum() - total, np.where(held, -1, 1)
        cost = now.sum() + abs(over)
        if cost <= CLOSE * total:
            return cost, held
        s = sign[group]
        change = costs(images[label] + s * count, groups[label] + s, label) - now[label]
        change = np.bincount(group, change, len(held)) + np.abs(over + sign * size) - abs(over)
        turn = [change.argmin()]
        if change.min() > -SAME:
            sides = (rng.permutation(np.flatnonzero(side))[:TRIED] for side in (held, ~held))
            pairs = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
            if not len(pairs):
                return cost, held
            s, both = sign[pairs][..., None], sizes[pairs]
            changed = costs(images + (s * both).sum(1), groups + (s * (both > 0)).sum(1)).sum(1)
            changed += np.abs(over + (s * both).sum((1, 2)))
            if changed.min() > cost - SAME:
                return cost, held
            turn = pairs[changed.argmin()]
        held[turn] = ~held[turn]


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
    fractions = {"test": 0.2, "val": min(0.1, MAX_VAL / len(targets)) if given else 0.2}
    missing = [name for name in fractions if name not in given]
    if groups is not None and (n_groups := groups.nunique()) <= len(missing):
        raise DatasetError(
            f"too few groups: there are {n_groups}, and {len(missing) + 1} are needed to split "
            "without parting one"
        )
    rest = np.arange(len(targets))
    for name in missing:
        share = fractions[name] * len(targets) / len(rest)
        of_rest = None if groups is None else groups.iloc[rest]
        leave = 1 + (name != missing[-1])  # for the part that is still to come
        kept, held = hold_out(targets[rest], share, seed, of_rest, leave=leave)
        if split == name:
            return rest[held]
        rest = rest[kept]
    return rest


def external_samples(
    dataset: ImageDataset, n: int, *, seed: int, apart_from: ImageDataset | None = None
) -> ImageDataset:
    """n images of each class, drawn by `seed`: the few samples that an edit may be made from.

    Args:
        apart_from: images that none of them may be, by the hash of their pixels.
    Raises:
        DatasetError: for a class with fewer images, and for images of `apart_from`.
    """
    n = integer("n", n, 1)
    if len(short := dataset.counts.index[dataset.counts < n]):
        raise DatasetError(f"{dataset.split} has fewer than {n} images of {listed(short)}")
    rng = np.random.default_rng(seed)
    own = (np.flatnonzero(dataset.targets == c) for c in range(len(dataset.classes)))
    drawn = dataset.subset(np.sort(np.concatenate([rng.permutation(i)[:n] for i in own])))
    if apart_from is not None and (same := drawn.hashes & apart_from.hashes):
        raise DatasetError(
            f"{len(same)} of the external samples are images of {apart_from.split}, too: give "
            "external samples from elsewhere"
        )
    return drawn
