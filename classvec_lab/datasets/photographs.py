"""Twelve photographs in the public domain, cut into patches: which photograph is it from?"""

from functools import lru_cache

import numpy as np
from PIL import Image

from ..files import builtin_dir, hash_arrays
from .base import ImageDataset
from .splits import carve

SIDE, BLOCK = 32, 3  # pixels of a patch; patches along a block, which no split parts


@lru_cache(maxsize=1)
def _patches() -> tuple[np.ndarray, np.ndarray, tuple[str, ...], list[str]]:
    """Grey values (N, 32, 32) uint8, labels (N,), class names, and the block of each patch."""
    patches, targets, blocks = [], [], []
    paths = sorted(builtin_dir("photographs").glob("*.png"))
    for label, path in enumerate(paths):
        grey = np.asarray(Image.open(path))
        for row in range(grey.shape[0] // SIDE):
            for column in range(grey.shape[1] // SIDE):
                y, x = row * SIDE, column * SIDE
                patches.append(grey[y : y + SIDE, x : x + SIDE])
                targets.append(label)
                blocks.append(f"{path.stem} {row // BLOCK} {column // BLOCK}")
    return np.stack(patches), np.array(targets), tuple(p.stem for p in paths), blocks


def _load(i: int) -> Image.Image:
    return Image.fromarray(_patches()[0][i]).convert("RGB")


def _identity(indices: np.ndarray) -> object:
    return ["photographs", hash_arrays({"pixels": _patches()[0][indices]})]


def load_photographs(*, split: str, seed: int) -> ImageDataset:
    """Patches of 32 × 32 grey pixels, as RGB, of twelve photographs, of which each is a class.

    Patches don't overlap. Blocks of up to 3 × 3 neighbours stay in one split, cut 60/20/20 by
    `seed`. Sources and licences: data/photographs/README.md.
    """
    _, targets, classes, blocks = _patches()
    return ImageDataset(
        _load,
        targets,
        classes,
        name="photographs",
        split=split,
        identity=_identity,
        indices=carve(targets, split, seed, groups=blocks),
    )
