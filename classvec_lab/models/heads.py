"""Classification heads: the cosine head of CLIP, built from prompts, and its rules."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..errors import ModelError
from .weights import load_into

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "a close-up photo of a {}.",
    "a drawing of a {}.",
    "an image of a {}.",
    "a {}.",
)


PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # inverse strengths, scikit-learn's C


class CosineHead(nn.Module):
    """logits = scale · cos(z, t_c): CLIP's zero-shot head, frozen: its tensors are no parameters.

    Args:
        weight: one row t_c a class, (C, m), of any norm; rows are normalised here.
        scale: the exponentiated logit scale.
    Raises:
        ModelError: for a weight of another shape.
    """

    def __init__(self, weight: torch.Tensor, scale: float):
        super().__init__()
        if weight.ndim != 2:
            shape = tuple(weight.shape)
            raise ModelError(f"CosineHead needs one row a class, shape (C, m); got shape {shape}")
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", F.normalize(weight.detach().float(), dim=1))
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of un-normalised representations z (N, m)."""
        return self.scale * F.linear(F.normalize(z, dim=-1), self.weight)


def stored_head(entries: Mapping, dim: int, head: nn.Module | None = None) -> nn.Module | None:
    """The head with these entries: `head`, a linear or a cosine head; None if none fits.

    Args:
        entries: a head's tensors by name.
        dim: m.
        head: of another class; a copy is filled where it has the same entries.
    """
    fitting = [copy.deepcopy(head)] if head else []
    weight = entries.get("weight", torch.zeros(0))
    if weight.shape[1:] == (dim,):
        fitting += [nn.Linear(dim, len(weight), bias=bias) for bias in (True, False)]
        fitting.append(CosineHead(weight, 1.0))
    for found in fitting:
        with suppress(RuntimeError):  # of torch, where names or shapes differ
            found.load_state_dict(entries)
            return found
    return None


def probe_head(train, val, absent: int | None = None) -> nn.Linear:
    """Make a linear head by logistic regression on a frozen representation: a linear probe.

    Each dimension is standardised, which the head's weights then undo. The penalty is that of
    `PENALTIES` with the highest accuracy on val, of equals the strongest.

    Args:
        train, val: labelled `Features` of one encoder.
        absent: index of a class of which no image is read. Its row is 0 and its bias that of one
            image in the training set, all else equal.
    Source: as the start of fine-tuning, Kumar et al., ICLR 2022.
    """
    from sklearn.linear_model import LogisticRegression

    kept = [features.y != absent for features in (train, val)]
    (z, y), (z_val, y_val) = ((f.z[k], f.y[k]) for f, k in zip((train, val), kept, strict=True))
    mean, spread = z.mean(axis=0), np.maximum(z.std(axis=0), 1e-12)
    weight = np.zeros((len(train.classes), z.shape[1]))
    bias = np.full(len(weight), -np.log(len(y)))
    if len(known := np.unique(y)) == 1:  # nothing to tell apart
        bias[known] = 0.0
    else:
        models = [
            LogisticRegression(C=c, max_iter=2000).fit((z - mean) / spread, y) for c in PENALTIES
        ]
        # the first of equals
        best = max(models, key=lambda model: model.score((z_val - mean) / spread, y_val))
        rows, constants = best.coef_ / spread, best.intercept_
        constants = constants - rows @ mean
        if len(rows) == 1:  # two classes have one row between them
            rows, constants = (np.concatenate([-x, x]) / 2 for x in (rows, constants))
        weight[known], bias[known] = rows, constants
    head = nn.Linear(weight.shape[1], len(weight))
    load_into(head, {"weight": weight, "bias": bias}, "the probe")
    return head


@torch.no_grad()
def zero_shot_head(
    clip: nn.Module, tokenizer, classes: Sequence[str], templates: Sequence[str]
) -> CosineHead:
    """Make the frozen text head: per class the mean of its normalised prompt embeddings.

    Args:
        clip: a model of open_clip.
        tokenizer: of the same.
        classes: names; underscores read as spaces.
        templates: prompts, each with exactly one {} for the name.
    Raises:
        ModelError: for other templates, and where two classes get the same embedding, which no
            training of the image tower could tell apart.
    Source: Radford et al., ICML 2021.
    """
    from open_clip import build_zero_shot_classifier

    if wrong := [template for template in templates if str(template).count("{}") != 1]:
        raise ModelError(
            "each prompt template needs exactly one {} for the class name, as in "
            f"'a photo of a {{}}'; got {wrong}"
        )
    names = [c.replace("_", " ") for c in classes]
    weight = build_zero_shot_classifier(clip, tokenizer, names, templates).T
    same = torch.triu(weight @ weight.T > 1 - 1e-6, diagonal=1).nonzero()
    if len(same):
        a, b = (classes[i] for i in same[0].tolist())
        raise ModelError(
            f"the prompts of {a!r} and {b!r} have the same text embedding; "
            "give the classes distinct names or other templates"
        )
    return CosineHead(weight, clip.logit_scale.exp().item())
