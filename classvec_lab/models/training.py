"""What all training shares: the loop, gradients in parts, evaluation, and the cache of results."""

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from ..checks import record
from ..errors import ModelError
from ..files import read_or_make, read_tensors, write_tensors
from ..progress import progress_bar
from .blocks import batchnorms
from .classifier import Classifier
from .device import autocast, default_device, parts, resolve_precision
from .fingerprint import cache_key
from .preprocess import loader, try_first
from .weights import load_into, to_numpy

COUNTS = ("epochs", "steps", "max_steps", "every", "batch_size")
WHOLE = (*COUNTS, "workers", "seed")
POSITIVE = (*COUNTS, "lr", "clip", "alpha", "original_accuracy")
NAMES = ("precision", "method", "target")
AT_MOST_ONE = ("threshold", "original_accuracy")


class Diverged(ModelError):
    """A loss became infinite or NaN."""


@record
class FineTuned:
    """A trained classifier and how it came about; it unpacks into classifier and history.

    Args:
        classifier: the `Classifier`, in eval mode, on the CPU.
        history: a frame with one row a checkpoint, the first before training; `kept` marks the one
            that was returned. Of `finetune` a checkpoint is an epoch, and `lr` the rate at its
            start. Of `unlearn`, `loss_r`, `loss_f` and `train_ACC_f` are means over the training
            batches since the last checkpoint, and columns val_* are on the validation set.
        settings: those that were used, with the learning rate.
        seconds: wall time of the training itself, also where the result was read from the cache;
            None where unknown.
    """

    classifier: Classifier
    history: pd.DataFrame
    settings: dict
    seconds: float | None = None

    def __iter__(self):
        return iter((self.classifier, self.history))


def check_settings(owner: str, settings: dict) -> None:
    """Raise ModelError, naming the first, for settings that can't be; None stands for a default."""
    for name, value in settings.items():
        if name in NAMES or (value is None and name not in COUNTS):
            continue
        kind = int if name in WHOLE else Real
        good = isinstance(value, kind) and type(value) is not bool and 0 <= value < math.inf
        good = good and (value > 0 or name not in POSITIVE)
        if not good or (name in AT_MOST_ONE and value > 1):
            raise ModelError(f"{owner} can't work with {name}={value!r}")


def fit(
    model: nn.Module,
    batches: Iterator[tuple],
    loss: Callable[..., dict],
    settings: dict,
    *,
    steps: int,
    checkpoint: Callable[[int, list[dict]], dict],
    every: int = 1,
    score: Callable[[dict], tuple] | None = None,
    stop: Callable[[dict], bool] = lambda figures: False,
    optimizer: torch.optim.Optimizer | None = None,
    warmup: int | None = None,
    desc: str = "train",
    progress: bool = False,
) -> list[dict]:
    """Train a network in place, on its own device, and leave it at its best checkpoint.

    Batch-norm statistics stay as they are.

    Args:
        batches: an iterator without end; each item holds the arguments of `loss`.
        loss: adds the gradients of a batch to the parameters and returns its figures by name.
        settings: seed (of torch's generators during training; the global ones are left alone), clip
            (largest norm of the gradient), lr and weight_decay of AdamW.
        steps: how many updates there are at most.
        checkpoint: the row of a checkpoint, from its step and the figures of the batches since the
            last, with the rate `lr` of each. It may set eval mode.
        every: steps between checkpoints. Step 0 and the last step are two more.
        score: of a row; the highest is kept, but not step 0. Without it the last step is kept.
        stop: whether to end, from the last batch's figures; asked before each step.
        optimizer: in place of AdamW over the trainable parameters.
        warmup: steps over which the rate rises, before it falls along half a cosine; None: it
            stays.
    Returns:
        One row a checkpoint; `kept` marks the one whose weights the model has.
    Raises:
        ModelError: where nothing is trainable.
        Diverged: where a figure is not finite.
    """
    device, trained = default_device(), trainable(model)
    if optimizer is None:
        decay = settings["weight_decay"]
        optimizer = torch.optim.AdamW(trained, settings["lr"], weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1.0 if warmup is None else cosine_with_warmup(step, warmup, steps)
    )
    rows, since, figures, step, best, state = [], [], {}, 0, None, None

    def look():
        nonlocal best, state
        rows.append(checkpoint(step, since))
        since.clear()
        if score is None or (step and (best is None or score(rows[-1]) > score(best))):
            best = rows[-1]
            state = score and {name: value.clone() for name, value in model.state_dict().items()}

    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        progress_bar(total=steps, desc=desc, disable=not progress) as bar,
    ):
        torch.manual_seed(settings["seed"])
        look()
        optimizer.zero_grad()
        while step < steps and not stop(figures):
            step += 1
            model.train()
            for module in batchnorms(model):
                module.eval()
            figures = {"lr": optimizer.param_groups[0]["lr"], **loss(*next(batches))}
            if not all(map(math.isfinite, figures.values())):
                raise Diverged(f"the loss became {figures} at step {step}; lower lr")
            nn.utils.clip_grad_norm_(trained, settings["clip"])
            optimizer.step()
            optimizer.zero_grad()  # gradients are as large as the model: none stays with it
            schedule.step()
            since.append(figures)
            bar.update()
            bar.set_postfix(figures, refresh=False)
            if step % every == 0:
                look()
        if step % every:
            look()
    if state:
        model.load_state_dict(state)
    for row in rows:
        row["kept"] = row is best
    return rows


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes; raises ModelError for none."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ModelError(
            "the model has no trainable parameter, as all are frozen: nothing could be learnt; "
            "write classifier.encoder.requires_grad_(True)"
        )
    return trained


