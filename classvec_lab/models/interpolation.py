"""Weights between two networks, and batch-norm statistics that fit them."""

import copy
import math

import numpy as np
import torch
from torch import nn

from ..errors import ModelError
from .blocks import batchnorms
from .classifier import Classifier
from .device import default_device
from .preprocess import PreprocessedImages, loader
from .weights import load_into

CALIBRATION = 512  # images from which batch-norm statistics are estimated
LOWEST, HIGHEST = -1.0, 2.0  # of alpha: further out nothing but noise is to be seen


def check_alphas(alphas) -> tuple[float, ...]:
    """Positions on the path as floats; raises ModelError unless each lies in [-1, 2]."""
    try:
        checked = np.atleast_1d(np.asarray(alphas, dtype=float))
    except (TypeError, ValueError):
        checked = np.empty(0)
    if not len(checked) or not ((checked >= LOWEST) & (checked <= HIGHEST)).all():
        raise ModelError(
            f"alpha must be finite numbers in [{LOWEST:g}, {HIGHEST:g}], 0 the first end and 1 the "
            f"second; got {alphas}"
        )
    return tuple(checked.tolist())


def interpolate(pre: Classifier, ft: Classifier, alpha: float, *, calibration=None) -> Classifier:
    """Make a classifier whose encoder lies between two others, in eval mode.

    Its encoder's weights are (1 - alpha) θ_pre + alpha θ_ft. Floating-point buffers (batch-norm
    statistics) move along, integer ones are those of `pre`. Where batch-norm statistics differ
    between the two they are re-estimated on `calibration`, if that is given. The head is ft's at
    every alpha: a cosine head is the same in both, and a new linear head is random in `pre`.

    Args:
        pre, ft: classifiers of one architecture.
        alpha: in [-1, 2].
        calibration: images for `recalibrate`, labels unused.
    Raises:
        MismatchError: naming entries that differ in name or shape.
    """
    (alpha,) = check_alphas(alpha)
    encoder, head = copy.deepcopy(pre.encoder), copy.deepcopy(ft.head)
    load_into(encoder, ft.encoder.state_dict(), "the fine-tuned encoder")
    blend(encoder, pre.encoder, ft.encoder, alpha)
    origin = {"preprocess": pre.preprocess, "source": pre.source}
    between = Classifier(encoder, head, classes=ft.classes, **origin).eval()
    inside = alpha not in (0.0, 1.0)  # the ends are the two models as they are
    moved = calibration is not None and inside and statistics_moved(pre.encoder, ft.encoder)
    return recalibrate(between, calibration) if moved else between


@torch.no_grad()
def blend(into: nn.Module, first: nn.Module, second: nn.Module, alpha: float) -> None:
    """Set a network to (1 - alpha) first + alpha second, entry by entry, in float32 at least.

    All three are of one architecture, and `into` is neither of the other two. Integer entries are
    those of `first`.
    """
    states = first.state_dict(), second.state_dict()
    for name, own in into.state_dict().items():
        a, b = (state[name].to(own.device) for state in states)
        if own.is_floating_point():
            precision = torch.promote_types(a.dtype, torch.float32)
            a = (1 - alpha) * a.to(precision) + alpha * b.to(precision)
        own.copy_(a)


def statistics_moved(first: nn.Module, second: nn.Module) -> bool:
    """Whether two encoders' batch-norm statistics differ, so that others go in between.

    Statistics frozen in fine-tuning are the same in both and part of a fixed function. To
    re-estimate them in between but not at the ends would compare two normalisations, not two
    weights.
    """
    return any(
        not torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(_tracking(first), _tracking(second), strict=False)
        for name in ("running_mean", "running_var")
    )


def recalibrate(classifier: Classifier, dataset, *, batch_size: int = 128) -> Classifier:
    """Copy a classifier and re-estimate its batch-norm statistics, as the average over batches.

    Dropout stays off, and the mode is as before. Without batch norm the classifier itself is
    returned.

    Args:
        dataset: images, labels unused, of which `CALIBRATION` are taken.
        batch_size: images at a time.
    Raises:
        ModelError: for fewer than two images.
    Source: interpolated networks have collapsed activations without it (Jordan et al., REPAIR, ICLR
        2023).
    """
    if not _tracking(classifier.encoder):
        return classifier
    fresh = copy.deepcopy(classifier)
    home = next(fresh.parameters()).device
    batches = calibration_batches(dataset, classifier.preprocess, batch_size=batch_size)
    recalibrate_encoder(fresh.encoder.to(default_device()), batches)
    fresh.encoder.to(home)
    return fresh


def calibration_batches(dataset, preprocess, *, limit: int = CALIBRATION, batch_size: int = 128):
    """A loader of images, shuffled into batches alike, that keeps them for the next pass.

    Args:
        dataset: images, labels unused.
        preprocess: image to tensor.
        limit: how many are taken, evenly over the data set, for a folder is sorted by class.
        batch_size: images at a time, at most.
    Raises:
        ModelError: for fewer than two images.
    """
    last, n = len(dataset) - 1, min(limit, len(dataset))
    chosen = np.unique(np.linspace(0, last, max(n, 0)).round().astype(int))
    if len(chosen) < 2:
        raise ModelError(f"batch-norm statistics need at least two images; got {len(chosen)}")
    images = PreprocessedImages(torch.utils.data.Subset(dataset, chosen.tolist()), preprocess)
    n_batches = math.ceil(len(chosen) / max(batch_size, 2))
    return loader(images, batch_size=math.ceil(len(chosen) / n_batches), shuffle_seed=0)


def recalibrate_encoder(encoder: nn.Module, batches) -> None:
    """Re-estimate an encoder's batch-norm statistics in place from a loader of (images, labels)."""
    norms, training = _tracking(encoder), {m: m.training for m in encoder.modules()}
    momentum, like = [norm.momentum for norm in norms], next(encoder.parameters())
    try:
        encoder.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average over batches
            norm.train()
        with torch.no_grad():
            for x, _ in batches:
                if len(x) > 1:  # one image alone has no variance
                    encoder(x.to(like.device, like.dtype))
    finally:
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value
        for module, mode in training.items():
            module.training = mode


def _tracking(encoder: nn.Module) -> list[nn.Module]:
    return [norm for norm in batchnorms(encoder) if norm.running_mean is not None]
