"""Data sets of the package `datasets`: from the hub, or a folder that `save_to_disk` wrote."""

import os

import numpy as np

from ..checks import listed
from ..errors import DatasetError
from .base import warn
from .items import Items
from .splits import find_parts
from .table import PART, Parts, tabulated

ON_DISK = ("dataset_dict.json", "state.json")  # one of which save_to_disk leaves


def read_hf(
    place: object,
    /,
    *,
    config: str | None = None,
    path: str | None = None,
    label: str | None = None,
) -> Parts:
    """A data set of the package `datasets`, an extra: pip install 'classvec_lab[hf]'.

    Its splits are used, by any usual name, and what is missing is carved out of train; without
    splits it is cut 60/20/20. A val or test without labels (-1) counts as missing. Columns other
    than image and label become `.metadata`.

    Args:
        place: a name on the hub (downloaded once), a folder that `save_to_disk` wrote, or the data
            set itself.
        config: which of several that a name has.
        path, label: columns; None: the only one of the kind Image, and ClassLabel or a usual name.
    Raises:
        DatasetError: where package, data set or column isn't there. Warns of splits left out.
    """
    try:
        import datasets as hub
    except ImportError as error:
        raise DatasetError(f"{place} needs datasets: pip install 'classvec_lab[hf]'") from error
    name, found = f"hf:{place if isinstance(place, str) else type(place).__name__}", place
    if isinstance(place, str):
        saved = os.path.expanduser(place)
        try:
            here = os.path.isdir(saved)
            found = hub.load_from_disk(saved) if here else hub.load_dataset(place, config)
        except Exception as error:  # whatever stops it: network, name, files, a missing package
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DatasetError(
                f"{name} can't be loaded ({reason}). The hub needs a network once; a folder that "
                "save_to_disk wrote needs none"
            ) from error
    sets = found if isinstance(found, dict) else {"": found}
    named = find_parts(sets) or dict.fromkeys(sets)
    if left := sets.keys() - named:
        warn(f"{name}: {listed(sorted(left))} left out, no name of a split as {listed(named)} are")
    rows = hub.concatenate_datasets([sets[key] for key in named]).with_format(None)
    kinds = rows.features
    images = [key for key in kinds if isinstance(kinds[key], hub.Image)]
    labels = [key for key in kinds if isinstance(kinds[key], hub.ClassLabel)]
    if path is None and len(images) == 1:
        (path,) = images
    if path not in images:
        raise DatasetError(
            f"{name}: path={path!r} is no one of its columns of images, {listed(images) or 'none'}"
        )
    if label is None and len(labels) == 1:
        (label,) = labels
    frame = rows.remove_columns(images).to_pandas()
    part, names = None, kinds[label].names if label in labels else None
    if isinstance(found, dict):
        frame[part := PART] = np.repeat(list(named), [len(sets[key]) for key in named])
    if part and names:
        frame[label] = frame[label].fillna(-1).astype(int)
        bare = (frame[label] < 0).groupby(frame[part]).transform("all")
        bare &= frame[part].map(named) != "train"
        if bare.any():
            left = listed(frame[part][bare].unique())
            warn(f"{name}: {left} left out, where no image has a class; train gives what it lacks")
            rows, frame = rows.select(np.flatnonzero(~bare)), frame[~bare].reset_index(drop=True)
    return tabulated(frame, Items(rows, name, path), name, label, part, names)
