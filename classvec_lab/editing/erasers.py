"""Closed-form erasers of a class on the representation: orthogonal projection, LEACE, and the mask of a logit."""

import copy
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..errors import EditError, MismatchError, ModelError
from ..models.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Eraser:
    """The affine map z' = z - left · right · (z - centre), of low rank, in float64.

    left (m, k), right (k, m), centre (m,); `name` says which eraser it is. Every sample is moved: there is
    no gate. Raises MismatchError for shapes that disagree or values that are not finite.
    """

    left: np.ndarray
    right: np.ndarray
    centre: np.ndarray
    name: str = "eraser"

    def __post_init__(self):
        arrays = {
            key: np.array(getattr(self, key), dtype=np.float64)
            for key in ("left", "right", "centre")
        }
        left, right, centre = arrays.values()
        if left.ndim != 2 or right.shape != left.shape[::-1] or centre.shape != left.shape[:1]:
            raise MismatchError(
                f"an eraser needs left (m, k), right (k, m) and centre (m,); got {left.shape}, {right.shape} and {centre.shape}"
            )
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise MismatchError(f"the {self.name} eraser's map is not finite")
        for key, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, key, array)

    @property
    def dim(self) -> int:
        """m, the dimension of the representation."""
        return len(self.centre)

    @property
    def rank(self) -> int:
        """k, the number of directions erased at most."""
        return self.left.shape[1]

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """z' (N, m) float64 of representations z (N, m)."""
        z = np.asarray(z, dtype=np.float64)
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise MismatchError(
                f"this eraser reads representations of shape (N, {self.dim}); got {z.shape}"
            )
        return z - (z - self.centre) @ self.right.T @ self.left.T


def project_out(direction: np.ndarray, *, centre: np.ndarray | None = None) -> Eraser:
    """The orthogonal projection P = I - w wᵀ / |w|² that removes direction w (m,), as POUR-P does with a class's head row.

    The published row is that of a simplex, whose rows sum to zero; a text head's share a large mean, so take
    the row less the mean of all rows: without it the class's logit becomes 0, which may still be the largest.
    centre (m,): the projection is about this point, by default the origin. Raises MismatchError for other
    shapes, EditError for a direction of norm 0.
    """
    direction = np.asarray(direction, dtype=np.float64)
    if direction.ndim != 1 or not np.isfinite(direction).all():
        raise MismatchError(
            f"project_out needs one finite direction of shape (m,); got shape {direction.shape}"
        )
    centre = np.zeros_like(direction) if centre is None else np.asarray(centre, dtype=np.float64)
    if centre.shape != direction.shape:
        raise MismatchError(
            f"direction and centre must have the same shape; got {direction.shape} and {centre.shape}"
        )
    norm = np.linalg.norm(direction)
    if norm == 0:
        raise EditError(
            "a direction of norm 0 can't be projected out; choose one that the class differs in"
        )
    unit = direction / norm
    return Eraser(unit[:, None], unit[None, :], centre, "projection")


