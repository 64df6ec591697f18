"""Twelve photographs in the public domain, cut into patches: which photograph is it from?"""

from functools import lru_cache

import numpy as np
from PIL import Image

from ..errors import DatasetError
from ..files import builtin_dir, hash_arrays
from .base import ImageDataset, integer
from .splits import carve

SIDE, BLOCK = 32, 3  # pixels of a patch; patches along a block, which no split parts


@lru_cache(maxsize=1)
def _patches():
    """Grey values (N, 32, 32) uint8, labels (N,), class names, and the block of each patch."""
    patches, targets, blocks = [], [], []
    paths = sorted(builtin_dir("photographs").glob("*.png"))
    for label, path in enumerate(paths):
        grey = np.asarray(Image.open(path))
        for row, column in np.ndindex(grey.shape[0] // SIDE, grey.shape[1] // SIDE):
            patches.append(grey[SIDE * row :, SIDE * column :][:SIDE, :SIDE])
            targets.append(label)
            blocks.append(f"{path.stem} {row // BLOCK} {column // BLOCK}")
    return np.stack(patches), np.array(targets), tuple(p.stem for p in paths), np.array(blocks)


def _load(i: int) -> Image.Image:
    patches = _patches()[0]
    turned = np.rot90(patches[i % len(patches)], i // len(patches))
    return Image.fromarray(np.ascontiguousarray(turned)).convert("RGB")


def _identity(indices: np.ndarray) -> object:
    pixels = _patches()[0]
    turns, patches = np.divmod(indices, len(pixels))
    return ["photographs", hash_arrays({"pixels": pixels[patches], "turns": turns})]


def load_photographs(*, split: str, seed: int, turns: int = 1) -> ImageDataset:
    """Patches of 32 × 32 grey pixels, as RGB, of twelve photographs, of which each is a class.

    Patches don't overlap. Blocks of up to 3 × 3 neighbours stay in one split, cut 60/20/20 by
    `seed`. Sources and licences: data/photographs/README.md.

    turns: with 2 to 4, each patch is there in so many orientations, a quarter turn apart, and each
        photograph in each of them is a class: up to 48, some of which are hard to tell apart.
    """
    turns = integer("turns", turns, 1)
    if turns > 4:
        raise DatasetError(f"photographs have 1 to 4 turns; got turns={turns}")
    _, targets, names, blocks = _patches()
    labels = np.concatenate([targets + len(names) * turn for turn in range(turns)])
    classes = [f"{name} {90 * turn}°" for turn in range(turns) for name in names]
    return ImageDataset(
        _load,
        labels,
        classes if turns > 1 else names,
        name="photographs",
        split=split,
        identity=_identity,
        indices=carve(labels, split, seed, groups=np.tile(blocks, turns)),
    )
