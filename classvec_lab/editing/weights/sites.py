"""Where a linear change of the representation can be written into weights: the head, or the encoder's last linear map."""

from dataclasses import dataclass

import numpy as np

from ...errors import EditError, ModelError


@dataclass(frozen=True)
class Site:
    """The place of a fold. kind: "head" (nn.Linear), "projection" (a matrix that the pooled tokens are multiplied with) or
    "linear" (the encoder's last nn.Linear); name: its module or parameter in the classifier's state; bias: whether it has one.
    """

    kind: str
    name: str
    bias: bool

    def fold(
        self, classifier, keys: np.ndarray, offsets: np.ndarray, steps: np.ndarray
    ) -> tuple[dict, dict]:
        """(dense, factored) for `Delta.on`: what turns z into z + Σ_t (k_t · z + o_t) v_t; keys, steps (T, m), offsets (T,).

        A head takes the change of its logits instead: the representation stays as it is.
        """
        from .delta import base_weights

        if offsets.any() and not self.bias:
            raise EditError(f"{self.name} has no bias, so no offset can be written into it")
        if self.kind == "projection":
            (projection,) = base_weights(classifier, [self.name])
            return {}, {self.name: (projection @ keys.T, steps.T)}
        names = [f"{self.name}.weight", *([f"{self.name}.bias"] if self.bias else [])]
        weight, *rest = base_weights(classifier, names)
        if self.kind == "head":
            rows, columns, shift = weight @ steps.T, keys.T, weight @ (offsets @ steps)
        else:
            constant = keys @ rest[0] + offsets if rest else offsets
            rows, columns, shift = steps.T, weight.T @ keys.T, constant @ steps
        dense = {names[1]: shift} if self.bias and shift.any() else {}
        return dense, {names[0]: (rows, columns)}


def find_site(classifier) -> Site:
    """The head, where it is linear; else the encoder's last map, where whatever it gives leaves the encoder as it is.

    Raises ModelError where neither is.
    """
    from torch import nn

    if isinstance(classifier.head, nn.Linear):
        return Site("head", "head", classifier.head.bias is not None)
    encoder = classifier.encoder
    projection = getattr(encoder, "proj", None)
    if isinstance(projection, nn.Parameter) and projection.ndim == 2 and _is_open_clip(encoder):
        return Site("projection", "encoder.proj", False)
    name, module = _last_linear(classifier)
    if module is None:
        raise ModelError(
            f"{classifier.name!r} has neither a linear head nor a linear last map, so an edit can't be folded into its weights; "
            "use inject, which needs neither"
        )
    return Site("linear", f"encoder.{name}" if name else "encoder", module.bias is not None)


def _is_open_clip(encoder) -> bool:
    from open_clip.transformer import VisionTransformer

    return isinstance(encoder, VisionTransformer)


def _last_linear(classifier):
    """(name, module) of the nn.Linear whose output is the encoder's own, or (None, None)."""
    import copy

    import torch
    from PIL import Image
    from torch import nn

    encoder = copy.deepcopy(
        classifier.encoder
    ).eval()  # hooks and running statistics stay off the user's
    linear = [
        (name, m)
        for name, m in encoder.named_modules()
        if isinstance(m, nn.Linear) and m.out_features == classifier.dim
    ]
    if not linear or classifier.preprocess is None:
        return None, None
    images = classifier.preprocess(Image.new("RGB", (64, 64), (120, 90, 60)))[None].to(
        linear[0][1].weight.device
    )
    for name, module in reversed(linear):
        given = []

        def stand_in(module, args, out, given=given):
            given.append(torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out))
            return given[-1].clone()  # an activation may work in place

        handle = module.register_forward_hook(stand_in)
        with torch.inference_mode():
            out = encoder(images)
        handle.remove()
        if len(given) == 1 and given[0].shape == out.shape and torch.equal(given[0], out):
            return name, module
    return None, None
