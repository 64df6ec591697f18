"""Representations under a head, ready to be moved: the logits of z + alpha · step in closed form."""

import copy

import numpy as np

from ..errors import MismatchError


class Latent:
    """Representations z (N, m) read by a classifier's head, in float64.

    Along a line the logits of a linear head are affine in alpha, and those of a CosineHead affine
    over a norm, so one product with the head serves every alpha. Any other head is called.
    """

    def __init__(self, classifier, z: np.ndarray):
        from torch import nn

        from ..models import CosineHead

        self.z = np.asarray(z, dtype=np.float64)
        if self.z.ndim != 2 or self.z.shape[1] != classifier.dim:
            raise MismatchError(f"the head reads {classifier.dim} dimensions; got representations of shape {self.z.shape}")
        head = classifier.head
        self._head, self._weight, self._scale = head, None, None
        if isinstance(head, nn.Linear | CosineHead):
            self._weight = head.weight.detach().cpu().double().numpy()
            bias = getattr(head, "bias", None)
            self._start = self.z @ self._weight.T + (0 if bias is None else bias.detach().cpu().double().numpy())
            self._scale = head.scale.item() if isinstance(head, CosineHead) else None
            self._square = np.einsum("nm,nm->n", self.z, self.z)

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows) -> "Latent":
        """The samples at `rows` (indices or a mask), without another product with the head."""
        part = copy.copy(self)
        part.z = self.z[rows]
        if self._weight is not None:
            part._start, part._square = self._start[rows], self._square[rows]
        return part

    def along(self, step: np.ndarray, alphas) -> np.ndarray:
        """Logits (A, N, C) of z + alpha · step; step (m,) or one a sample, (N, m)."""
        step = np.asarray(step, dtype=np.float64)
        alphas = np.asarray(alphas, dtype=np.float64)
        if self._weight is None:
            return np.stack([self._call(self.z + alpha * step) for alpha in alphas])
        logits = self._start + alphas[:, None, None] * (step @ self._weight.T)
        if self._scale is not None:
            across = self.z @ step if step.ndim == 1 else np.einsum("nm,nm->n", self.z, step)
            a = alphas[:, None]
            length = np.sqrt(np.maximum(self._square + 2 * a * across + a**2 * np.square(step).sum(-1), 0))
            logits *= self._scale / np.maximum(length, 1e-12)[..., None]
        return logits

    def predict(self, step: np.ndarray, alphas) -> np.ndarray:
        """Predicted classes (A, N) of z + alpha · step, one alpha at a time in memory."""
        alphas = np.atleast_1d(alphas)
        if self._weight is None:
            return np.stack([self.along(step, [alpha])[0].argmax(axis=1) for alpha in alphas])
        change = np.asarray(step, dtype=np.float64) @ self._weight.T  # a norm divides all classes alike: it decides nothing
        return np.stack([(self._start + alpha * change).argmax(axis=1) for alpha in alphas])

    def _call(self, z: np.ndarray) -> np.ndarray:
        import torch

        like = next((t for t in (*self._head.parameters(), *self._head.buffers()) if t.is_floating_point()), torch.zeros(()))
        with torch.no_grad():
            return self._head(torch.as_tensor(z).to(like.device, like.dtype)).double().cpu().numpy()


def check_labelled(classifier, features, vectors) -> None:
    """Raise MismatchError unless classifier, features and class vectors agree in their two or more classes, and in dimension."""
    classifier.require_classes(features.classes, "the features")
    vectors.require(classes=features.classes)
    if vectors.dim != features.z.shape[1]:
        raise MismatchError(f"the class vectors have {vectors.dim} dimensions and the features {features.z.shape[1]}")
    if len(vectors) < 2:
        raise MismatchError("an edit towards another class needs at least two classes; there is one")


def random_like(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian directions rescaled to the norms of the rows of `vectors` (…, m)."""
    drawn = rng.standard_normal(np.shape(vectors))
    return drawn * (np.linalg.norm(vectors, axis=-1, keepdims=True) / np.linalg.norm(drawn, axis=-1, keepdims=True))
