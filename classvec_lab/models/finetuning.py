"""Fine-tuning with the recipe of task arithmetic, seeded, cached, best epoch kept."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from ..errors import ModelError
from ..progress import progress_bar
from .classifier import Classifier
from .device import PRECISIONS, default_device, resolve_precision
from .preprocess import PreprocessedImages, loader
from .training import accumulate, cached, cosine_with_warmup, evaluate, model_key, train_mode

_VERSION = 2  # of the recipe: part of the cache key
PUBLISHED_RATE = 1e-5  # task arithmetic's, for CLIP
LEARNING_RATES = {"tiny-clip": 1e-3, "timm": 1e-4, "mlp": 1e-3}
_DEFAULT_RATE, _LEAST_SHARE = 1e-4, 0.05
COLUMNS = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "kept",
)


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned classifier, its history, the settings used, and how long the training took.

    history: one row an epoch, epoch 0 before training; `lr` is the rate at the epoch's start and
    `kept` marks the epoch returned. settings: those of `finetune`, with the learning rate that was used.
    seconds: wall time of the training itself, also where the result was read from the cache; None where unknown.
    """

    classifier: Classifier
    history: pd.DataFrame
    settings: dict
    seconds: float | None = None

    def __iter__(self):
        return iter((self.classifier, self.history))


def default_lr(classifier: Classifier, accuracy: float) -> float:
    """The learning rate used where none is given.

    1e-5 for open_clip, as published. For other sources a base rate (tiny-clip and mlp 1e-3, else 1e-4)
    times the share of images that the classifier gets wrong before training, at least 5 %: where
    there is little to learn, the full rate mostly forgets.
    """
    library = classifier.name.partition(":")[0]
    if library == "open_clip":
        return PUBLISHED_RATE
    return LEARNING_RATES.get(library, _DEFAULT_RATE) * max(1 - accuracy, _LEAST_SHARE)


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
    warmup: int | None = None,
    freeze_batchnorm: bool = True,
    seed: int = 0,
    precision: str = "auto",
    on_epoch: Callable[[int, Classifier, dict], None] | None = None,
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> FineTuned:
    """A fine-tuned copy in eval mode; the argument is never changed.

    The encoder is trained with AdamW under a cosine schedule with warm-up (default min(500 steps,
    10 %)) and gradient clipping (Ilharco et al. 2023, appendix); a CosineHead stays frozen, a linear
    head is trained with it. With `val`, the trained epoch of the highest validation accuracy (then
    lowest loss) is returned; without, the last. `lr=None` chooses by the classifier's source and by
    its accuracy on `val` (else on the training set) before training, see `default_lr`.
    `freeze_batchnorm` keeps batch-norm statistics as they are. precision "auto" trains in bfloat16
    autocast where the processor has it and the encoder at least 20 million parameters: small ones lose
    accuracy. `on_epoch(epoch, classifier in eval mode, row)` is called after each epoch, and before the
    first with epoch 0. The result is cached under all that determines it; with `on_epoch` it is always computed.
    Raises MismatchError where classes differ, ModelError for impossible settings or a diverged loss.
    """
    classifier.require_classes(dataset.classes, "the training set")
    if val is not None:
        classifier.require_classes(val.classes, "the validation set")
    for name, value, good in (
        ("epochs", epochs, isinstance(epochs, int) and epochs >= 1),
        ("lr", lr, lr is None or lr > 0),
        ("batch_size", batch_size, isinstance(batch_size, int) and batch_size >= 1),
        ("weight_decay", weight_decay, weight_decay >= 0),
        ("clip", clip, clip > 0),
        ("warmup", warmup, warmup is None or warmup >= 0),
        ("precision", precision, precision in PRECISIONS),
    ):
        if not good:
            raise ModelError(f"finetune can't work with {name}={value!r}")
    device = default_device()
    precision = resolve_precision(precision, classifier.encoder, device)
    settings = {
        "epochs": epochs, "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay, "clip": clip,
        "warmup": warmup, "freeze_batchnorm": freeze_batchnorm, "seed": seed, "precision": precision,
    }  # fmt: skip
    key = model_key(_VERSION, classifier, (dataset, val), settings) if cache else None

    def train() -> tuple[Classifier, dict]:
        start = time.perf_counter()
        model, rows, used = _train(
            classifier, dataset, val, settings, device, on_epoch, workers, progress
        )
        history = [{k: v for k, v in row.items() if not math.isnan(v)} for row in rows]
        seconds = time.perf_counter() - start
        return model, {
            "settings": used,
            "trained_on": getattr(dataset, "fingerprint", None),
            "history": history,
            "seconds": seconds,
        }

    tuned, facts = cached(key, classifier, train, read=on_epoch is None)
    return FineTuned(tuned, _frame(facts["history"]), facts["settings"], facts.get("seconds"))


