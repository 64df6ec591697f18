"""What fine-tuning and unlearning share: gradients in parts, evaluation, modes, and the cache of trained models."""

import copy
import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import FileFormatError
from ..files import cache_dir, hash_json, read_json
from .classifier import CARD, Classifier
from .device import autocast, parts
from .fingerprint import hash_module
from .heads import CosineHead
from .preprocess import loader


def train_mode(model: Classifier, *, freeze_batchnorm: bool) -> None:
    """Training mode, but for a CosineHead and, where asked, batch norm."""
    model.train()
    if isinstance(model.head, CosineHead):
        model.head.eval()
    if freeze_batchnorm:
        for module in batchnorms(model):
            module.eval()


def batchnorms(model: Classifier) -> list[nn.Module]:
    """The encoder's batch-norm layers."""
    return [m for m in model.encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def accumulate(
    model: Classifier, x, y, *, precision: str, device, factor: float = 1.0
) -> tuple[float, int]:
    """Add the gradient of factor · mean cross-entropy of a batch to the parameters; returns (mean loss, number right).

    x (N, 3, H, W) preprocessed images, y (N,) labels. A batch goes in parts where the processor prefers
    so, unless live batch norm needs it whole.
    """
    y, total, correct, done = y.to(device), 0.0, 0, 0
    whole = any(module.training for module in batchnorms(model))
    for part in (x,) if whole else parts(x, device):
        target = y[done : done + len(part)]
        with autocast(precision, device):
            z = model.encode(part.to(device))
        logits = model.logits(z)
        loss = F.cross_entropy(logits, target) * (len(part) / len(y))
        (factor * loss).backward()
        total += loss.item()
        correct += (logits.argmax(1) == target).sum().item()
        done += len(part)
    return total, correct


@torch.inference_mode()
def evaluate(
    model: Classifier, images, *, batch_size: int, precision: str, device, workers: int = 0
) -> tuple[float, float]:
    """(mean cross-entropy, accuracy) on preprocessed images; the model should be in eval mode."""
    loss = correct = count = 0.0
    for x, y in loader(images, batch_size=batch_size, workers=workers):
        with autocast(precision, device):
            z = torch.cat([model.encode(part.to(device)) for part in parts(x, device)])
        logits = model.logits(z)
        y = y.to(device)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
        count += len(y)
    return loss / count, correct / count


def model_key(
    version: object, classifier: Classifier, data: Sequence, settings: dict
) -> str | None:
    """Hash of everything that determines a trained model, or None where something can't be hashed (said once).

    data: data sets, None where there is none.
    """
    encoder = classifier.fingerprint
    hashes = [None if d is None else getattr(d, "fingerprint", None) for d in data]
    if encoder is None or any(
        h is None for h, d in zip(hashes, data, strict=True) if d is not None
    ):
        what = "preprocessing" if encoder is None else "data set"
        warnings.warn(
            f"this {what} can't be hashed, so the trained model is not cached", stacklevel=3
        )
        return None
    return hash_json(
        [
            version,
            encoder,
            hash_module(classifier.head),
            list(classifier.classes),
            hashes,
            settings,
            torch.__version__,
        ]
    )


def cached(
    key: str | None,
    classifier: Classifier,
    train: Callable[[], tuple[Classifier, dict]],
    *,
    read: bool = True,
):
    """(trained classifier, facts): read from the cache under `key` (where `read`), else what `train()` gives, then stored.

    classifier: the one that was trained, whose encoder says how to build the result. facts: a mapping
    that JSON can hold. Nothing is stored where `key` is None.
    """
    if key is None:
        return train()

    from filelock import FileLock

    folder = cache_dir("models") / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(
        folder.with_suffix(".lock")
    ):  # a second process waits for the first instead of training too
        if read and folder.is_dir():
            try:
                found = Classifier.load(
                    folder,
                    encoder=copy.deepcopy(classifier.encoder),
                    preprocess=classifier.preprocess,
                )
                return found, read_json(folder / CARD)["facts"]
            except (FileFormatError, FileNotFoundError) as error:
                warnings.warn(
                    f"a cached model is damaged and will be trained again ({error})", stacklevel=3
                )
        trained, facts = train()
        if (
            read or not folder.is_dir()
        ):  # what others have read stays: training again may differ in the last bits
            trained.save(folder, **facts)
    return trained, facts


def cosine_with_warmup(step: int, warmup: int, total: int) -> float:
    """Factor on the learning rate: linear from 0 to 1 over `warmup` steps, then a half cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
