"""`ImageDataset`: targets and class names at hand, images drawn or read when asked for."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property, partial
from numbers import Integral

import numpy as np
import pandas as pd
from PIL import Image

from ..checks import index_of, listed, named
from ..errors import DatasetError
from ..files import hash_bytes, hash_json

warn = partial(warnings.warn, stacklevel=5)  # the caller of load_dataset


@dataclass(eq=False, repr=False)
class ImageDataset:
    """A labelled image data set: `dataset[i]` is (RGB PIL image, int), `.classes` a tuple of names.

    Args:
        load: gives the image of a source index.
        all_targets: the label of each source image.
        identity: gives, for an array of source indices, a JSON-able description that changes
            whenever a pixel might; `.fingerprint` is made from it.
        describe: gives a frame with one row for each of them, or is one with a row an image.
        indices: the source indices of this data set's images; None takes all.
    """

    load: Callable[[int], Image.Image]
    all_targets: Sequence[int]
    classes: Sequence[str]
    _: KW_ONLY
    name: str
    split: str
    identity: Callable[[np.ndarray], object]
    describe: Callable[[np.ndarray], pd.DataFrame] | pd.DataFrame | None = None
    indices: np.ndarray | None = None

    def __post_init__(self):
        self.classes = named(self.classes, DatasetError)
        self.all_targets = np.asarray(self.all_targets, dtype=np.int64)
        if self.indices is None:
            self.indices = np.arange(len(self.all_targets))
        if len(self.indices) == 0:
            raise DatasetError(f"{self.name}: split {self.split!r} holds no images")

    @classmethod
    def from_arrays(
        cls,
        images,
        labels,
        *,
        classes: Sequence[str] | None = None,
        metadata: Mapping | None = None,
        split: str = "train",
    ) -> "ImageDataset":
        """A data set of arrays or tensors, which are not copied.

        `load_dataset(dataset, split=…)` cuts it into train, val and test.

        Args:
            images: (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1, 3 or 4; uint8 from 0 to
                255, bool, or floats from 0 to 1.
            labels: (N,), whole numbers from 0 on, or text.
            classes: the C names, in the order of the numbers; without them labels name themselves.
            metadata: columns (N,) by name, or a frame; they can name groups.
            split: what the data set calls itself.
        Raises:
            DatasetError: for what isn't so, or can be read in two ways.
        """
        from .items import gathered

        return gathered(images, labels, classes, metadata, split)

    @classmethod
    def from_dataset(
        cls, dataset, *, classes: Sequence[str] | None = None, split: str = "train"
    ) -> "ImageDataset":
        """A data set of any map-style one, such as torchvision's ImageFolder or a `Subset` of it.

        `load_dataset(dataset, split=…)` cuts it into train, val and test.

        Args:
            dataset: gives pairs by index: an image that is PIL's, an array or a tensor, in one of
                the forms of `from_arrays`, before any normalisation; and its class number.
            classes: names in the order of the numbers, in place of its own, which the members of
                a `ConcatDataset` must share. Labels that count from 1 are shifted, with a warning.
            split: what the data set calls itself.
        Raises:
            DatasetError: for items that aren't such, labels that don't fit the classes.
        """
        from .items import wrap

        return wrap(dataset, classes, split)

    @property
    def targets(self) -> np.ndarray:
        """Labels, shape (N,), int64."""
        return self.all_targets[self.indices]

    @cached_property
    def fingerprint(self) -> str | None:
        """A hash of what this data set holds: pixels, labels, class names, order.

        None where the pixels have no identity.
        """
        pixels = self.identity(self.indices)
        return pixels and hash_json([pixels, self.targets.tolist(), self.classes])

    @cached_property
    def hashes(self) -> frozenset[str]:
        """A hash of each image's pixels."""
        images = (self.load(int(i)).convert("RGB") for i in self.indices)
        return frozenset(hash_bytes(str(i.size).encode(), i.tobytes()) for i in images)

    @property
    def counts(self) -> pd.Series:
        """Images of each class, named by the split: `pd.concat` those of several."""
        n = np.bincount(self.targets, minlength=len(self.classes))
        return pd.Series(n, list(self.classes), name=self.split)

    @cached_property
    def metadata(self) -> pd.DataFrame | None:
        """One row an image in this data set's order, or None where nothing is known."""
        if isinstance(self.describe, pd.DataFrame):
            return self.describe.loc[self.indices].reset_index(drop=True)
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

    def changed(
        self,
        change: Callable[[Image.Image, int], Image.Image],
        identity: object,
        described: Callable[[int], dict] | None = None,
    ) -> "ImageDataset":
        """The same images, each changed when it is loaded.

        Args:
            change: gives the new image of an image and its source index, the same each time.
            identity: JSON-able, says what `change` does; some changed pixels are hashed beside it.
            described: gives further metadata of a source index.
        """

        def known(chosen: np.ndarray) -> object:
            pixels = self.identity(chosen)
            # a library's next version may draw other pixels
            some = [hash_bytes(load(int(i)).tobytes()) for i in chosen[:4]]
            return pixels and [pixels, identity, some]

        def load(i: int) -> Image.Image:
            return change(self.load(i), i)

        table = self.metadata
        if described:
            added = pd.DataFrame(map(described, self.indices.tolist()))
            table = added if table is None else table.assign(**added)
        if table is not None:
            table = table.set_axis(self.indices)
        return replace(self, load=load, identity=known, describe=table)

    def only(self, classes: Sequence[str]) -> "ImageDataset":
        """The images of these classes, whose labels then follow the order given.

        Raises:
            DatasetError: for a class that isn't there, one given twice, or none.
        """
        classes = tuple(map(str, classes))
        if len(set(classes)) < len(classes) or not classes:
            raise DatasetError(f"{self.name}: choose each class once, at least one; got {classes}")
        for name in classes:
            index_of(name, self.classes, DatasetError)
        new = pd.Index(classes).get_indexer(self.classes)  # -1 for those that go
        kept = self.indices[new[self.targets] >= 0]
        return replace(self, all_targets=new[self.all_targets], classes=classes, indices=kept)

    def renamed(self, names: Mapping[str, str]) -> "ImageDataset":
        """The same images under other class names; classes that then have the same become one.

        Args:
            names: the new name by the old one; classes left out keep theirs.
        Raises:
            DatasetError: for a class that isn't there.
        """
        for old in names:
            index_of(old, self.classes, DatasetError)
        new = np.array([str(names.get(name, name)) for name in self.classes])
        to, classes = pd.factorize(new)
        return replace(self, all_targets=to[self.all_targets], classes=classes)


def integer(name: str, value: object, low: int) -> int:
    """`value` as an int, if it is a whole number from `low` on; else raises DatasetError."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and low <= value < 2**63):
        raise DatasetError(f"{name} must be an integer >= {low}, got {name}={value!r}")
    return int(value)


def check_options(owner: str, options: Collection[str], valid: Collection[str]) -> None:
    """Raise DatasetError for options that `owner` doesn't take."""
    if unknown := sorted(set(options) - set(valid)):
        takes = listed(sorted(valid)) or "none"
        raise DatasetError(f"{owner} has no option {listed(unknown)}; it takes {takes}")
