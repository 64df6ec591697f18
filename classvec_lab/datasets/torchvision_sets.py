"""Torchvision's classification sets: their own splits where they have them, the folder rule where
not.
"""

import difflib
import inspect
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DatasetError
from ..files import data_dir, hash_bytes
from .base import ImageDataset
from .folder import find_groups
from .images import ImageFiles, to_rgb
from .splits import SPLITS, carve, check_split
from .torchvision_repair import ensure_torchvision

_ALIASES = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid", "validation"),
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
    """A torchvision data set without image files: `load(i)` asks it for item i, `identity` hashes
    the pixels.
    """

    def __init__(self, source, name: str):
        self.source, self.name = source, name

    def load(self, i: int) -> Image.Image:
        image = self.source[i][0]
        if not isinstance(image, Image.Image):
            raise DatasetError(f"{self.name} gives no images: item {i} is a {type(image).__name__}")
        return to_rgb(image, f"{self.name}, image {i}")

    def identity(self, indices: np.ndarray) -> object:
        images = (self.load(int(i)) for i in indices)
        return [
            "items",
            [hash_bytes(str(image.size).encode(), image.tobytes()) for image in images],
        ]


def _find_class(name: str) -> type:
    ensure_torchvision()
    from torchvision import datasets

    found = {n: getattr(datasets, n) for n in datasets.__all__ if n not in _GENERIC}
    known = {
        n: c
        for n, c in found.items()
        if inspect.isclass(c) and issubclass(c, datasets.VisionDataset)
    }
    if name not in known:
        by_lower = {n.lower(): n for n in known}
        only = 1 if name.lower() in by_lower else 3
        near = [by_lower[n] for n in difflib.get_close_matches(name.lower(), by_lower, n=only)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
        raise DatasetError(f"torchvision has no data set {name!r}: {hint}")
    return known[name]


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Of the constructor, and of its parents' for as long as it passes **kwargs on."""
    merged: dict[str, inspect.Parameter] = {}
    for klass in cls.__mro__:
        if "__init__" in vars(klass):
            parameters = inspect.signature(vars(klass)["__init__"]).parameters
            merged = {
                n: p for n, p in parameters.items() if n != "self" and p.kind != p.VAR_KEYWORD
            } | merged
            if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
                break
    return merged


def _check_options(
    label: str, parameters: Mapping[str, inspect.Parameter], options: Mapping
) -> dict:
    """The constructor's arguments, `split_` standing for its `split` where `train` chooses the
    part.
    """
    both = {"train", "split"} <= set(parameters)
    valid = {n for n in parameters if n not in _OURS} | ({"split_"} if both else set())
    if unknown := sorted(set(options) - valid):
        raise DatasetError(
            f"{label} has no option {', '.join(unknown)}; it takes "
            f"{', '.join(sorted(valid)) or 'none'}"
        )
    required = {n for n, p in parameters.items() if p.default is p.empty and n in valid - {"root"}}
    if both and parameters["split"].default is inspect.Parameter.empty:
        required.add("split_")
    if missing := sorted(required - set(options)):
        raise DatasetError(f"{label} needs the option {', '.join(missing)}")
    arguments = {("split" if n == "split_" else n): value for n, value in options.items()}
    if "root" in parameters:
        arguments["root"] = os.path.abspath(
            os.path.expanduser(options.get("root", data_dir() / "torchvision"))
        )
    return arguments


def _ready_made(
    cls: type, parameters: Mapping[str, inspect.Parameter], arguments: dict
) -> dict[str, dict]:
    """Per split that the set itself has, the argument that chooses it."""
    if "train" in parameters:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" not in parameters:
        return {}
    ready = {}
    quiet = {"download": False} if "download" in parameters else {}
    with (
        tempfile.TemporaryDirectory() as empty
    ):  # names of splits are checked before files are looked for
        for split in SPLITS:
            for alias in _ALIASES[split]:
                try:
                    cls(**(arguments | quiet | {"root": empty, "split": alias}))
                except ValueError as error:
                    if "argument split" in str(error):
                        continue
                except Exception:
                    pass  # no files there, as meant: the name was accepted
                ready[split] = {"split": alias}
                break
    return ready


def _build(label: str, cls: type, parameters: Mapping[str, inspect.Parameter], arguments: dict):
    """The torchvision data set, downloaded when it isn't there yet."""
    can_download = "download" in parameters
    try:
        return cls(**arguments, **({"download": False} if can_download else {}))
    except (RuntimeError, OSError) as error:
        absent = error
    except Exception as error:
        raise DatasetError(f"{label} can't be built: {error}") from error
    root = arguments.get("root")
    place = f"put its files under {root}, laid out as torchvision.datasets.{cls.__name__} expects"
    if not can_download:
        raise DatasetError(
            f"{label} isn't there yet and can't be downloaded automatically ({absent}); {place}"
        ) from absent
    from filelock import FileLock

    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(root) / f".{cls.__name__}.lock"):  # notebooks run side by side
            return cls(**arguments, download=True)
    except (
        Exception
    ) as error:  # whatever stops a download: network, archive, disk, a missing helper package
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DatasetError(
            f"{label} isn't there yet, and downloading it failed ({reason}). Run this once with a "
            f"network, or {place}"
        ) from error


