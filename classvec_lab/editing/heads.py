"""Heads with a step before them: what every edit behind the encoder puts in the place of a head."""

import torch
from torch import nn

from ..models import Classifier
from ..readout import tensor_like


class SteppedHead(nn.Module):
    """logits = head(step(z)): a head behind a map of the representation, by default the identity.

    The head is the one given, not a copy. Stepped heads can be stacked.
    """

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head
        self.in_features, self.out_features = head.in_features, head.out_features

    def step(self, z: torch.Tensor) -> torch.Tensor:
        """What `head` reads instead of z (N, m)."""
        return z

    def moved(self, z: torch.Tensor) -> torch.Tensor:
        """The representations (N, m) that the innermost head reads."""
        z = self.step(z)
        return self.head.moved(z) if isinstance(self.head, SteppedHead) else z

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of representations z (N, m)."""
        return self.head(self.step(z))


def with_head(classifier: Classifier, head: nn.Module, kind: type = Classifier) -> Classifier:
    """A classifier of type `kind` with this head, on the device of the classifier's own.

    The encoder is shared, not copied, and stays in the mode that it is in.
    """
    return kind(
        classifier.encoder,
        head.to(tensor_like(classifier.head).device),
        classes=classifier.classes,
        preprocess=classifier.preprocess,
        source=classifier.source,
    )