def endless(batches: Iterable) -> Iterator:
    """One pass over the batches after the other, each shuffled anew where the loader shuffles."""
    return itertools.chain.from_iterable(itertools.repeat(batches))


def accumulate(
    model: Classifier, x, y, *, precision: str = "float32", factor: float = 1.0
) -> tuple[float, int]:
    """Add the gradient of factor · mean cross-entropy of a batch to the parameters.

    A batch goes in parts where the processor prefers so.

    Args:
        x: preprocessed images (N, 3, H, W).
        y: labels (N,).
    Returns:
        The mean loss, and how many images were named rightly.
    """
    device, total, correct, done = default_device(), 0.0, 0, 0
    for part in parts(x, device):
        target = y[done : done + len(part)].to(device)
        with autocast(precision, device):
            z = model.encode(part)
        logits = model.logits(z)
        loss = F.cross_entropy(logits, target) * (len(part) / len(y))
        (factor * loss).backward()
        total += loss.item()
        correct += (logits.argmax(1) == target).sum().item()
        done += len(part)
    return total, correct


@torch.inference_mode()
def evaluate(
    model: Classifier, images, *, batch_size: int, precision: str = "float32", workers: int = 0
) -> tuple[float, float]:
    """(mean cross-entropy, accuracy) on preprocessed images; sets the model to eval mode."""
    model.eval()
    device, loss, correct = default_device(), 0.0, 0
    for x, y in loader(images, batch_size=batch_size, workers=workers):
        with autocast(precision, device):
            z = torch.cat([model.encode(part) for part in parts(x, device)])
        logits, y = model.logits(z), y.to(device)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
    return loss / len(images), correct / len(images)


def cosine_with_warmup(step: int, warmup: int, total: int) -> float:
    """Factor on the learning rate: from 0 up to 1 over `warmup` steps, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def model_key(
    version: object, classifier: Classifier, data: Sequence, settings: dict, kind: str = "models"
) -> str | None:
    """Hash of everything that determines a training's result; None, said once, without such.

    Args:
        version: of the recipe.
        classifier: the one that is trained.
        data: data sets, None where there is none.
        settings: all else that matters.
        kind: what would be cached, in the plural, for the warning.
    """
    return cache_key(
        f"trained {kind}",
        classifier,
        data,
        version=version,
        head=classifier.head,
        logits=type(classifier).logits,
        classes=classifier.classes,
        trained=[name for name, p in classifier.named_parameters() if p.requires_grad],
        settings=sorted(settings.items()),
        torch=torch.__version__,
    )


def train_or_load(
    version: object,
    classifier: Classifier,
    data: Sequence,
    settings: dict,
    train: Callable[[Classifier, dict], list[dict]],
    *,
    cache: bool,
    read: bool,
) -> FineTuned:
    """A training's result from the cache, else of `train`, which is then stored.

    Args:
        version: see `model_key`, as for `data` and `settings`.
        classifier: the one of which a copy is trained.
        train: called with the copy and the settings, trains the first in place, adds to the second
            what it chose, and gives the rows of the history, of which the last has all columns.
        cache: whether to cache.
        read: whether to read what is there; if not, what others have read stays as it is.
    """
    key = model_key(version, classifier, data, settings) if cache else None
    model = copy.deepcopy(classifier).eval()

    def make():
        start, used = time.perf_counter(), dict(settings)
        trainable(model)
        resolve_precision("auto", model, default_device())
        try_first(model, *data)
        rows = train(model.to(default_device()), used)
        model.to("cpu").eval()
        history = {"data": rows, "columns": list(rows[-1])}
        return {"settings": used, "history": history, "seconds": time.perf_counter() - start}

    def load(path):
        if not read:
            raise FileNotFoundError
        state, card = read_tensors(path, kind="trained model")
        facts = card["facts"]  # before the model becomes what may turn out to be half a result
        load_into(model, state, path)
        return facts

    def store(path, facts):
        if read or not path.exists():
            card = {"kind": "trained model", "facts": facts}
            write_tensors(path, to_numpy(model.state_dict()), card)

    facts = read_or_make("models", key, load, make, store)
    return FineTuned(model, pd.DataFrame(**facts.pop("history")), **facts)
