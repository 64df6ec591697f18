"""Unlearning a class by training: the retrained reference and the usual baselines, cached."""

import pandas as pd
import torch

from ..checks import index_of, one_of
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

_VERSION = 3  # of the recipes: part of the cache key

# settings of each method: updates, steps between checkpoints, and the learning rate over
# `default_lr`; of NegGrad+ also the weight of the loss on the forgotten images
METHODS = {
    "retain": {"steps": 24, "every": 4, "rate": 10.0},
    "neggrad": {"steps": 40, "every": 2, "rate": 1.5},
    "neggrad+": {"steps": 40, "every": 6, "rate": 6.0, "alpha": 0.2},
    "random_label": {"steps": 40, "every": 6, "rate": 6.0},
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
        val = val.subset(val.targets != index_of(target, val.classes))
    return finetune(pre, retained, val=val, **finetune_options)


def unlearn(
    ft: Classifier,
    train,
    target: str,
    *,
    method: str,
    val,
    threshold: float = 0.01,
    seed: int = 0,
    progress: bool = True,
    **changes,
) -> FineTuned:
    """Train a copy of `ft` to forget a class; the argument is never changed.

    With L_r and L_f the mean cross-entropy of a batch of retained and of forgotten images, "retain"
    minimises L_r, "neggrad" maximises L_f (gradient ascent), "neggrad+" minimises L_r - alpha · L_f
    on both batches at once, and "random_label" minimises L_r + L_f where each forgotten image has,
    each time it is seen, a label drawn from the other classes. "neggrad" ends at the first batch of
    which nothing is named rightly any more, for it would only destroy from there on. Training is by
    AdamW in float32 under a cosine schedule with gradient clipping. A CosineHead and batch-norm
    statistics stay.

    Returned is, among the checkpoints, that of the highest validation ACC_r of those with
    ACC_f <= threshold, or, where there is none, that of the lowest ACC_f. Ties go to the other
    accuracy, then to the lower loss on retained images. The result is cached under all that
    determines it.

    Args:
        train: training images, of the class and of others.
        target: name of the class.
        method: one of `METHODS`.
        val: held-out images, of the class and of others, on which the checkpoint is chosen.
        threshold: the ACC_f that counts as forgotten.
        seed: of shuffling, of drawn labels, and of torch's generators.
        progress: whether to show a bar.
        changes: of the method's settings in `METHODS`, and of lr (by default `default_lr` at the
            accuracy on `val`, times the method's rate), batch_size (64 images of each kind),
            weight_decay (0.1) and clip (the largest norm of the gradient, 1).
    Raises:
        MismatchError: for other or unknown classes.
        DatasetError: where the class has no image, or is the only one.
        ModelError: for unknown methods or settings, impossible ones, or a diverged loss.
    Source: NegGrad+: Kurmanji et al., NeurIPS 2023; random labels: Golatkar et al., CVPR 2020.
    """
    settings = {"lr": None, "batch_size": 64, "weight_decay": 0.1, "clip": 1.0}
    settings |= METHODS[one_of(method, METHODS, "unlearning method", ModelError)]
    for name in changes:
        one_of(name, settings, f"setting of {method!r}", ModelError)
    given = {"method": method, "target": target, "threshold": threshold, "seed": seed}
    settings |= changes | given
    check_settings("unlearn", settings)
    parts = _split(ft, train, target, "the training set")
    held_out = _split(ft, val, target, "the validation set")
    factors = {  # of L_r and L_f
        "retain": {"r": 1.0},
        "neggrad": {"f": -1.0},
        "neggrad+": {"r": 1.0, "f": -settings.get("alpha", 0.0)},
        "random_label": {"r": 1.0, "f": 1.0},
    }[method]

    def train_it(model, settings):
        forgotten, retained, *tried = (
            PreprocessedImages(data, ft.preprocess) for data in (*parts, *held_out)
        )
        size = settings["batch_size"]

        def validate():
            found = (evaluate(model, data, batch_size=4 * size) for data in tried)
            (loss_f, acc_f), (loss_r, acc_r) = found
            return {
                "val_ACC_f": acc_f,
                "val_ACC_r": acc_r,
                "val_loss_f": loss_f,
                "val_loss_r": loss_r,
            }

        def loss(*batches):
            row = {}
            for (kind, factor), (x, y) in zip(factors.items(), batches, strict=True):
                if kind == "f" and method == "random_label":
                    drawn = torch.randint(len(model.classes) - 1, y.shape)
                    y = drawn + (drawn >= y)  # every class but its own is as likely
                row[f"loss_{kind}"], right = accumulate(model, x, y, factor=factor)
                if factor < 0:
                    row["train_ACC_f"] = right / len(y)
            return row

        def checkpoint(step, since):
            if not step:
                return {"step": step, "lr": 0.0} | start
            row = {"step": step, **pd.DataFrame(since).mean(), "lr": since[-1]["lr"]}
            return row | validate()

        start = validate()
        if settings["lr"] is None:
            right = start["val_ACC_f"] * len(tried[0]) + start["val_ACC_r"] * len(tried[1])
            settings["lr"] = settings["rate"] * default_lr(ft, right / sum(map(len, tried)))
        images = {"r": retained, "f": forgotten}
        batches = (
            endless(loader(images[kind], batch_size=size, shuffle_seed=seed)) for kind in factors
        )
        return fit(
            model,
            zip(*batches, strict=True),
            loss,
            settings,
            steps=settings["steps"],
            checkpoint=checkpoint,
            every=settings["every"],
            score=lambda row: rank(row, threshold),
            stop=lambda figures: method == "neggrad" and figures.get("train_ACC_f") == 0,
            warmup=0,
            desc="unlearn",
            progress=progress,
        )

    version = ["unlearn", _VERSION]
    return train_or_load(version, ft, (train, val), settings, train_it, cache=True, read=True)


def rank(row: dict, threshold: float) -> tuple:
    """What decides between the checkpoints of `unlearn`; the largest is kept."""
    left, kept = row["val_ACC_f"], row["val_ACC_r"]
    forgot = left <= threshold
    return forgot, *((kept, -left) if forgot else (-left, kept)), -row["val_loss_r"]


def _split(classifier: Classifier, dataset, target: str, owner: str):
    """(images of the class, images of the others)."""
    classifier.require_classes(dataset.classes, owner)
    own = dataset.targets == index_of(target, dataset.classes)
    if not own.any() or own.all():
        lack = f"{'every class but' if own.all() else 'class'} {target!r} has"
        raise DatasetError(f"{lack} no image in {owner}, {dataset!r}: nothing to forget or retain")
    return dataset.subset(own), dataset.subset(~own)