def leace(features, target: str) -> Eraser:
    """The least change of `features` after which no linear probe tells class `target` from the rest (Belrose et al. 2023, LEACE).

    features: labelled `Features`, usually of the training set; the concept is the indicator of the class.
    On these features the covariance with the indicator is 0 afterwards. The covariance of the
    representations is shrunk as the package concept-erasure does, which leaves that guarantee. Raises MismatchError for an
    unknown class, EditError where it or every other class has no sample, ModelError where concept-erasure is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # the package compiles a function by torch.jit when imported
            from concept_erasure import LeaceFitter
    except ImportError:
        raise ModelError(
            "LEACE needs the package concept-erasure: pip install concept-erasure==0.2.4"
        ) from None
    concept = np.asarray(features.y) == _index(features.classes, target)
    if not concept.any() or concept.all():
        raise EditError(
            f"LEACE needs samples of class {target!r} and of others; of {len(concept)}, {concept.sum()} are of the class"
        )
    z = torch.as_tensor(np.asarray(features.z), dtype=torch.float64)
    # the package's limits on trace and singular values would trade the guarantee away
    fitter = LeaceFitter.fit(
        z, torch.as_tensor(concept).double(), constrain_cov_trace=False, svd_tol=1e-12
    )
    eraser = fitter.eraser
    return Eraser(eraser.proj_left.numpy(), eraser.proj_right.numpy(), eraser.bias.numpy(), "leace")


class ErasedHead(nn.Module):
    """logits = head(moved(z)), where `moved` applies an `Eraser` in float32 and `head` is the original head.

    Raises MismatchError where the head reads another dimension.
    """

    def __init__(self, head: nn.Module, eraser: Eraser):
        super().__init__()
        if eraser.dim != head.in_features:
            raise MismatchError(
                f"the eraser has {eraser.dim} dimensions and the head reads {head.in_features}"
            )
        self.head = head
        self.in_features, self.out_features = head.in_features, head.out_features
        device = next((t.device for t in (*head.parameters(), *head.buffers())), None)
        for name in ("left", "right", "centre"):
            array = np.array(getattr(eraser, name))  # a copy: torch warns of read-only arrays
            self.register_buffer(name, torch.as_tensor(array, dtype=torch.float32, device=device))

    def _erase(self, z: torch.Tensor) -> torch.Tensor:
        return z - (z - self.centre) @ self.right.T @ self.left.T

    def moved(self, z: torch.Tensor) -> torch.Tensor:
        """The erased representations (N, m) that the innermost head reads."""
        return _moved(self.head, self._erase(z))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of representations z (N, m)."""
        return self.head(self._erase(z))


class MaskedHead(nn.Module):
    """The logits of `head`, but that of class `index` is -inf, so that it is never predicted."""

    def __init__(self, head: nn.Module, index: int):
        super().__init__()
        self.head, self.index = head, index
        self.in_features, self.out_features = head.in_features, head.out_features

    def moved(self, z: torch.Tensor) -> torch.Tensor:
        """The representations (N, m) that the innermost head reads."""
        return _moved(self.head, z)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of representations z (N, m)."""
        column = torch.arange(self.out_features, device=z.device) == self.index
        return self.head(z).masked_fill(column, -torch.inf)

    def extra_repr(self) -> str:
        return f"index={self.index}"


def erase(classifier: Classifier, eraser: Eraser) -> Classifier:
    """The classifier whose head reads erased representations, in eval mode.

    The encoder is shared with the argument, not copied; the head is a copy. Erasers can be applied one after
    another. Raises MismatchError where the dimensions differ.
    """
    return _with_head(classifier, ErasedHead(copy.deepcopy(classifier.head), eraser))


def mask_class(classifier: Classifier, target: str) -> Classifier:
    """The classifier that never answers `target`, its other logits unchanged, in eval mode: the trivial baseline.

    The encoder is shared with the argument, not copied; the head is a copy. Raises MismatchError for an unknown
    class, EditError where there is no other.
    """
    index = _index(classifier.classes, target)
    if len(classifier.classes) == 1:
        raise EditError(f"class {target!r} is the only one: masked, nothing could be predicted")
    return _with_head(classifier, MaskedHead(copy.deepcopy(classifier.head), index))


def _with_head(classifier: Classifier, head: nn.Module) -> Classifier:
    return Classifier(
        classifier.encoder,
        head,
        classes=classifier.classes,
        preprocess=classifier.preprocess,
        source=classifier.source,
    )


def _moved(head: nn.Module, z: torch.Tensor) -> torch.Tensor:
    return head.moved(z) if hasattr(head, "moved") else z


def _index(classes, target: str) -> int:
    if target not in classes:
        raise MismatchError(f"no class {target!r}; there are {', '.join(classes[:20])}")
    return tuple(classes).index(target)
