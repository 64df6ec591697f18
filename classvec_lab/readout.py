"""What a head makes of representations: its rows, logits, logits along a line, and a `Readout`."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import pandas as pd

from . import statistics
from .checks import array, index_of, record, representations
from .errors import EditError, MismatchError
from .features import extract_features


@record
class HeadRows:
    """A head as arrays: logits = W z + b, or for a cosine head scale · W z / |z|.

    weight (C, m) and bias (C,), float64, 0 for a cosine head; scale None for a linear one.
    """

    weight: np.ndarray
    bias: np.ndarray
    scale: float | None = None

    def __iter__(self):
        return iter((self.weight, self.bias))

    @property
    def centred(self) -> np.ndarray:
        """The rows less their mean, which decides no prediction, (C, m)."""
        return self.weight - self.weight.mean(axis=0)

    @property
    def basis(self) -> np.ndarray:
        """Orthonormal rows (k, m) that span the centred rows: all that the head can tell apart."""
        _, size, basis = np.linalg.svd(self.centred, full_matrices=False)
        return basis[size > size[0] * 1e-10]


def find_rows(head) -> HeadRows | None:
    """The rows of a head that computes W z + b or scale · cos(z, w) of its `weight` and `bias`.

    Decided by what it gives for some z, in eval mode, on whatever device; None for any other.
    """
    import torch

    from .models.blocks import evaluating

    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    if getattr(weight, "ndim", 0) != 2:
        return None
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    lengths = torch.tensor([[0.01], [1.0], [100.0]] * 4)
    noise = torch.randn(12, weight.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), evaluating(head):
        z = (noise * lengths).to(weight)
        arrays = (t.detach().cpu().double().numpy() for t in (z, head(z), weight, bias))
    z, given, rows, shift = arrays
    unit, direction = (a / np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12) for a in (rows, z))
    cosine = direction @ unit.T
    scale = (given * cosine).sum() / max(np.square(cosine).sum(), 1e-12)
    ways = (z @ rows.T + shift, rows, shift, None), (scale * cosine, unit, 0 * shift, scale)
    for found, *of in ways:
        if (np.linalg.norm(found - given, axis=1) <= 0.01 * np.linalg.norm(given, axis=1)).all():
            return HeadRows(*of)
    return None


def head_rows(classifier) -> HeadRows:
    """`find_rows` of a classifier's head; raises EditError where it has none."""
    rows = find_rows(classifier.head)
    if rows is None:
        name = type(classifier.head).__name__
        raise EditError(f"this reads heads W z + b and scale · cos(z, w), and {name} is neither")
    return rows


def tensor_like(head):
    """A tensor of the device and number format that a head reads; else float32 on the CPU."""
    import torch

    state = head.state_dict().values()
    return next((value for value in state if value.is_floating_point()), torch.zeros(()))


def logits(classifier, z: np.ndarray) -> np.ndarray:
    """Logits (N, C) float64 of representations z (N, m), as the classifier itself computes them."""
    return _read(classifier, z, classifier.logits).astype(float)


def predict(classifier, data) -> np.ndarray:
    """Predicted labels (N,) of stored `Features`, or of a data set, whose features are extracted.

    Raises:
        MismatchError: for other classes than the classifier's, or in another order, and for
            representations that its head can't read.
    """
    return logits(classifier, _features(classifier, data).z).argmax(axis=1)


def accuracy(classifier, data) -> pd.DataFrame:
    """Accuracy of a classifier by class and in all, see `statistics.accuracy`.

    Args:
        data: labelled images, or their `Features`; raises what `predict` does.
    """
    known = _features(classifier, data)
    return statistics.accuracy(predict(classifier, known), known.y, known.classes)


def _features(classifier, data):
    features = data if hasattr(data, "z") else extract_features(classifier, data)
    classifier.require_classes(features.classes, "the data")
    representations(features.z, classifier.dim, f"the head of {classifier.name!r}")
    return features


def _read(classifier, z, function):
    import torch

    from .models.blocks import evaluating

    with torch.inference_mode(), evaluating(classifier.head):
        z = torch.as_tensor(np.asarray(z)).to(tensor_like(classifier.head))
        found = array(function(z), "what a head gives")
    if np.isnan(found).any():
        raise MismatchError(f"the head of {classifier.name!r} gives NaN, no numbers")
    return found


