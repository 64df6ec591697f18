"""What a head makes of representations: its rows, logits along a line, predictions, and a `Readout` of labelled images."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import EditError, MismatchError


@dataclass(frozen=True, eq=False)
class HeadRows:
    """A head as arrays: logits = W z + b, or for a cosine head scale · W z / |z|.

    weight (C, m) and bias (C,), float64, 0 for a cosine head; scale None for a linear one.
    """

    weight: np.ndarray
    bias: np.ndarray
    scale: float | None = None

    def __iter__(self):
        return iter((self.weight, self.bias))


def find_rows(head) -> HeadRows | None:
    """The rows of an nn.Linear or CosineHead, on whatever device; None for any other module."""
    from torch import nn

    from .models import CosineHead

    cosine = isinstance(head, CosineHead)
    if not cosine and getattr(type(head), "forward", None) is not nn.Linear.forward:
        return None
    weight, bias = head.weight.detach().cpu().double().numpy(), getattr(head, "bias", None)
    bias = np.zeros(len(weight)) if bias is None else bias.detach().cpu().double().numpy()
    return HeadRows(weight, bias, head.scale.item() if cosine else None)


def head_rows(classifier) -> HeadRows:
    """`find_rows` of a classifier's head; raises EditError where it has none."""
    rows = find_rows(classifier.head)
    if rows is None:
        raise EditError(
            f"this reads nn.Linear and CosineHead, not {type(classifier.head).__name__}"
        )
    return rows


class Latent:
    """Representations z (N, m) read by a classifier's head, in float64.

    Along a line the logits of a linear head are affine in alpha, and those of a CosineHead affine
    over a norm, so one product with the head serves every alpha. Any other head is called.
    """

    def __init__(self, classifier, z: np.ndarray):
        self.z = np.asarray(z, dtype=np.float64)
        if self.z.ndim != 2 or self.z.shape[1] != classifier.dim:
            raise MismatchError(
                f"the head reads {classifier.dim} dimensions; got representations of shape {self.z.shape}"
            )
        self._head, rows = classifier.head, find_rows(classifier.head)
        self._weight, self._scale = (None, None) if rows is None else (rows.weight, rows.scale)
        if rows is not None:
            self._start = self.z @ rows.weight.T + rows.bias
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
            length = np.sqrt(
                np.maximum(self._square + 2 * a * across + a**2 * np.square(step).sum(-1), 0)
            )
            logits *= self._scale / np.maximum(length, 1e-12)[..., None]
        return logits

    def predict(self, step: np.ndarray, alphas) -> np.ndarray:
        """Predicted classes (A, N) of z + alpha · step, one alpha at a time in memory."""
        alphas = np.atleast_1d(alphas)
        if self._weight is None:
            return np.stack([self.along(step, [alpha])[0].argmax(axis=1) for alpha in alphas])
        change = (
            np.asarray(step, dtype=np.float64) @ self._weight.T
        )  # a norm divides all classes alike: it decides nothing
        return np.stack([(self._start + alpha * change).argmax(axis=1) for alpha in alphas])

    def _call(self, z: np.ndarray) -> np.ndarray:
        import torch

        like = next(
            (t for t in (*self._head.parameters(), *self._head.buffers()) if t.is_floating_point()),
            torch.zeros(()),
        )
        with torch.no_grad():
            return self._head(torch.as_tensor(z).to(like.device, like.dtype)).double().cpu().numpy()


def check_labelled(classifier, features, vectors) -> None:
    """Raise MismatchError unless classifier, features and class vectors agree in their two or more classes, and in dimension."""
    classifier.require_classes(features.classes, "the features")
    vectors.require(classes=features.classes)
    if vectors.dim != features.z.shape[1]:
        raise MismatchError(
            f"the class vectors have {vectors.dim} dimensions and the features {features.z.shape[1]}"
        )
    if len(vectors) < 2:
        raise MismatchError(
            "an edit towards another class needs at least two classes; there is one"
        )


def random_like(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian directions rescaled to the norms of the rows of `vectors` (…, m)."""
    drawn = rng.standard_normal(np.shape(vectors))
    return drawn * (
        np.linalg.norm(vectors, axis=-1, keepdims=True)
        / np.linalg.norm(drawn, axis=-1, keepdims=True)
    )


def predict(classifier, features) -> np.ndarray:
    """Predicted labels (N,) of the classifier's head on stored representations."""
    import torch

    device = next(
        (t.device for t in (*classifier.head.parameters(), *classifier.head.buffers())), None
    )
    with torch.inference_mode():
        z = torch.as_tensor(np.asarray(features.z), dtype=torch.float32, device=device)
        return classifier.logits(z).argmax(1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class Readout:
    """z (N, m) the representation that the head reads (after any edit), logits (N, C) float64, labels y (N,), C class names.

    Raises MismatchError for shapes that disagree or values that are not finite. Logits of -inf are
    allowed: a masked class.
    """

    z: np.ndarray
    logits: np.ndarray
    y: np.ndarray
    classes: Sequence[str]

    def __post_init__(self):
        z, logits, y = (
            np.asarray(self.z),
            np.asarray(self.logits, dtype=np.float64),
            np.asarray(self.y),
        )
        if z.ndim != 2 or logits.shape != (len(z), len(self.classes)) or y.shape != (len(z),):
            raise MismatchError(
                f"Readout needs z (N, m), logits (N, {len(self.classes)}) and y (N,); got {z.shape}, {logits.shape} and {y.shape}"
            )
        if not np.isfinite(z).all() or np.isnan(logits).any() or np.isposinf(logits).any():
            raise MismatchError(
                "a readout's representations must be finite, and its logits finite or -inf"
            )
        for name, value in (
            ("z", z),
            ("logits", logits),
            ("y", y),
            ("classes", tuple(self.classes)),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, classifier, features) -> "Readout":
        """From `features`: what `classifier.encode` gave for the images. Heads that edit say what they made of z."""
        import torch

        device = next(
            (t.device for t in (*classifier.head.parameters(), *classifier.head.buffers())), None
        )
        with torch.inference_mode():
            z = torch.as_tensor(np.asarray(features.z), dtype=torch.float32, device=device)
            moved = classifier.head.moved(z) if hasattr(classifier.head, "moved") else z
            return cls(
                moved.cpu().numpy(),
                classifier.logits(z).double().cpu().numpy(),
                features.y,
                features.classes,
            )

    @property
    def predicted(self) -> np.ndarray:
        """Predicted labels (N,)."""
        return self.logits.argmax(axis=1)

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits (N, C)."""
        from scipy.special import softmax

        return softmax(self.logits, axis=1)

    def index(self, target: str) -> int:
        """Position of a class; raises MismatchError listing what there is."""
        if target not in self.classes:
            raise MismatchError(f"no class {target!r}; there are {', '.join(self.classes[:20])}")
        return self.classes.index(target)

    def __len__(self) -> int:
        return len(self.y)
