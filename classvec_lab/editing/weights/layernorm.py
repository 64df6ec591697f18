"""Writing a latent edit into weights by the LayerNorm parameters of an encoder's last blocks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ...checks import in_range, index_of, one_of
from ...errors import EditError, MismatchError
from .delta import Delta, WrittenEdit

METHODS = ("trained", "published")
WINDOW = 5  # steps over which the loss must have come to rest
RATE = 1e-2  # Adam's, for the published method: the upper end of what its sources name
_AT_LIMIT = 1  # scipy's status of an L-BFGS-B that ran out of steps


@dataclass(frozen=True, eq=False)
class LayerNormMapping(WrittenEdit):
    """A latent edit as a change of LayerNorm parameters, and how it was found.

    Args:
        delta: the change; its facts name target, method and norms, and say how many images served.
        history: one row a step, step 0 unedited: `loss` and the mean squared errors of references
            (`target_error`) and anchors (`retention_error`), both in units of |shift|², so that
            1 is no edit at all and 0 a perfect one.
        converged: whether the loss had come to rest.
        seconds: for the steps. prefix_seconds: for the activations that are computed once.
    """

    delta: Delta
    history: pd.DataFrame = field(repr=False)
    converged: bool
    seconds: float
    prefix_seconds: float


def map_layernorms(
    classifier,
    shift: np.ndarray,
    target: str,
    images,
    anchors=None,
    *,
    parameters: str | Sequence[str] = "ln_2",
    method: str = "trained",
    steps: int | None = None,
    tol: float = 1e-3,
    retention: float = 1.0,
    ridge: float = 1e-5,
    n_references: int | None = None,
    n_anchors: int | None = None,
    seed: int = 0,
) -> LayerNormMapping:
    """Change LayerNorm parameters alone so that images of a class are encoded `shift` away.

    "trained" minimises, with q the change of the parameters, f0 the encoder before and f after,
    mean |f(x) - f0(x) - shift|² / |shift|² over references + retention · (the same without shift,
    over anchors) + ridge · |q|², by L-BFGS. "published" has one point, mean f0 + shift, for all
    references, no retention and no ridge (anchors are measured, not kept), and takes steps of Adam
    at rate 0.01.
    The edit starts from the classifier as it is, with the deltas that it carries. Deltas of "ln_2"
    and earlier norms don't add up: map several classes one after the other, each on the last one's
    result.

    Args:
        classifier: a `Classifier` whose encoder has LayerNorms; its weights, mode and device stay.
        shift: the latent edit (m,).
        target: name of the class.
        images: references of the class: a data set (of which its images are taken), or a tensor
            (N, 3, H, W) of preprocessed ones.
        anchors: the same for the other classes (of a data set all images but the target's).
        parameters: which LayerNorms, see `layernorm_names`. "ln_2" moves the other classes least.
            "ln_post" learns from one reference, but moves the others more, which adds up over
            several edits. More blocks fit the references better and other images worse.
        method: "trained" or "published".
        steps: at most so many for "trained" (default 200), exactly so many for "published" (100).
        tol: "trained" ends where the loss falls by less than this share over 5 steps.
        retention, ridge: weights in the loss of "trained", 0 or more.
        n_references, n_anchors: draw at most so many a class from data sets. Five are plenty.
        seed: of the drawing.
    Raises:
        MismatchError: for an unknown target or a shift of another shape.
        EditError: for a shift of norm 0, no references, or impossible settings.
        ModelError: for an encoder without LayerNorm.
    Source: Kim and Do, NeurIPS 2025, Algorithm 2 ("published").
    """
    import torch

    from .suffix import Suffix, layernorm_names

    index_of(target, classifier.classes)
    shift = np.asarray(shift, dtype=np.float64)
    if shift.shape != (classifier.dim,):
        raise MismatchError(f"shift needs shape ({classifier.dim},); got {shift.shape}")
    if not 0 < np.linalg.norm(shift) < np.inf:
        raise EditError("shift has norm 0 and would change nothing, or is not finite")
    published = one_of(method, METHODS, "method", EditError) == "published"
    steps = steps if steps is not None else 100 if published else 200
    limits = {"steps": (steps, 1, np.inf), "tol": (tol, 0, 1)}
    limits |= {"retention": (retention, 0, np.inf), "ridge": (ridge, 0, np.inf)}
    for name, limit in limits.items():
        in_range(name, *limit, error=EditError)
    if published:
        retention = ridge = 0.0
    layernorms = layernorm_names(classifier.encoder, parameters)
    rng = np.random.default_rng(seed)
    wanted = _tensors(classifier, images, target, True, n_references, rng)
    kept = _tensors(classifier, anchors, target, False, n_anchors, rng)
    if len(wanted) == 0:
        raise EditError(f"no reference image of class {target!r} was given; one is enough")
    if retention > 0 and len(kept) == 0:
        raise EditError(
            f"no image of a class other than {target!r} to hold on to: "
            "pass anchors= (a few a class), or retention=0"
        )
    start = time.perf_counter()
    suffix = Suffix(classifier.encoder, layernorms, torch.cat([wanted, kept]))
    cached = time.perf_counter()
    q, history, converged = _fit(suffix, shift, len(wanted), method, steps, tol, retention, ridge)
    delta = Delta.on(
        classifier,
        f"{target}: {method} LayerNorms",
        {f"encoder.{name}": change.cpu().numpy() for name, change in suffix.split(q).items()},
        method=method, target=target, layernorms=list(layernorms),
        retention=retention, ridge=ridge, references=len(wanted), anchors=len(kept), seed=seed,
        **history.iloc[-1].dropna().to_dict(),
    )  # fmt: skip
    done = time.perf_counter()
    return LayerNormMapping(delta, history, converged, done - cached, cached - start)


def _fit(suffix, shift, n, method, steps, tol, retention, ridge):
    """The change q (P,) of the norms' parameters, the history, and whether the loss came to rest.

    suffix: z of n references and then the anchors, as a function of q.
    """
    import torch
    from scipy.optimize import minimize

    goal = suffix(suffix.origin)
    shift = torch.from_numpy(shift).to(goal)
    goal[:n] = (goal[:n].mean(dim=0) if method == "published" else goal[:n]) + shift
    weights = torch.full((len(goal),), 1 / n).to(goal)  # of each squared error in the loss
    weights[n:] = retention / max(len(goal) - n, 1)
    rows, latest = [], None

    def evaluate(q):
        nonlocal latest
        errors = ((suffix(q) - goal) / shift.norm()).square().sum(dim=1).double()
        loss = (weights * errors).sum() + ridge * q.square().sum()
        latest = [float(term.detach()) for term in (loss, errors[:n].mean(), errors[n:].mean())]
        if not np.isfinite(latest[0]):
            raise EditError(
                f"the loss became {latest[0]} at step {len(rows)}; "
                "ask for a shorter shift, or raise ridge"
            )
        return loss

    def at_rest():
        return len(rows) > WINDOW and rows[-1][0] > (1 - tol) * rows[-1 - WINDOW][0]

    def value_and_gradient(x):
        q = torch.from_numpy(x).to(goal).requires_grad_()
        loss = evaluate(q)
        (gradient,) = torch.autograd.grad(loss, q)
        return loss.item(), gradient.double().cpu().numpy()

    def after(x):
        rows.append(latest)  # a step ends where the loss was computed last
        if at_rest():
            raise StopIteration

    q = suffix.origin.clone().requires_grad_(method == "published")
    loss = evaluate(q)
    rows.append(latest)
    if method == "published":
        optimizer = torch.optim.Adam([q], lr=RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss = evaluate(q)
            rows.append(latest)
        q, converged = q.detach(), at_rest()
    else:
        found = minimize(
            value_and_gradient,
            q.double().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            callback=after,
            options={"maxiter": steps, "maxcor": 20, "maxfun": 20 * steps, "ftol": 0, "gtol": 0},
        )
        q = torch.from_numpy(found.x).to(goal)
        # else it came to rest, or no step in float32 lowers the loss any more
        converged = found.status != _AT_LIMIT
    history = pd.DataFrame(rows, columns=["loss", "target_error", "retention_error"])
    return q, history.rename_axis("step").reset_index(), converged


def _tensors(classifier, data, target, own, limit, rng):
    """Preprocessed images (N, 3, H, W): of a data set the target's (own) or all others."""
    import torch

    data = torch.empty(0) if data is None else data
    if isinstance(data, torch.Tensor):
        if data.numel() and data.ndim != 4:
            raise MismatchError(
                f"images need shape (N, 3, H, W), preprocessed; got {tuple(data.shape)}"
            )
        return data
    chosen, labels = [], np.asarray(data.targets)
    for i, name in enumerate(data.classes):
        if (name == target) == own:
            here = np.flatnonzero(labels == i)
            size = len(here) if limit is None else min(limit, len(here))
            chosen += sorted(rng.choice(here, size, replace=False))
    images = [classifier.preprocess(data[int(i)][0]) for i in chosen]
    return torch.stack(images) if images else torch.empty(0)