class Latent:
    """Representations z (N, m) read by a classifier's head, in float64.

    Along a line the logits of a linear head are affine in alpha, and those of a CosineHead affine
    over a norm, so one product with the head serves every alpha. Any other head is called.
    """

    def __init__(self, classifier, z: np.ndarray):
        self.z = representations(z, classifier.dim, "the head").astype(float)
        self._classifier, self._rows = classifier, find_rows(classifier.head)
        if self._rows is not None:
            self._start = self.z @ self._rows.weight.T + self._rows.bias

    def only(self, kept) -> "Latent":
        """The same of some samples: a mask (N,), or indices."""
        made = copy(self)
        made.z = self.z[kept]
        if self._rows is not None:
            made._start = self._start[kept]
        return made

    def along(self, step: np.ndarray, alphas) -> np.ndarray:
        """Logits (A, N, C) of z + alpha · step; step (m,) or one a sample, (N, m)."""
        found = np.stack([*self._line(step, alphas)])
        if self._rows is not None and self._rows.scale is not None:
            length = [np.linalg.norm(self.z + alpha * step, axis=1) for alpha in alphas]
            found *= self._rows.scale / np.maximum(length, 1e-12)[..., None]
        return found

    def predict(self, step: np.ndarray, alphas=(1.0,)) -> np.ndarray:
        """Predicted classes (A, N) of z + alpha · step, one alpha at a time in memory."""
        # a norm divides all classes alike: it decides nothing
        return np.stack([found.argmax(axis=1) for found in self._line(step, alphas)])

    def _line(self, step, alphas):
        """Logits (N, C) of z + alpha · step for each alpha; of a cosine head without its norm."""
        if self._rows is None:
            yield from (logits(self._classifier, self.z + alpha * step) for alpha in alphas)
        else:
            change = step @ self._rows.weight.T
            yield from (self._start + alpha * change for alpha in alphas)


def check_labelled(classifier, features, vectors) -> None:
    """Raise MismatchError unless all agree in dimension and in their two or more classes."""
    classifier.require_classes(features.classes, "the features")
    vectors.require(classes=features.classes)
    representations(features.z, vectors.dim, "an edit by these class vectors")
    if len(vectors) < 2:
        raise MismatchError(
            "an edit towards another class needs at least two classes; there is one"
        )


def random_like(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian directions rescaled to the norms of the rows of `vectors` (…, m)."""
    drawn = rng.standard_normal(np.shape(vectors))
    wanted, given = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (vectors, drawn))
    return drawn * (wanted / given)


@record
class Readout:
    """What a classifier says of labelled images.

    Args:
        z: representations (N, m) that the head reads, after any edit; finite.
        logits: (N, C) float64, finite or -inf (a masked class).
        y: labels (N,); classes: the C names.
    Raises:
        MismatchError: for shapes that disagree or values that can't be.
    """

    z: np.ndarray
    logits: np.ndarray
    y: np.ndarray
    classes: Sequence[str]

    def __post_init__(self):
        z, y, classes = np.asarray(self.z), np.asarray(self.y), tuple(self.classes)
        logits = np.asarray(self.logits, float)
        if z.ndim != 2 or logits.shape != (len(z), len(classes)) or y.shape != z.shape[:1]:
            raise MismatchError(
                f"Readout needs z (N, m), logits (N, {len(classes)}) and y (N,); "
                f"got {z.shape}, {logits.shape} and {y.shape}"
            )
        if not (np.isfinite(z).all() and (logits < np.inf).all()):
            raise MismatchError(
                "a readout's representations must be finite, and its logits finite or -inf"
            )
        vars(self).update(z=z, logits=logits, y=y, classes=classes)

    @classmethod
    def of(cls, classifier, features) -> "Readout":
        """From what `classifier.encode` gave for the images.

        Heads that edit say what they made of z.
        """
        moved = _read(classifier, features.z, getattr(classifier.head, "moved", lambda z: z))
        return cls(moved, logits(classifier, features.z), features.y, features.classes)

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
        return index_of(target, self.classes)

    def __len__(self) -> int:
        return len(self.y)
