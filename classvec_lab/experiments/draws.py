"""Draws of test images, each with external images to make an edit from."""

from collections.abc import Iterable, Mapping

from ..datasets import ImageDataset, load_dataset
from .experiment import Experiment, prepare


def draw(
    setup: Mapping, seeds: Iterable[int], *, fine_tune: bool = True
) -> dict[int, tuple[Experiment, ImageDataset]]:
    """For every seed an experiment on its own draw of the data, and a pool of external images.

    The seed is that of the data, too: the drawn world then draws other images, and other sources
    carve other splits. The pool of the drawn world is another 1,000 seeds away; that of any other
    data is its training split.

    Args:
        setup: arguments of `prepare` but the seed.
        fine_tune: False takes the pre-trained model as it is.
    """
    drawn = {}
    for seed in seeds:
        args = {**setup.get("data_args", {}), "seed": seed}
        exp = prepare(**{**setup, "data_args": args}, seed=seed, fine_tune=fine_tune)
        pool = exp.train
        if setup["dataset"] == "shapes":
            pool = load_dataset("shapes", split="train", **args | {"seed": 1000 + seed})
        drawn[seed] = exp, pool
    return drawn
