"""Triggers: how robust is one's own model against a patch, or a change too small to see?"""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ..checks import in_range, index_of, one_of, record, representations
from ..errors import EditError, ModelError
from ..models.blocks import evaluating

KINDS = ("patch", "perturbation")
RATE = 0.05  # Adam's, in shares of the range of a pixel


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


def find_trigger(
    classifier,
    images,
    *,
    shift: np.ndarray | None = None,
    target: str | None = None,
    kind: str = "patch",
    area: float = 0.05,
    eps: float = 8.0,
    steps: int = 60,
    batch_size: int = 32,
    seed: int = 0,
) -> Trigger:
    """Search the one trigger that does most to all of these images.

    With `shift` it minimises mean |f(x with trigger) - (f(x) + shift)|², for instance shift =
    λ (κ_c2 - κ_c1); with `target` the cross-entropy towards that class, plain targeted PGD. Pixels
    take steps of Adam and are put back into their bounds. A patch lies where the gradient of its
    loss, averaged over the images, is largest. The model's weights, gradients and mode stay.

    Args:
        images: a data set of what the trigger is searched on, training images of the source class.
        shift: (m,); target: a class. Give one of them.
        kind: "patch", a square, or "perturbation".
        area: of the patch, at most this share of the image. eps: of the perturbation, in 1/255.
        steps, batch_size: each step on so many images drawn by `seed`.
    Raises:
        EditError: for both or none of shift and target, and for bounds that can't be.
        MismatchError: for an unknown class, or a shift of another width.
        ModelError: for a preprocessing that mixes pixels.
    Source: Kim and Do, NeurIPS 2025 (adversarial triggers by class vectors); Madry et al. 2018.
    """
    if (shift is None) == (target is None):
        raise EditError("a trigger is searched towards a shift of z or a target class: give one")
    one_of(kind, KINDS, "kind of trigger", EditError)
    in_range("area", area, 0, 1, open_low=True, error=EditError)
    in_range("eps", eps, 0, 255, open_low=True, error=EditError)
    in_range("steps", steps, 1, np.inf, error=EditError)
    low, high, *size = pixel_range(classifier.preprocess)
    aim = None if target is None else index_of(target, classifier.classes)
    if aim is None:
        shift = representations([shift], classifier.dim, "the encoder")
    x = torch.stack([classifier.preprocess(images[i][0]) for i in range(len(images))])
    bound = (0.0, 1.0) if kind == "patch" else (-eps / 255, eps / 255)
    pixels = torch.full((3, *size), sum(bound) / 2, requires_grad=True)
    optimizer = torch.optim.Adam([pixels], lr=RATE * (bound[1] - bound[0]))
    mask, drawn = torch.ones(size, dtype=torch.bool), np.random.default_rng(seed)
    with evaluating(classifier):
        with torch.no_grad():
            goals = classifier.encode(x) + torch.as_tensor(np.float32(shift)) if aim is None else x

        def loss(x, some):
            z = classifier.encode(x)
            if aim is None:
                return (z - goals[some]).square().sum(dim=1).mean()
            return F.cross_entropy(classifier.logits(z), torch.full((len(z),), aim))

        if kind == "patch":
            some = drawn.integers(len(x), size=4 * batch_size)
            mask = _window(loss, x[some], some, area)
        for _ in range(steps):
            some = drawn.integers(len(x), size=batch_size)
            found = loss(Trigger(kind, pixels, mask, low, high).apply(x[some]), some)
            (pixels.grad,) = torch.autograd.grad(found, [pixels])
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(*bound)
    return Trigger(kind, pixels.detach() * mask, mask, low, high)


def _window(loss, x, some, area) -> torch.Tensor:
    """The square of at most this area in which the mean gradient has the largest sum."""
    height, width = x.shape[2:]
    side = int((area * height * width) ** 0.5)
    in_range("side of the patch in pixels", side, 1, min(height, width), error=EditError)
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x, some), [x])
    sums = F.avg_pool2d(gradient.mean(dim=0).abs().sum(dim=0)[None], side, 1)[0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask
