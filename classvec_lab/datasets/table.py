"""Rows to data sets: the groups, copies and splits of any source; tables and archives of arrays."""

import os
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ..checks import listed
from ..errors import DatasetError
from ..words import several
from .base import ImageDataset, warn
from .images import ImageFiles, content_hashes
from .items import Items, made, numbered, to_image
from .splits import SPLITS, carve, find_parts

# how far copies are looked for: bytes read, and as how many bytes it counts to open a file
COMPARED, OPENING = 1 << 30, 10_000
USUAL = {  # names of columns, as their letters
    "path": "path|(file|image|img)(path|name)?",
    "label": "labels?|class(name)?|targets?|category|y",
    "split_column": "split|subset|set|partition",
}
PART = "its own split"  # a column
Parts = tuple[ImageDataset, np.ndarray | None]  # all images, and the ready-made split of each


def find_groups(group: str, table: pd.DataFrame | None, name: str) -> pd.Series:
    """The group of each row of a frame: its column `group`, else what the pattern `group` captures
    in its column `file`.

    Raises DatasetError, calling the data set `name`, when `group` is neither, or gives some row no
    group.
    """
    if table is None:
        raise DatasetError(f"{name} has no file names to tell groups by; leave out group={group!r}")
    columns = [name for name in table.columns if name != "file"]
    if group in columns:
        found = table[group]
        how = f"the metadata gives no {group!r} for"
    else:
        known = f"(columns of the metadata: {listed(columns) or 'none'})"
        try:
            pattern = re.compile(group)
            fault = f"it has {pattern.groups}" if pattern.groups != 1 else ""
        except (re.error, TypeError) as error:
            fault = str(error)
        if fault or "file" not in table:
            raise DatasetError(
                f"group={group!r} is no column {known}, and as a regular expression it needs "
                f"file names and exactly one capture group, such as '/([^/_]+)_': {fault}"
            )
        found = table["file"].str.extract(pattern, expand=False)
        how = f"the pattern group={group!r} finds nothing in"
    if (lost := found.isna() | (found == "")).any():
        first = table.get("file", lost.index)[lost.argmax()]
        raise DatasetError(f"{how} {first} ({lost.sum()} of {len(lost)} images)")
    return found


def cut(
    whole: ImageDataset,
    part: np.ndarray | None = None,
    *,
    split: str,
    seed: int,
    group: str | None = None,
    given: Collection[str] = (),
) -> ImageDataset:
    """One split of a data set: ready-made, or carved by class, seed and group.

    Args:
        whole: the images of all splits.
        part: the ready-made split of each, some of them "train"; None: all are of one pool.
        split, seed, group: see `load_dataset`.
        given: names of ready-made splits, of which `whole` is `split`, or train where it isn't one.
    Raises:
        DatasetError: where groups or splits can't be had. Warns of groups and copies on two sides.
    """
    groups, table = None, whole.metadata
    if group is not None:
        groups = find_groups(group, table, whole.name)
        table = table.assign(group=groups)
        if part is not None:
            _warn_of_shared_groups(table.assign(part=part), group, whole.name)
        whole = replace(whole, describe=table.set_index(whole.indices))
    pool = np.arange(len(whole))
    if part is not None:
        given = set(part)
        pool = np.flatnonzero(part == (split if split in given else "train"))
    if split == "train" or split not in given:
        of_pool = None if groups is None else groups[pool]
        try:
            chosen = carve(whole.targets[pool], split, seed, given=given, groups=of_pool)
        except DatasetError as error:
            raise DatasetError(f"{whole.name}: can't carve out {split}: {error}") from error
        pool = pool[chosen]
    files = getattr(whole.load, "__self__", None)
    if isinstance(files, ImageFiles):
        here = np.isin(np.arange(len(whole)), pool)
        rows = table.assign(label=whole.targets, here=here)
        _warn_of_copies(files.root, rows, f"{split} of {whole.name}")
    return replace(whole.subset(pool), split=split)


def _warn_of_shared_groups(table, group, name):
    """Warn where ready-made splits have images of one group."""
    table = table.assign(file=table.get("file", table.index))
    files = table.pivot_table("file", "group", "part", "first").reindex(columns=SPLITS)
    for one, other in combinations(SPLITS, 2):
        if len(shared := files[[one, other]].dropna()):
            told = (
                f"{name}: {one} and {other} share {several(len(shared), 'group')} of "
                f"group={group!r}, for example {shared.index[0]!r} "
                f"({' and '.join(map(str, shared.iloc[0]))}). If each is one object or person, "
                f"results on {other} will look better than they are."
            )
            if group not in table:
                told += (
                    " If names restart in each class, put the class into the pattern, as in "
                    r"group='([^/]+/\d+)_'."
                )
            warn(told)


def _warn_of_copies(root, rows, where):
    """Warn where files that are `here` are elsewhere too, byte for byte, or under another label.

    Only those of equal size are read, the smallest first, as far as COMPARED.
    """

    def doubtful(by):  # rows that are like others elsewhere or of another label, one of them here
        of = rows.assign(kind=rows["label"] * 2 + rows["here"]).groupby(by)
        return rows[(of["kind"].transform("nunique") > 1) & of["here"].transform("any")]

    rows = rows.assign(size=[os.stat(root / file).st_size for file in rows["file"]])
    rows = doubtful("size").sort_values("size")
    rows = rows[(rows["size"] + OPENING).cumsum() <= COMPARED]
    rows = rows.assign(digest=content_hashes(root, rows["file"].tolist()))
    rows = doubtful("digest").sort_values(["digest", "here"])
    if len(rows):
        same = rows.groupby("digest")
        relabelled = rows["here"] & (same["label"].transform("nunique") > 1)
        pair = same["file"].agg(["first", "last"]).iloc[0]
        warn(
            f"{several(rows['here'].sum(), 'image')} of {where} lie in another split too or under "
            f"another label ({relabelled.sum()} of them), byte for byte, for example "
            f"{' and '.join(pair)}: results there will mislead"
        )


def find_column(frame: pd.DataFrame, given: str | None, option: str, name: str, needed=True):
    """The column that an option names, else the one with a usual name for it.

    It holds something in each row. Where it isn't `needed` there may be none, which "" says, too.
    Raises DatasetError where there is none, several, or a gap.
    """
    letters = {column: re.sub("[^a-z]", "", str(column).lower()) for column in frame}
    usual = [column for column in frame if re.fullmatch(USUAL[option], letters[column])]
    found = usual if given is None else [column for column in frame if column == given]
    if not (needed or given or found):
        return None
    if len(found) != 1:
        raise DatasetError(
            f"{name}: {len(found)} columns for {option}={given!r}; say {option}=COLUMN, one of "
            f"{listed(found or frame)}"
        )
    if (gap := frame[found[0]].isna()).any():
        raise DatasetError(
            f"{name}: {several(gap.sum(), 'row')} without {found[0]!r}, such as row "
            f"{gap.argmax() + 1}"
        )
    return found[0]


def tabulated(frame, items, name: str, label, split_column=None, classes=None) -> Parts:
    """The data set of a frame with labels, perhaps splits, and metadata, one row an image.

    Args:
        frame: those rows.
        items: their images, `Items` or `ImageFiles`.
        name: what the data set is called.
        label, split_column: see `read_table`.
        classes: names of numbered labels.
    """
    labels, part = frame.pop(find_column(frame, label, "label", name)), None
    if parts := find_column(frame, split_column, "split_column", name, needed=False):
        values = frame.pop(parts).astype(str)
        part = values.map(find_parts(values.unique())).to_numpy(object)
        if pd.isna(part).any() or "train" not in part:
            raise DatasetError(
                f"{name}: the column {parts!r} holds {listed(values.unique())}, not only names of "
                "splits with train among them; split_column='' leaves it aside"
            )
    return made(items, *numbered(labels, classes, name), name, table=frame), part


def read_table(place: Path, /, *, path=None, label=None, split_column=None, root="") -> Parts:
    """A CSV, TSV or Parquet table with a row an image: its path, its label, and anything else.

    Args:
        place: the table's file. Other columns than the next three become `.metadata`.
        path, label, split_column: names of columns. Without them the usual ones are looked for
            (path, file, image …; label, class, target …; split, subset …); splits that are missing
            are carved out of train, all where there is no such column ("" says so). Labels that
            are whole numbers number the classes.
        root: the folder that paths are relative to, itself relative to the table's.
    Raises:
        DatasetError: naming the column, row or file at fault.
    """
    frame, below = read_frame(place), place.parent / Path(root).expanduser()
    files = relative(frame.pop(path := find_column(frame, path, "path", place.name)), place)
    if absent := [name for name in files if not (below / name).is_file()]:
        raise DatasetError(
            f"{place}: {len(absent)} of {len(files)} files of its column {path!r} aren't below "
            f"{below}, such as {absent[0]:.100}; root=FOLDER says where they are"
        )
    frame.insert(0, "file", files)
    return tabulated(frame, ImageFiles(below, frame), place.name, label, split_column)


def read_frame(file: Path) -> pd.DataFrame:
    """A CSV, TSV or Parquet table; raises DatasetError where it can't be read.

    Text stays as it stands, "NA" and "007" too; a column is of numbers where all its cells are.
    """
    try:
        if file.suffix.lower() == ".parquet":
            return pd.read_parquet(file)
        with open(file, encoding="utf-8-sig") as lines:
            sep = max(",;\t", key=lines.readline().count)
            lines.seek(0)
            how = {"dtype": str, "na_values": [""], "keep_default_na": False}
            frame = pd.read_csv(lines, sep=sep, skipinitialspace=True, **how)
    except ImportError as error:
        raise DatasetError(f"{file} needs pyarrow: pip install 'classvec_lab[tables]'") from error
    except (ValueError, OSError) as error:
        raise DatasetError(f"can't read {file}: {error}") from error
    for name in frame:
        with suppress(ValueError):
            if not frame[name].str.match("0[0-9]").any():
                frame[name] = pd.to_numeric(frame[name])
    return frame


def relative(names: Iterable[object], file: Path) -> list[str]:
    """Paths in a table as posix paths; raises DatasetError where it lists one twice."""
    paths = [str(PurePosixPath(str(name).strip().replace("\\", "/"))) for name in names]
    if len(set(paths)) < len(paths):
        raise DatasetError(f"{file} lists {pd.Series(paths).mode()[0]} twice")
    return paths


def read_arrays(place: Path, /, *, label: str | None = None) -> Parts:
    """Arrays of an .npz archive, or of an .npy file and those beside it, told apart by shape.

    Images are (N, H, W) or more, labels (N,) or (N, 1), as in `ImageDataset.from_arrays`. Names may
    speak of splits ("x_train", "val_labels"), which are then ready-made. Other arrays (N,) become
    `.metadata`.

    Args:
        place: the archive, or one of the files.
        label: name of the labels, without that of a split; None: the only one, or a usual name.
    Raises:
        DatasetError: for files that can't be read, and where images or labels aren't clear.
    """
    try:
        if place.suffix.lower() == ".npz":
            with open(place, "rb") as file:
                arrays = dict(np.load(file))
        else:
            arrays = {p.stem: np.load(p, mmap_mode="r") for p in place.parent.glob("*.npy")}
    except Exception as error:  # whatever numpy meets in a damaged file
        raise DatasetError(f"can't read {place}: {error}") from error
    parts, frames, stacks, left = {}, [], [], []
    for key, array in arrays.items():
        told = find_parts(words := key.split("_"))
        named = parts.setdefault("".join(told.values()), {})
        named["_".join(word for word in words if word not in told)] = array
    for part, named in parts.items():
        images = [name for name in named if named[name].ndim > 2]
        if len(images) != 1:
            raise DatasetError(
                f"{place}: {len(images)} arrays of images (N, H, W) or more, where one is needed, "
                f"or one for each split with its name in theirs; there are {listed(arrays)}"
            )
        stacks.append(named.pop(images[0]))
        shapes = {(n := len(stacks[-1]),), (n, 1)}
        rows = {name: array.ravel() for name, array in named.items() if array.shape in shapes}
        left += named.keys() - rows
        frames.append(pd.DataFrame(rows).assign(**{PART: part}))
    if left:
        warn(f"{place}: {listed(left)} left out, not of the length of the images")
    frame = pd.concat(frames, ignore_index=True)
    stack = stacks[0] if len(stacks) == 1 else np.concatenate(stacks)
    to_image(stack, place.name, many=True)
    if not any(parts):
        del frame[PART]
    part = PART if any(parts) else None
    return tabulated(frame, Items(stack, place.name), place.name, label, part)
