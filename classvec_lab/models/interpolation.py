"""Weights between two networks, and batch-norm statistics that fit them."""

import copy
import math

import numpy as np
import torch
from torch import nn

from ..errors import ModelError
from ..progress import progress_bar
from .blocks import batchnorms
from .classifier import Classifier
from .device import default_device
from .preprocess import PreprocessedImages, loader
from .weights import load_into

CALIBRATION = 512  # images from which batch-norm statistics are estimated
LOWEST, HIGHEST = -1.0, 2.0  # of alpha: further out nothing but noise is to be seen


def check_alphas(alphas) -> tuple[float, ...]:
    """Positions on the path as floats; raises ModelError unless each is a finite number in [-1,
    2] and there is one.
    """
    try:
        checked = tuple(float(a) for a in np.atleast_1d(alphas))
    except (TypeError, ValueError):
        checked = ()
    if not checked or not all(math.isfinite(a) and LOWEST <= a <= HIGHEST for a in checked):
        raise ModelError(
            f"alpha must be finite numbers in [{LOWEST:g}, {HIGHEST:g}], 0 the first end and 1 the "
            f"second; got {alphas}"
        )
    return checked


def interpolate(pre: Classifier, ft: Classifier, alpha: float, *, calibration=None) -> Classifier:
    """A classifier with encoder weights (1 - alpha) θ_pre + alpha θ_ft and the head of `ft`, in
    eval mode.

    Floating-point buffers (batch-norm statistics) move along, integer ones are those of `pre`. The
    head is ft's at every alpha: a cosine head is the same in both, and a new linear head is random
    in `pre`. alpha in [-1, 2]. calibration: images on which batch-norm statistics between the ends
    are re-estimated (`recalibrate`) where the two models' differ; without it they move along.
    Raises MismatchError naming entries that differ in name or shape.
    """
    (alpha,) = check_alphas(alpha)
    encoder = copy.deepcopy(pre.encoder)
    load_into(encoder, ft.encoder.state_dict(), "the fine-tuned encoder")
    blend(encoder, pre.encoder, ft.encoder, alpha)
    between = Classifier(
        encoder,
        copy.deepcopy(ft.head),
        classes=ft.classes,
        preprocess=pre.preprocess,
        source=pre.source,
    ).eval()
    if (
        calibration is None or alpha in (0.0, 1.0)  # the ends are the two models as they are
    ) or not statistics_moved(pre.encoder, ft.encoder):
        return between
    return recalibrate(between, calibration)


def blend(into: nn.Module, first: nn.Module, second: nn.Module, alpha: float) -> None:
    """Set `into` to (1 - alpha) first + alpha second, entry by entry, in float32 at least; integer
    entries from `first`.

    All three are of one architecture; `into` may be neither of the other two.
    """
    one, other = first.state_dict(), second.state_dict()
    with torch.no_grad():
        for name, own in into.state_dict().items():
            a, b = one[name].to(own.device), other[name].to(own.device)
            if own.is_floating_point():
                precision = torch.promote_types(a.dtype, torch.float32)
                a = (1 - alpha) * a.to(precision) + alpha * b.to(precision)
            own.copy_(a)


def statistics_moved(first: nn.Module, second: nn.Module) -> bool:
    """Whether two encoders' batch-norm statistics differ, so that those in between must be
    re-estimated.

    Statistics frozen in fine-tuning are the same in both and part of a fixed function. To
    re-estimate them in between but not at the ends would compare two normalisations, not two
    weights.
    """
    pairs = zip(_tracking(first), _tracking(second), strict=False)
    return any(
        not torch.equal(a.running_mean, b.running_mean)
        or not torch.equal(a.running_var, b.running_var)
        for a, b in pairs
    )


def recalibrate(
    classifier: Classifier,
    dataset,
    *,
    limit: int = CALIBRATION,
    batch_size: int = 128,
    progress: bool = False,
) -> Classifier:
    """A copy whose batch-norm statistics are re-estimated on images; without batch norm the
    classifier itself.

    dataset: images, labels unused; `limit` of them are taken evenly over it (a folder is sorted by
    class) and shuffled into batches. The statistics are the average over batches (momentum None);
    dropout stays off and the mode is as before. Raises ModelError for fewer than two images.
    Source: interpolated networks have collapsed activations without it (Jordan et al., REPAIR, ICLR
        2023).
    """
    if not _tracking(classifier.encoder):
        return classifier
    fresh = copy.deepcopy(classifier)
    home = next(fresh.parameters()).device
    batches = calibration_batches(
        dataset, classifier.preprocess, limit=limit, batch_size=batch_size
    )
    recalibrate_encoder(fresh.encoder.to(default_device()), batches, progress=progress)
    fresh.encoder.to(home)
    return fresh


def calibration_batches(dataset, preprocess, *, limit: int = CALIBRATION, batch_size: int = 128):
    """A loader of up to `limit` images taken evenly over `dataset`, shuffled, kept in memory for
    the next pass.
    """
    chosen = (
        np.unique(np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).round().astype(int))
        if limit > 0
        else []
    )
    if len(chosen) < 2:
        raise ModelError(
            f"batch-norm statistics need at least two images; got {len(chosen)} (limit={limit}, "
            f"{len(dataset)} given)"
        )
    images = PreprocessedImages(torch.utils.data.Subset(dataset, chosen.tolist()), preprocess)
    n_batches = math.ceil(len(chosen) / max(batch_size, 2))
    return loader(
        images, batch_size=math.ceil(len(chosen) / n_batches), shuffle_seed=0
    )  # batches count alike: make them alike


def recalibrate_encoder(encoder: nn.Module, batches, *, progress: bool = False) -> None:
    """Re-estimate the batch-norm statistics of an encoder in place from a loader of (images,
    labels).
    """
    norms, training = _tracking(encoder), {m: m.training for m in encoder.modules()}
    momentum = [norm.momentum for norm in norms]
    like = next(encoder.parameters())
    try:
        encoder.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average over batches
            norm.train()
        with torch.no_grad():
            for x, _ in progress_bar(batches, desc="recalibrate", disable=not progress):
                if len(x) > 1:  # one image alone has no variance
                    encoder(x.to(like.device, like.dtype))
    finally:
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value
        for module, mode in training.items():
            module.training = mode


def _tracking(encoder: nn.Module) -> list[nn.Module]:
    return [norm for norm in batchnorms(encoder) if norm.running_mean is not None]
