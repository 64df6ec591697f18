"""Images to representations: streaming extraction, its cache, and class vectors from two models."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import FileFormatError, MismatchError
from .files import cache_dir, hash_json, read_tensors, write_tensors
from .moments import ClassMoments
from .progress import progress_bar
from .vectors import ClassVectors

_VERSION = 1  # of what is cached: part of the key


@dataclass(frozen=True, eq=False)
class Features:
    """Representations of a labelled data set, from this package or from anywhere else.

    z (N, m) un-normalised, y (N,) integers in 0..C-1, classes the C names. `model` and `data` are
    fingerprints where they are known. Raises MismatchError for shapes that disagree, labels out of
    range, or representations that are not finite (naming the sample).
    """

    z: np.ndarray
    y: np.ndarray
    classes: Sequence[str]
    model: str | None = None
    data: str | None = None

    def __post_init__(self):
        z, y = np.asarray(self.z), np.asarray(self.y)
        classes = tuple(str(c) for c in self.classes)
        if z.ndim != 2 or y.shape != z.shape[:1] or len(y) == 0:
            raise MismatchError(
                f"Features needs z of shape (N, m) and y of shape (N,) with N >= 1; got {z.shape} and {y.shape}"
            )
        if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(classes):
            raise MismatchError(
                f"labels must be integers in 0..{len(classes) - 1} for {len(classes)} classes; "
                f"got {y.dtype} in {y.min()}..{y.max()}"
            )
        finite = np.isfinite(z).all(axis=1)
        if not finite.all():
            first = int(np.flatnonzero(~finite)[0])
            raise MismatchError(
                f"{(~finite).sum()} of {len(z)} representations are not finite, first sample {first} "
                f"(class {classes[y[first]]!r}) under model {self.model or 'unknown'}"
            )
        for name, value in (("z", z), ("y", y.astype(np.int64)), ("classes", classes)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.y)

    def moments(self, *, pooled_scatter: bool = False) -> ClassMoments:
        """The per-class moments of these representations."""
        return ClassMoments.of(self.z, self.y, len(self.classes), pooled_scatter=pooled_scatter)


def extract_features(
    classifier,
    dataset,
    *,
    batch_size: int = 256,
    precision: str = "auto",
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> Features:
    """The un-normalised representations of a data set, streamed through the encoder once.

    classifier: a `Classifier`; dataset: items (PIL image, int) with `.classes`. precision: "float32",
    "bfloat16" (autocast), or "auto" (bfloat16 for encoders of 20 million parameters and more on a
    processor that has it). The result, float32, is cached under data/cache, keyed by weights,
    preprocessing, data and precision; what can't be hashed is not cached, which is said once, and
    an encoder that carries hooks never is. The classifier's mode and device are as before afterwards.
    """
    from .models.device import default_device, resolve_precision

    device = default_device()
    precision = resolve_precision(precision, classifier.encoder, device)
    path, model, data = (
        _cache_entry(classifier, dataset, precision)
        if cache
        else (None, classifier.fingerprint, getattr(dataset, "fingerprint", None))
    )
    if path is None:
        return _extract(
            classifier, dataset, batch_size, precision, device, workers, progress, model, data
        )

    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(
        path.with_suffix(".lock")
    ):  # a second process waits for the first instead of extracting too
        try:
            arrays, _ = read_tensors(path, kind="features")
            return Features(arrays["z"], arrays["y"], dataset.classes, model, data)
        except FileNotFoundError:
            pass
        except FileFormatError as error:
            warnings.warn(
                f"cached features are damaged and will be extracted again ({error})", stacklevel=2
            )
        features = _extract(
            classifier, dataset, batch_size, precision, device, workers, progress, model, data
        )
        write_tensors(
            path,
            {"z": features.z, "y": features.y},
            {"kind": "features", "model": model, "data": data},
        )
    return features


def class_vectors(pre, ft, dataset, **extraction) -> ClassVectors:
    """kappa_c of every class: mean representation under `ft` minus the mean under `pre`, on one data set.

    pre, ft: two `Classifier`s with encoders of the same width; dataset: labelled images with the
    same classes; `extraction` goes to `extract_features`. Raises MismatchError where they differ or
    a class has no image.
    """
    for owner, classifier in (("pre-trained", pre), ("fine-tuned", ft)):
        classifier.require_classes(dataset.classes, f"the data set for the {owner} model")
    if pre.dim != ft.dim:
        raise MismatchError(
            f"the pre-trained representation has {pre.dim} dimensions and the fine-tuned one {ft.dim}"
        )
    return ClassVectors.from_features(
        extract_features(pre, dataset, **extraction), extract_features(ft, dataset, **extraction)
    )


def _cache_entry(classifier, dataset, precision: str):
    """(path or None, model fingerprint, data fingerprint)."""
    model, data = classifier.fingerprint, getattr(dataset, "fingerprint", None)
    if model is None or data is None:
        what = "preprocessing" if model is None else "data set"
        warnings.warn(f"this {what} can't be hashed, so its features are not cached", stacklevel=3)
        return None, model, data
    if any(m._forward_hooks or m._forward_pre_hooks for m in classifier.encoder.modules()):
        return None, None, data  # hooks may change what the encoder gives, unseen by any hash
    return (
        cache_dir("features") / f"{hash_json([_VERSION, model, data, precision])}.safetensors",
        model,
        data,
    )


def _extract(
    classifier, dataset, batch_size, precision, device, workers, progress, model, data
) -> Features:
    import torch

    from .models.device import autocast, parts
    from .models.preprocess import PreprocessedImages, loader

    images = PreprocessedImages(dataset, classifier.preprocess, memory=0)
    training = {name: module.training for name, module in classifier.named_modules()}
    home = next((p.device for p in classifier.parameters()), torch.device("cpu"))
    z, y = (
        np.empty((len(images), classifier.dim), dtype=np.float32),
        np.empty(len(images), dtype=np.int64),
    )
    done = 0
    try:
        classifier.eval().to(device)
        with (
            torch.inference_mode(),
            autocast(precision, device),
            progress_bar(total=len(images), desc="extract", disable=not progress) as bar,
        ):
            for x, labels in loader(images, batch_size=batch_size, workers=workers):
                z[done : done + len(labels)] = torch.cat(
                    [classifier.encode(part.to(device)) for part in parts(x, device)]
                ).cpu()
                y[done : done + len(labels)] = labels.numpy()
                done += len(labels)
                bar.update(len(labels))
    finally:
        classifier.to(home)
        for name, module in classifier.named_modules():
            module.training = training[name]
    return Features(z, y, dataset.classes, model, data)
