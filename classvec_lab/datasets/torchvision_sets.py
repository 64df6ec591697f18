"""Torchvision's classification sets: their own splits where they have them, the folder rule where
not.
"""

import inspect
import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ..checks import listed, nearest
from ..errors import DatasetError
from ..files import data_dir, hash_bytes, locked
from .base import ImageDataset, check_options
from .folder import find_groups
from .images import ImageFiles, to_rgb
from .splits import carve
from .torchvision_repair import ensure_torchvision

_ALIASES = {  # their name of each part: the last that a set knows
    "train": ("train-standard", "trainval", "train"),
    "val": ("validation", "valid", "val"),
    "test": ("test",),
}
_OURS = {
    "train",
    "split",
    "download",
    "transform",
    "target_transform",
    "transforms",
    "loader",
    "is_valid_file",
}
_GENERIC = {"VisionDataset", "ImageFolder", "DatasetFolder"}


class _Items:
    """A torchvision data set without image files, known by its pixels."""

    describe = None

    def __init__(self, source, name: str):
        self.source, self.name = source, name

    def load(self, i: int) -> Image.Image:
        image = self.source[i][0]
        if not isinstance(image, Image.Image):
            raise DatasetError(f"{self.name} gives no images: item {i} is a {type(image).__name__}")
        return to_rgb(image, f"{self.name}, image {i}")

    def identity(self, indices: np.ndarray) -> object:
        images = (self.load(int(i)) for i in indices)
        hashes = [hash_bytes(str(image.size).encode(), image.tobytes()) for image in images]
        return ["items", hashes]


def _find_class(name: str) -> type:
    ensure_torchvision()
    from torchvision import datasets

    known = {
        n: c
        for n, c in vars(datasets).items()
        if inspect.isclass(c) and issubclass(c, datasets.VisionDataset) and n not in _GENERIC
    }
    if name not in known:
        raise DatasetError(
            f"torchvision has no data set {name!r}{nearest(name, known)} It has {listed(known, 99)}"
        )
    return known[name]


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Of the constructor, and of its parents' for as long as it passes **kwargs on.

    A `split` is called `split_` where `train` chooses the part.
    """
    found: dict[str, inspect.Parameter] = {}
    for klass in cls.__mro__:
        own = inspect.signature(klass).parameters
        named = {n: p for n, p in own.items() if p.kind != p.VAR_KEYWORD}
        found = named | found
        if len(named) == len(own):
            break
    if found.keys() >= {"train", "split"}:
        found["split_"] = found.pop("split")
    return found


def _arguments(label: str, parameters: dict[str, inspect.Parameter], options: dict) -> dict:
    """The constructor's arguments but for the part."""
    check_options(label, options, parameters.keys() - _OURS)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in {"root", *_OURS, *options}:
            raise DatasetError(f"{label} needs the option {name}")
    arguments = {n.removesuffix("_"): value for n, value in options.items()}
    if "root" in parameters:
        root = options.get("root", data_dir() / "torchvision")
        arguments["root"] = os.path.abspath(os.path.expanduser(root))
    if "download" in parameters:
        arguments["download"] = False
    return arguments


def _ready_made(cls: type, parameters: Collection[str], arguments: dict) -> dict[str, dict]:
    """Per split that the set itself has, the argument that chooses it."""
    if "train" in parameters:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" not in parameters:
        return {}
    known = ""
    with tempfile.TemporaryDirectory() as empty:
        try:
            cls(**arguments | {"root": empty, "split": ""})
        except Exception as error:  # "… for argument split. Valid values are {'train', 'test'}."
            known = str(error)
    return {
        split: {"split": alias}
        for split, aliases in _ALIASES.items()
        for alias in aliases
        if f"'{alias}'" in known or "argument split" not in known  # it fails before it looks
    }


def _build(label: str, cls: type, arguments: dict):
    """The torchvision data set, downloaded when it isn't there yet."""
    try:
        return cls(**arguments)
    except (RuntimeError, OSError) as error:
        absent = error
    except Exception as error:
        raise DatasetError(f"{label} can't be built: {error}") from error
    root = arguments.get("root")
    place = f"put its files under {root}, laid out as torchvision.datasets.{cls.__name__} expects"
    if "download" not in arguments:
        raise DatasetError(
            f"{label} isn't there yet and can't be downloaded automatically ({absent}); {place}"
        ) from absent
    try:
        with locked(Path(root) / cls.__name__):  # notebooks run side by side
            return cls(**arguments | {"download": True})
    except Exception as error:  # whatever stops it: network, archive, disk, a missing package
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DatasetError(
            f"{label} isn't there yet, and downloading it failed ({reason}). Run this once with a "
            f"network, or {place}"
        ) from error


