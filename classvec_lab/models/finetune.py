"""Fine-tuning with the recipe of task arithmetic, seeded, cached, best epoch kept."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from ..errors import FileFormatError, ModelError
from ..files import hash_json, read_json
from ..paths import cache_dir
from .classifier import CARD, Classifier
from .device import PRECISIONS, autocast, default_device, parts, resolve_precision
from .fingerprint import hash_module
from .heads import CosineHead
from .loading import PreprocessedImages, loader
from .schedule import cosine_with_warmup

_VERSION = 2  # of the recipe: part of the cache key
PUBLISHED_RATE = 1e-5  # task arithmetic's, for CLIP
LEARNING_RATES = {"tiny-clip": 1e-3, "timm": 1e-4, "mlp": 1e-3}
_DEFAULT_RATE, _LEAST_SHARE = 1e-4, 0.05
COLUMNS = ("epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "kept")


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned classifier, its history and the settings used.

    history: one row an epoch, epoch 0 before training; `lr` is the rate at the epoch's start and
    `kept` marks the epoch returned. settings: those of `finetune`, with the learning rate that was used.
    """

    classifier: Classifier
    history: pd.DataFrame
    settings: dict

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
    key = _key(classifier, dataset, val, settings) if cache else None
    if key is None:
        return _train(classifier, dataset, val, settings, device, on_epoch, workers, progress)

    from filelock import FileLock

    folder = cache_dir("models") / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # a second process waits for the first instead of training too
        if on_epoch is None and folder.is_dir():
            try:
                return _read(classifier, folder)
            except (FileFormatError, FileNotFoundError) as error:
                warnings.warn(f"a cached model is damaged and will be trained again ({error})", stacklevel=2)
        tuned = _train(classifier, dataset, val, settings, device, on_epoch, workers, progress)
        history = [{k: v for k, v in row.items() if v == v} for row in tuned.history.to_dict("records")]  # without NaN
        tuned.classifier.save(folder, settings=tuned.settings, trained_on=dataset.fingerprint, history=history)
    return tuned


def _key(classifier: Classifier, dataset, val, settings: dict) -> str | None:
    """Hash of everything that determines the result, or None where something can't be hashed (said once)."""
    encoder = classifier.fingerprint
    data = [None if d is None else getattr(d, "fingerprint", None) for d in (dataset, val)]
    if encoder is None or data[0] is None or (val is not None and data[1] is None):
        what = "preprocessing" if encoder is None else "data set"
        warnings.warn(f"this {what} can't be hashed, so the fine-tuned model is not cached", stacklevel=3)
        return None
    return hash_json(
        [_VERSION, encoder, hash_module(classifier.head), list(classifier.classes), data, settings, torch.__version__]
    )


def _read(classifier: Classifier, folder: Path) -> FineTuned:
    tuned = Classifier.load(folder, encoder=copy.deepcopy(classifier.encoder), preprocess=classifier.preprocess)
    facts = read_json(folder / CARD)["facts"]
    return FineTuned(tuned, _frame(facts["history"]), facts["settings"])


def _frame(rows: list[dict]) -> pd.DataFrame:
    columns = [c for c in COLUMNS if any(c in row for row in rows)]
    return pd.DataFrame(rows, columns=columns)


