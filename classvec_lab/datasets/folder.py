"""Image folders: one folder per class, ready-made splits used, missing ones carved out by class and
group.
"""

import os
import re
import warnings
from collections.abc import Mapping
from glob import escape, glob
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ..checks import listed
from ..errors import DatasetError
from ..words import several
from .base import ImageDataset
from .images import EXTENSIONS, ImageFiles
from .splits import SPLITS, carve

_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_LAYOUTS = (
    "Understood are: one folder per class with images in it (ROOT/cat/1.jpg), or "
    "ROOT/train/cat/1.jpg "
    "with val/ (or valid/, validation/) and test/ beside train/ where they exist."
)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path, root: Path, pattern: str = "**") -> list[str]:
    """Image files below `folder`, hidden ones left out, as sorted posix paths relative to `root`.

    pattern: "**" looks into all its folders, "*" into none.
    """
    below = f"{escape(os.path.relpath(folder, root))}/{pattern}"
    found = glob(below, root_dir=root, recursive=True)
    images = (name for name in found if os.path.splitext(name)[1].lower() in EXTENSIONS)
    return sorted(name.replace(os.sep, "/") for name in images if not (root / name).is_dir())


def _parts(root: Path) -> dict[str, Path]:
    """Folder of each ready-made split; {"train": root} where the class folders lie in the root
    itself.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DatasetError(f"an image folder is needed, but {root} {what}. {_LAYOUTS}")
    folders = _folders(root)
    named = [folder for folder in folders if folder.name.lower() in _NAMES]
    if len(named) == 1 < len(folders) and _images(named[0], root, "*") and not _folders(named[0]):
        named = []  # beside "bus" and "car", a "train" with images right in it is a class
    parts: dict[str, Path] = {}
    for folder in named:
        part = _NAMES[folder.name.lower()]
        if (first := parts.setdefault(part, folder)) != folder:
            raise DatasetError(
                f"{root} has two {part} folders, {first.name}/ and {folder.name}/; rename or "
                "remove one"
            )
    if parts and "train" not in parts:
        has = listed(f"{p.name}/" for p in parts.values())
        raise DatasetError(f"{root} has {has} but no train/. {_LAYOUTS}")
    return parts or {"train": root}


def _scan(root: Path, parts: Mapping[str, Path]) -> tuple[pd.DataFrame, list[str]]:
    """One row an image, `file` (relative), `target` (class number) and `part`; the class names."""
    train = parts["train"]
    inside = {part: {p.name: _images(p, root) for p in _folders(parts[part])} for part in parts}
    names = list(inside["train"])
    if not any(inside["train"].values()):
        loose = len(_images(train, root, "*"))
        outside = f" ({loose} lie outside of any)" if loose else ""
        raise DatasetError(f"no images in class folders under {train}{outside}. {_LAYOUTS}")
    only = train / names[0]
    if len(names) == 1 and len(inner := _folders(only)) > 1 and not _images(only, root, "*"):
        raise DatasetError(
            f"{train} holds one folder with {len(inner)} folders inside: if these are the classes, "
            f"load {only}"
        )
    # as numbers where all are, so that 10 comes after 9
    classes = sorted(names, key=int if all(map(str.isdecimal, names)) else str)
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


def _with_metadata(files: pd.DataFrame, root: Path, group: str | None) -> pd.DataFrame:
    """The frame with what `metadata.csv` in the root, where there is one, says of each file."""
    path = root / "metadata.csv"
    if not path.is_file():
        return files
    try:
        # "007" must not become 7
        table = pd.read_csv(path, dtype={"file": str, group or "file": str})
    except (ValueError, OSError) as error:
        raise DatasetError(f"can't read {path}: {error}") from error
    if "file" not in table:
        raise DatasetError(
            f"{path} needs a column 'file' (paths relative to its folder); it has "
            f"{', '.join(table.columns)}"
        )
    table["file"] = [
        str(PurePosixPath(str(name).strip().replace("\\", "/"))) for name in table["file"]
    ]
    if len(twice := table["file"][table["file"].duplicated()]):
        raise DatasetError(f"{path} lists {twice.iloc[0]} twice")
    return files.merge(table, on="file", how="left")


def find_groups(group: str, table: pd.DataFrame) -> pd.Series:
    """The group of each `file` of a frame: its column `group`, else what the pattern `group`
    captures in the path.

    Raises DatasetError when `group` is neither, or gives some file no group.
    """
    files, columns = table["file"], [name for name in table.columns if name != "file"]
    if group in columns:
        found = table[group]
        how = f"metadata.csv gives no {group!r} for"
    else:
        known = f"(columns of metadata.csv: {listed(columns) or 'none'})"
        try:
            pattern = re.compile(group)
            fault = f"it has {pattern.groups}" if pattern.groups != 1 else ""
        except (re.error, TypeError) as error:
            fault = str(error)
        if fault:
            raise DatasetError(
                f"group={group!r} is no column {known}, and as a regular expression it needs "
                f"exactly one capture group, such as '/([^/_]+)_': {fault}"
            )
        found = pd.Series(
            [match and match[1] for match in map(pattern.search, files)], dtype=object
        )
        how = f"the pattern group={group!r} finds nothing in"
    if (lost := found.isna()).any():
        raise DatasetError(f"{how} {files[lost].iloc[0]} ({lost.sum()} of {len(files)} files)")
    return found


def load_folder(
    path: str | os.PathLike, *, split: str, seed: int, group: str | None = None
) -> ImageDataset:
    """An image folder as a data set: class folders in the root (cut 60/20/20), or in train/, val/
    and test/.

    A missing test takes 20 % of train, a missing val min(10 %, 5,000 images); "train" is what is
    left, by class and `seed`, the same for every `split`. Classes are the folders of train, sorted
    (as numbers if all are); images in their sub-folders count. `group`, a column of
    ROOT/metadata.csv (columns `file`, relative to the root, and any others) or a regular expression
    with one capture group searched in the relative path ("train/cat/7_1.jpg"), keeps what it names
    together when carving. Equal names are one group, also in two classes: where they restart in
    each class, capture the class folder with them, as in "([^/]+/[0-9]+)_". `.metadata` has `file`,
    the columns of metadata.csv, and `group`. Raises DatasetError naming the folder or file at
    fault; warns when the ready-made splits share groups.
    """
    root = Path(os.path.abspath(path))
    parts = _parts(root)
    found, classes = _scan(root, parts)
    table = _with_metadata(found[["file"]].copy(), root, group)
    groups = None
    if group is not None:
        by_name = group not in table
        table["group"] = groups = find_groups(group, table)
        first = table.assign(part=found["part"]).drop_duplicates(["group", "part"])
        files = first.pivot(index="group", columns="part", values="file").reindex(columns=SPLITS)
        for one, other in combinations(SPLITS, 2):
            if len(shared := files[[one, other]].dropna()):
                told = (
                    f"{root}: {one} and {other} share {several(len(shared), 'group')} of "
                    f"group={group!r}, for example {shared.index[0]!r} "
                    f"({' and '.join(shared.iloc[0])}). If each is one object or person, results "
                    f"on {other} will look better than they are."
                )
                if by_name:
                    told += (
                        " If names restart in each class, put the class into the pattern, as in "
                        r"group='([^/]+/\d+)_'."
                    )
                warnings.warn(told, UserWarning, stacklevel=4)  # the caller of load_dataset
    indices = np.flatnonzero(found["part"] == (split if split in parts else "train"))
    if split == "train" or split not in parts:
        given = () if parts["train"] == root else parts
        of_pool = None if groups is None else groups[indices]
        try:
            chosen = carve(found["target"][indices], split, seed, given=given, groups=of_pool)
        except DatasetError as error:
            raise DatasetError(f"{root}: can't carve out {split}: {error}") from error
        indices = indices[chosen]
    source = ImageFiles(root, table)
    return ImageDataset(
        source.load,
        found["target"],
        classes,
        name=root.name,
        split=split,
        identity=source.identity,
        describe=source.describe,
        indices=indices,
    )
