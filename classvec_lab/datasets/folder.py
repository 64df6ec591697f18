"""Image folders: one folder per class, ready-made splits used, missing ones carved out by class and
group.
"""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ..errors import DatasetError
from .base import ImageDataset
from .images import EXTENSIONS, ImageFiles
from .splits import carve, check_split

_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_LAYOUTS = (
    "Understood are: one folder per class with images in it (ROOT/cat/1.jpg), or "
    "ROOT/train/cat/1.jpg "
    "with val/ (or valid/, validation/) and test/ beside train/ where they exist."
)


def _folders(path: Path) -> list[Path]:
    return sorted(
        (p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: p.name,
    )


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def _loose(folder: Path) -> int:
    """How many images lie right in the folder."""
    return sum(_is_image(p.name) and p.is_file() for p in folder.iterdir())


def _images(folder: Path, root: Path) -> list[str]:
    """Image files anywhere below `folder`, hidden ones left out, as sorted posix paths relative to
    `root`.
    """
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(parent).relative_to(root).as_posix()
        found += [f"{prefix}/{name}" for name in files if _is_image(name)]
    return sorted(found)


def _parts(root: Path) -> dict[str, Path]:
    """Folder of each ready-made split; {"all": root} where the class folders lie in the root
    itself.
    """
    folders = _folders(root)
    named = [folder for folder in folders if folder.name.lower() in _NAMES]
    if len(named) == 1 < len(folders) and _loose(named[0]) and not _folders(named[0]):
        named = []  # beside "bus" and "car", a "train" with images right in it is a class
    parts: dict[str, Path] = {}
    for folder in named:
        part = _NAMES[folder.name.lower()]
        if part in parts:
            raise DatasetError(
                f"{root} has two {part} folders, {parts[part].name}/ and {folder.name}/; rename or "
                "remove one"
            )
        parts[part] = folder
    if parts and "train" not in parts:
        raise DatasetError(
            f"{root} has {', '.join(p.name + '/' for p in parts.values())} but no train/. "
            f"{_LAYOUTS}"
        )
    return parts or {"all": root}


def _class_order(names: Sequence[str]) -> list[str]:
    """Sorted; as numbers when all are, so that 10 comes after 9."""
    numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=(lambda name: (int(name), name)) if numbers else None)


def _scan(root: Path) -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """Files (relative), their class numbers, their parts ("train", "val", "test" or "all"), and the
    class names.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DatasetError(f"an image folder is needed, but {root} {what}. {_LAYOUTS}")
    parts = _parts(root)
    first = parts.get("train", root)
    found = {
        part: {p.name: _images(p, root) for p in _folders(folder)} for part, folder in parts.items()
    }
    of_train = found[next(part for part in found if parts[part] == first)]
    if not any(of_train.values()):
        loose = f" ({_loose(first)} lie outside of any)" if _loose(first) else ""
        raise DatasetError(f"no images in class folders under {first}{loose}. {_LAYOUTS}")
    classes = _class_order(list(of_train))
    only = first / classes[0]
    if len(classes) == 1 and len(inner := _folders(only)) > 1 and not _loose(only):
        raise DatasetError(
            f"{first} holds one folder with {len(inner)} folders inside: if these are the classes, "
            f"load {only}"
        )
    files, targets, labels = [], [], []
    for part, folders in found.items():
        for name, images in folders.items():
            if name not in of_train:
                raise DatasetError(
                    f"{parts[part] / name} is no class of {first}, which has {', '.join(classes)}"
                )
            if not images:
                raise DatasetError(
                    f"the class folder {parts[part] / name} holds no images; put some in it or "
                    "remove it"
                )
            files += images
            targets += [classes.index(name)] * len(images)
            labels += [part] * len(images)
    return files, np.array(targets), np.array(labels), classes


def _read_metadata(root: Path, files: Sequence[str], group: str | None) -> pd.DataFrame:
    """One row a file: `file`, then what `metadata.csv` in the root says of it (nothing where there
    is none).
    """
    frame, path = pd.DataFrame({"file": list(files)}), root / "metadata.csv"
    if not path.is_file():
        return frame
    try:
        table = pd.read_csv(
            path, dtype={"file": str, group or "file": str}
        )  # "007" must not become 7
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
    return frame.merge(table, on="file", how="left")


def find_groups(group: str, files: Sequence[str], metadata: pd.DataFrame) -> pd.Series:
    """The group of each file: column `group` of `metadata`, else what the pattern `group` captures
    in its path.

    Raises DatasetError when `group` is neither, or gives some file no group.
    """
    columns = [name for name in metadata.columns if name != "file"]
    if group in columns:
        found = metadata[group]
        how = f"metadata.csv gives no {group!r} for"
    else:
        known = f"(columns of metadata.csv: {', '.join(columns) or 'none'})"
        try:
            pattern = re.compile(group)
        except (re.error, TypeError) as error:
            raise DatasetError(
                f"group={group!r} is neither a column {known} nor a regular expression ({error})"
            ) from error
        if pattern.groups != 1:
            raise DatasetError(
                f"group={group!r} is no column {known}, and as a regular expression it needs "
                "exactly one "
                f"capture group, such as '/([^/_]+)_'; it has {pattern.groups}"
            )
        matches = (pattern.search(name) for name in files)
        found = pd.Series([match and match.group(1) for match in matches], dtype=object)
        how = f"the pattern group={group!r} finds nothing in"
    if (lost := found.isna()).any():
        raise DatasetError(
            f"{how} {files[int(np.argmax(lost))]} ({int(lost.sum())} of {len(files)} files)"
        )
    return found


def _warn_of_shared(root: Path, groups: pd.Series, parts: np.ndarray) -> None:
    seen = {part: set(groups[parts == part]) for part in dict.fromkeys(parts)}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if shared := seen.get(one, set()) & seen.get(other, set()):
            example = min(shared, key=str)
            warnings.warn(
                f"{root}: {len(shared)} groups have images in both {one} and {other}, for example "
                f"{example!r}; "
                f"results on {other} will look better than they are",
                UserWarning,
                stacklevel=5,  # the caller of load_dataset
            )


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
    together when carving. `.metadata` has `file`, the columns of metadata.csv, and `group`. Raises
    DatasetError naming the folder or file at fault; warns when the ready-made splits share groups.
    """
    root = Path(os.path.abspath(os.path.expanduser(path)))
    check_split(str(root), split)
    files, targets, parts, classes = _scan(root)
    metadata = _read_metadata(root, files, group)
    groups = None
    if group is not None:
        groups = find_groups(group, files, metadata)
        metadata["group"] = groups
        _warn_of_shared(root, groups, parts)
    given = set(parts) - {"all"}
    if split in given - {"train"}:
        indices = np.flatnonzero(parts == split)
    else:
        pool = np.flatnonzero(np.isin(parts, ["train", "all"]))
        try:
            chosen = carve(
                targets[pool],
                split,
                seed,
                given=given,
                groups=None if groups is None else groups[pool],
            )
        except DatasetError as error:
            raise DatasetError(f"{root}: can't carve out {split}: {error}") from error
        indices = pool[chosen]
    source = ImageFiles(root, files)
    return ImageDataset(
        source.load,
        targets,
        classes,
        name=root.name,
        split=split,
        identity=source.identity,
        metadata=metadata,
        indices=indices,
    )
