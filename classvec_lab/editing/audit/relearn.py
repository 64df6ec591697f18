"""Relearn time: how fast a few images bring a forgotten class back, beside a model that never saw it."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import DatasetError, MismatchError, ModelError
from ...statistics import wilson


@dataclass(frozen=True, eq=False)
class Relearning:
    """Steps until the class was back, None where it was not within `max_steps`.

    curve: one row a step, step 0 before training: loss (of the step's batch, before its update), accuracy on the target's
    images of `evaluate` with its Wilson interval (low, high), n. threshold: the accuracy to reach.
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
        """Whether the class never came back: its relearn time is only known to be above `max_steps`."""
        return self.steps is None

    def __str__(self) -> str:
        return f"> {self.max_steps}" if self.censored else str(self.steps)


@dataclass(frozen=True)
class RelearnRatio:
    """Relearn time over that of the retrained model; ideal 1, below 1 the class comes back too soon.

    bound "" means that `value` is the ratio, ">" and "<" that it lies above or below, "?" that nothing is known (value NaN).
    """

    value: float
    bound: str = ""

    def __str__(self) -> str:
        return "unknown" if self.bound == "?" else f"{self.bound} {self.value:.2f}".strip()


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
    """Steps of fine-tuning on a few images of `target` until its accuracy on `evaluate` is back; the argument never changes.

    classifier: any, edited or retrained; of a copy all trainable parameters of encoder and head are trained
    (float32 AdamW at a constant rate, batch-norm statistics frozen) on `n_samples` images of the target that `seed` draws from
    `forget`, all in each batch. Back means at least (1 - tolerance) · original_accuracy, the
    unedited model's on the same images; after each step they are tried. lr=None takes the `default_lr` of a
    classifier of the same source that is 90 % right, so that edited and retrained models learn at one rate.
    Other classes are not looked at: naming every image `target` would count as relearning. A gated edit keeps acting
    while the encoder learns, so a long time shows that it resists training, not that nothing is left of the class.
    Where a step's loss is not finite (the logit is masked by -inf) no step is taken and the time is censored.
    Raises MismatchError for other classes, DatasetError for too few images of the class, ModelError for
    impossible settings or a classifier without trainable parameters.
    """
    import torch
    from torch import nn

    from ...models.device import default_device
    from ...models.finetuning import default_lr
    from ...models.preprocess import PreprocessedImages
    from ...models.training import accumulate, train_mode
    from ...models.training import evaluate as measure

    for name, value, good in (
        ("original_accuracy", original_accuracy, 0 < original_accuracy <= 1),
        ("tolerance", tolerance, 0 <= tolerance < 1),
        ("n_samples", n_samples, isinstance(n_samples, int) and n_samples >= 1),
        ("lr", lr, lr is None or lr > 0),
        ("max_steps", max_steps, isinstance(max_steps, int) and max_steps >= 1),
        ("weight_decay", weight_decay, weight_decay >= 0),
        ("clip", clip, clip > 0),
    ):
        if not good:
            raise ModelError(f"relearn_time can't work with {name}={value!r}")
    own = _images_of(classifier, forget, target, n_samples, "the images to relearn from")
    held_out = _images_of(classifier, evaluate, target, 1, "the images to evaluate on")
    drawn = np.sort(np.random.default_rng(seed).permutation(len(own))[:n_samples])
    lr = default_lr(classifier, 0.9) if lr is None else lr
    settings = {
        "target": target, "original_accuracy": original_accuracy, "tolerance": tolerance, "n_samples": n_samples, "lr": lr,
        "max_steps": max_steps, "weight_decay": weight_decay, "clip": clip, "seed": seed,
    }  # fmt: skip

    device = default_device()
    model = copy.deepcopy(classifier).to(device).eval()
    parameters = [
        p for p in (*model.encoder.parameters(), *model.head.parameters()) if p.requires_grad
    ]
    if not parameters:
        raise ModelError(
            f"{classifier.name!r} has no trainable parameter: nothing could be relearnt, nor was there anything to ask"
        )
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    items = list(PreprocessedImages(own.subset(drawn), classifier.preprocess))
    x, y = torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])
    tested = PreprocessedImages(held_out, classifier.preprocess)
    threshold = (1 - tolerance) * original_accuracy

    def row(step: int, loss: float) -> dict:
        model.eval()
        _, accuracy = measure(model, tested, batch_size=256, precision="float32", device=device)
        low, high = wilson(accuracy * len(tested), len(tested))
        return {
            "step": step,
            "loss": loss,
            "accuracy": accuracy,
            "low": float(low),
            "high": float(high),
            "n": len(tested),
        }

    rows = [row(0, math.nan)]
    stopped = f"not back after {max_steps} steps"
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        while rows[-1]["accuracy"] < threshold - 1e-12 and rows[-1]["step"] < max_steps:
            train_mode(model, freeze_batchnorm=True)
            optimizer.zero_grad(set_to_none=True)
            loss, _ = accumulate(model, x, y, precision="float32", device=device)
            if not math.isfinite(loss):
                stopped = f"the loss on class {target!r} is {loss}: no gradient leads back to it"
                break
            nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            rows.append(row(rows[-1]["step"] + 1, loss))
    back = rows[-1]["accuracy"] >= threshold - 1e-12
    steps = rows[-1]["step"] if back else None
    return Relearning(
        steps, max_steps, threshold, pd.DataFrame(rows), settings, "back" if back else stopped
    )


def relearn_ratio(edited: Relearning, retrained: Relearning) -> RelearnRatio:
    """Edited over retrained relearn time; a censored time makes it a bound, two of them or a retrained time of 0 unknown.

    Raises MismatchError where the two were not measured alike.
    """
    differ = [k for k in edited.settings if edited.settings[k] != retrained.settings.get(k)]
    if differ:
        shown = "; ".join(
            f"{k}: {edited.settings[k]} and {retrained.settings.get(k)}" for k in differ
        )
        raise MismatchError(
            f"relearn times can only be compared where they were measured alike; they differ in {shown}"
        )
    if retrained.steps == 0 or (edited.censored and retrained.censored):
        return RelearnRatio(math.nan, "?")
    if edited.censored:
        return RelearnRatio(edited.max_steps / retrained.steps, ">")
    if retrained.censored:
        return RelearnRatio(edited.steps / retrained.max_steps, "<")
    return RelearnRatio(edited.steps / retrained.steps)


def _images_of(classifier, dataset, target: str, least: int, owner: str):
    classifier.require_classes(dataset.classes, owner)
    if target not in dataset.classes:
        raise MismatchError(f"no class {target!r}; there are {', '.join(dataset.classes[:20])}")
    own = np.asarray(dataset.targets) == dataset.classes.index(target)
    if own.sum() < least:
        raise DatasetError(
            f"{owner}, {dataset!r}, hold {own.sum()} of class {target!r}; at least {least} are needed"
        )
    return dataset.subset(own)
