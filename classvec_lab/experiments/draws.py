"""Draws of test images, each with external images to make an edit from."""

from collections.abc import Callable, Iterable, Mapping

from ..datasets import ImageDataset, load_dataset
from ..datasets.splits import external_samples
from .experiment import Experiment, prepare


def draw(
    setup: Mapping,
    seeds: Iterable[int],
    *,
    n: int = 1,
    changes: Iterable[Callable] = (),
    fine_tune: bool = True,
) -> dict[int, tuple[Experiment, ImageDataset]]:
    """For every seed an experiment on its own draw of the data, and a pool of external images.

    The seed is that of the data, too: the drawn world then draws other images, and other sources
    carve other splits. The pool of the drawn world is another 1,000 seeds away; that of any other
    data is its training split.

    Args:
        setup: arguments of `prepare` but the seed.
        n: external images of each class that the pools must have.
        changes: what will be done to data sets; each is tried on one image before any training.
        fine_tune: False takes the pre-trained model as it is.
    """
    drawn, changes = {}, list(changes)
    setups = {s: {**setup, "data_args": setup["data_args"] | {"seed": s}, "seed": s} for s in seeds}
    for seed, own in setups.items():
        exp = prepare(**own, fine_tune=False)
        pool = exp.train
        if setup["dataset"] == "shapes":
            args = own["data_args"] | {"seed": 1000 + seed}
            pool = load_dataset("shapes", split="train", **args)
        external_samples(pool, n, seed=seed)
        for change in changes:
            change(pool.subset([0]))[0]
        drawn[seed] = exp, pool
    if fine_tune:
        drawn = {seed: (prepare(**own), drawn[seed][1]) for seed, own in setups.items()}
    return drawn