def _targets(source, label: str) -> np.ndarray:
    """Labels (N,) from the usual attributes, else by reading every item once."""
    listings = [getattr(source, name, None) for name in ("targets", "labels", "_labels")]
    listings.append([target for _, target in getattr(source, "_samples", [])])
    for listing in listings:
        if listing is not None and len(listing) == len(source):
            labels = np.asarray(listing)
            if labels.ndim == 1 and labels.dtype.kind in "iu":
                break
    else:
        labels = np.zeros(len(source), dtype=np.int64)
        for i in range(len(source)):
            one = np.asarray(source[i][1])
            if one.size != 1 or one.dtype.kind not in "iu":
                raise DatasetError(
                    f"{label} doesn't give each image one class: the label of item {i} is "
                    f"{source[i][1]!r:.80}"
                )
            labels[i] = one.item()
    if (labels < 0).any():
        raise DatasetError(
            f"{label} holds images without a class ({(labels < 0).sum()} labels are negative)"
        )
    return labels


def _classes(source, targets: np.ndarray) -> list[str]:
    """The set's own class names, else numbers."""
    count = max(int(targets.max()) + 1, int(getattr(source, "num_classes", 0) or 0))
    numbers = getattr(source, "class_to_idx", None) or {}
    for listing in ("classes", "categories"):
        names = getattr(source, listing, None) or sorted(numbers, key=numbers.get)
        if len(names) >= count:
            return [", ".join(name) if isinstance(name, tuple) else str(name) for name in names]
    return [str(i) for i in range(count)]


def _files(source, root: str | None) -> ImageFiles | None:
    """The image files behind the items, in order, where the set has such."""
    for name in ("samples", "_samples", "_image_files", "_images"):
        listing = getattr(source, name, None)
        if root is None or not isinstance(listing, Sequence) or len(listing) != len(source):
            continue
        paths = [entry[0] if isinstance(entry, tuple) else entry for entry in listing]
        if all(isinstance(p, (str, os.PathLike)) and Path(p).is_relative_to(root) for p in paths):
            files = [Path(p).relative_to(root).as_posix() for p in paths]
            return ImageFiles(Path(root), pd.DataFrame({"file": files}))
    return None


def load_torchvision(
    name: str, /, *, split: str, seed: int, group: str | None = None, **options
) -> ImageDataset:
    """Torchvision's data set `name` ("CIFAR10", "EuroSAT", "FakeData", ...), downloaded under
    data/torchvision once.

    Its own train, val and test are used; what is missing is carved out of train as in
    `load_folder`, and a set with no splits is cut 60/20/20. `group` is a regular expression with
    one capture group searched in the file's path relative to the root, for sets made of image
    files. `options` go to the constructor (FakeData: size=, num_classes=, image_size=; `root=`
    where the files already lie; `split_=` for EMNIST's own "split"). Raises DatasetError for
    unknown names and options, failed downloads, and sets without one class an image.
    """
    label = f"torchvision:{name}"
    cls = _find_class(name)
    parameters = _parameters(cls)
    arguments = _arguments(label, parameters, options)
    ready = _ready_made(cls, parameters, arguments)
    part = split if split in ready else "train"
    source = _build(label, cls, arguments | ready.get(part, {}))
    if len(source) == 0:
        raise DatasetError(f"{label} holds no images")
    targets = _targets(source, label)
    items = _files(source, arguments.get("root")) or _Items(source, label)
    groups = None
    if group is not None:
        if items.describe is None:
            raise DatasetError(
                f"{label} has no file names to tell groups by; leave out group={group!r}"
            )
        items.table["group"] = groups = find_groups(group, items.table)
    return ImageDataset(
        items.load,
        targets,
        _classes(source, targets),
        name=label,
        split=split,
        identity=items.identity,
        describe=items.describe,
        indices=carve(targets, split, seed, given=ready, groups=groups)
        if part == "train"
        else None,
    )
