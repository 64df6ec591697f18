"""Image folders: one folder per class, ready-made splits used, missing ones carved out by class and
group.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from ..checks import listed
from ..errors import DatasetError
from ..words import several
from .base import warn
from .images import IMAGES, ImageFiles
from .items import class_order, made
from .splits import find_parts
from .table import Parts, read_frame, relative

BESIDE = re.compile(  # what lies beside images and is none: hidden files, notes, tables
    r"\..*|.*\.(txt|md|json|ya?ml|xml|html|csv|tsv|parquet|db|ini|pdf|py)", re.IGNORECASE
)
_LAYOUTS = (
    "Understood are: one folder per class with images in it (ROOT/cat/1.jpg), or "
    "ROOT/train/cat/1.jpg "
    "with val/ (or valid/, validation/) and test/ beside train/ where they exist."
)


def _shown(folder: Path, kind: Callable) -> list[Path]:
    """What lies right in a folder, isn't hidden, and is of a kind by its entry there.

    Raises DatasetError where the folder can't be read.
    """
    try:
        with os.scandir(folder) as entries:  # which know files without a look at each
            return sorted(Path(e) for e in entries if e.name[0] != "." and kind(e))
    except OSError as error:
        _refuse(error)


def _folders(path: Path) -> list[Path]:
    """Folders right in a folder, but for links to where it lies; dead links may have been some."""
    real = path.resolve()
    found = _shown(path, lambda e: e.is_symlink() or e.is_dir())
    found = (p for p in found if not real.is_relative_to(p.resolve()))
    return [p for p in found if p.is_dir() or not (p.exists() or p.suffix)]


def _images(folder: Path, root: Path) -> list[str]:
    """Image files below `folder`, each real file once, as sorted posix paths relative to `root`.

    Links that lead back into folders that it lies in are not followed.
    """
    met, found, odd = {str(parent) for parent in folder.resolve().parents}, {}, []
    for here, inner, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(here)
        if real in met:
            inner.clear()
            continue
        met.add(real)
        inner[:] = sorted(name for name in inner if name[0] != ".")
        odd += [f"{real}/{n}" for n in names if not (BESIDE.fullmatch(n) or IMAGES.fullmatch(n))]
        within = os.path.relpath(here, root).replace(os.sep, "/")
        for name in filter(IMAGES.fullmatch, sorted(names)):
            path = os.path.join(here, name)
            place = os.path.realpath(path) if os.path.islink(path) else f"{real}/{name}"
            found.setdefault(place, f"{within}/{name}")
    if odd := sorted(filter(os.path.isfile, {*odd} - found.keys())):  # but for what links name
        warn(f"{folder}: {several(len(odd), 'file')} left out as no images, such as {odd[0]}")
    return sorted(found.values())


def _loose(folder: Path) -> list[Path]:
    """Image files right in a folder."""
    found = _shown(folder, lambda e: IMAGES.fullmatch(e.name) and (e.is_symlink() or e.is_file()))
    return [path for path in found if path.is_file()]


def _refuse(error: OSError):
    raise DatasetError(f"can't look into {error.filename}: {error.strerror}") from error


def _within(folder: Path) -> Path:
    """`folder`, or the one in it that says the same again: seg_train/seg_train, train/images."""
    inner = _folders(folder)
    if len(inner) != 1 or not _folders(inner[0]) or _loose(folder):
        return folder
    name = inner[0].name
    again = name == folder.name or find_parts([name, f"{name}_train"])
    return _within(inner[0]) if again else folder


def _parts(root, named):
    """Folder of each ready-made split; {"train": root} where the class folders lie in the root
    itself, as where the folders are `named` as classes.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DatasetError(
            f"an image folder is needed, but {root} {what}. {_LAYOUTS} Files of other formats than "
            ".csv, .tsv, .parquet, .npz and .npy hold no data set that can be read."
        )
    folders = {folder.name: folder for folder in _folders(root)}
    found = {} if _all_named(folders, named) else find_parts(folders)
    if list(found.values()) == ["train"] and len(folders) > 1:
        (only,) = (folders[name] for name in found)
        if _loose(only) and not _folders(only):
            found = {}  # beside "bus" and "car", a "train" with images right in it is a class
    if not found:
        return {"train": root}
    parts = {}
    for name, part in found.items():
        if (first := parts.setdefault(part, folders[name])) != folders[name]:
            raise DatasetError(
                f"{root} has two {part} folders, {first.name}/ and {name}/; rename or remove one"
            )
    if "train" not in parts:
        raise DatasetError(
            f"{root} has {listed(f'{name}/' for name in folders)} but no train/. {_LAYOUTS} If "
            f"these are classes, name them: classes={list(folders)}"
        )
    parts = {part: _within(folder) for part, folder in parts.items()}
    for name in sorted(folders.keys() - found.keys()):
        if _sorted_into(folders[name]) & {p.name for p in _folders(parts["train"])}:
            raise DatasetError(
                f"{root} has {listed(f'{name}/' for name in folders)}: {name}/ holds classes of "
                f"{parts['train']}, but has no name of a split: call it val or test, or remove it"
            )
        if images := _images(folders[name], root):
            warn(
                f"{root}: {name}/ beside {listed(f'{other}/' for other in found)} is taken for no "
                f"split and left out ({several(len(images), 'image')})"
            )
    return parts


