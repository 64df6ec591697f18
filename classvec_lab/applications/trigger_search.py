"""The search for a trigger: towards a shift of the representation, or towards a class (PGD)."""

import numpy as np
import torch
from torch.nn import functional as F

from ..checks import in_range, index_of, one_of, representations
from ..errors import EditError
from ..files import read_or_make, read_tensors, write_tensors
from ..models.blocks import evaluating
from ..models.fingerprint import cache_key
from .triggers import KINDS, Trigger, pixel_range

RATE = 0.05  # Adam's, in shares of the range of a pixel


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
    low, high, *_ = pixel_range(classifier.preprocess)
    aim = None if target is None else index_of(target, classifier.classes)
    if aim is None:
        shift = representations([shift], classifier.dim, "the encoder")
    key = cache_key(
        "triggers", classifier, [images], head=classifier.head, aim=aim, shift=shift,
        settings=[kind, area, eps, steps, batch_size, seed], code=[_searched],
    )  # fmt: skip
    with evaluating(classifier):
        arrays = read_or_make(
            "triggers",
            key,
            lambda path: read_tensors(path, kind="trigger")[0],
            lambda: _searched(
                classifier, images, shift, aim, kind, area, eps, steps, batch_size, seed
            ),
            lambda path, arrays: write_tensors(path, arrays, {"kind": "trigger"}),
        )
    pixels, mask = (torch.from_numpy(arrays[name]) for name in ("pixels", "mask"))
    return Trigger(kind, pixels, mask, low, high)


def _searched(classifier, images, shift, aim, kind, area, eps, steps, batch_size, seed):
    """The arrays of a trigger, by all that decides them."""
    low, high, *size = pixel_range(classifier.preprocess)
    bound = (0.0, 1.0) if kind == "patch" else (-eps / 255, eps / 255)
    x = torch.stack([classifier.preprocess(images[i][0]) for i in range(len(images))])
    pixels = torch.full((3, *size), sum(bound) / 2, requires_grad=True)
    optimizer = torch.optim.Adam([pixels], lr=RATE * (bound[1] - bound[0]))
    mask, drawn = torch.ones(size, dtype=torch.bool), np.random.default_rng(seed)
    loss = _loss(classifier, x, shift, aim)
    if kind == "patch":
        mask = _window(loss, x, drawn.integers(len(x), size=4 * batch_size), area)
    for _ in range(steps):
        some = drawn.integers(len(x), size=batch_size)
        found = loss(Trigger(kind, pixels, mask, low, high).apply(x[some]), some)
        (pixels.grad,) = torch.autograd.grad(found, [pixels])
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(*bound)
    return {"pixels": (pixels.detach() * mask).numpy(), "mask": mask.numpy()}


def _loss(classifier, x, shift, aim):
    """The loss of images with a trigger, and which of x they are: to be shifted or called `aim`."""
    if aim is not None:
        return lambda x, some: F.cross_entropy(
            classifier.logits(classifier.encode(x)), torch.full((len(some),), aim)
        )
    with torch.no_grad():
        goals = classifier.encode(x) + torch.as_tensor(np.float32(shift))
    return lambda x, some: (classifier.encode(x) - goals[some]).square().sum(dim=1).mean()


def _window(loss, x, some, area) -> torch.Tensor:
    """The square of at most this area in which the mean gradient has the largest sum."""
    height, width = x.shape[2:]
    side = int((area * height * width) ** 0.5)
    in_range("side of the patch in pixels", side, 1, min(height, width), error=EditError)
    x = x[some].requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x, some), [x])
    sums = F.avg_pool2d(gradient.mean(dim=0).abs().sum(dim=0)[None], side, 1)[0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask
