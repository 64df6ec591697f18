"""Fine-tuning with the recipe of task arithmetic, seeded, cached, best epoch kept."""

import math
from collections.abc import Callable

from ..datasets.items import usable_for
from .classifier import Classifier
from .device import default_device, resolve_precision
from .preprocess import PreprocessedImages, loader
from .training import (
    FineTuned,
    accumulate,
    check_settings,
    endless,
    evaluate,
    fit,
    train_or_load,
)

_VERSION = 3  # of the recipe: part of the cache key


def default_lr(classifier: Classifier, accuracy: float) -> float:
    """The learning rate used where none is given.

    1e-5 for open_clip, as published. For other sources a base rate (tiny-clip and mlp 1e-3, else
    1e-4) times the share of images that the classifier gets wrong before training, at least 5 %:
    where there is little to learn, the full rate mostly forgets.

    Args:
        classifier: its source decides.
        accuracy: before training, in [0, 1].
    """
    library = classifier.name.partition(":")[0]
    if library == "open_clip":
        return 1e-5
    return (1e-3 if library in ("tiny-clip", "mlp") else 1e-4) * max(1 - accuracy, 0.05)


def finetune(
    classifier: Classifier,
    dataset,
    *,
    val=None,
    epochs: int = 10,
    lr: float | None = None,
    batch_size: int = 128,
    weight_decay: float = 0.1,
    clip: float = 1.0,
    seed: int = 0,
    precision: str = "auto",
    on_epoch: Callable[[int, Classifier, dict], None] | None = None,
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> FineTuned:
    """Fine-tune a copy of a classifier; the argument is never changed.

    The encoder is trained with AdamW under a cosine schedule with warm-up, for 500 steps or a tenth
    of all, and gradient clipping. A CosineHead and batch-norm statistics stay, a linear head is
    trained with the encoder. The result is cached under all that determines it.

    Args:
        dataset: training images with the classifier's classes, see `extract_features`.
        val: held-out images. With them the trained epoch of the highest validation accuracy, then
            of the lowest loss, is returned; without, the last.
        epochs: passes over the training images.
        lr: highest learning rate. None chooses by the classifier's source and by its accuracy on
            `val` (else on the training set) before training, see `default_lr`.
        batch_size: images a step.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        seed: of shuffling, and of torch's generators during training.
        precision: "float32", "bfloat16", or "auto": bfloat16 autocast where the processor has it
            and the encoder at least 20 million parameters, for small ones lose accuracy.
        on_epoch: called as on_epoch(epoch, classifier in eval mode, row of the history) after each
            epoch, and before the first with epoch 0. With it the training is always computed.
        cache: whether to read and write the cache.
        workers: processes that load images.
        progress: whether to show a bar.
    Returns:
        A `FineTuned`, which unpacks into classifier and history.
    Raises:
        MismatchError: where classes differ.
        ModelError: for impossible settings or a diverged loss.
    Source: Ilharco et al., ICLR 2023, appendix.
    """
    dataset = usable_for(classifier, dataset)
    classifier.require_classes(dataset.classes, "the training set")
    if val is not None:
        val = usable_for(classifier, val)
        classifier.require_classes(val.classes, "the validation set")
    precision = resolve_precision(precision, classifier.encoder, default_device())
    settings = {
        "epochs": epochs, "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay,
        "clip": clip, "seed": seed, "precision": precision,
    }  # fmt: skip
    check_settings("finetune", settings | {"workers": workers})

    def train(model, settings):
        images = PreprocessedImages(dataset, model.preprocess)
        held_out = images if val is None else PreprocessedImages(val, model.preprocess)
        every = math.ceil(len(images) / batch_size)

        def loss(x, y):
            mean, right = accumulate(model, x, y, precision=precision)
            return {"loss": mean, "right": right, "n": len(y)}

        def validate():
            options = {"batch_size": 2 * batch_size, "precision": precision, "workers": workers}
            mean, accuracy = evaluate(model, held_out, **options)
            return {"val_loss": mean, "val_accuracy": accuracy}

        start = validate()
        if lr is None:
            settings["lr"] = default_lr(classifier, start["val_accuracy"])

        def checkpoint(step, since):
            row = {"epoch": step // every, "step": step, "lr": 0.0}
            if step:
                n = len(images)
                row["lr"] = since[0]["lr"]
                row["train_loss"] = sum(batch["loss"] * batch["n"] for batch in since) / n
                row["train_accuracy"] = sum(batch["right"] for batch in since) / n
            model.eval()
            if val is not None:
                row |= validate() if step else start
            if on_epoch is not None:
                on_epoch(step // every, model, dict(row))
            return row

        return fit(
            model,
            endless(loader(images, batch_size=batch_size, workers=workers, shuffle_seed=seed)),
            loss,
            settings,
            steps=epochs * every,
            checkpoint=checkpoint,
            every=every,
            score=None if val is None else lambda row: (row["val_accuracy"], -row["val_loss"]),
            warmup=min(500, epochs * every // 10),
            desc="fine-tune",
            progress=progress,
        )

    uses = {"cache": cache, "read": on_epoch is None}
    return train_or_load(_VERSION, classifier, (dataset, val), settings, train, **uses)
