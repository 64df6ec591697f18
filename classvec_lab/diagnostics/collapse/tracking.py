"""Neural collapse at every epoch of a fine-tuning, with what a film of the class means needs."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...checks import in_range
from ...errors import MismatchError
from ...features import extract_features
from ...files import read_or_make, read_tensors, write_tensors
from .report import neural_collapse

if TYPE_CHECKING:
    pass

_VERSION = 3  # of what is cached: part of the key
COLUMNS = ("epoch", "value", "low", "high", "null_high", "n")  # of the table, beside the metric


@dataclass(frozen=True, eq=False)
class CollapseHistory:
    """Neural collapse over the epochs of a fine-tuning, on held-out images; epoch 0 is before it.

    table: one row an epoch and metric, with value, 95 % interval (low, high) where one holds,
    null_high (the 95 % point of NC2's finite-sample null) and n.
    means (E, K, D) and drawn (E, n, D), float32: class means and a fixed set of held-out samples,
    classes labels[i] of `classes`. tuned: what `finetune` returned; its classifier and history have
    short names here.
    """

    table: pd.DataFrame
    means: np.ndarray
    drawn: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    tuned: object

    @property
    def classifier(self):
        """The fine-tuned classifier."""
        return self.tuned.classifier

    @property
    def history(self) -> pd.DataFrame:
        """The history of the fine-tuning: losses, accuracies and which epoch was kept."""
        return self.tuned.history

    @property
    def means2d(self) -> pd.DataFrame:
        """Class means on the plane of the last epoch's class means.

        Returns:
            A frame of `epoch`, `class`, `x`, `y`. Its attrs["explained"] holds the shares of the
            last epoch's variance between class means along x and y.
        """
        return self._projected(self.means, np.arange(len(self.classes)))

    @property
    def points(self) -> pd.DataFrame:
        """The fixed held-out samples on the same plane, a frame as `means2d`."""
        return self._projected(self.drawn, self.labels)

    def _projected(self, z, labels) -> pd.DataFrame:
        from sklearn.decomposition import PCA

        with np.errstate(invalid="ignore"):  # equal means have no variance to share out
            pca = PCA(2, svd_solver="full").fit(self.means[-1].astype(np.float64))
        x, y = pca.transform(z.reshape(-1, z.shape[2]).astype(np.float64)).T
        names = pd.Categorical.from_codes(np.tile(labels, len(z)), list(self.classes))
        epoch = np.repeat(np.arange(len(z)), z.shape[1])
        frame = pd.DataFrame({"epoch": epoch, "class": names, "x": x, "y": y})
        frame.attrs["explained"] = tuple(pca.explained_variance_ratio_.tolist())
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
    """Fine-tune a copy of a classifier and measure neural collapse before it and after every epoch.

    The result is cached as one file under all that determines it.

    Args:
        classifier: it stays as it is.
        train: labelled images to train on.
        held_out: those to measure; training images overstate collapse, so it should be others.
        val: chooses the epoch of the classifier that is returned.
        samples: how many held-out samples to keep at each epoch for drawing, the same ones, chosen
            with `seed`.
        n_boot: resamples at each epoch, for intervals and the null, see `neural_collapse`.
        seed: of the training, of `samples` and of the resamples.
        settings: go to `finetune`.
    Raises:
        MismatchError: where classes differ or a class has no held-out image, and what `finetune`
            raises.
    """
    classifier.require_classes(held_out.classes, "the held-out set")
    count = np.bincount(held_out.targets, minlength=len(held_out.classes))
    if not count.all():
        absent = held_out.classes[count.argmin()]
        raise MismatchError(f"the held-out set has no image of class {absent}")
    in_range("samples", samples, 0, np.inf)
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
    how = {name: given[name] for name in ("precision", "workers") if name in given}
    tables, means, drawn = [], [], []

    def measure(epoch, model, _):
        features = extract_features(model, held_out, cache=False, progress=False, **how)
        with warnings.catch_warnings():
            if epoch:
                warnings.simplefilter("ignore", UserWarning)  # said at epoch 0
            report = neural_collapse(features, model.head, n_boot=n_boot, seed=given["seed"])
        tables.append(report.table().assign(epoch=epoch)[["metric", *COLUMNS]])
        means.append(features.moments().mean.astype(np.float32))
        drawn.append(features.z[chosen])

    tuned = finetune(classifier, train, on_epoch=measure, **given)
    table, labels = pd.concat(tables, ignore_index=True), held_out.targets[chosen]
    classes = tuple(held_out.classes)
    return CollapseHistory(table, np.stack(means), np.stack(drawn), labels, classes, tuned)


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
