"""`Gate`: decides from a representation alone, without a label, whether an edit acts. Arrays only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .errors import MismatchError

SCORES = ("margin", "cosine", "discriminant", "predicted")
_PLAIN = (
    "target",
    "score",
    "threshold",
    "own",
    "rivals",
    "normalise",
    "temperature",
    "guarantee",
    "false_fire",
    "n_negatives",
)


@dataclass(frozen=True, eq=False)
class Gate:
    """Fires on z (m,) where score(z) > threshold.

    With r = weight z + bias (z at length 1 where `normalise`), the score is r[own], less the largest
    other r where `rivals`. weight (K, m), bias (K,). This covers the published gate, the cosine to one
    class mean ("cosine"); cosine to the target's mean less the largest to another's ("margin"); the
    head's own decision ("predicted"); and a linear discriminant with a shrunk covariance
    ("discriminant"). temperature > 0 makes the gate soft: it acts with weight
    sigmoid((score - threshold) / temperature) instead of 0 or 1.
    guarantee ("marginal", "pac" or "none"), false_fire and n_negatives say how it was calibrated.
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
        weight, bias = (
            np.array(self.weight, dtype=np.float64),
            np.array(self.bias, dtype=np.float64),
        )
        classes = tuple(str(c) for c in self.classes)
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or not 0 <= self.own < len(weight):
            raise MismatchError(
                f"a gate needs weight (K, m), bias (K,) and own in 0..K-1; got {weight.shape}, {bias.shape}, {self.own}"
            )
        if self.rivals and len(weight) < 2:
            raise MismatchError("a gate that compares with rivals needs at least two classes")
        if not np.isfinite(weight).all() or not np.isfinite(bias).all() or np.isnan(self.threshold):
            raise MismatchError("a gate's weights and threshold must be finite numbers")
        if not self.temperature >= 0:
            raise MismatchError(
                f"a gate's temperature is 0 (hard) or above; got {self.temperature}"
            )
        if self.target not in classes:
            raise MismatchError(f"no class {self.target!r}; there are {', '.join(classes[:20])}")
        weight.flags.writeable = bias.flags.writeable = False
        plain = (
            ("threshold", float(self.threshold)),
            ("own", int(self.own)),
            ("temperature", float(self.temperature)),
        )
        for name, value in (("weight", weight), ("bias", bias), ("classes", classes), *plain):
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        """m, the dimension of the representation."""
        return self.weight.shape[1]

    def scores(self, z: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 of representations z (N, m)."""
        z = np.asarray(z, dtype=np.float64)
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise MismatchError(
                f"this gate reads representations of shape (N, {self.dim}); got {z.shape}"
            )
        read = z @ self.weight.T
        if self.normalise:
            read /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        read += self.bias
        if not self.rivals:
            return read[:, self.own]
        return read[:, self.own] - np.delete(read, self.own, axis=1).max(axis=1)

    def weights(self, z: np.ndarray) -> np.ndarray:
        """How far the edit acts on each of z (N, m), (N,) in 0..1; for a hard gate 0 or 1."""
        return self.weights_of(self.scores(z))

    def weights_of(self, scores: np.ndarray) -> np.ndarray:
        """How far the edit acts where this gate's scores are (N,), see `weights`."""
        from scipy.special import expit

        above = scores - self.threshold
        return (
            expit(above / self.temperature) if self.temperature else (above > 0).astype(np.float64)
        )

    def fires(self, z: np.ndarray) -> np.ndarray:
        """Where the gate fires, (N,) bool."""
        return self.scores(z) > self.threshold

    def at(self, threshold: float, **changes) -> "Gate":
        """The same score with another threshold, or other fields; the guarantee goes with its threshold, unless given again."""
        return replace(
            self, **{"threshold": threshold, "guarantee": "none", "false_fire": None} | changes
        )

    def soft(self, temperature: float) -> "Gate":
        """The soft version, which acts by a sigmoid of this width (in units of the score); it carries no guarantee."""
        if not temperature > 0:
            raise MismatchError(f"a soft gate needs a temperature above 0; got {temperature}")
        return replace(self, temperature=float(temperature), guarantee="none", false_fire=None)

    def __str__(self) -> str:
        soft = f", soft over {self.temperature:.3g}" if self.temperature else ""
        how = {
            "marginal": f"; on average at most {self.false_fire:.3g} of the others, from {self.n_negatives} samples"
            if self.false_fire is not None
            else "",
            "pac": f"; at most {self.false_fire:.3g} of the others with 95 % confidence, from {self.n_negatives} samples"
            if self.false_fire is not None
            else "",
        }.get(self.guarantee, "; no guarantee")
        return f"{self.score} of {self.target!r} > {self.threshold:.4g}{soft}{how}"

    def packed(self) -> tuple[dict[str, np.ndarray], dict]:
        """(arrays, JSON-able card) from which `unpacked` makes this gate again."""
        card = {name: getattr(self, name) for name in _PLAIN} | {"classes": list(self.classes)}
        return {"weight": self.weight, "bias": self.bias}, card

    @classmethod
    def unpacked(cls, arrays: Mapping[str, np.ndarray], card: Mapping) -> "Gate":
        """The gate that `packed` described."""
        return cls(
            weight=arrays["weight"],
            bias=arrays["bias"],
            classes=card["classes"],
            **{k: card[k] for k in _PLAIN},
        )
