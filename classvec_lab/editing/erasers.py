"""Closed-form erasers of a class on the representation: projection, LEACE, and the mask of a logit.

An eraser is a `LeaceEraser` of the package concept-erasure, z' = z - left · right · (z - centre),
which is called with a tensor (N, m). It moves every sample: there is no gate.
"""

import warnings

import numpy as np
import torch
from torch import nn

from ..checks import index_of
from ..errors import EditError
from ..models import Classifier
from .heads import SteppedHead, with_head

with warnings.catch_warnings():  # the package compiles a function by torch.jit when imported
    warnings.simplefilter("ignore", DeprecationWarning)
    from concept_erasure import LeaceEraser


def project_out(direction: np.ndarray) -> LeaceEraser:
    """The orthogonal projection P = I - w wᵀ / |w|² that removes direction w, as POUR-P does.

    POUR-P projects out a class's head row. The published row is that of a simplex, whose rows sum
    to zero; a text head's share a large mean, so take the row less the mean of all rows. Without it
    the class's logit becomes 0, which may still be the largest.

    Args:
        direction: w, (m,).
    Raises:
        EditError: for a direction of norm 0.
    """
    if not direction.any():
        raise EditError(
            "a direction of norm 0 can't be projected out; choose one that the class differs in"
        )
    unit = torch.tensor(direction / np.linalg.norm(direction))
    return LeaceEraser(unit[:, None], unit[None, :], torch.zeros_like(unit))


def leace(features, target: str) -> LeaceEraser:
    """The least change after which no linear probe tells class `target` from the rest.

    The concept is the indicator of the class: on `features` the covariance with it is 0 afterwards.
    The covariance of the representations is shrunk as the package does, which leaves that
    guarantee.

    Args:
        features: labelled `Features`, usually of the training set.
        target: name of the class.
    Raises:
        MismatchError: for an unknown class.
        EditError: where it or every other class has no sample.
    Source: Belrose et al., LEACE, NeurIPS 2023.
    """
    concept = features.y == index_of(target, features.classes)
    if not concept.any() or concept.all():
        raise EditError(
            f"LEACE needs samples of class {target!r} and of others; "
            f"of {len(concept)}, {concept.sum()} are of the class"
        )
    z, concept = (torch.tensor(a, dtype=torch.float64) for a in (features.z, concept))
    # the package's limits on trace and singular values would trade the guarantee away
    return LeaceEraser.fit(z, concept, constrain_cov_trace=False, svd_tol=1e-12)


class ErasedHead(SteppedHead):
    """head(eraser(z)), the eraser in float32."""

    def __init__(self, head: nn.Module, eraser: LeaceEraser):
        super().__init__(head)
        parts = {"left": eraser.proj_left, "right": eraser.proj_right, "centre": eraser.bias}
        for name, value in parts.items():
            self.register_buffer(name, value.float())

    def step(self, z: torch.Tensor) -> torch.Tensor:
        """The erased representations (N, m)."""
        return LeaceEraser(self.left, self.right, self.centre)(z)


class MaskedHead(SteppedHead):
    """The logits of `head`, but that of class `index` is -inf, so that it is never predicted."""

    def __init__(self, head: nn.Module, index: int):
        super().__init__(head)
        self.index = index

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of representations z (N, m)."""
        column = torch.arange(self.out_features, device=z.device) == self.index
        return self.head(z).masked_fill(column, -torch.inf)

    def extra_repr(self) -> str:
        return f"index={self.index}"


def erase(classifier: Classifier, eraser: LeaceEraser) -> Classifier:
    """The classifier whose head reads erased representations.

    Encoder and head are shared, not copied, see `inject`. Erasers can be applied one after another.
    """
    return with_head(classifier, ErasedHead(classifier.head, eraser))


def mask_class(classifier: Classifier, target: str) -> Classifier:
    """The classifier that never answers `target`, its other logits unchanged: the trivial baseline.

    Encoder and head are shared, not copied, see `inject`. Raises MismatchError for an unknown
    class, EditError where there is no other.
    """
    index = index_of(target, classifier.classes)
    if len(classifier.classes) == 1:
        raise EditError(f"class {target!r} is the only one: masked, nothing could be predicted")
    return with_head(classifier, MaskedHead(classifier.head, index))
