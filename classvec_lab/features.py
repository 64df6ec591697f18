"""Images to representations: streaming extraction, its cache, and class vectors from two models."""

from collections.abc import Sequence

import numpy as np

from .checks import labelled, listed, named, record, representations
from .errors import MismatchError
from .files import read_or_make, read_tensors, write_tensors
from .moments import ClassMoments
from .progress import progress_bar
from .vectors import ClassVectors

_VERSION = 2  # of what is cached: part of the key


@record
class Features:
    """Representations of a labelled data set, from this package or from anywhere else.

    Args:
        z: un-normalised representations (N, m).
            Arrays and tensors of any real format, with gradients and on any device, will do.
        y: labels (N,), integers in 0..C-1.
        classes: the C names.
        model: fingerprint of the classifier, where known.
        data: fingerprint of the data set, where known.
        precision: number format in which the encoder ran, "float32" or "bfloat16", where known.
    Raises:
        MismatchError: for shapes that disagree, labels out of range, or representations that are
            not finite (naming the sample).
    """

    z: np.ndarray
    y: np.ndarray
    classes: Sequence[str]
    model: str | None = None
    data: str | None = None
    precision: str | None = None

    def __post_init__(self):
        classes = named(self.classes)
        z, y = labelled(self.z, self.y, len(classes), "Features")
        if not len(y):
            raise MismatchError("Features needs at least one sample, N >= 1; got none")
        finite = np.isfinite(z).all(axis=1)
        if not finite.all():
            first = finite.argmin()
            raise MismatchError(
                f"{(~finite).sum()} of {len(z)} representations are not finite, first sample "
                f"{first} (class {classes[y[first]]!r}) under model {self.model or 'unknown'}"
            )
        vars(self).update(z=z, y=y.astype(np.int64), classes=classes)

    def __len__(self) -> int:
        return len(self.y)

    def moments(self, *, pooled_scatter: bool = False) -> ClassMoments:
        """The `ClassMoments` of these representations."""
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
    """Extract the un-normalised representations of a data set, streamed through the encoder once.

    The result is cached under data/cache, keyed by weights, code, preprocessing, data
    and precision. What can't be hashed, an encoder with hooks among it, is not cached, which is
    said once. The classifier runs in eval mode, and every module keeps the mode that it had.

    Args:
        classifier: a `Classifier`.
        dataset: an `ImageDataset`, or what `ImageDataset.from_dataset` takes; without class names
            of its own it has the classifier's.
        batch_size: images at a time.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 for encoders of 20 million
            parameters and more on a processor that has it.
        cache: whether to read and write the cache.
        workers: processes that load images.
        progress: whether to show a bar.
    Returns:
        `Features` with z in float32.
    Raises:
        ClassvecError: before any work, for settings, images, a preprocessing or an encoder that
            don't fit together, and for the classifier's class names in another order.
    """
    import torch

    from .datasets.items import usable_for
    from .models.blocks import evaluating
    from .models.device import autocast, default_device, parts, resolve_precision
    from .models.fingerprint import cache_key
    from .models.preprocess import PreprocessedImages, loader, try_first
    from .models.training import check_settings

    device, dataset = default_device(), usable_for(classifier, dataset)
    if {*dataset.classes} == {*classifier.classes}:
        classifier.require_classes(dataset.classes, "the data set")
    check_settings("extract_features", {"batch_size": batch_size, "workers": workers})
    precision = resolve_precision(precision, classifier.encoder, device)
    known = {
        "model": classifier.fingerprint,
        "data": getattr(dataset, "fingerprint", None),
        "precision": precision,
    }

    def extract():
        images = PreprocessedImages(dataset, classifier.preprocess, memory=0)
        home = next((p.device for p in classifier.parameters()), torch.device("cpu"))
        z, y = [torch.empty(0, classifier.dim)], [torch.empty(0, dtype=torch.int64)]
        try:
            try_first(classifier.to(device), dataset)
            with (
                evaluating(classifier),
                torch.inference_mode(),
                autocast(precision, device),
                progress_bar(total=len(images), desc="extract", disable=not progress) as bar,
            ):
                for x, labels in loader(images, batch_size=batch_size, workers=workers):
                    z += [classifier.encode(part).cpu() for part in parts(x, device)]
                    y.append(labels)
                    bar.update(len(labels))
        finally:
            classifier.to(home)
        return Features(torch.cat(z).numpy(), torch.cat(y).numpy(), dataset.classes, **known)

    def read(path):
        arrays, _ = read_tensors(path, kind="features")
        return Features(**arrays, classes=dataset.classes, **known)

    def write(path, features):
        write_tensors(path, {"z": features.z, "y": features.y}, {"kind": "features", **known})

    settings = {"version": _VERSION, "precision": precision}
    key = cache_key("features", classifier, [dataset], **settings) if cache else None
    features = read_or_make("features", key, read, extract, write)
    representations(features.z, classifier.dim, f"the head of {classifier.name!r}")
    return features


def class_vectors(pre, ft, dataset, **extraction) -> ClassVectors:
    """Make class vectors: of every class the mean under `ft` minus the mean under `pre`.

    Args:
        pre, ft: two `Classifier`s with encoders of the same width.
        dataset: labelled images with the same classes.
        extraction: see `extract_features`.
    Raises:
        MismatchError: where classes or widths differ, or a class has no image.
    """
    from .datasets.items import usable_for
    from .models.preprocess import try_first

    dataset = usable_for(pre, dataset)
    for owner, classifier in (("pre-trained", pre), ("fine-tuned", ft)):
        classifier.require_classes(dataset.classes, f"the data set for the {owner} model")
    if pre.dim != ft.dim:
        raise MismatchError(
            f"the pre-trained representation has {pre.dim} dimensions "
            f"and the fine-tuned one {ft.dim}"
        )
    if len(lacking := dataset.counts.index[dataset.counts == 0]):
        raise MismatchError(f"the data set has no image of {listed(lacking)}, and so no vector")
    try_first(ft, dataset)
    return ClassVectors.from_features(
        *(extract_features(classifier, dataset, **extraction) for classifier in (pre, ft))
    )