def _all_named(folders, named):
    """Whether all names of one of some lists, which may be None, are names of folders."""
    return any(names and {*folders} >= set(map(str, names)) for names in named)


def _scan(root, parts, order, named):
    """One row an image, `file` (relative), `target` (class number) and `part`; the class names."""
    train = parts["train"]
    inside, loose = {}, []
    for part, folder in parts.items():
        inside[part] = {p.name: _images(p, root) for p in _folders(folder)}
        loose += (outside := _loose(folder))
        if not any(inside[part].values()):
            lie = f" ({len(outside)} lie outside of any)" if outside else ""
            raise DatasetError(
                f"no images in class folders under {folder}{lie}. {_LAYOUTS} Without its "
                f"splits a set can be loaded as {train}"
            )
    if loose:
        warn(
            f"{root}: {several(len(loose), 'image')} outside of class folders left out, such as "
            f"{loose[0].relative_to(root).as_posix()}"
        )
    names = list(inside["train"])
    only = train / names[0]
    if len(names) == 1 and len(inner := sorted(_sorted_into(only))) > 1:
        raise DatasetError(
            f"{train} holds one folder, below which are {listed(inner)}: if these are the classes, "
            f"load {_innermost(only)}"
        )
    held = Counter(inner for name in names for inner in _sorted_into(train / name))
    same = sorted(inner for inner, n in held.items() if n > 1)
    if 2 * len(same) > max(len(held), 2) and not _all_named(names, named):
        raise DatasetError(
            f"{train} has {listed(f'{name}/' for name in names)}, which hold the same folders, "
            f"{listed(same)}: variants of one data set, or splits by another name? Load one of "
            f"them, such as {only}, or call splits train, val and test. If these are the classes, "
            f"name them: classes={names[:3]}"
        )
    classes = class_order(names, order)
    if not order and classes != sorted(names):
        warn(
            f"{root}: classes are in the order of their numbers, {listed(classes, 3)}, where "
            f"torchvision's ImageFolder sorts as text, {listed(sorted(names), 3)}: for a head "
            "trained in its order give order='text', for others order='number'"
        )
    rows = []
    for part, folders in inside.items():
        for name, images in folders.items():
            if name not in classes:
                raise DatasetError(
                    f"{parts[part] / name} is no class of {train}, which has {', '.join(classes)}"
                )
            if not images:
                raise DatasetError(
                    f"the class folder {parts[part] / name} holds no images; put some in it or "
                    "remove it"
                )
            target = classes.index(name)
            rows += [(file, target, part) for file in images]
    return pd.DataFrame(rows, columns=["file", "target", "part"]), classes


def _innermost(folder: Path) -> Path:
    """The first folder on the way down that holds an image, or not one folder alone."""
    inner = _folders(folder)
    return _innermost(inner[0]) if len(inner) == 1 and not _loose(folder) else folder


def _sorted_into(folder: Path) -> set[str]:
    """Names of the folders that a class folder's images are sorted into, where they are."""
    inner = _innermost(folder)
    return set() if _loose(inner) else {p.name for p in _folders(inner)}


def _with_metadata(files, root):
    """The frame with what `metadata.csv` in the root, where there is one, says of each file."""
    path = root / "metadata.csv"
    if not path.is_file():
        return files
    table = read_frame(path)
    if "file" not in table:
        raise DatasetError(
            f"{path} needs a column 'file' (paths relative to its folder); it has "
            f"{', '.join(table.columns)}"
        )
    table["file"] = relative(table["file"], path)
    return files.merge(table, on="file", how="left")


def read_folder(place: str | Path, /, *, order: str | None = None, named: Iterable = ()) -> Parts:
    """An image folder as a data set: class folders in the root (cut 60/20/20), or in train/, val/
    and test/, also by such names as Training, seg_test/seg_test, val_images or dev.

    A missing test takes 20 % of train, a missing val min(10 %, 5,000 images); "train" is what is
    left, by class and seed, the same for every split. Classes are the folders of train; images in
    their sub-folders count, each real file once, wherever links lead. Folders whose folders have
    the same names are refused, since they look like variants of one data set. `.metadata` has
    `file`, relative to the root, and the columns that ROOT/metadata.csv gives by its `file`.

    A group is one of these columns, or a regular expression with one capture group searched in the
    relative path ("train/cat/7_1.jpg"). Equal names are one group, also in two classes: where they
    restart in each class, capture the class folder with them, as in "([^/]+/[0-9]+)_".

    Args:
        place: the folder.
        order: of the classes. By default as text, but 0, 1, 2, …, 10 where all are numbers, as
            models saved before have them; torchvision's ImageFolder has 0, 1, 10, 2, …, so that the
            rows of a head trained with it would get wrong names. Where the two differ, this is
            warned of; "text" takes torchvision's order, "number" the other, without a word.
        named: lists of names; where the root has a folder of each name of one, its folders are the
            classes, whatever they look like.
    Raises:
        DatasetError: naming the folder or file at fault. Warns of what is left out.
    """
    root = Path(os.path.abspath(place))
    parts = _parts(root, named)
    plain = parts["train"] == root
    found, classes = _scan(root, parts, order, named)
    table = _with_metadata(found[["file"]], root)
    whole = made(ImageFiles(root, table), found["target"], classes, root.name, table=table)
    return whole, None if plain else found["part"].to_numpy(object)
