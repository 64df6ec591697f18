"""Triggers: how robust is one's own model against a patch, or a change too small to see?"""

import numpy as np
import torch
from PIL import Image

from ..checks import record
from ..errors import ModelError
from ..models.blocks import evaluating
from ..statistics import auc, columns, share

KINDS = ("patch", "perturbation")


@record
class Trigger:
    """A change of preprocessed images, the same for all, for a robustness test of one's own model.

    Args:
        kind: "patch" stands in place of the pixels of `mask`, "perturbation" is added to all.
        pixels: (3, H, W), of a patch 0..1, of a perturbation -eps..eps with eps as a share of 1.
        mask: (H, W), where it acts.
        low, high: (3, 1, 1), what preprocessing makes of black and of white.
    """

    kind: str
    pixels: torch.Tensor
    mask: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    @property
    def area(self) -> float:
        """The share of the image on which it acts."""
        return float(self.mask.float().mean())

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Preprocessed images (N, 3, H, W) with the trigger, black to white as before."""
        span = self.high - self.low
        if self.kind == "patch":
            return torch.where(self.mask, self.low + span * self.pixels, x)
        return torch.minimum(torch.maximum(x + span * self.pixels, self.low), self.high)

    def image(self, x: torch.Tensor) -> Image.Image:
        """One preprocessed image (3, H, W) with the trigger, to look at."""
        shown = (self.apply(x[None])[0] - self.low) / (self.high - self.low)
        return Image.fromarray(np.uint8(255 * shown.clip(0, 1).permute(1, 2, 0).cpu() + 0.5))

    def random(self, seed: int) -> "Trigger":
        """The control: pixels of a patch drawn evenly, or random signs at the bound."""
        drawn = torch.rand(self.pixels.shape, generator=torch.Generator().manual_seed(seed))
        if self.kind == "perturbation":
            drawn = self.pixels.abs().max() * (drawn - 0.5).sign()
        return Trigger(self.kind, drawn * self.mask, self.mask, self.low, self.high)


def pixel_range(preprocess) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """What preprocessing makes of black and white, (3, 1, 1) each, and its images' size (H, W).

    Raises ModelError unless it scales each channel alone.
    """
    ends = [preprocess(Image.new("RGB", (64, 64), (v,) * 3)) for v in (0, 128, 255)]
    low, _, high = (x.mean(dim=(1, 2), keepdim=True) for x in ends)
    expected = low, low + (high - low) * 128 / 255, high
    if not all(
        torch.allclose(x, e.expand_as(x), atol=1e-4) for x, e in zip(ends, expected, strict=True)
    ):
        raise ModelError(
            "a trigger needs a preprocessing that scales each channel by itself, as mean and std do"
        )
    return low, high, *ends[0].shape[1:]


def encode(classifier, x: torch.Tensor) -> np.ndarray:
    """Representations (N, m) of preprocessed images (N, 3, H, W)."""
    with evaluating(classifier), torch.inference_mode():
        return torch.cat([classifier.encode(part) for part in x.split(256)]).numpy()


def detected(worn, clean) -> dict[str, float]:
    """How well a score tells images with a trigger from those without, as columns of a table.

    Args:
        worn, clean: scores on val and on test, a pair of (N,) each. Which side is odd, and the
            threshold that finds 95 % of the first, come from val.
    Returns:
        With 95 % intervals the AUROC on test, and the shares found there: detected, false_alarms.
    """
    sign = 1 if auc(worn[0], clean[0]).value >= 0.5 else -1
    level = np.quantile(sign * worn[0], 0.05)
    found = columns("auroc", auc(sign * worn[1], sign * clean[1]))
    found |= columns("detected", share(sign * worn[1] >= level))
    return found | columns("false_alarms", share(sign * clean[1] >= level))
