"""Where images come from: the drawn world, handwritten digits, image folders, torchvision's
sets.
"""

import difflib
import inspect
import operator
import os
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from .base import ImageDataset
from .digits import load_digits_dataset
from .folder import load_folder
from .shapes import load_shapes
from .splits import stratified_sample
from .torchvision_sets import load_torchvision

__all__ = ["ImageDataset", "load_dataset"]

_BUILT_IN = {"digits": load_digits_dataset, "shapes": load_shapes}
_NO_GROUPS = {
    "digits": "nothing names groups there",
    "shapes": "its splits are separate streams, and no two images belong together",
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

    name_or_path: "digits"; "shapes" (options n=, snow=, word=); "torchvision:NAME" (options go to
        its
        constructor); or an image folder ("~" is expanded; "./digits" is a folder, "digits" is not).
    split: "train", "val" or "test"; splits that the source lacks are carved out of train.
    limit: at most so many images, a stratified, seeded sample; at least one a class.
    seed: decides the sample and also which images each carved split holds: use the same one for
        train,
        val and test, or they will overlap.
    group: a column of the folder's metadata.csv, or a regular expression with one capture group
        searched
        in the relative path; images of one group stay on one side of carved splits.
    Raises DatasetError, which restates the argument at fault and says what is valid.
    """
    seed = _integer("seed", seed, lowest=0)
    if limit is not None:
        limit = _integer("limit", limit, lowest=1)
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise DatasetError(f"a data set is given by a name or a path, got {name_or_path!r}")
    if not (group is None or isinstance(group, str)):
        raise DatasetError(f"group must be a column name or a regular expression, got {group!r}")
    dataset = _load(name_or_path, split, seed, group, options)
    if limit is None or limit >= len(dataset):
        return dataset
    if limit < (n_classes := len(np.unique(dataset.targets))):
        raise DatasetError(
            f"limit={limit} leaves some of the {n_classes} classes of {name_or_path} without an "
            "image"
        )
    return dataset.subset(stratified_sample(dataset.targets, limit, seed))


def _integer(name: str, value: object, *, lowest: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < lowest:
        raise DatasetError(f"{name} must be an integer >= {lowest}, got {name}={value!r}")
    return number


def _load(
    source: str | os.PathLike, split: str, seed: int, group: str | None, options: dict
) -> ImageDataset:
    if isinstance(source, str) and source in _BUILT_IN:
        loader = _BUILT_IN[source]
        _check_options(
            source, options, set(inspect.signature(loader).parameters) - {"split", "seed"}
        )
        if group is not None:
            raise DatasetError(f"{source} takes no group (got {group!r}): {_NO_GROUPS[source]}")
        return loader(split=split, seed=seed, **options)
    if isinstance(source, str) and source.startswith(_PREFIX):
        return load_torchvision(
            source.removeprefix(_PREFIX), split=split, seed=seed, group=group, **options
        )
    path = Path(os.path.expanduser(source))
    if isinstance(source, str) and not (source and path.exists()):  # "" would be the current folder
        near = difflib.get_close_matches(source, [*_BUILT_IN, _PREFIX], n=1)
        raise DatasetError(
            f"unknown data set {source!r}: no such name, and no such folder."
            + (f" Did you mean {near[0]!r}?" if near else "")
            + f" Understood are {', '.join(map(repr, _BUILT_IN))}, "
            f'"{_PREFIX}NAME" (such as "{_PREFIX}CIFAR10"), and the path of an image folder'
        )
    _check_options(f"the image folder {source}", options, set())
    return load_folder(path, split=split, seed=seed, group=group)


def _check_options(source: str, options: dict, valid: set[str]) -> None:
    if unknown := sorted(set(options) - valid):
        takes = f"it takes {', '.join(sorted(valid))}" if valid else "it takes none"
        raise DatasetError(f"{source} has no option {', '.join(unknown)}; {takes}")
