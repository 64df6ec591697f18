"""`ClassVectors`: what fine-tuning did to the mean representation of each class. Arrays only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .edits import Edit
from .errors import MismatchError
from .files import read_tensors, write_tensors
from .moments import ClassMoments

KIND = "class vectors"


@dataclass(frozen=True, eq=False)
class ClassVectors:
    """Per class the mean representation before and after fine-tuning; kappa is their difference.

    z_pre, z_ft (C, m) float64, count (C,) samples behind each mean, classes the C names; `pre`, `ft`
    and `data` are the fingerprints of the two models and of the data, where known.
    Source: Kim and Do, "Exploring and Leveraging Class Vectors for Classifier Editing" (NeurIPS 2025).
    """

    z_pre: np.ndarray
    z_ft: np.ndarray
    count: np.ndarray
    classes: Sequence[str]
    pre: str | None = None
    ft: str | None = None
    data: str | None = None

    def __post_init__(self):
        z_pre, z_ft = (
            np.asarray(self.z_pre, dtype=np.float64),
            np.asarray(self.z_ft, dtype=np.float64),
        )
        count, classes = np.asarray(self.count, dtype=np.int64), tuple(str(c) for c in self.classes)
        if (
            z_pre.ndim != 2
            or z_pre.shape != z_ft.shape
            or count.shape != z_pre.shape[:1]
            or len(classes) != len(z_pre)
        ):
            raise MismatchError(
                f"ClassVectors needs z_pre and z_ft of one shape (C, m), C counts and C names; "
                f"got {z_pre.shape}, {z_ft.shape}, {count.shape} and {len(classes)} names"
            )
        bad = [
            c
            for c, n, a, b in zip(classes, count, z_pre, z_ft, strict=True)
            if n < 1 or not np.isfinite([a, b]).all()
        ]
        if bad:
            raise MismatchError(
                f"no class vector without samples or with means that are not finite: {', '.join(bad)}"
            )
        for name, value in (
            ("z_pre", z_pre),
            ("z_ft", z_ft),
            ("count", count),
            ("classes", classes),
        ):
            object.__setattr__(self, name, value)

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
        return f"<ClassVectors: {len(self)} classes, {self.dim} dimensions, {self.count.sum():,} samples>"

    @classmethod
    def from_features(cls, pre, ft) -> "ClassVectors":
        """From the features of one data set under the pre-trained and the fine-tuned encoder, sample by sample in the same order.

        Raises MismatchError where data, labels, classes or dimensions differ, or a class has no sample.
        """
        if pre.data != ft.data and None not in (pre.data, ft.data):
            raise MismatchError(
                f"the features come from different data: pre-trained {pre.data}, fine-tuned {ft.data}"
            )
        if tuple(pre.classes) != tuple(ft.classes):
            raise MismatchError(
                f"the features name different classes: {tuple(pre.classes)} and {tuple(ft.classes)}"
            )
        if not np.array_equal(pre.y, ft.y):
            raise MismatchError(
                "the features carry different labels: extract both from one data set, in one order"
            )
        if pre.z.shape != ft.z.shape:
            raise MismatchError(
                f"the representations have different shapes: pre-trained {pre.z.shape}, fine-tuned {ft.z.shape}"
            )
        moments = [ClassMoments.of(f.z, f.y, len(f.classes)) for f in (pre, ft)]
        empty = [c for c, n in zip(pre.classes, moments[0].count, strict=True) if n == 0]
        if empty:
            raise MismatchError(
                f"no sample of class {', '.join(empty)}: no class vector can be made"
            )
        return cls(
            moments[0].mean,
            moments[1].mean,
            moments[0].count,
            pre.classes,
            pre.model,
            ft.model,
            pre.data,
        )

    def index(self, name: str) -> int:
        """Position of a class; raises MismatchError listing what there is."""
        try:
            return self.classes.index(name)
        except ValueError:
            shown = ", ".join(self.classes[:20]) + (" …" if len(self) > 20 else "")
            raise MismatchError(f"no class {name!r}; there are {shown}") from None

    def __getitem__(self, name: str) -> Edit:
        """The class vector of one class as an `Edit` of strength 1; raises MismatchError listing what there is."""
        i = self.index(name)
        return Edit.along(
            f"κ[{name}]",
            self.kappa[i],
            target=name,
            classes=self.classes,
            ft=self.ft,
            pre=self.pre,
            data=self.data,
        )

    def centred(self) -> "ClassVectors":
        """Both sides minus their mean over classes: z_pre, z_ft, and so kappa, sum to zero."""
        return ClassVectors(
            self.z_pre - self.z_pre.mean(axis=0),
            self.z_ft - self.z_ft.mean(axis=0),
            self.count,
            self.classes,
            self.pre,
            self.ft,
            self.data,
        )

    def table(self) -> pd.DataFrame:
        """One row a class: n, and the norms of kappa, z_pre and z_ft."""
        norms = {
            name: np.linalg.norm(v, axis=1)
            for name, v in (("kappa", self.kappa), ("z_pre", self.z_pre), ("z_ft", self.z_ft))
        }
        return pd.DataFrame(
            {"class": self.classes, "n": self.count, **{f"norm_{k}": v for k, v in norms.items()}}
        )

    def require(
        self,
        *,
        pre: object = None,
        ft: object = None,
        data: object = None,
        classes: Sequence[str] | None = None,
    ) -> "ClassVectors":
        """Check where these vectors come from; raises MismatchError naming each thing that differs, else returns self.

        pre, ft, data: a fingerprint, or anything with `.fingerprint` (a Classifier, a data set).
        """
        problems = []
        for name, given, own in (
            ("pre-trained model", pre, self.pre),
            ("fine-tuned model", ft, self.ft),
            ("data", data, self.data),
        ):
            if given is not None:
                found = given if isinstance(given, str) else getattr(given, "fingerprint", None)
                if found != own:
                    problems.append(f"{name} (these vectors: {own}, given: {found})")
        if classes is not None and tuple(classes) != self.classes:
            problems.append(
                f"classes (these vectors: {', '.join(self.classes[:10])}; given: {', '.join(list(classes)[:10])})"
            )
        if problems:
            raise MismatchError(
                f"these class vectors were made with another {'; another '.join(problems)}"
            )
        return self

    def save(self, path: str | Path) -> Path:
        """Write arrays, class names, counts and fingerprints as one safetensors file, whole or not at all."""
        card = {
            "kind": KIND,
            "classes": list(self.classes),
            "pre": self.pre,
            "ft": self.ft,
            "data": self.data,
        }
        write_tensors(path, {"z_pre": self.z_pre, "z_ft": self.z_ft, "count": self.count}, card)
        return Path(path)

    @classmethod
    def load(
        cls, path: str | Path, *, pre: object = None, ft: object = None, data: object = None
    ) -> "ClassVectors":
        """Read what `save` wrote; `pre`, `ft` and `data`, where given, must be what the vectors were made with, see `require`."""
        arrays, card = read_tensors(path, kind=KIND)
        vectors = cls(
            arrays["z_pre"],
            arrays["z_ft"],
            arrays["count"],
            card["classes"],
            card["pre"],
            card["ft"],
            card["data"],
        )
        return vectors.require(pre=pre, ft=ft, data=data)
