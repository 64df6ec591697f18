"""Images and labels in memory: arrays, and the items of map-style data sets."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ..checks import array, listed, named, one_of
from ..errors import DatasetError, ModelError
from ..files import hash_bytes
from .base import ImageDataset, warn
from .images import to_rgb

CHANNELS, PROBED = (1, 3, 4), 8  # of an array; items that are read twice


def class_order(names: Iterable[str], order: str | None = None) -> list[str]:
    """Distinct names in the order of their numbers, 10 after 9, where all are; else as text.

    Raises DatasetError for another order than None, "text" and, where all are numbers, "number".
    """
    text = sorted(set(names))
    numbers = all(map(str.isdecimal, text))
    one_of(order, (None, "text", *["number"] * numbers), "order of classes", DatasetError)
    return sorted(text, key=int) if numbers and order != "text" else text


as_array = partial(array, what="a data set", kinds="biufcUTSOmM", error=DatasetError)


def to_image(values, name: str, *, many: bool = False) -> Image.Image:
    """The RGB image of a PIL image, an array or a tensor.

    Args:
        values: (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4; uint8, bool, or floats from 0
            to 1.
        name: what an error calls it.
        many: checks all of several images along the first axis, and gives the first.
    Raises:
        DatasetError: for anything else, and for shapes that can be read in two ways.
    """
    if isinstance(values, Image.Image):
        return to_rgb(values, name)
    values = as_array(values)
    shape, top = values.shape[many:], 255 if values.dtype == np.uint8 else 1
    channels = [axis for axis in (0, -1) if len(shape) == 3 and shape[axis] in CHANNELS]
    known = values.size and (top == 255 or values.dtype.kind in "bf")
    low, high = (float(values.min()), float(values.max())) if known else (np.nan, np.nan)
    fault = ""
    if len(shape) - 2 != len(channels):
        fault = "an image is (H, W), (H, W, C) or (C, H, W), where C = 1, 3 or 4, and no other side"
    elif not (low >= 0 and high <= top + 1e-6):  # written so that NaN fails too
        fault = "give uint8, bool, or floats from 0 to 1, not yet normalised for a network"
    elif many and top == 255 and high <= 1:
        fault = "all of them would be black: multiply by 255, or give bool"
    if fault:
        raise DatasetError(
            f"{name}: {values.dtype} of shape {values.shape} from {low:g} to {high:g}: {fault}"
        )
    pixels = values[0] if many else values
    if channels == [0]:
        pixels = np.moveaxis(pixels, 0, -1)
    if top == 1:
        pixels = np.rint(pixels * 255.0).astype(np.uint8)
    if pixels.shape[2:] == (1,):
        pixels = pixels[..., 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)), name)


def numbered(labels, classes: Sequence[str] | None, name: str) -> tuple[np.ndarray, Sequence]:
    """Class numbers (N,) and classes of labels (N,), whole numbers or text.

    Numbers count from 0 along `classes`, or from 1 where they end at C. Without `classes` labels
    name themselves. A number that is changed is warned of. Raises DatasetError for other labels,
    and for those beyond the classes.
    """
    labels = as_array(labels)
    text = labels.dtype.kind in "UT"
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "UTbui":
        raise DatasetError(
            f"{name}: labels are a whole number or a name for each image; got {labels.dtype} of "
            f"shape {labels.shape}"
        )
    known = classes
    if classes is None:
        known = class_order(labels.tolist()) if text else np.unique(labels[labels >= 0])
    if text or classes is None:
        targets = pd.Index(known).get_indexer(labels)
    else:
        targets = labels - int(labels.min() == 1 and labels.max() == len(classes))
    if (wrong := (targets < 0) | (targets >= len(known))).any():
        raise DatasetError(
            f"{name}: labels {listed(np.unique(labels[wrong]))} are none of the {len(known)} "
            f"classes {listed(known)}, numbered from 0"
        )
    if not text and (targets != labels).any():
        warn(
            f"{name}: labels from {labels.min()} to {labels.max()} became class numbers from 0 to "
            f"{targets.max()}: {labels.min()} is number {targets.min()}, {str(known[0])!r}"
        )
    names = pd.Series(named(known, DatasetError))
    if len(alike := names[names.str.strip().str.casefold().duplicated(keep=False)]):
        warn(f"{name}: classes that differ in case or spaces alone: {listed(map(repr, alike))}")
    return targets, known


def item(source, name: str, i: int, key=None):
    """source[i], or what it has under a `key`; raises DatasetError that names the item."""
    try:
        return source[i] if key is None else source[i][key]
    except Exception as error:
        raise DatasetError(f"{name}: item {i} can't be read ({error!r:.200})") from error


@dataclass
class Items:
    """The images of a data set in memory, known by their pixels.

    source: images by number, or, with a `key`, what has the image under it. `steady`: whether an
    image is the same at each reading.
    """

    source: object
    name: str
    key: object = None
    steady: bool = True

    def load(self, i: int) -> Image.Image:
        image = item(self.source, self.name, int(i), self.key)
        if not isinstance(image, Image.Image) and not hasattr(image, "shape"):
            raise DatasetError(f"{self.name} gives no images: item {i} is a {type(image).__name__}")
        return to_image(image, f"{self.name}, image {i}")

    def identity(self, indices: Sequence[int]) -> object:
        if not self.steady:
            return None
        images = map(self.load, indices)
        return ["items", [hash_bytes(str(i.size).encode(), i.tobytes()) for i in images]]


def labels_of(source, name: str, *, probe: bool = False) -> np.ndarray:
    """Labels (N,) of a map-style data set, from the usual attributes, else from every item.

    `probe`: only where some agree with the items, which a target_transform changes.
    """

    def label(i):
        one = as_array(found := item(source, name, i, 1))
        if one.size != 1 or one.dtype.kind not in "iu":
            raise DatasetError(
                f"{name} doesn't give each image one class: the label of item {i} is {found!r:.80}"
            )
        return one.item()

    n = len(source)
    listings = [getattr(source, known, ()) for known in ("targets", "labels", "_labels")]
    listings += [[target for _, target in getattr(source, "_samples", [])]]
    some = (0, n // 2, n - 1) if probe else ()
    for labels in map(as_array, listings):
        whole = labels.shape == (n,) and labels.dtype.kind in "iu"
        if whole and all(label(i) == labels[i] for i in some):
            break
    else:
        labels = np.array([label(i) for i in range(n)])
    if (labels < 0).any():
        raise DatasetError(
            f"{name} holds images without a class ({(labels < 0).sum()} labels are negative)"
        )
    return labels.astype(np.int64)


def class_names(source) -> list[str] | None:
    """A map-style data set's own class names, or those of the ones inside; None without.

    Raises DatasetError where a `ConcatDataset` joins several that differ.
    """
    for listing in ("classes", "categories", "class_to_idx"):
        names = getattr(source, listing, None)
        if isinstance(names, dict):  # their numbers by name
            names = sorted(names, key=names.get)
        if isinstance(names, (list, tuple, np.ndarray)) and len(names):
            return [", ".join(name) if isinstance(name, tuple) else str(name) for name in names]
    inside = [source.dataset] if hasattr(source, "dataset") else getattr(source, "datasets", ())
    members = [class_names(member) for member in inside]
    if any(names != members[0] for names in members):
        told = " and ".join(listed(names or ["no names"]) for names in members)
        raise DatasetError(
            f"{type(source).__name__} joins data sets of different classes, {told}: give them the "
            "same ones, or say what the numbers mean by ImageDataset.from_dataset(…, classes=[…])"
        )
    return members[0] if members else None


def files_of(source, root: str | None) -> pd.DataFrame | None:
    """A column `file` of the images behind the items, below `root`, where a data set has files."""
    for name in ("samples", "_samples", "_image_files", "_images"):
        with suppress(TypeError, ValueError):  # something else than paths below the root
            listing = getattr(source, name, ())
            paths = (entry[0] if isinstance(entry, tuple) else entry for entry in listing)
            files = [Path(path).relative_to(root).as_posix() for path in paths]
            if len(files) == len(source):
                return pd.DataFrame({"file": files})
    return None


def wrap(source, classes: Sequence[str] | None = None, split: str = "all") -> ImageDataset:
    """A map-style data set as an `ImageDataset`, see `ImageDataset.from_dataset`."""
    if isinstance(source, ImageDataset):
        return source
    name = type(source).__name__
    if name == "Subset" and type(source).__module__.startswith("torch."):
        return wrap(source.dataset, classes, split).subset(as_array(source.indices))
    try:
        first, some = source[0], range(len(source))[:PROBED]
    except Exception as error:
        first = error
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        raise DatasetError(
            f"{name} is no map-style data set, with len() and [i], of pairs (image, label): its "
            f"first item is {first!r:.80}. Of a DataLoader give .dataset"
        )
    items = Items(source, name, 0)
    items.steady = items.identity(some) == items.identity(some)
    if not items.steady:
        warn(
            f"{name} gives other pixels at each reading, as random transforms do: two models would "
            "see other images, and nothing is cached. Leave such transforms out"
        )
    labels = labels_of(source, name, probe=True)
    targets, names = numbered(labels, classes or class_names(source), name)
    table = files_of(source, getattr(source, "root", None))
    return made(items, targets, names, name, split, table)


def gathered(images, labels, classes=None, metadata=None, split: str = "all") -> ImageDataset:
    """Arrays as an `ImageDataset`, see `ImageDataset.from_arrays`."""
    images, (targets, names) = as_array(images), numbered(labels, classes, "arrays")
    to_image(images, "arrays", many=True)
    table = None if metadata is None else pd.DataFrame(metadata).reset_index(drop=True)
    if {len(targets), len(targets if table is None else table)} != {len(images)}:
        raise DatasetError(
            f"arrays: {len(images)} images, {len(targets)} labels and metadata of "
            f"{0 if table is None else len(table)} rows"
        )
    return made(Items(images, "arrays"), targets, names, "arrays", split, table)


def made(items, targets, classes, name: str, split: str = "all", table=None) -> ImageDataset:
    """The data set of `Items` or `ImageFiles`, with a frame `table` of what is known of each."""
    how = {"split": split, "identity": items.identity, "describe": table}
    return ImageDataset(items.load, targets, classes, name=name, **how)


def usable_for(classifier, dataset) -> ImageDataset:
    """`usable`, by default with a classifier's classes; raises ModelError for another network."""
    if not hasattr(classifier, "classes"):
        how = "write Classifier.from_module(network, classes=…, preprocess=…) of it"
        raise ModelError(f"a Classifier is needed, no {type(classifier).__name__}: {how}")
    return usable(dataset, classifier.classes)


def usable(dataset, classes: Sequence[str]) -> ImageDataset:
    """An `ImageDataset` as it is, else of a map-style data set, by default with these classes."""
    return wrap(dataset, class_names(dataset) or classes)
