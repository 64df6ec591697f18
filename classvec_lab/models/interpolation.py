"""Weights between two networks, and batch-norm statistics that fit them."""

import copy
import math

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..errors import ModelError
from .blocks import batchnorms
from .classifier import Classifier
from .device import default_device
from .preprocess import PreprocessedImages, loader
from .weights import own_entries, same_entries

CALIBRATION, BATCH = 512, 128  # images that give batch-norm statistics; how many at a time, at most
LOWEST, HIGHEST = -1.0, 2.0  # of alpha: further out nothing but noise is to be seen


def check_alphas(alphas) -> tuple[float, ...]:
    """Positions on the path as floats; raises ModelError unless each lies in [-1, 2]."""
    checked = pd.to_numeric(pd.Series(alphas), errors="coerce").astype(float)
    if checked.empty or not checked.between(LOWEST, HIGHEST).all():
        raise ModelError(
            f"alpha must be finite numbers in [{LOWEST:g}, {HIGHEST:g}], 0 the first end and 1 the "
            f"second; got {alphas}"
        )
    return tuple(checked)


def interpolate(pre: Classifier, ft: Classifier, alpha: float, *, calibration=None) -> Classifier:
    """Make a classifier whose encoder lies between two others, in eval mode.

    It is a copy of `ft` with encoder weights (1 - alpha) θ_pre + alpha θ_ft. Floating-point buffers
    (batch-norm statistics) move along, integer ones are those of `pre`. Where batch-norm statistics
    differ between the two they are re-estimated on `calibration`, if that is given. The head is
    ft's at every alpha: a cosine head is the same in both, and a new linear head is random in
    `pre`.

    Statistics frozen in fine-tuning are the same in both and part of a fixed function. To
    re-estimate them in between but not at the ends would compare two normalisations, not two
    weights.

    Args:
        pre, ft: classifiers of one architecture.
        alpha: in [-1, 2].
        calibration: images for `recalibrate`, labels unused.
    Raises:
        MismatchError: naming entries that differ in name or shape.
    """
    (alpha,) = check_alphas(alpha)
    first, second = own_entries(pre.encoder), own_entries(ft.encoder)
    same_entries(second, first, "the fine-tuned encoder", "the pre-trained one")
    between = copy.deepcopy(ft).eval()
    blend(between.encoder, pre.encoder, ft.encoder, alpha)
    moved = any(
        name.endswith(("running_mean", "running_var")) and not torch.equal(value, second[name])
        for name, value in first.items()
    )
    if calibration is None or not moved or alpha in (0.0, 1.0):  # the ends are the models as given
        return between
    return recalibrate(between, calibration)


@torch.no_grad()
def blend(into: nn.Module, first: nn.Module, second: nn.Module, alpha: float) -> None:
    """Set a network to (1 - alpha) first + alpha second, entry by entry, in float32 at least.

    All three are of one architecture. Integer entries are those of `first`.
    """
    mixed, other = first.state_dict(), second.state_dict()
    for name, own in mixed.items():
        if own.is_floating_point():
            precision = torch.promote_types(own.dtype, torch.float32)
            mixed[name] = (1 - alpha) * own.to(precision) + alpha * other[name].to(precision)
    into.load_state_dict(mixed)


def recalibrate(classifier: Classifier, dataset) -> Classifier:
    """Copy a classifier and re-estimate its batch-norm statistics, as the average over batches.

    Dropout stays off, and the mode is as before. Without batch norm the classifier itself is
    returned.

    Args:
        dataset: images, labels unused, of which `CALIBRATION` are taken, evenly over the data set,
            for a folder is sorted by class, and shuffled into batches of one size.
    Raises:
        ModelError: for fewer than two images.
    Source: interpolated networks have collapsed activations without it (Jordan et al., REPAIR, ICLR
        2023).
    """
    if not batchnorms(classifier.encoder):
        return classifier
    n = min(CALIBRATION, len(dataset))
    if n < 2:
        raise ModelError(f"batch-norm statistics need at least two images; got {n}")
    chosen = np.linspace(0, len(dataset) - 1, n).round().astype(int).tolist()
    images = PreprocessedImages(torch.utils.data.Subset(dataset, chosen), classifier.preprocess)
    size = math.ceil(n / math.ceil(n / BATCH))
    fresh, encoder = copy.deepcopy(classifier), copy.deepcopy(classifier.encoder)
    encoder.to(default_device()).eval()
    for norm in batchnorms(encoder):
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over batches
        norm.train()
    like = next(encoder.parameters())
    with torch.no_grad():
        for x, _ in loader(images, batch_size=size, shuffle_seed=0):
            encoder(x.to(like))
    fresh.encoder.load_state_dict(encoder.state_dict())
    return fresh
