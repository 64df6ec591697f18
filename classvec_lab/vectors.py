"""`ClassVectors`: what fine-tuning did to the mean representation of each class. Arrays only."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .checks import index_of, listed, named, record, same_classes, same_images
from .edits import Edit
from .errors import MismatchError
from .files import read_tensors, reading, write_tensors

KIND = "class vectors"
MEANS, ORIGINS = ("z_pre", "z_ft", "count"), ("classes", "pre", "ft", "data")


@record
class ClassVectors:
    """Per class the mean representation before and after fine-tuning; kappa is their difference.

    Args:
        z_pre, z_ft: class means (C, m), made float64.
        count: samples behind each mean, (C,).
        classes: the C names.
        pre, ft, data: fingerprints of the two models and of the data, where known.
    Raises:
        MismatchError: for shapes that disagree, a class without samples, or means not finite.
    Source: Kim and Do, "Exploring and Leveraging Class Vectors for Classifier Editing", NeurIPS
        2025.
    """

    z_pre: np.ndarray
    z_ft: np.ndarray
    count: np.ndarray
    classes: Sequence[str]
    pre: str | None = None
    ft: str | None = None
    data: str | None = None

    def __post_init__(self):
        z_pre, z_ft = np.asarray(self.z_pre, float), np.asarray(self.z_ft, float)
        count, classes = np.asarray(self.count, np.int64), named(self.classes)
        alike = z_pre.shape == z_ft.shape and count.shape == z_pre.shape[:1] == (len(classes),)
        if z_pre.ndim != 2 or not alike:
            raise MismatchError(
                "ClassVectors needs z_pre and z_ft of one shape (C, m), C counts and C names; got "
                f"{z_pre.shape}, {z_ft.shape}, {count.shape} and {len(classes)} names"
            )
        good = (count > 0) & np.isfinite([z_pre, z_ft]).all(axis=(0, 2))
        if not good.all():
            raise MismatchError(
                "no class vector can be made without samples, or of means that are not finite; "
                f"class {listed(np.array(classes)[~good])}"
            )
        vars(self).update(z_pre=z_pre, z_ft=z_ft, count=count, classes=classes)

    @property
    def kappa(self) -> np.ndarray:
        """Class vectors (C, m): z_ft - z_pre."""
        return self.z_ft - self.z_pre

    @property
    def dim(self) -> int:
        """m, the dimension of the representation."""
        return self.z_ft.shape[1]

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        size = f"{len(self)} classes, {self.dim} dimensions, {self.count.sum():,} samples"
        return f"<ClassVectors: {size}>"

    @classmethod
    def from_features(cls, pre, ft) -> "ClassVectors":
        """Make them from the `Features` of one data set under the two encoders.

        Args:
            pre, ft: under the pre-trained and the fine-tuned encoder, sample by sample.
        Raises:
            MismatchError: where a class has no sample, and as `require_pairs`.
        """
        require_pairs(pre, ft)
        before, after = pre.moments(), ft.moments()
        origins = pre.classes, pre.model, ft.model, pre.data
        return cls(before.mean, after.mean, before.count, *origins)

    def index(self, name: str) -> int:
        """Position of a class; raises MismatchError listing what there is."""
        return index_of(name, self.classes)

    def __getitem__(self, name: str) -> Edit:
        """The class vector of one class as an `Edit` of strength 1."""
        return self.edit(f"κ[{name}]", self.kappa[self.index(name)], name)

    def edit(self, name: str, direction: np.ndarray, target: str) -> Edit:
        """An `Edit` of strength 1 along a direction (m,) made from these vectors."""
        origins = {key: getattr(self, key) for key in ORIGINS}
        return Edit.along(name, direction, target=target, **origins)

    def centred(self) -> "ClassVectors":
        """Both sides minus their mean over classes, so that z_pre, z_ft and kappa sum to zero."""
        z_pre, z_ft = (z - z.mean(axis=0) for z in (self.z_pre, self.z_ft))
        return replace(self, z_pre=z_pre, z_ft=z_ft)

    def require(
        self,
        *,
        pre: object = None,
        ft: object = None,
        data: object = None,
        classes: Sequence[str] | None = None,
    ) -> "ClassVectors":
        """Check where these vectors come from.

        Args:
            pre, ft, data: a fingerprint, or what has one (a `Classifier`, a data set).
            classes: names in order.
        Returns:
            These vectors.
        Raises:
            MismatchError: naming each model and data that differ, or the classes.
        """
        origins = {
            "pre-trained model": (pre, self.pre),
            "fine-tuned model": (ft, self.ft),
            "data": (data, self.data),
        }
        problems = [
            f"another {what} (these vectors: {own}, given: {found})"
            for what, (given, own) in origins.items()
            if given is not None and (found := getattr(given, "fingerprint", given)) != own
        ]
        if problems:
            raise MismatchError(f"these class vectors were made with {'; '.join(problems)}")
        if classes is not None:
            same_classes(classes, self.classes, "the given list", "these class vectors")
        return self

    def save(self, path: str | Path) -> Path:
        """Write arrays, names and fingerprints as one safetensors file, whole or not at all."""
        card = {"kind": KIND, **vars(self)}
        write_tensors(path, {name: card.pop(name) for name in MEANS}, card)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "ClassVectors":
        """Read what `save` wrote; see `require`."""
        arrays, card = read_tensors(path, kind=KIND)
        with reading(path):
            return cls(**arrays, **{name: card[name] for name in ORIGINS})


def require_pairs(pre, ft) -> None:
    """Raise MismatchError, saying how, unless two `Features` are of the same samples and alike.

    Data and precision count where both are known; classes, labels and shapes count always.
    """
    for what, name, advice in (
        ("data", "data", "extract both from one data set"),
        ("number formats", "precision", "extract both with one precision="),
    ):
        one, other = getattr(pre, name), getattr(ft, name)
        if None not in (one, other) and one != other:
            raise MismatchError(
                f"the features come from different {what}: pre-trained {one}, fine-tuned {other}; "
                + advice
            )
    same_images(ft, pre, "the fine-tuned features", "the pre-trained features")
    if pre.z.shape != ft.z.shape:
        raise MismatchError(
            "the representations have different shapes: "
            f"pre-trained {pre.z.shape}, fine-tuned {ft.z.shape}"
        )
