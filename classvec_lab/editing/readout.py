"""`Readout`: what a classifier, edited or not, gives for labelled images, as arrays that every audit reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import MismatchError


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
        z, logits, y = np.asarray(self.z), np.asarray(self.logits, dtype=np.float64), np.asarray(self.y)
        if z.ndim != 2 or logits.shape != (len(z), len(self.classes)) or y.shape != (len(z),):
            raise MismatchError(
                f"Readout needs z (N, m), logits (N, {len(self.classes)}) and y (N,); got {z.shape}, {logits.shape} and {y.shape}"
            )
        if not np.isfinite(z).all() or np.isnan(logits).any() or np.isposinf(logits).any():
            raise MismatchError("a readout's representations must be finite, and its logits finite or -inf")
        for name, value in (("z", z), ("logits", logits), ("y", y), ("classes", tuple(self.classes))):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, classifier, features) -> "Readout":
        """From `features`: what `classifier.encode` gave for the images. Heads that edit say what they made of z."""
        import torch

        device = next((t.device for t in (*classifier.head.parameters(), *classifier.head.buffers())), None)
        with torch.inference_mode():
            z = torch.as_tensor(np.asarray(features.z), dtype=torch.float32, device=device)
            moved = classifier.head.moved(z) if hasattr(classifier.head, "moved") else z
            return cls(moved.cpu().numpy(), classifier.logits(z).double().cpu().numpy(), features.y, features.classes)

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


def incompetent(classifier, features, dataset, *, seed: int = 0) -> Readout:
    """What a network of the same architecture with random weights gives for the same images: the reference of ZRF.

    features: of `dataset` under the classifier, for their labels. Every module that can is initialised anew by `seed`;
    the head stays.
    """
    import copy

    import torch

    from ..features import extract_features

    blank = copy.deepcopy(classifier)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in blank.encoder.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if reset is not None:
                reset()
                continue
            for parameter in module.parameters(recurse=False):  # embeddings and projections that no layer owns
                torch.nn.init.normal_(parameter, std=float(parameter.detach().double().std(correction=0)))
    drawn = extract_features(blank, dataset, progress=False, cache=False)
    if not np.array_equal(drawn.y, features.y):
        raise MismatchError("the data set and the features carry different labels: give the data that the features came from")
    return Readout.of(blank, drawn)
