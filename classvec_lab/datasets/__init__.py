"""Where images come from: built-in sets, image folders, tables, arrays, torchvision and the hub."""

import inspect
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..checks import listed, nearest, one_of
from ..errors import DatasetError
from .base import ImageDataset, check_options, integer, warn
from .digits import load_digits_dataset
from .folder import read_folder
from .hub import ON_DISK, read_hf
from .items import gathered, wrap
from .photographs import load_photographs
from .shapes import load_shapes
from .splits import SPLITS, stratified_sample
from .table import cut, read_arrays, read_table
from .torchvision_sets import load_torchvision

__all__ = ["ImageDataset", "load_dataset"]

_BUILT_IN = {
    "digits": load_digits_dataset,
    "shapes": load_shapes,
    "photographs": load_photographs,
}
_FILES = {
    ".csv": read_table,
    ".tsv": read_table,
    ".parquet": read_table,
    ".npy": read_arrays,
    ".npz": read_arrays,
}


def load_dataset(
    name_or_path: object,
    *,
    split: str,
    limit: int | None = None,
    seed: int = 0,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    **options,
) -> ImageDataset:
    """A labelled image data set by name or path: `dataset[i]` is (RGB PIL image, class number).

    Args:
        name_or_path: "digits"; "photographs"; "shapes" (options n=, snow=, word=);
            "torchvision:NAME" (options go to its constructor); "hf:NAME", or a folder that
            `save_to_disk` of the package datasets wrote (see `read_hf`); an image folder (see
            `read_folder`; "~" is expanded; "./digits" is a folder, "digits" is not); a .csv, .tsv
            or .parquet table (see `read_table`); .npz or .npy arrays (see `read_arrays`); or, in
            memory, an `ImageDataset`, a map-style data set, or a pair (images, labels) of arrays,
            of which each split is cut.
        split: "train", "val" or "test"; splits that the source lacks are carved out of train.
        limit: at most so many images, a stratified, seeded sample; at least one a class.
        seed: decides the sample and also which images each carved split holds: use the same one for
            train, val and test, or they will overlap.
        group: a column of what is known of each image (a folder's metadata.csv, a table), or a
            regular expression with one capture group searched in the relative path; images of one
            group stay on one side of carved splits.
        classes: keeps these alone, in this order, by their new names.
        rename: new names by old ones; classes of one new name become one.
        options: of the source.
    Raises:
        DatasetError: restating the argument at fault and saying what is valid. Warns where a class
            has no image in the split; `ImageDataset.counts` tells how many each has.
    """
    seed = integer("seed", seed, 0)
    if limit is not None:
        limit = integer("limit", limit, 1)
    one_of(split, SPLITS, "split", DatasetError)
    if group is not None:
        options["group"] = group
    dataset = _load(name_or_path, split, seed, options, (classes, rename))
    if rename:
        dataset = dataset.renamed(rename)
    if classes:
        dataset = dataset.only(classes)
    counts = dataset.counts
    if len(lacking := counts.index[counts == 0]):
        warn(
            f"{dataset.name}: {split} has no image of {listed(lacking)}, so that nothing can be "
            "measured of it there. Add some, or choose other classes (classes=[…]) or groups",
            stacklevel=2,
        )
    if limit is None or limit >= len(dataset):
        return dataset
    if limit < (n_classes := (counts > 0).sum()):
        raise DatasetError(
            f"limit={limit} leaves some of the {n_classes} classes of {dataset.name} without an "
            "image"
        )
    return dataset.subset(stratified_sample(dataset.targets, limit, seed))


def _load(source, split, seed, options, named):
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
    path, hub = Path(name).expanduser(), name.startswith("hf:")
    ways = {"split": split, "seed": seed}
    if isinstance(source, str) and name in _BUILT_IN:
        check_options(name, options, inspect.signature(_BUILT_IN[name]).parameters.keys() - ways)
        return _BUILT_IN[name](**ways, **options)
    if name.startswith("torchvision:"):
        return load_torchvision(name.removeprefix("torchvision:"), **ways, **options)
    if isinstance(source, str) and not hub and not (name and path.exists()):
        raise DatasetError(  # "" would be the current folder
            f"unknown data set {source!r}: no such name, and no such folder"
            f"{nearest(name, [*_BUILT_IN, 'torchvision:', 'hf:'])} Understood are "
            f"{', '.join(map(repr, _BUILT_IN))}, "
            '"torchvision:NAME" (such as "torchvision:CIFAR10"), "hf:NAME", and the path of an '
            f"image folder or of a file ({listed(_FILES)})"
        )
    read, place = partial(read_folder, named=named), path
    if not name:
        read, place = read_hf if hasattr(source, "column_names") else _read_memory, source
    elif hub or any((path / file).is_file() for file in ON_DISK):
        read, place = read_hf, name.removeprefix("hf:")
    elif path.is_file():
        read = _FILES.get(path.suffix.lower(), read)
    takes = {*inspect.signature(read).parameters, "group"} - {"place", "named"}
    check_options(name or type(source).__name__, options, takes)
    group = options.pop("group", None)
    return cut(*read(place, **options), group=group, **ways)


def _read_memory(place, /):
    return (gathered(*place) if isinstance(place, tuple) else wrap(place),)
