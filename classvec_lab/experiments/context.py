"""`EditingContext`: a fine-tuned model with all that editing needs, made once: features, moments, class vectors, gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..editing.calibration import calibrate_gate
from ..editing.strength import LAMBDAS, THRESHOLD, TOLERANCE
from ..errors import EditError
from ..features import Features, extract_features
from ..gates import SCORES, Gate
from ..models import Classifier
from ..moments import ClassMoments
from ..vectors import ClassVectors

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class EditingContext:
    """What methods of forgetting share. Gates and strengths are set on val alone, and results reported on test.

    pre, ft: the two classifiers; data: split name to data set; recipe: the options of `finetune` behind ft, for
    retraining; false_fire, guarantee: what gates are calibrated for; lambdas, threshold, tolerance: see `choose_lambda`.
    """

    pre: Classifier
    ft: Classifier
    data: Mapping[str, object]
    recipe: Mapping[str, object]
    seed: int = 0
    false_fire: float = 0.01
    guarantee: str = "marginal"
    lambdas: Sequence[float] = LAMBDAS
    threshold: float = THRESHOLD
    tolerance: float = TOLERANCE
    _gates: dict = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, experiment, **settings) -> "EditingContext":
        """From an `Experiment` and any of the settings above."""
        data = {split: getattr(experiment, split) for split in SPLITS}
        return cls(experiment.pre, experiment.ft, data, experiment.recipe, **settings)

    @cached_property
    def features(self) -> dict[str, Features]:
        """Representations of all splits under the fine-tuned encoder."""
        return self.extract(self.ft)

    @cached_property
    def pre_features(self) -> dict[str, Features]:
        """Representations of all splits under the pre-trained encoder."""
        return self.extract(self.pre)

    @cached_property
    def vectors(self) -> ClassVectors:
        """Class vectors of the training images."""
        return ClassVectors.from_features(self.pre_features["train"], self.features["train"])

    @cached_property
    def moments(self) -> ClassMoments:
        """Training moments under the fine-tuned encoder, with the pooled scatter."""
        return self.features["train"].moments(pooled_scatter=True)

    def extract(self, classifier: Classifier) -> dict[str, Features]:
        """Representations of all splits under any encoder."""
        return {
            split: extract_features(classifier, data, progress=False)
            for split, data in self.data.items()
        }

    def gate(self, target: str, score: str = "margin") -> Gate | None:
        """The gate of a class, calibrated on val; None for the score "none"."""
        if score == "none":
            return None
        key = target, score
        if key not in self._gates:
            more = (
                {"classifier": self.ft}
                if score == "predicted"
                else {"moments": self.moments}
                if score == "discriminant"
                else {}
            )
            options = {"false_fire": self.false_fire, "score": score, "guarantee": self.guarantee}
            self._gates[key] = calibrate_gate(
                self.features["val"], self.vectors, target, **options, **more
            )
        return self._gates[key]

    def require_gates(self, gates: Sequence[str]) -> tuple[str, ...]:
        """Raise EditError, listing the scores, unless each is one of them or "none". Returns them."""
        if unknown := [gate for gate in gates if gate not in ("none", *SCORES)]:
            raise EditError(f"no gate {unknown[0]!r}; there are none, {', '.join(SCORES)}")
        return tuple(gates)

    def require_targets(self, targets: Sequence[str] | None) -> tuple[str, ...]:
        """`require_target` of each, all classes for None; raises EditError, too, for none at all or one given twice."""
        targets = tuple(
            self.require_target(t) for t in (self.ft.classes if targets is None else targets)
        )
        if not targets or len(set(targets)) < len(targets):
            raise EditError(
                f"give each class to edit once, and at least one; got {', '.join(targets) or 'none'}"
            )
        return targets

    def require_target(self, target: str) -> str:
        """Raise EditError, listing the classes, unless `target` is one that train, val and test have images of. Returns it."""
        if target not in self.ft.classes:
            raise EditError(
                f"no class {target!r} to edit; there are {', '.join(self.ft.classes[:20])}"
            )
        i = self.ft.classes.index(target)
        if absent := [split for split, data in self.data.items() if not (data.targets == i).any()]:
            raise EditError(
                f"class {target!r} has no image in {', '.join(absent)}: use a larger limit, or another class"
            )
        return target
