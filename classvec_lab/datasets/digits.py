"""UCI's 1,797 handwritten digits, those of scikit-learn, which needs a second to read them."""

from functools import lru_cache

import numpy as np
from PIL import Image

from ..files import builtin_dir, hash_arrays
from .base import ImageDataset
from .splits import carve


@lru_cache(maxsize=1)
def _digits():
    """Grey values (1797, 8, 8) uint8 in 0..255, and labels (1797,)."""
    kept = np.load(builtin_dir("digits") / "digits.npz")
    return np.rint(kept["images"] * (255 / 16)).astype(np.uint8), kept["targets"]


def _load(i: int) -> Image.Image:
    return Image.fromarray(_digits()[0][i]).convert("RGB")


def _identity(indices: np.ndarray) -> object:
    return ["digits", hash_arrays({"pixels": _digits()[0][indices]})]


def load_digits_dataset(*, split: str, seed: int) -> ImageDataset:
    """The digits as 8 × 8 RGB images of ten classes "0".."9", cut 60/20/20 by class and `seed`."""
    _, targets = _digits()
    return ImageDataset(
        _load,
        targets,
        range(10),
        name="digits",
        split=split,
        identity=_identity,
        indices=carve(targets, split, seed),
    )
