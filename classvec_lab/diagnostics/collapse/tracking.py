"""Neural collapse at every epoch of a fine-tuning, with what a film of the class means needs."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...features import extract_features
from ...files import read_or_make, read_tensors, write_tensors
from .report import neural_collapse

if TYPE_CHECKING:
    from ...models import Classifier, FineTuned

_VERSION = 3  # of what is cached: part of the key
COLUMNS = ("epoch", "value", "low", "high", "null_high", "n")  # of the table, beside the metric


@dataclass(frozen=True, eq=False)
class CollapseHistory:
    """Neural collapse over the epochs of a fine-tuning, measured on held-out images; epoch 0 is before it.

    table: one row an epoch and metric, with value, 95 % interval (low, high) where one holds, null_high (the 95 %
    point of NC2's finite-sample null) and n.
    means (E, K, D) and drawn (E, n, D), float32: class means and a fixed set of held-out samples, classes
    labels[i] of `classes`. tuned: what `finetune` returned; its classifier and history have short names here.
    """

    table: pd.DataFrame
    means: np.ndarray
    drawn: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    tuned: "FineTuned"

    @property
    def classifier(self) -> "Classifier":
        """The fine-tuned classifier."""
        return self.tuned.classifier

    @property
    def history(self) -> pd.DataFrame:
        """The history of the fine-tuning: losses, accuracies and which epoch was kept."""
        return self.tuned.history

    @property
    def explained(self) -> tuple[float, float]:
        """Shares of the last epoch's variance between class means along the two directions of the map."""
        return self._plane()[1]

    @property
    def means2d(self) -> pd.DataFrame:
        """Class means on the plane of the last epoch's class means: epoch, class, x, y; attrs["explained"] the shares."""
        return self._projected(self.means, np.arange(len(self.classes)))

    @property
    def points(self) -> pd.DataFrame:
        """The fixed held-out samples on the same plane: epoch, class, x, y; attrs["explained"] the shares."""
        return self._projected(self.drawn, self.labels)

    def _plane(self) -> tuple[np.ndarray, tuple[float, float]]:
        last = self.means[-1].astype(np.float64)
        _, s, vt = np.linalg.svd(last - last.mean(axis=0), full_matrices=False)
        with np.errstate(invalid="ignore"):
            share = np.append(s**2 / np.square(s).sum(), 0)[:2]
        axes = np.zeros((2, last.shape[1]))
        axes[: len(vt)] = (
            vt[:2] * np.sign(vt[:2, np.abs(vt[:2]).argmax(axis=1)].diagonal())[:, None]
        )  # the sign is fixed
        return axes, (float(share[0]), float(share[1]))

    def _projected(self, z: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
        axes, explained = self._plane()
        xy = (z - self.means[-1].mean(axis=0)) @ axes.T
        names = pd.Categorical.from_codes(np.tile(labels, len(z)), categories=list(self.classes))
        frame = pd.DataFrame({"epoch": np.repeat(np.arange(len(z)), z.shape[1]), "class": names})
        frame["x"], frame["y"] = xy.reshape(-1, 2).T
        frame.attrs["explained"] = explained
        return frame


def collapse_over_training(
    classifier,
    train,
    *,
    held_out,
    val=None,
    samples: int = 500,
    n_boot: int = 0,
    seed: int = 0,
    cache: bool = True,
    progress: bool = True,
    **settings,
) -> CollapseHistory:
    """Fine-tune a copy of `classifier` on `train` and measure neural collapse of `held_out` before it and after every epoch.

    Training images overstate collapse, so `held_out` should be others. samples: how many held-out
    samples to keep at each epoch for drawing, the same ones, chosen with `seed`; n_boot: resamples at each
    epoch, for intervals and the null, see `neural_collapse`; `seed`, `val` and `settings` go to
    `finetune`, and val chooses the epoch of the classifier that is returned. The result is cached as one
    file under all that determines it. Raises MismatchError where classes differ
    or a class has no held-out image, and what `finetune` raises.
    """
    classifier.require_classes(held_out.classes, "the held-out set")
    absent = np.flatnonzero(np.bincount(held_out.targets, minlength=len(held_out.classes)) == 0)
    if len(absent):
        raise MismatchError(f"the held-out set has no image of class {held_out.classes[absent[0]]}")
    if samples < 0:
        raise MismatchError(f"samples must be 0 or more; got {samples}")
    from ...models import finetune
    from ...models.device import default_device, resolve_precision
    from ...models.training import model_key

    device = default_device()
    precision = resolve_precision(settings.get("precision", "auto"), classifier.encoder, device)
    known = {**settings, "samples": samples, "n_boot": n_boot, "seed": seed, "device": device.type}
    known |= {"precision": precision, "workers": None}
    data, version = (train, held_out, val), ["collapse", _VERSION]
    key = model_key(version, classifier, data, known, "collapse histories") if cache else None
    given = {"val": val, "seed": seed, "progress": progress, "cache": key is not None, **settings}

    def measure():
        return _measure(classifier, train, held_out, samples, n_boot, given)

    def read(path):
        stored = read_tensors(path, kind="collapse history")
        return _restored(*stored, finetune(classifier, train, **given))

    return read_or_make("collapse", key, read, measure, _write)


def _measure(
    classifier, train, held_out, samples: int, n_boot: int, given: dict
) -> CollapseHistory:
    from ...models import finetune

    chosen = np.sort(np.random.default_rng(given["seed"]).permutation(len(held_out))[:samples])
    tables, means, drawn = [], [], []

    def measure(epoch, model, _):
        features = extract_features(
            model,
            held_out,
            cache=False,
            progress=False,
            precision=given.get("precision", "auto"),
            workers=given.get("workers", 0),
        )
        with warnings.catch_warnings():
            if epoch:
                warnings.simplefilter("ignore", UserWarning)  # said at epoch 0
            report = neural_collapse(features, model.head, n_boot=n_boot, seed=given["seed"])
        tables.append(report.table().assign(epoch=epoch)[["metric", *COLUMNS]])
        means.append(features.moments().mean.astype(np.float32))
        drawn.append(features.z[chosen])

    tuned = finetune(classifier, train, on_epoch=measure, **given)
    table = pd.concat(tables, ignore_index=True)
    return CollapseHistory(
        table,
        np.stack(means),
        np.stack(drawn),
        held_out.targets[chosen],
        tuple(held_out.classes),
        tuned,
    )


def _write(path, history: CollapseHistory) -> None:
    columns = {name: history.table[name].to_numpy() for name in COLUMNS}
    arrays = {"means": history.means, "drawn": history.drawn, "labels": history.labels, **columns}
    card = {
        "kind": "collapse history",
        "metrics": history.table["metric"].tolist(),
        "classes": list(history.classes),
    }
    write_tensors(path, arrays, card)


def _restored(arrays: dict, card: dict, tuned) -> CollapseHistory:
    columns = {name: arrays.pop(name) for name in COLUMNS}
    table = pd.DataFrame({"metric": card["metrics"], **columns})
    return CollapseHistory(table, classes=tuple(card["classes"]), tuned=tuned, **arrays)
