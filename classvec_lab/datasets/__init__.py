"""Where images come from: drawn shapes, digits, photographs, image folders, torchvision's sets."""

import inspect
import os
from pathlib import Path

import numpy as np

from ..checks import nearest, one_of
from ..errors import DatasetError
from .base import ImageDataset, check_options, integer
from .digits import load_digits_dataset
from .folder import load_folder
from .photographs import load_photographs
from .shapes import load_shapes
from .splits import SPLITS, stratified_sample
from .torchvision_sets import load_torchvision

__all__ = ["ImageDataset", "load_dataset"]

_BUILT_IN = {
    "digits": load_digits_dataset,
    "shapes": load_shapes,
    "photographs": load_photographs,
}
_PREFIX = "torchvision:"


def load_dataset(
    name_or_path: str | os.PathLike,
    *,
    split: str,
    limit: int | None = None,
    seed: int = 0,
    group: str | None = None,
    **options,
) -> ImageDataset:
    """A labelled image data set by name or path: `dataset[i]` is (RGB PIL image, class number).

    name_or_path: "digits"; "photographs"; "shapes" (options n=, snow=, word=); "torchvision:NAME"
        (options go to its constructor); or an image folder ("~" is expanded; "./digits" is a
        folder, "digits" is not).
    split: "train", "val" or "test"; splits that the source lacks are carved out of train.
    limit: at most so many images, a stratified, seeded sample; at least one a class.
    seed: decides the sample and also which images each carved split holds: use the same one for
        train, val and test, or they will overlap.
    group: a column of the folder's metadata.csv, or a regular expression with one capture group
        searched in the relative path; images of one group stay on one side of carved splits.
    Raises DatasetError, which restates the argument at fault and says what is valid.
    """
    seed = integer("seed", seed, 0)
    if limit is not None:
        limit = integer("limit", limit, 1)
    one_of(split, SPLITS, "split", DatasetError)
    if group is not None:
        options["group"] = group
    dataset = _load(name_or_path, split, seed, options)
    if limit is None or limit >= len(dataset):
        return dataset
    if limit < (n_classes := len(np.unique(dataset.targets))):
        raise DatasetError(
            f"limit={limit} leaves some of the {n_classes} classes of {name_or_path} without an "
            "image"
        )
    return dataset.subset(stratified_sample(dataset.targets, limit, seed))


def _load(source: str | os.PathLike, split: str, seed: int, options: dict) -> ImageDataset:
    if not isinstance(source, (str, os.PathLike)):
        raise DatasetError(f"a data set is given by a name or a path, got {source!r}")
    if isinstance(source, str) and source in _BUILT_IN:
        loader = _BUILT_IN[source]
        takes = inspect.signature(loader).parameters.keys() - {"split", "seed"}
        check_options(source, options, takes)
        return loader(split=split, seed=seed, **options)
    if isinstance(source, str) and source.startswith(_PREFIX):
        return load_torchvision(source.removeprefix(_PREFIX), split=split, seed=seed, **options)
    path = Path(os.path.expanduser(source))
    if isinstance(source, str) and not (source and path.exists()):  # "" would be the current folder
        raise DatasetError(
            f"unknown data set {source!r}: no such name, and no such folder"
            f"{nearest(source, [*_BUILT_IN, _PREFIX])} Understood are "
            f"{', '.join(map(repr, _BUILT_IN))}, "
            f'"{_PREFIX}NAME" (such as "{_PREFIX}CIFAR10"), and the path of an image folder'
        )
    check_options(f"the image folder {source}", options, ["group"])
    return load_folder(path, split=split, seed=seed, **options)
