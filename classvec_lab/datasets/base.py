"""`ImageDataset`: targets and class names at hand, images drawn or read when asked for."""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from PIL import Image

from ..checks import index_of
from ..errors import DatasetError
from ..files import hash_json


class ImageDataset:
    """A labelled image data set: `dataset[i]` is (RGB PIL image, int), `.classes` a tuple of names.

    `load(i)` gives the image of source index i; `identity(indices)` a JSON-able description that
    changes whenever a pixel or a label might, from which `.fingerprint` is made; `metadata` a frame
    (one row a source image) or a function of the source indices.
    """

    def __init__(
        self,
        load: Callable[[int], Image.Image],
        targets: Sequence[int],
        classes: Sequence[str],
        *,
        name: str,
        split: str,
        identity: Callable[[np.ndarray], object],
        metadata: pd.DataFrame | Callable[[np.ndarray], pd.DataFrame] | None = None,
        indices: np.ndarray | None = None,
    ):
        self.name, self.split = name, split
        self.classes = tuple(str(c) for c in classes)
        self._load, self._identity, self._metadata = load, identity, metadata
        self._all_targets = np.asarray(targets, dtype=np.int64)
        everything = np.arange(len(self._all_targets))
        self.indices = everything if indices is None else np.asarray(indices, dtype=np.int64)
        if len(self.indices) == 0:
            raise DatasetError(f"{name}: split {split!r} holds no images")

    @property
    def targets(self) -> np.ndarray:
        """Labels, shape (N,), int64."""
        return self._all_targets[self.indices]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what this data set holds: pixels, labels, class names, order."""
        return hash_json([self._identity(self.indices), self.targets.tolist(), list(self.classes)])

    @cached_property
    def metadata(self) -> pd.DataFrame | None:
        """One row an image in this data set's order, or None where nothing is known."""
        if self._metadata is None:
            return None
        if callable(self._metadata):
            return self._metadata(self.indices)
        return self._metadata.iloc[self.indices].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        source = int(self.indices[i])
        return self._load(source), int(self._all_targets[source])

    def __repr__(self) -> str:
        return f"<{self.name} {self.split}: {len(self):,} images, {len(self.classes)} classes>"

    def subset(
        self, positions: Sequence[int] | np.ndarray, *, split: str | None = None
    ) -> "ImageDataset":
        """The images at some positions, with the same class names.

        Args:
            positions: indices or a boolean mask over this data set.
            split: name of the result's split; by default this one's.
        """
        chosen = self.indices[np.asarray(positions)]
        return self._with(self._all_targets, self.classes, chosen, split or self.split)

    def relabelled(self, positions: Sequence[int] | np.ndarray, label: str) -> "ImageDataset":
        """The same images, some of them under another class's label: to study label errors.

        Args:
            positions: indices or a boolean mask of the images to relabel.
            label: name of the class that they get.
        Raises:
            DatasetError: for a label that is no class.
        """
        targets = self._all_targets.copy()
        chosen = self.indices[np.asarray(positions)]
        targets[chosen] = index_of(label, self.classes, DatasetError)
        return self._with(targets, self.classes, self.indices, self.split)

    def only(self, classes: Sequence[str]) -> "ImageDataset":
        """The images of these classes, whose labels then follow the order given.

        Raises:
            DatasetError: for a class that isn't there, one given twice, or none.
        """
        classes = tuple(str(c) for c in classes)
        if len(set(classes)) < len(classes) or not classes:
            raise DatasetError(f"{self.name}: choose each class once, at least one; got {classes}")
        new = np.full(len(self.classes), -1)
        new[[index_of(c, self.classes, DatasetError) for c in classes]] = np.arange(len(classes))
        kept = self.indices[new[self.targets] >= 0]
        return self._with(new[self._all_targets], classes, kept, self.split)

    def _with(self, targets, classes, indices: np.ndarray, split: str) -> "ImageDataset":
        return ImageDataset(
            self._load,
            targets,
            classes,
            name=self.name,
            split=split,
            identity=self._identity,
            metadata=self._metadata,
            indices=indices,
        )
