"""Where a linear change of the representation is written: the head, or the encoder's last map."""

import copy
from dataclasses import dataclass

import numpy as np

from ...errors import ModelError
from ...readout import find_rows
from .delta import base_weights


@dataclass(frozen=True)
class Site:
    """The place of a change.

    Args:
        kind: "head" (if it is linear), "projection" (a matrix that the pooled tokens are multiplied
            with) or "linear" (the encoder's last nn.Linear).
        name: its module or parameter in the classifier's state.
        bias: whether it has one.
    """

    kind: str
    name: str
    bias: bool

    def changes(
        self, classifier, keys: np.ndarray, offsets: np.ndarray, steps: np.ndarray
    ) -> dict[str, tuple]:
        """`Delta.changes` that turn z into z + Σ_t (k_t · z + o_t) v_t.

        A head takes the change of its logits instead, and the representation stays as it is.

        Args:
            classifier: whose site this is.
            keys, offsets, steps: k (T, m), o (T,), which is 0 without a bias, and v (T, m).
        """
        if self.kind == "projection":
            (projection,) = base_weights(classifier, [self.name])
            return {self.name: (projection @ keys.T, steps.T)}
        names = [f"{self.name}.weight", *([f"{self.name}.bias"] if self.bias else [])]
        weight, *bias = base_weights(classifier, names)
        if self.kind == "head":
            factors, shift = (weight @ steps.T, keys.T), weight @ (offsets @ steps)
        else:
            constants = sum((keys @ b for b in bias), offsets)
            factors, shift = (steps.T, weight.T @ keys.T), constants @ steps
        return {names[0]: factors} | {name: shift for name in names[1:] if shift.any()}


def find_site(classifier) -> Site:
    """The head, where it is linear; else the linear map whose output the encoder gives untouched.

    Raises:
        ModelError: if neither is there.
    """
    from torch import nn

    head, encoder = classifier.head, classifier.encoder
    rows = find_rows(head)
    if rows is not None and rows.scale is None and "weight" in dict(head.named_parameters()):
        return Site("head", "head", getattr(head, "bias", None) is not None)
    if isinstance(getattr(encoder, "proj", None), nn.Parameter):
        from open_clip.transformer import VisionTransformer

        if isinstance(encoder, VisionTransformer):
            return Site("projection", "encoder.proj", False)
    return _last_linear(classifier)


def _last_linear(classifier) -> Site:
    """The nn.Linear whose output the encoder gives untouched."""
    import torch
    from PIL import Image
    from torch import nn

    encoder = copy.deepcopy(classifier.encoder).eval()  # hooks and modes stay off the user's
    given = []

    def stand_in(module, args, out):
        noise = torch.randn(out.shape, generator=torch.Generator().manual_seed(len(given)))
        given.append((module, noise.to(out)))
        return given[-1][1].clone()  # an activation may work in place

    names = {m: name for name, m in encoder.named_modules() if isinstance(m, nn.Linear)}
    for module in names:
        module.register_forward_hook(stand_in)
    if names:
        images = classifier.preprocess(Image.new("RGB", (64, 64), (120, 90, 60)))[None]
        with torch.inference_mode():
            out = encoder(images.to(next(encoder.parameters()).device))
        module, noise = given[-1]
        once = [m for m, _ in given].count(module) == 1
        rows = find_rows(classifier.encoder.get_submodule(names[module]))  # which has no hook
        once &= rows is not None and rows.scale is None
        owners = [m for m in encoder.modules() if module.weight in {*m.parameters(recurse=False)}]
        once &= len(owners) == 1  # a tied weight would change the other layer too
        if once and noise.shape == out.shape and torch.equal(noise, out):
            return Site("linear", f"encoder.{names[module]}".rstrip("."), module.bias is not None)
    raise ModelError(
        f"{classifier.name!r} has neither a linear head nor a linear last map, so an edit can't be "
        "folded into its weights; use inject, which needs neither"
    )
