"""`Gate`: decides from a representation, without a label, whether an edit acts. Arrays only."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .checks import in_range, named, one_of, record, representations
from .errors import MismatchError

SCORES = ("margin", "cosine", "discriminant", "predicted")
DEPLOYED = "predicted"  # the score where none is asked for; docs/editing.md says why
_ARRAYS = ("weight", "bias")
_STATED = {
    "marginal": "on average at most {:.3g} of the others",
    "pac": "at most {:.3g} of the others with 95 % confidence",
}


@record
class Gate:
    """Fires on a representation z where score(z) > threshold.

    With r = weight z + bias (z at length 1 where `normalise`), the score is r[own], less the
    largest other r where `rivals`. This covers the published gate, the cosine to one class mean
    ("cosine"), the cosine to the target's mean less the largest to another's ("margin"), the head's
    own decision ("predicted"; a tie fires for no class), and a linear discriminant with a shrunk
    covariance ("discriminant"). Scores are computed in float64 from z in float32, which is what an
    encoder gives, so that stored representations and a deployed network are decided alike.

    Args:
        target: class that the gate is for; classes: the C names that the model tells apart.
        score: one of `SCORES`.
        weight: (K, m); bias: (K,), both finite.
        threshold: may be infinite.
        own: row of the target, in 0..K-1.
        temperature: 0 for a hard gate; above 0 the gate is soft and acts with weight
            sigmoid((score - threshold) / temperature).
        guarantee: "marginal", "pac" or "none"; with false_fire and n_negatives it says how the gate
            was calibrated.
    Raises:
        MismatchError: for shapes, names or numbers that can't be.
    """

    target: str
    classes: Sequence[str]
    score: str
    weight: np.ndarray
    bias: np.ndarray
    threshold: float
    own: int = 0
    rivals: bool = False
    normalise: bool = False
    temperature: float = 0.0
    guarantee: str = "none"
    false_fire: float | None = None
    n_negatives: int = 0

    def __post_init__(self):
        weight, bias = (np.array(getattr(self, name), float) for name in _ARRAYS)
        classes = named(self.classes)
        if (
            weight.ndim != 2
            or bias.shape != weight.shape[:1]
            or self.own not in range(len(weight))
            or (self.rivals and len(weight) < 2)
        ):
            raise MismatchError(
                "a gate needs weight (K, m), bias (K,) and own in 0..K-1, and with rivals at least "
                f"two classes; got {weight.shape}, {bias.shape}, {self.own}"
            )
        if not np.isfinite([*weight.T, bias]).all() or np.isnan(self.threshold):
            raise MismatchError("a gate's weights and threshold must be finite numbers")
        in_range("a gate's temperature", self.temperature, 0, np.inf)
        one_of(self.target, classes, "class")
        weight.flags.writeable = bias.flags.writeable = False
        vars(self).update(
            weight=weight,
            bias=bias,
            classes=classes,
            own=int(self.own),
            threshold=float(self.threshold),
            temperature=float(self.temperature),
        )

    @property
    def dim(self) -> int:
        """m, the dimension of the representation."""
        return self.weight.shape[1]

    @property
    def rows(self) -> np.ndarray:
        """Weights and, in the last column, biases (K, m + 1), the target's row first."""
        return np.roll(np.column_stack([self.weight, self.bias]), -self.own, axis=0)

    def score_of(self, z, rows, library=np):
        """Scores (N,) of z (N, m) in float64; z and `rows` are arrays or tensors of the library.

        Tables and networks call this one function, so that they decide alike.
        """
        read = z @ rows[:, :-1].T
        if self.normalise:
            read = read / library.clip((z * z).sum(1) ** 0.5, 1e-12, None)[:, None]
        read = read + rows[:, -1]
        return read[:, 0] - library.amax(read[:, 1:], 1) if self.rivals else read[:, 0]

    def scores(self, z: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 of representations z (N, m), which are rounded to float32 first."""
        z = representations(z, self.dim, "this gate").astype(np.float32)
        return self.score_of(z.astype(float), self.rows)

    def weights(self, z: np.ndarray) -> np.ndarray:
        """How far the edit acts on each of z (N, m), (N,) in 0..1; for a hard gate 0 or 1."""
        return self.weights_of(self.scores(z))

    def weights_of(self, scores, library=np):
        """How far the edit acts where this gate's scores are (N,), see `weights`."""
        above = scores - self.threshold
        if not self.temperature:
            return (above > 0) * 1.0
        return 0.5 + 0.5 * library.tanh(above / (2 * self.temperature))  # the sigmoid

    def fires(self, z: np.ndarray) -> np.ndarray:
        """Where the gate fires on z (N, m), (N,) bool."""
        return self.scores(z) > self.threshold

    def at(self, threshold: float, **changes) -> "Gate":
        """The same score with another threshold or fields; a guarantee must be given again."""
        fresh = {"threshold": threshold, "guarantee": "none", "false_fire": None}
        return replace(self, **fresh | changes)

    def soft(self, temperature: float) -> "Gate":
        """The soft version, a sigmoid of this width in units of the score, without a guarantee."""
        in_range("a soft gate's temperature", temperature, 0, np.inf, open_low=True)
        return self.at(self.threshold, temperature=temperature)

    def __str__(self) -> str:
        soft = f", soft over {self.temperature:.3g}" if self.temperature else ""
        how = "no guarantee"
        if self.guarantee in _STATED and self.false_fire is not None:
            stated = _STATED[self.guarantee].format(self.false_fire)
            how = f"{stated}, from {self.n_negatives} samples"
        return f"{self.score} of {self.target!r} > {self.threshold:.4g}{soft}; {how}"

    def packed(self) -> tuple[dict[str, np.ndarray], dict]:
        """(arrays, JSON-able card): `Gate(**arrays, **card)` is this gate again, bit for bit."""
        card = {**vars(self), "classes": list(self.classes)}
        return {name: card.pop(name) for name in _ARRAYS}, card