def _targets(source, label: str) -> np.ndarray:
    """Labels (N,) from the usual attributes, else by reading every item once."""
    candidates = [getattr(source, name, None) for name in ("targets", "labels", "_labels")]
    if samples := getattr(source, "_samples", None):
        candidates.append([label for _, label in samples])
    for candidate in candidates:
        if candidate is not None and len(candidate) == len(source):
            labels = np.asarray(candidate)
            if labels.ndim == 1 and labels.dtype.kind in "iu":
                break
    else:
        read: list[int] = []
        for i in range(len(source)):
            one = np.asarray(source[i][1])
            if one.size != 1 or one.dtype.kind not in "iu":
                raise DatasetError(
                    f"{label} doesn't give each image one class: the label of item {i} is "
                    f"{source[i][1]!r:.80}"
                )
            read.append(int(one.reshape(())))
        labels = np.array(read)
    if len(labels) and labels.min() < 0:
        raise DatasetError(
            f"{label} holds images without a class ({int((labels < 0).sum())} labels are negative)"
        )
    return labels.astype(np.int64)


def _classes(source, targets: np.ndarray) -> list[str]:
    """The set's own class names, else numbers."""
    count = max(int(targets.max()) + 1, int(getattr(source, "num_classes", 0) or 0))
    mapping = getattr(source, "class_to_idx", None)
    candidates = [getattr(source, "classes", None), getattr(source, "categories", None)]
    candidates.append(sorted(mapping, key=mapping.get) if mapping else None)
    for names in candidates:
        if isinstance(names, (list, tuple)) and len(names) >= count:
            return [", ".join(name) if isinstance(name, tuple) else str(name) for name in names]
    return [str(i) for i in range(count)]


def _files(source, root: str | None) -> ImageFiles | None:
    """The image files behind the items, in order, where the set has such."""
    for name in ("samples", "imgs", "_samples", "_image_files", "_images"):
        listed = getattr(source, name, None)
        if root is None or not isinstance(listed, Sequence) or len(listed) != len(source):
            continue
        paths = [entry[0] if isinstance(entry, tuple) else entry for entry in listed]
        if all(isinstance(p, (str, os.PathLike)) and Path(p).is_relative_to(root) for p in paths):
            return ImageFiles(Path(root), [Path(p).relative_to(root).as_posix() for p in paths])
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
    check_split(label, split)
    cls = _find_class(name)
    parameters = _parameters(cls)
    arguments = _check_options(label, parameters, options)
    ready = _ready_made(cls, parameters, arguments)
    part = split if split in ready else "train"
    source = _build(label, cls, parameters, arguments | ready.get(part, {}))
    targets = _targets(source, label)
    if len(targets) == 0:
        raise DatasetError(f"{label} holds no images")
    images = _files(source, arguments.get("root"))
    metadata = groups = None
    if images is not None:
        metadata = pd.DataFrame({"file": images.files})
    if group is not None:
        if metadata is None:
            raise DatasetError(
                f"{label} has no file names to tell groups by; leave out group={group!r}"
            )
        metadata["group"] = groups = find_groups(group, images.files, metadata)
    indices = None
    if part == "train":
        indices = carve(targets, split, seed, given=ready, groups=groups)
    items = images or _Items(source, label)
    return ImageDataset(
        items.load,
        targets,
        _classes(source, targets),
        name=label,
        split=split,
        identity=items.identity,
        metadata=metadata,
        indices=indices,
    )
