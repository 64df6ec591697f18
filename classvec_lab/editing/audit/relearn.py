"""Relearn time: how fast a few images bring a forgotten class back."""

import copy
import itertools
from contextlib import suppress

import numpy as np

from ...checks import index_of
from ...errors import DatasetError

BACK = 0.9  # of the unedited accuracy: the class is back
N_SAMPLES = 16  # images of the class that are learnt from


def relearn_time(
    classifier,
    forget,
    *,
    evaluate,
    target: str,
    original_accuracy: float,
    lr: float | None = None,
    max_steps: int = 100,
    seed: int = 0,
) -> int | None:
    """Count the steps of fine-tuning on 16 images of a class until its accuracy is back.

    All trainable parameters of a copy are trained, in float32 by AdamW at a constant rate, with
    batch-norm statistics frozen and all images in each batch. Other classes are not looked at, so
    naming every image `target` would count as relearning. A gated edit keeps acting while the
    encoder learns: a long time shows that it resists training, not that nothing is left of the
    class. Where a step's loss is not finite (the logit is masked by -inf) no step is taken.

    Args:
        classifier: any, edited or retrained.
        forget: images to draw from.
        evaluate: held-out images, tried after each step.
        target: name of the class.
        original_accuracy: the unedited model's on the target's images of `evaluate`, in (0, 1].
            The class is back at nine tenths of it.
        lr: learning rate. None: the `default_lr` of a classifier of the same source that is 90 %
            right, so that edited and retrained models learn at one rate.
        max_steps: where to give up.
        seed: of the draw, and of torch's generators.
    Returns:
        The steps, or None where the class was not back within `max_steps`.
    Raises:
        MismatchError: for other or unknown classes.
        DatasetError: where there are too few images of the class.
        ModelError: for impossible settings, or where nothing is trainable.
    """
    from ...models.device import default_device
    from ...models.finetuning import default_lr
    from ...models.preprocess import PreprocessedImages, loader
    from ...models.training import Diverged, accumulate, check_settings, fit
    from ...models.training import evaluate as measure

    settings = {
        "lr": default_lr(classifier, 0.9) if lr is None else lr,
        "max_steps": max_steps,
        "original_accuracy": original_accuracy,
        "seed": seed,
        "weight_decay": 0.0,
        "clip": 1.0,
    }
    check_settings("relearn_time", settings)
    own = _images_of(classifier, forget, target, N_SAMPLES, "the images to relearn from")
    held_out = _images_of(classifier, evaluate, target, 1, "the images to evaluate on")
    drawn = np.sort(np.random.default_rng(seed).permutation(len(own))[:N_SAMPLES])
    model = copy.deepcopy(classifier).to(default_device())
    learnt, tested = (
        PreprocessedImages(images, classifier.preprocess)
        for images in (own.subset(drawn), held_out)
    )
    batch, reached = next(iter(loader(learnt, batch_size=N_SAMPLES))), []

    def checkpoint(step, since):
        reached.append(measure(model, tested, batch_size=256)[1])
        return {"accuracy": reached[-1]}

    def back(_=None):
        return reached[-1] >= BACK * original_accuracy - 1e-12

    with suppress(Diverged):  # no gradient leads back to the class
        fit(
            model,
            itertools.repeat(batch),
            lambda x, y: {"loss": accumulate(model, x, y)[0]},
            settings,
            steps=max_steps,
            checkpoint=checkpoint,
            stop=back,
        )
    return len(reached) - 1 if back() else None


def _images_of(classifier, dataset, target: str, least: int, owner: str):
    classifier.require_classes(dataset.classes, owner)
    own = dataset.targets == index_of(target, dataset.classes)
    if (n := own.sum()) < least:
        raise DatasetError(
            f"{owner}, {dataset!r}, hold {n} of class {target!r}; {least} are needed"
        )
    return dataset.subset(own)
