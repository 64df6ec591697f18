"""Neural collapse at every epoch of a fine-tuning, with what a film of the class means needs."""

import warnings

import numpy as np
import pandas as pd

from ...checks import in_range, record
from ...datasets import ImageDataset
from ...features import extract_features
from ...files import read_or_make, read_tensors, write_tensors
from ...models import Classifier, finetune
from ...models.device import default_device, resolve_precision
from ...models.training import model_key
from .report import neural_collapse

KIND, _VERSION = "collapse history", 5  # of what is cached; the version is part of the key
COLUMNS = ["metric", "epoch", "value", "low", "high", "null", "null_high", "n"]  # of the table


@record
class CollapseHistory:
    """Neural collapse over the epochs of a fine-tuning, on held-out images; epoch 0 is before it.

    table: one row an epoch and metric, with value and, where one holds, its 95 % interval (low,
    high), null and null_high of NC2, and n, see `NeuralCollapse.table`.
    means (E, K, D) and drawn (E, n, D), float32: class means and a fixed set of held-out samples,
    classes labels[i] of `classes`. classifier, history: what `finetune` gave, the fine-tuned
    classifier and a frame of losses, accuracies and which epoch was kept.
    """

    table: pd.DataFrame
    means: np.ndarray
    drawn: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    classifier: Classifier
    history: pd.DataFrame

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
            pca = PCA(2, svd_solver="full").fit(self.means[-1].astype(float))
        x, y = pca.transform(z.reshape(-1, z.shape[2]).astype(float)).T
        names = pd.Categorical.from_codes(np.tile(labels, len(z)), list(self.classes))
        epoch = np.repeat(np.arange(len(z)), z.shape[1])
        frame = pd.DataFrame({"epoch": epoch, "class": names, "x": x, "y": y})
        frame.attrs["explained"] = tuple(pca.explained_variance_ratio_.tolist())
        return frame


def collapse_over_training(
    classifier: Classifier,
    train: ImageDataset,
    *,
    held_out: ImageDataset,
    val: ImageDataset | None = None,
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
    in_range("samples", samples, 0, np.inf)
    device, precision = default_device(), settings.get("precision", "auto")
    known = {
        **settings,
        "samples": samples,
        "n_boot": n_boot,
        "seed": seed,
        "device": device.type,
        "precision": resolve_precision(precision, classifier.encoder, device),
        "workers": None,
    }
    data, version = (train, held_out, val), ["collapse", _VERSION]
    key = model_key(version, classifier, data, known, "collapse histories") if cache else None
    given = {"val": val, "seed": seed, "progress": progress, "cache": key is not None, **settings}
    chosen = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:samples])
    tables, means, drawn = [], [], []

    def watch(epoch: int, model: Classifier, _) -> None:
        how = {name: settings[name] for name in ("precision", "workers") if name in settings}
        features = extract_features(model, held_out, cache=False, progress=False, **how)
        with warnings.catch_warnings():
            if epoch:
                warnings.simplefilter("ignore", UserWarning)  # said at epoch 0
            report = neural_collapse(features, model.head, n_boot=n_boot, seed=seed)
        tables.append(report.table().assign(epoch=epoch)[COLUMNS])
        means.append(features.moments().mean.astype(np.float32))
        drawn.append(features.z[chosen])

    def measure():
        tuned = finetune(classifier, train, on_epoch=watch, **given)
        arrays = {"means": np.stack(means), "drawn": np.stack(drawn)}
        return pd.concat(tables, ignore_index=True), arrays, tuned

    def read(path):
        arrays, card = read_tensors(path, kind=KIND)
        return pd.DataFrame(card["table"])[COLUMNS], arrays, finetune(classifier, train, **given)

    def write(path, made) -> None:
        table, arrays, _ = made
        write_tensors(path, arrays, {"kind": KIND, "table": table.to_dict("list")})

    table, arrays, (tuned, history) = read_or_make("collapse", key, read, measure, write)
    labels, classes = held_out.targets[chosen], tuple(held_out.classes)
    return CollapseHistory(
        table, **arrays, labels=labels, classes=classes, classifier=tuned, history=history
    )
