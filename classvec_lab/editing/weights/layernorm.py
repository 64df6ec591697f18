"""Writing a latent edit into weights by the LayerNorm parameters of an encoder's last blocks."""

import time

import numpy as np

from ...checks import in_range, index_of, one_of, record
from ...errors import EditError, MismatchError
from .delta import Delta, WrittenEdit

METHODS = ("trained", "published")
# of "trained": the weights in its loss, and where it ends
RETENTION, RIDGE = 1.0, 1e-5
WINDOW, TOLERANCE = 5, 1e-3  # steps over which the loss falls by less than this share
RATE = 1e-2  # Adam's, for the published method: the upper end of what its sources name


@record
class LayerNormMapping(WrittenEdit):
    """A latent edit as a change of LayerNorm parameters.

    Args:
        delta: the change.
        seconds: for the steps. prefix_seconds: for the activations that are computed once.
    """

    delta: Delta
    seconds: float
    prefix_seconds: float


def map_layernorms(
    classifier,
    shift: np.ndarray,
    target: str,
    images,
    *,
    parameters: str = "ln_2",
    method: str = "trained",
    steps: int | None = None,
    n_references: int | None = None,
    n_anchors: int | None = None,
    seed: int = 0,
) -> LayerNormMapping:
    """Change LayerNorm parameters alone so that images of a class are encoded `shift` away.

    Images of the class are references, those of all others anchors. "trained" minimises, with q the
    change of the parameters, f0 the encoder before and f after, mean |f(x) - f0(x) - shift|² /
    |shift|² over references + the same without shift over anchors + 1e-5 · |q|², by L-BFGS, until
    the loss falls by less than a thousandth in 5 steps. "published" has one point, mean f0 + shift,
    for all references, takes steps of Adam at rate 0.01, and holds no anchor.
    The edit starts from the classifier as it is, with the deltas that it carries. Deltas of "ln_2"
    and earlier norms don't add up: map several classes one after the other, each on the last one's
    result.

    Args:
        classifier: a `Classifier` whose encoder has LayerNorms; its weights, mode and device stay.
        shift: the latent edit (m,).
        target: name of the class.
        images: a labelled data set, of the class and, for "trained", of others.
        parameters: which LayerNorms, see `layernorm_names`. "ln_2" moves the other classes least.
            "ln_post" learns from one reference, but moves the others more, which adds up over
            several edits. More blocks fit the references better and other images worse.
        method: "trained" or "published".
        steps: at most so many for "trained" (default 200), exactly so many for "published" (100).
        n_references, n_anchors: draw at most so many images of the class, and of every other one.
            Five are plenty.
        seed: of the drawing.
    Raises:
        MismatchError: for other classes, an unknown target, or a shift of another shape.
        EditError: for a shift of norm 0, images that lack a side, or impossible settings.
        ModelError: for an encoder without LayerNorm.
    Source: Kim and Do, NeurIPS 2025, Algorithm 2 ("published").
    """
    import torch

    from .suffix import Suffix, layernorm_names

    classifier.require_classes(images.classes, "the images")
    index_of(target, classifier.classes)
    shift = np.asarray(shift, float)
    if shift.shape != (classifier.dim,):
        raise MismatchError(f"shift needs shape ({classifier.dim},); got {shift.shape}")
    if not 0 < np.linalg.norm(shift) < np.inf:
        raise EditError("shift has norm 0 and would change nothing, or is not finite")
    published = one_of(method, METHODS, "method", EditError) == "published"
    if steps is None:
        steps = 100 if published else 200
    in_range("steps", steps, 1, np.inf, error=EditError)
    layernorms = layernorm_names(classifier.encoder, parameters)
    rng, others = np.random.default_rng(seed), [c for c in images.classes if c != target]
    references = _drawn(images, [target], n_references, rng)
    anchors = _drawn(images, () if published else others, n_anchors, rng)
    if not references:
        raise EditError(f"no reference image of class {target!r} was given; one is enough")
    if not (published or anchors):
        raise EditError(
            f"no image of a class other than {target!r} to hold on to: give a few a class"
        )
    start = time.perf_counter()
    pixels = [classifier.preprocess(images[int(i)][0]) for i in references + anchors]
    suffix = Suffix(classifier.encoder, layernorms, torch.stack(pixels))
    cached = time.perf_counter()
    q = _fit(suffix, shift, len(references), published, steps)
    changes = {f"encoder.{name}": part.cpu().numpy() for name, part in suffix.split(q).items()}
    delta = Delta.on(classifier, f"{target}: {method} LayerNorms", changes)
    done = time.perf_counter()
    return LayerNormMapping(delta, done - cached, cached - start)


def _fit(suffix, shift, n, published, steps):
    """The change q (P,) of the norms' parameters.

    suffix: z of n references and then the anchors, as a function of q.
    """
    import torch
    from scipy.optimize import minimize

    goal = suffix(suffix.origin)
    shift = torch.from_numpy(shift).to(goal)
    goal[:n] = (goal[:n].mean(dim=0) if published else goal[:n]) + shift
    weights = torch.full((len(goal),), 1 / n).to(goal)  # of each squared error in the loss
    weights[n:] = RETENTION / max(len(goal) - n, 1)

    def loss_of(q):
        errors = ((suffix(q) - goal) / shift.norm()).square().sum(dim=1).double()
        loss = (weights * errors).sum() + (0 if published else RIDGE) * q.square().sum()
        if not loss.isfinite():
            raise EditError(f"the loss became {loss.item()}; ask for a shorter shift")
        return loss

    q = suffix.origin.clone().requires_grad_()
    if published:
        optimizer = torch.optim.Adam([q], lr=RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            loss_of(q).backward()
            optimizer.step()
        return q.detach()

    def value_and_gradient(x):
        q = torch.from_numpy(x).to(goal).requires_grad_()
        loss = loss_of(q)
        (gradient,) = torch.autograd.grad(loss, q)
        return loss.item(), gradient.double().cpu().numpy()

    def after(intermediate_result):
        losses.append(intermediate_result.fun)
        if len(losses) > WINDOW and losses[-1] > (1 - TOLERANCE) * losses[-1 - WINDOW]:
            raise StopIteration

    losses = [loss_of(q).item()]
    found = minimize(
        value_and_gradient,
        suffix.origin.double().cpu().numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=after,
        options={"maxiter": steps, "maxcor": 20, "maxfun": 20 * steps, "ftol": 0, "gtol": 0},
    )
    return torch.from_numpy(found.x).to(goal)


def _drawn(data, names, limit, rng) -> list[int]:
    """Positions of images of these classes, at most `limit` of each."""
    chosen, labels = [], np.asarray(data.targets)
    for name in names:
        here = np.flatnonzero(labels == data.classes.index(name))
        size = len(here) if limit is None else min(limit, len(here))
        chosen += sorted(rng.choice(here, size, replace=False))
    return chosen
