"""Unlearning a class by training: the retrained reference and the usual baselines, cached, checkpoint chosen on validation."""

import copy
import difflib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..errors import DatasetError, MismatchError, ModelError
from ..models.classifier import Classifier
from ..models.device import default_device
from ..models.finetuning import FineTuned, default_lr, finetune
from ..models.preprocess import PreprocessedImages, loader
from ..models.training import (
    accumulate,
    cached,
    cosine_with_warmup,
    evaluate,
    model_key,
    train_mode,
)
from ..progress import progress_bar

_VERSION = 1  # of the recipes: part of the cache key
COLUMNS = (
    "step", "lr", "loss_r", "loss_f", "train_ACC_f", "val_ACC_f", "val_ACC_r", "val_loss_f", "val_loss_r", "kept",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Defaults of one method: steps, images a step, its share of `default_lr`, and which images it reads."""

    steps: int
    batch_size: int
    rate: float
    retained: bool
    forgotten: bool


METHODS = {
    "retain": Recipe(steps=24, batch_size=64, rate=10.0, retained=True, forgotten=False),
    "neggrad": Recipe(steps=40, batch_size=64, rate=1.5, retained=False, forgotten=True),
    "neggrad+": Recipe(steps=40, batch_size=128, rate=6.0, retained=True, forgotten=True),
    "random_label": Recipe(steps=40, batch_size=128, rate=6.0, retained=True, forgotten=True),
}


@dataclass(frozen=True)
class Unlearned:
    """A classifier that was trained to forget a class, its history, the settings used and the wall time of the training.

    history: one row a checkpoint, step 0 before training: `loss_r`, `loss_f` and `train_ACC_f` are means over
    the training batches since the last checkpoint, the val_ columns are on the validation set, and
    `kept` marks the checkpoint returned. settings: those of `unlearn`, with the learning rate that was
    used. seconds: also where the result was read from the cache.
    """

    classifier: Classifier
    history: pd.DataFrame
    settings: dict
    seconds: float


def retrain_without(
    pre: Classifier, train, target: str, *, val=None, **finetune_options
) -> FineTuned:
    """The reference of unlearning: `finetune` of the pre-trained classifier on the images of all other classes.

    The recipe is that of `finetune`, whose options are taken, early stopping on the other classes of `val`
    included. Class names and head stay as they are: the class keeps its row. A CosineHead's row is its
    prompt, so images of the class may still be named by it, as zero-shot; a linear head's row is only
    ever pushed away. Raises MismatchError for an unknown class, DatasetError where it has no image or nothing is left.
    """
    _, retained = _split(pre, train, target, "the training set")
    if val is not None:
        pre.require_classes(val.classes, "the validation set")
        val = val.subset(np.asarray(val.targets) != val.classes.index(target))
    return finetune(pre, retained, val=val, **finetune_options)


def unlearn(
    ft: Classifier,
    train,
    target: str,
    *,
    method: str,
    val=None,
    lr: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    alpha: float = 0.2,
    weight_decay: float = 0.1,
    clip: float = 1.0,
    stop_at: float | None = 0.0,
    threshold: float = 0.01,
    every: int | None = None,
    seed: int = 0,
    on_step: Callable[[int, Classifier, dict], None] | None = None,
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> Unlearned:
    """A copy of `ft`, in eval mode, trained to forget the class `target`; the argument is never changed.

    method, with L_r and L_f the mean cross-entropy of a batch of retained and of forgotten images:
    "retain" minimises L_r; "neggrad" maximises L_f (gradient ascent); "neggrad+" minimises
    L_r - alpha · L_f on both batches at once (Kurmanji et al. 2023, NegGrad+); "random_label" minimises
    L_r + L_f where each forgotten image has, each time it is seen, a label drawn from the other classes
    (Golatkar et al. 2020). `batch_size` counts the images of a step, half of each kind where both are read.

    Training is by AdamW in float32 under a cosine schedule with gradient clipping, with a CosineHead and
    batch-norm statistics frozen, as in `finetune`. `lr=None` is `default_lr`, at the accuracy on `val`
    before, times the method's share in `METHODS`; `steps=None` is the method's. "neggrad" ends at the
    first batch of which at most the share `stop_at` is still named rightly (None: never), for it would only destroy
    from there on. Every `every` steps (default a sixth of them; 2 for "neggrad") the model is tried on `val`.
    Returned is, among these checkpoints, that of the highest validation ACC_r of those with
    ACC_f <= threshold, or, where there is none, that of the lowest ACC_f; ties go to the other accuracy, then
    to the lower loss on retained images. `on_step(step, classifier in eval mode, row)` is called at each checkpoint.
    Cached under all that determines the result; with `on_step` it is always computed.
    Raises MismatchError for other or unknown classes, DatasetError where the class has no image or is the only one,
    ModelError for an unknown method, a missing `val`, impossible settings or a diverged loss.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ModelError(f"no unlearning method {method!r}; there are {', '.join(METHODS)}{hint}")
    recipe = METHODS[method]
    steps = recipe.steps if steps is None else steps
    batch_size = recipe.batch_size if batch_size is None else batch_size
    every = (
        (2 if method == "neggrad" else max(1, steps // 6))
        if every is None and isinstance(steps, int)
        else every
    )
    for name, value, good in (
        ("lr", lr, lr is None or lr > 0),
        ("steps", steps, isinstance(steps, int) and steps >= 1),
        ("batch_size", batch_size, isinstance(batch_size, int) and batch_size >= 2),
        ("alpha", alpha, alpha > 0),
        ("weight_decay", weight_decay, weight_decay >= 0),
        ("clip", clip, clip > 0),
        ("stop_at", stop_at, stop_at is None or 0 <= stop_at < 1),
        ("threshold", threshold, 0 <= threshold <= 1),
        ("every", every, isinstance(every, int) and every >= 1),
    ):
        if not good:
            raise ModelError(f"unlearn can't work with {name}={value!r}")
    if val is None:
        raise ModelError(
            "unlearn chooses its checkpoint on validation images, the class to be forgotten among them: pass val="
        )
    data = _split(ft, train, target, "the training set")
    held_out = _split(ft, val, target, "the validation set")
    settings = {
        "method": method, "target": target, "lr": lr, "steps": steps, "batch_size": batch_size, "weight_decay": weight_decay,
        "clip": clip, "threshold": threshold, "every": every, "seed": seed,
    }  # fmt: skip
    settings |= {"alpha": alpha} if method == "neggrad+" else {}
    settings |= {"stop_at": stop_at} if method == "neggrad" else {}
    device = default_device()

    def train_it() -> tuple[Classifier, dict]:
        start = time.perf_counter()
        model, rows, used = _train(
            ft, data, held_out, recipe, settings, device, on_step, workers, progress
        )
        return model, {"settings": used, "history": rows, "seconds": time.perf_counter() - start}

    key = model_key(["unlearn", _VERSION], ft, (train, val), settings) if cache else None
    model, facts = cached(key, ft, train_it, read=on_step is None)
    history = pd.DataFrame(
        facts["history"], columns=[c for c in COLUMNS if any(c in row for row in facts["history"])]
    )
    return Unlearned(model, history, facts["settings"], facts["seconds"])


def _split(classifier: Classifier, dataset, target: str, owner: str):
    """(images of the class, images of the others)."""
    classifier.require_classes(dataset.classes, owner)
    if target not in dataset.classes:
        raise MismatchError(f"no class {target!r}; there are {', '.join(dataset.classes[:20])}")
    own = np.asarray(dataset.targets) == dataset.classes.index(target)
    if not own.any():
        raise DatasetError(
            f"class {target!r} has no image in {owner}, {dataset!r}: there is nothing to forget"
        )
    if own.all():
        raise DatasetError(
            f"{owner}, {dataset!r}, holds images of class {target!r} alone: nothing would be retained"
        )
    return dataset.subset(own), dataset.subset(~own)


def _train(
    ft,
    data,
    held_out,
    recipe: Recipe,
    settings: dict,
    device,
    on_step,
    workers: int,
    progress: bool,
):
    """(classifier, rows of the history, settings with the learning rate used)."""
    model = copy.deepcopy(ft).to(device).eval()
    forgotten, retained = (PreprocessedImages(d, ft.preprocess) for d in data)
    own, others = (PreprocessedImages(d, ft.preprocess) for d in held_out)
    steps, every = settings["steps"], settings["every"]

    def try_it() -> dict:
        model.eval()
        row = {}
        for name, images in (("f", own), ("r", others)):
            loss, accuracy = evaluate(
                model,
                images,
                batch_size=4 * settings["batch_size"],
                precision="float32",
                device=device,
                workers=workers,
            )
            row |= {f"val_ACC_{name}": accuracy, f"val_loss_{name}": loss}
        return row

    start = try_it()
    if settings["lr"] is None:
        right = start["val_ACC_f"] * len(own) + start["val_ACC_r"] * len(others)
        settings = {
            **settings,
            "lr": recipe.rate * default_lr(ft, right / (len(own) + len(others))),
        }
    parameters = [
        p for p in (*model.encoder.parameters(), *model.head.parameters()) if p.requires_grad
    ]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings["lr"], weight_decay=settings["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: cosine_with_warmup(s, 0, steps)
    )
    size = settings["batch_size"] // (recipe.retained + recipe.forgotten)
    batches = [
        _endless(images, size, settings["seed"], workers) if used else None
        for images, used in ((forgotten, recipe.forgotten), (retained, recipe.retained))
    ]
    rows, best, kept, state, since = [{"step": 0, "lr": 0.0, **start}], None, 0, None, []
    if on_step is not None:
        on_step(0, model, dict(rows[0]))
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        progress_bar(total=steps, desc="unlearn", disable=not progress) as bar,
    ):
        torch.manual_seed(settings["seed"])
        for step in range(1, steps + 1):
            train_mode(model, freeze_batchnorm=True)
            rate = optimizer.param_groups[0]["lr"]
            since.append(_step(model, batches, settings, optimizer, parameters, device, step))
            schedule.step()
            bar.update()
            stop = (
                settings.get("stop_at") is not None
                and since[-1]["train_ACC_f"] <= settings["stop_at"]
            )
            if step % every and step < steps and not stop:
                continue
            row = {"step": step, "lr": rate, **pd.DataFrame(since).mean().to_dict(), **try_it()}
            since = []
            score = _score(row, settings["threshold"])
            if best is None or score > best:
                best, kept, state = (
                    score,
                    step,
                    {k: v.clone() for k, v in model.state_dict().items()},
                )
            rows.append(row)
            if on_step is not None:
                on_step(step, model, dict(row))
            if stop:
                break
    model.load_state_dict(state)
    for row in rows:
        row["kept"] = row["step"] == kept
    return model.to("cpu").eval(), rows, settings


def _step(model, batches, settings: dict, optimizer, parameters, device, step: int) -> dict:
    """One update; returns the batches' figures."""
    forgotten, retained = batches
    method, row = settings["method"], {}
    optimizer.zero_grad(set_to_none=True)
    if retained is not None:
        row["loss_r"], _ = accumulate(model, *next(retained), precision="float32", device=device)
    if forgotten is not None:
        x, y = next(forgotten)
        if method == "random_label":
            drawn = torch.randint(len(model.classes) - 1, y.shape)
            y, factor = drawn + (drawn >= y), 1.0  # every class but its own is as likely
        else:
            factor = -settings.get("alpha", 1.0)
        row["loss_f"], right = accumulate(
            model, x, y, precision="float32", device=device, factor=factor
        )
        if method != "random_label":
            row["train_ACC_f"] = right / len(y)
    if not all(math.isfinite(v) for v in row.values()):
        raise ModelError(f"the loss became {row} at step {step}; lower lr (now {settings['lr']:g})")
    nn.utils.clip_grad_norm_(parameters, settings["clip"])
    optimizer.step()
    return row


def _score(row: dict, threshold: float) -> tuple:
    """What decides between checkpoints, larger is better; see `unlearn`."""
    forgot, kept = row["val_ACC_f"] <= threshold, row["val_ACC_r"]
    first, second = (kept, -row["val_ACC_f"]) if forgot else (-row["val_ACC_f"], kept)
    return forgot, first, second, -row["val_loss_r"]


def _endless(images, batch_size: int, seed: int, workers: int) -> Iterator:
    """Batches without end, shuffled anew each pass; at most one is short in a pass."""
    batches = loader(images, batch_size=batch_size, workers=workers, shuffle_seed=seed)
    while True:
        yield from batches
