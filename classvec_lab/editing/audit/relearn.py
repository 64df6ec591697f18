"""Relearn time: how fast a few images bring a forgotten class back."""

import copy
import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...checks import index_of
from ...errors import DatasetError
from ...statistics import wilson


@dataclass(frozen=True, eq=False)
class Relearning:
    """How long it took until a class was back.

    Args:
        steps: updates; None where the class was not back within `max_steps`.
        max_steps: the most that were tried.
        threshold: the accuracy to reach.
        curve: a frame with one row a step, step 0 before training: `loss` of the step's batch,
            before its update, `accuracy` on the target's held-out images, its `low` and `high`
            (95 % Wilson), `n`.
        settings: those of `relearn_time`.
        stopped: why it ended, in words.
    """

    steps: int | None
    max_steps: int
    threshold: float
    curve: pd.DataFrame
    settings: dict
    stopped: str

    @property
    def censored(self) -> bool:
        """Whether the class never came back: its relearn time is only known to be longer."""
        return self.steps is None

    def __str__(self) -> str:
        return f"> {self.max_steps}" if self.censored else str(self.steps)


def relearn_time(
    classifier,
    forget,
    *,
    evaluate,
    target: str,
    original_accuracy: float,
    tolerance: float = 0.1,
    n_samples: int = 16,
    lr: float | None = None,
    max_steps: int = 100,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    seed: int = 0,
) -> Relearning:
    """Count the steps of fine-tuning on a few images of a class until its accuracy is back.

    All trainable parameters of a copy are trained, in float32 by AdamW at a constant rate, with
    batch-norm statistics frozen and all images in each batch. Other classes are not looked at, so
    naming every image `target` would count as relearning. A gated edit keeps acting while the
    encoder learns: a long time shows that it resists training, not that nothing is left of the
    class. Where a step's loss is not finite (the logit is masked by -inf) no step is taken, and the
    time is censored.

    Args:
        classifier: any, edited or retrained.
        forget: images to draw from.
        evaluate: held-out images, tried after each step.
        target: name of the class.
        original_accuracy: the unedited model's on the target's images of `evaluate`, in (0, 1].
        tolerance: the class is back at (1 - tolerance) · original_accuracy.
        n_samples: how many images of the target are drawn.
        lr: learning rate. None: the `default_lr` of a classifier of the same source that is 90 %
            right, so that edited and retrained models learn at one rate.
        max_steps: where to give up.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        seed: of the draw, and of torch's generators.
    Raises:
        MismatchError: for other or unknown classes.
        DatasetError: where there are too few images of the class.
        ModelError: for impossible settings, or where nothing is trainable.
    """
    import torch

    from ...models.device import default_device
    from ...models.finetuning import default_lr
    from ...models.preprocess import PreprocessedImages
    from ...models.training import Diverged, accumulate, check_settings, fit
    from ...models.training import evaluate as measure

    settings = {
        "target": target, "original_accuracy": original_accuracy, "tolerance": tolerance,
        "n_samples": n_samples, "lr": default_lr(classifier, 0.9) if lr is None else lr,
        "max_steps": max_steps, "weight_decay": weight_decay, "clip": clip, "seed": seed,
    }  # fmt: skip
    check_settings("relearn_time", settings)
    own = _images_of(classifier, forget, target, n_samples, "the images to relearn from")
    held_out = _images_of(classifier, evaluate, target, 1, "the images to evaluate on")
    drawn = np.sort(np.random.default_rng(seed).permutation(len(own))[:n_samples])
    model = copy.deepcopy(classifier).to(default_device())
    items = list(PreprocessedImages(own.subset(drawn), classifier.preprocess))
    batch = torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])
    tested = PreprocessedImages(held_out, classifier.preprocess)
    threshold, rows = (1 - tolerance) * original_accuracy, []

    def checkpoint(step, since):
        _, accuracy = measure(model, tested, batch_size=256)
        low, high = map(float, wilson(accuracy * len(tested), len(tested)))
        row = {"step": step, "loss": since[0]["loss"] if since else math.nan}
        rows.append(row | {"accuracy": accuracy, "low": low, "high": high, "n": len(tested)})
        return dict(rows[-1])

    def back(_=None):
        return rows[-1]["accuracy"] >= threshold - 1e-12

    stopped = f"not back after {max_steps} steps"
    try:
        fit(
            model,
            itertools.repeat(batch),
            lambda x, y: {"loss": accumulate(model, x, y)[0]},
            settings,
            steps=max_steps,
            checkpoint=checkpoint,
            stop=back,
        )
    except Diverged as error:
        stopped = f"{error}: no gradient leads back to class {target!r}"
    steps = rows[-1]["step"] if back() else None
    stopped = "back" if back() else stopped
    return Relearning(steps, max_steps, threshold, pd.DataFrame(rows), settings, stopped)


def _images_of(classifier, dataset, target: str, least: int, owner: str):
    classifier.require_classes(dataset.classes, owner)
    own = np.asarray(dataset.targets) == index_of(target, dataset.classes)
    if own.sum() < least:
        n = own.sum()
        raise DatasetError(
            f"{owner}, {dataset!r}, hold {n} of class {target!r}; {least} are needed"
        )
    return dataset.subset(own)