def _train(classifier, dataset, val, settings: dict, device, on_epoch, workers: int, progress: bool) -> FineTuned:
    from tqdm.auto import tqdm

    model = copy.deepcopy(classifier).to(device).eval()
    parameters = [p for p in (*model.encoder.parameters(), *model.head.parameters()) if p.requires_grad]
    images = PreprocessedImages(dataset, classifier.preprocess)
    batches = loader(images, batch_size=settings["batch_size"], workers=workers, shuffle_seed=settings["seed"])
    held_out = None if val is None else PreprocessedImages(val, classifier.preprocess)
    total = settings["epochs"] * len(batches)
    warmup = min(500, total // 10) if settings["warmup"] is None else settings["warmup"]
    start = _evaluate(model, images if held_out is None else held_out, settings, device, workers)
    if settings["lr"] is None:
        settings = {**settings, "lr": default_lr(classifier, start["val_accuracy"])}
    optimizer = torch.optim.AdamW(parameters, lr=settings["lr"], weight_decay=settings["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: cosine_with_warmup(s, warmup, total))

    rows, best, best_state = [], None, None
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), tqdm(total=total, desc="fine-tune", disable=not progress, leave=False) as bar:
        torch.manual_seed(settings["seed"])
        for epoch in range(settings["epochs"] + 1):
            row = {"epoch": epoch, "step": epoch * len(batches), "lr": optimizer.param_groups[0]["lr"] if epoch else 0.0}
            if epoch:
                row |= _epoch(model, batches, optimizer, schedule, parameters, settings, device, bar)
            model.eval()
            if held_out is not None:
                row |= _evaluate(model, held_out, settings, device, workers) if epoch else start
                score = (row["val_accuracy"], -row["val_loss"])
                if epoch and (best is None or score > best):
                    best, best_state = score, (epoch, {k: v.clone() for k, v in model.state_dict().items()})
            rows.append(row)
            if on_epoch is not None:
                on_epoch(epoch, model, dict(row))
    kept = settings["epochs"]
    if best_state is not None:
        kept, state = best_state
        model.load_state_dict(state)
    for row in rows:
        row["kept"] = row["epoch"] == kept
    return FineTuned(model.to("cpu").eval(), _frame(rows), settings)


def _epoch(model, batches, optimizer, schedule, parameters, settings, device, bar) -> dict:
    """One pass over the training images; returns the row's training figures."""
    _train_mode(model, freeze_batchnorm=settings["freeze_batchnorm"])
    loss_sum = correct = count = 0.0
    # live batch norm needs its batch whole; otherwise the gradients of parts add up to that of the batch
    whole = any(module.training for module in _batchnorms(model))
    for x, y in batches:
        y, step_loss, done = y.to(device), 0.0, 0
        optimizer.zero_grad(set_to_none=True)
        for part in (x,) if whole else parts(x, device):
            target = y[done : done + len(part)]
            with autocast(settings["precision"], device):
                z = model.encode(part.to(device))
            logits = model.logits(z)
            loss = F.cross_entropy(logits, target) * (len(part) / len(y))
            if not torch.isfinite(loss):
                raise ModelError(
                    f"the loss became {loss.item()} at step {bar.n}; lower lr (now {settings['lr']:g}) or raise warmup"
                )
            loss.backward()
            step_loss += loss.item()
            correct += (logits.argmax(1) == target).sum().item()
            done += len(part)
        nn.utils.clip_grad_norm_(parameters, settings["clip"])
        optimizer.step()
        schedule.step()
        loss_sum += step_loss * len(y)
        count += len(y)
        bar.update()
        bar.set_postfix(loss=f"{step_loss:.3f}", refresh=False)
    return {"train_loss": loss_sum / count, "train_accuracy": correct / count}


def _train_mode(model: Classifier, *, freeze_batchnorm: bool) -> None:
    model.train()
    if isinstance(model.head, CosineHead):
        model.head.eval()
    if freeze_batchnorm:
        for module in _batchnorms(model):
            module.eval()


def _batchnorms(model: Classifier) -> list[nn.Module]:
    return [m for m in model.encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@torch.inference_mode()
def _evaluate(model, held_out, settings, device, workers) -> dict:
    loss = correct = count = 0.0
    for x, y in loader(held_out, batch_size=2 * settings["batch_size"], workers=workers):
        with autocast(settings["precision"], device):
            z = torch.cat([model.encode(part.to(device)) for part in parts(x, device)])
        logits = model.logits(z)
        y = y.to(device)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
        count += len(y)
    return {"val_loss": loss / count, "val_accuracy": correct / count}
