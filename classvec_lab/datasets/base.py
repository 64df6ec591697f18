"""`ImageDataset`: targets and class names at hand, images drawn or read when asked for."""

import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from PIL import Image

from ..checks import index_of, listed
from ..errors import DatasetError
from ..files import hash_json


@dataclass(eq=False, repr=False)
class ImageDataset:
    """A labelled image data set: `dataset[i]` is (RGB PIL image, int), `.classes` a tuple of names.

    Args:
        load: gives the image of a source index.
        all_targets: the label of each source image.
        identity: gives, for an array of source indices, a JSON-able description that changes
            whenever a pixel might; `.fingerprint` is made from it.
        describe: gives a frame with one row for each of them.
        indices: the source indices of this data set's images; None takes all.
    """

    load: Callable[[int], Image.Image]
    all_targets: Sequence[int]
    classes: Sequence[str]
    _: KW_ONLY
    name: str
    split: str
    identity: Callable[[np.ndarray], object]
    describe: Callable[[np.ndarray], pd.DataFrame] | None = None
    indices: np.ndarray | None = None

    def __post_init__(self):
        self.classes = tuple(map(str, self.classes))
        self.all_targets = np.asarray(self.all_targets, dtype=np.int64)
        if self.indices is None:
            self.indices = np.arange(len(self.all_targets))
        if len(self.indices) == 0:
            raise DatasetError(f"{self.name}: split {self.split!r} holds no images")

    @property
    def targets(self) -> np.ndarray:
        """Labels, shape (N,), int64."""
        return self.all_targets[self.indices]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what this data set holds: pixels, labels, class names, order."""
        return hash_json([self.identity(self.indices), self.targets.tolist(), self.classes])

    @cached_property
    def metadata(self) -> pd.DataFrame | None:
        """One row an image in this data set's order, or None where nothing is known."""
        return self.describe and self.describe(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        source = int(self.indices[i])
        return self.load(source), int(self.all_targets[source])

    def __repr__(self) -> str:
        return f"<{self.name} {self.split}: {len(self):,} images, {len(self.classes)} classes>"

    def subset(self, positions: Sequence[int] | np.ndarray) -> "ImageDataset":
        """The images at some positions, indices or a boolean mask, with the same class names."""
        return replace(self, indices=self.indices[np.asarray(positions)])

    def relabelled(self, positions: Sequence[int] | np.ndarray, label: str) -> "ImageDataset":
        """The same images, some of them under another class's label: to study label errors.

        Args:
            positions: indices or a boolean mask of the images to relabel.
            label: name of the class that they get.
        Raises:
            DatasetError: for a label that is no class.
        """
        targets = self.all_targets.copy()
        targets[self.indices[np.asarray(positions)]] = index_of(label, self.classes, DatasetError)
        return replace(self, all_targets=targets)

    def only(self, classes: Sequence[str]) -> "ImageDataset":
        """The images of these classes, whose labels then follow the order given.

        Raises:
            DatasetError: for a class that isn't there, one given twice, or none.
        """
        classes = tuple(map(str, classes))
        if len(set(classes)) < len(classes) or not classes:
            raise DatasetError(f"{self.name}: choose each class once, at least one; got {classes}")
        new = np.full(len(self.classes), -1)
        new[[index_of(c, self.classes, DatasetError) for c in classes]] = np.arange(len(classes))
        kept = self.indices[new[self.targets] >= 0]
        return replace(self, all_targets=new[self.all_targets], classes=classes, indices=kept)


def integer(name: str, value: object, low: int) -> int:
    """`value` as an int, if it is a whole number from `low` on; else raises DatasetError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not low <= number < 2**63:
        raise DatasetError(f"{name} must be an integer >= {low}, got {name}={value!r}")
    return number


def check_options(owner: str, options: Collection[str], valid: Collection[str]) -> None:
    """Raise DatasetError for options that `owner` doesn't take."""
    if unknown := sorted(set(options) - set(valid)):
        takes = listed(sorted(valid)) or "none"
        raise DatasetError(f"{owner} has no option {listed(unknown)}; it takes {takes}")
