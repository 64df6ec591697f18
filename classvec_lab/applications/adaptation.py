"""Images and goals for training an encoder on what a few external samples have."""

from typing import NamedTuple

import numpy as np

from ..datasets import ImageDataset
from ..datasets.corruptions import transplanted
from .trials import Trial


class Lesson(NamedTuple):
    """Images, and by the name of a way where each is to be encoded, (N, m)."""

    images: ImageDataset
    goals: dict[str, np.ndarray]


def lesson(trial: Trial, value: str, *, copies: int = 8, pairs: bool = True) -> Lesson:
    """What `match` is taught with: images with a value of an attribute, and goals without it.

    Goals are "κ", f(x) less the vector of x's class; "DirMatch", f of the same image without the
    value, or without pairs its class's mean; and the control "random", as far away as κ, but in
    one direction drawn for all.

    Args:
        copies: even; as many of each training image, half of which wear what an external pair
            differs in, see `transplanted`. The goals of the others are where they are.
        pairs: whether the external samples are pairs; else they alone are taught, half of `copies`
            times the number of training images in all.
    """
    train, few, vectors = trial.exp.train, trial.worn[value], trial.vectors
    seed = trial.facts["seed"]
    if pairs:
        images = transplanted(train, trial.few, few, copies=copies, seed=seed)
        worn = images.metadata["pair"].to_numpy() >= 0
        clean = np.tile(trial.read(train).z, (copies, 1))
    else:
        images = few.subset(np.resize(np.arange(len(few)), copies * len(train) // 2))
        worn, clean = np.ones(len(images), bool), vectors.means[images.targets]
    seen = trial.read(images)
    kappa = vectors.moved(seen.z, seen.y, np.where(worn, vectors.values.index(value), -1))
    drawn = np.random.default_rng(seed).standard_normal(vectors.means.shape[1])
    length = np.linalg.norm(kappa - seen.z, axis=1, keepdims=True)
    random = seen.z + length * drawn / np.linalg.norm(drawn)
    return Lesson(images, {"κ": kappa, "DirMatch": clean, "random": random})
