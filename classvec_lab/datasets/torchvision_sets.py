"""Torchvision's classification sets: their own splits where they have them, the folder rule where
not.
"""

import inspect
import os
import tempfile
from pathlib import Path

from ..checks import listed, nearest
from ..errors import DatasetError
from ..files import data_dir, locked
from .base import ImageDataset, check_options
from .images import ImageFiles
from .items import Items, class_names, files_of, labels_of, made
from .table import cut
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
_GENERIC = {"VisionDataset", "ImageFolder", "DatasetFolder", "wrap_dataset_for_transforms_v2"}


def _find_class(name):
    ensure_torchvision()
    from torchvision import datasets

    known = [known for known in datasets.__all__ if known not in _GENERIC]
    if name not in known:
        raise DatasetError(
            f"torchvision has no data set {name!r}{nearest(name, known)} It has {listed(known, 99)}"
        )
    return getattr(datasets, name)


def _parameters(cls):
    """Of the constructor, and of its parents' for as long as it passes **kwargs on.

    A `split` is called `split_` where `train` chooses the part.
    """
    found = {}
    for klass in cls.__mro__:
        own = inspect.signature(klass).parameters
        named = {n: p for n, p in own.items() if p.kind != p.VAR_KEYWORD}
        found = named | found
        if len(named) == len(own):
            break
    if found.keys() >= {"train", "split"}:
        found["split_"] = found.pop("split")
    return found


def _arguments(label, parameters, options):
    """The constructor's arguments but for the part."""
    check_options(label, options, parameters.keys() - _OURS)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in {"root", *_OURS, *options}:
            raise DatasetError(f"{label} needs the option {name}")
    arguments = {"root": data_dir() / "torchvision", "download": False, **options}
    arguments["root"] = os.path.abspath(os.path.expanduser(arguments["root"]))
    return {n.removesuffix("_"): value for n, value in arguments.items() if n in parameters}


def _ready_made(cls, parameters, arguments):
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


def _build(label, cls, arguments):
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


def load_torchvision(
    name: str, /, *, split: str, seed: int, group: str | None = None, **options
) -> ImageDataset:
    """Torchvision's data set `name` ("CIFAR10", "EuroSAT", "FakeData", ...), downloaded under
    data/torchvision once.

    Its own train, val and test are used; what is missing is carved out of train as in
    `read_folder`, and a set with no splits is cut 60/20/20. `group` is a regular expression with
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
    targets, names = labels_of(source, label), class_names(source) or ()
    count = max(int(targets.max()) + 1, int(getattr(source, "num_classes", 0) or 0))
    root = arguments.get("root")
    table = files_of(source, root)
    items = Items(source, label, 0) if table is None else ImageFiles(Path(root), table)
    whole = made(items, targets, names if len(names) >= count else range(count), label, table=table)
    return cut(whole, split=split, seed=seed, group=group, given=ready)