def _frame(rows: list[dict]) -> pd.DataFrame:
    columns = [c for c in COLUMNS if any(c in row for row in rows)]
    return pd.DataFrame(rows, columns=columns)


def _train(
    classifier, dataset, val, settings: dict, device, on_epoch, workers: int, progress: bool
):
    """(classifier, rows of its history, settings with the learning rate used)."""
    model = copy.deepcopy(classifier).to(device).eval()
    parameters = [
        p for p in (*model.encoder.parameters(), *model.head.parameters()) if p.requires_grad
    ]
    images = PreprocessedImages(dataset, classifier.preprocess)
    batches = loader(
        images, batch_size=settings["batch_size"], workers=workers, shuffle_seed=settings["seed"]
    )
    held_out = None if val is None else PreprocessedImages(val, classifier.preprocess)
    total = settings["epochs"] * len(batches)
    warmup = min(500, total // 10) if settings["warmup"] is None else settings["warmup"]
    start = _validate(model, images if held_out is None else held_out, settings, device, workers)
    if settings["lr"] is None:
        settings = {**settings, "lr": default_lr(classifier, start["val_accuracy"])}
    optimizer = torch.optim.AdamW(
        parameters, lr=settings["lr"], weight_decay=settings["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: cosine_with_warmup(s, warmup, total)
    )

    rows, best, best_state = [], None, None
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        progress_bar(total=total, desc="fine-tune", disable=not progress) as bar,
    ):
        torch.manual_seed(settings["seed"])
        for epoch in range(settings["epochs"] + 1):
            row = {
                "epoch": epoch,
                "step": epoch * len(batches),
                "lr": optimizer.param_groups[0]["lr"] if epoch else 0.0,
            }
            if epoch:
                row |= _epoch(
                    model, batches, optimizer, schedule, parameters, settings, device, bar
                )
            model.eval()
            if held_out is not None:
                row |= _validate(model, held_out, settings, device, workers) if epoch else start
                score = (row["val_accuracy"], -row["val_loss"])
                if epoch and (best is None or score > best):
                    best, best_state = (
                        score,
                        (epoch, {k: v.clone() for k, v in model.state_dict().items()}),
                    )
            rows.append(row)
            if on_epoch is not None:
                on_epoch(epoch, model, dict(row))
    kept = settings["epochs"]
    if best_state is not None:
        kept, state = best_state
        model.load_state_dict(state)
    for row in rows:
        row["kept"] = row["epoch"] == kept
    return model.to("cpu").eval(), rows, settings


def _epoch(model, batches, optimizer, schedule, parameters, settings, device, bar) -> dict:
    """One pass over the training images; returns the row's training figures."""
    train_mode(model, freeze_batchnorm=settings["freeze_batchnorm"])
    loss_sum = correct = count = 0.0
    for x, y in batches:
        optimizer.zero_grad(set_to_none=True)
        loss, right = accumulate(model, x, y, precision=settings["precision"], device=device)
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss became {loss} at step {bar.n}; lower lr (now {settings['lr']:g}) or raise warmup"
            )
        nn.utils.clip_grad_norm_(parameters, settings["clip"])
        optimizer.step()
        schedule.step()
        loss_sum += loss * len(y)
        correct += right
        count += len(y)
        bar.update()
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    return {"train_loss": loss_sum / count, "train_accuracy": correct / count}


def _validate(model, images, settings, device, workers) -> dict:
    precision, batch_size = settings["precision"], 2 * settings["batch_size"]
    loss, accuracy = evaluate(
        model, images, batch_size=batch_size, precision=precision, device=device, workers=workers
    )
    return {"val_loss": loss, "val_accuracy": accuracy}
