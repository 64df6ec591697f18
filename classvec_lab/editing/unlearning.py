"""Unlearning a class by training: the retrained reference and the usual baselines, cached."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ..checks import in_range, index_of, one_of
from ..errors import DatasetError, ModelError
from ..models.classifier import Classifier
from ..models.finetuning import default_lr, finetune
from ..models.preprocess import PreprocessedImages, loader
from ..models.training import (
    FineTuned,
    accumulate,
    check_settings,
    endless,
    evaluate,
    fit,
    train_or_load,
)

_VERSION = 2  # of the recipes: part of the cache key


@dataclass(frozen=True)
class Recipe:
    """Defaults of one method.

    Args:
        steps: updates.
        batch_size: images a step.
        rate: learning rate over `default_lr`.
        retained, forgotten: which images it reads.
    """

    steps: int
    batch_size: int
    rate: float
    retained: bool = True
    forgotten: bool = True


METHODS = {
    "retain": Recipe(24, 64, 10.0, forgotten=False),
    "neggrad": Recipe(40, 64, 1.5, retained=False),
    "neggrad+": Recipe(40, 128, 6.0),
    "random_label": Recipe(40, 128, 6.0),
}


def retrain_without(
    pre: Classifier, train, target: str, *, val=None, **finetune_options
) -> FineTuned:
    """The reference of unlearning: `finetune` on the images of all other classes.

    Class names and head stay as they are, so the class keeps its row. A CosineHead's row is its
    prompt: images of the class may still be named by it, as zero-shot. A linear head's row is only
    ever pushed away.

    Args:
        pre: the pre-trained classifier.
        train: training images.
        target: name of the class left out.
        val: held-out images, of which the other classes choose the epoch.
        finetune_options: see `finetune`.
    Raises:
        MismatchError: for an unknown class.
        DatasetError: where the class has no image in `train`, or nothing is left.
    """
    _, retained = _split(pre, train, target, "the training set")
    if val is not None:
        pre.require_classes(val.classes, "the validation set")
        val = val.subset(np.asarray(val.targets) != val.classes.index(target))
    return finetune(pre, retained, val=val, **finetune_options)


def unlearn(
    ft: Classifier,
    train,
    target: str,
    *,
    method: str,
    val=None,
    lr: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    alpha: float = 0.2,
    weight_decay: float = 0.1,
    clip: float = 1.0,
    stop_at: float | None = 0.0,
    threshold: float = 0.01,
    every: int | None = None,
    seed: int = 0,
    on_step: Callable[[int, Classifier, dict], None] | None = None,
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> FineTuned:
    """Train a copy of `ft` to forget a class; the argument is never changed.

    With L_r and L_f the mean cross-entropy of a batch of retained and of forgotten images, "retain"
    minimises L_r, "neggrad" maximises L_f (gradient ascent), "neggrad+" minimises L_r - alpha · L_f
    on both batches at once, and "random_label" minimises L_r + L_f where each forgotten image has,
    each time it is seen, a label drawn from the other classes. Training is by AdamW in float32
    under a cosine schedule with gradient clipping. A CosineHead and batch-norm statistics stay.

    Returned is, among the checkpoints, that of the highest validation ACC_r of those with
    ACC_f <= threshold, or, where there is none, that of the lowest ACC_f. Ties go to the other
    accuracy, then to the lower loss on retained images. The result is cached under all that
    determines it.

    Args:
        train: training images, of the class and of others.
        target: name of the class.
        method: one of `METHODS`.
        val: held-out images, of the class and of others; needed.
        lr: learning rate. None: `default_lr` at the accuracy on `val`, times the method's share.
        steps: updates. None: the method's.
        batch_size: images of a step, half of each kind where both are read. None: the method's.
        alpha: weight of L_f in "neggrad+".
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        stop_at: "neggrad" ends at the first batch of which at most this share is still named
            rightly, for it would only destroy from there on. None: never.
        threshold: the ACC_f that counts as forgotten.
        every: steps between checkpoints. None: a sixth of all; 2 for "neggrad".
        seed: of shuffling, of drawn labels, and of torch's generators.
        on_step: called as on_step(step, classifier in eval mode, row) at each checkpoint, and
            before the first step. With it the training is always computed.
        cache: whether to read and write the cache.
        workers: processes that load images.
        progress: whether to show a bar.
    Raises:
        MismatchError: for other or unknown classes.
        DatasetError: where the class has no image, or is the only one.
        ModelError: for an unknown method, a missing `val`, impossible settings or a diverged loss.
    Source: NegGrad+: Kurmanji et al., NeurIPS 2023; random labels: Golatkar et al., CVPR 2020.
    """
    recipe = METHODS[one_of(method, METHODS, "unlearning method", ModelError)]
    steps = recipe.steps if steps is None else steps
    batch_size = recipe.batch_size if batch_size is None else batch_size
    settings = {
        "method": method, "target": target, "lr": lr, "steps": steps, "batch_size": batch_size,
        "weight_decay": weight_decay, "clip": clip, "threshold": threshold, "every": every,
        "seed": seed, "alpha": alpha, "stop_at": stop_at,
    }  # fmt: skip
    if every is None and isinstance(steps, int):
        settings["every"] = 2 if method == "neggrad" else max(1, steps // 6)
    check_settings("unlearn", settings)
    in_range("batch_size", batch_size, 2, math.inf, error=ModelError)
    for name, reader in (("alpha", "neggrad+"), ("stop_at", "neggrad")):
        if method != reader:
            del settings[name]
    if val is None:
        raise ModelError("unlearn chooses its checkpoint on validation images: pass val=")
    parts = _split(ft, train, target, "the training set")
    held_out = _split(ft, val, target, "the validation set")

    def train_it(model, settings):
        forgotten, retained, *tried = (
            PreprocessedImages(data, ft.preprocess) for data in (*parts, *held_out)
        )

        def validate():
            options = {"batch_size": 4 * batch_size, "workers": workers}
            (loss_f, acc_f), (loss_r, acc_r) = (evaluate(model, d, **options) for d in tried)
            row = {"val_ACC_f": acc_f, "val_ACC_r": acc_r}
            return row | {"val_loss_f": loss_f, "val_loss_r": loss_r}

        def loss(kept, gone):
            row = {}
            if kept is not None:
                row["loss_r"], _ = accumulate(model, *kept)
            if gone is not None:
                x, y = gone
                factor = -settings.get("alpha", 1.0)
                if method == "random_label":
                    drawn = torch.randint(len(model.classes) - 1, y.shape)
                    y, factor = drawn + (drawn >= y), 1.0  # every class but its own is as likely
                row["loss_f"], right = accumulate(model, x, y, factor=factor)
                if method != "random_label":
                    row["train_ACC_f"] = right / len(y)
            return row

        def checkpoint(step, since):
            row = {"step": step, "lr": 0.0}
            if step:
                row |= pd.DataFrame(since).mean().to_dict() | {"lr": since[-1]["lr"]}
            row |= validate() if step else start
            if on_step is not None:
                on_step(step, model, dict(row))
            return row

        start = validate()
        if lr is None:
            right = start["val_ACC_f"] * len(tried[0]) + start["val_ACC_r"] * len(tried[1])
            settings["lr"] = recipe.rate * default_lr(ft, right / sum(map(len, tried)))
        size = batch_size // (recipe.retained + recipe.forgotten)
        kinds = ((retained, recipe.retained), (forgotten, recipe.forgotten))
        batches = (
            endless(loader(images, batch_size=size, workers=workers, shuffle_seed=seed))
            if used
            else itertools.repeat(None)
            for images, used in kinds
        )
        limit = settings.get("stop_at")
        return fit(
            model,
            zip(*batches, strict=True),
            loss,
            settings,
            steps=steps,
            checkpoint=checkpoint,
            every=settings["every"],
            score=lambda row: rank(row, threshold),
            stop=lambda figures: limit is not None and figures.get("train_ACC_f", 1) <= limit,
            warmup=0,
            desc="unlearn",
            progress=progress,
        )

    version, uses = ["unlearn", _VERSION], {"cache": cache, "read": on_step is None}
    return train_or_load(version, ft, (train, val), settings, train_it, **uses)


def rank(row: dict, threshold: float) -> tuple:
    """What decides between the checkpoints of `unlearn`; the largest is kept."""
    forgot, kept = row["val_ACC_f"] <= threshold, row["val_ACC_r"]
    first, second = (kept, -row["val_ACC_f"]) if forgot else (-row["val_ACC_f"], kept)
    return forgot, first, second, -row["val_loss_r"]


def _split(classifier: Classifier, dataset, target: str, owner: str):
    """(images of the class, images of the others)."""
    classifier.require_classes(dataset.classes, owner)
    own = np.asarray(dataset.targets) == index_of(target, dataset.classes)
    if not own.any() or own.all():
        lack = f"{'every class but' if own.all() else 'class'} {target!r} has"
        raise DatasetError(f"{lack} no image in {owner}, {dataset!r}: nothing to forget or retain")
    return dataset.subset(own), dataset.subset(~own)
