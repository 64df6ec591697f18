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

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.history) - 1


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
    """Change LayerNorm parameters alone so that images of a class are encoded `shift` away from before.

    "trained" minimises, with q the change of the parameters, f0 the encoder before and f after,
    mean |f(x) - f0(x) - shift|² / |shift|² over references + retention · (the same without shift, over
    anchors) + ridge · |q|², by L-BFGS. "published" has one point, mean f0 + shift, for all references, no
    retention and no ridge (anchors are measured, not kept), and takes steps of Adam at rate 0.01.
    The edit starts from the classifier as it is, with the deltas that it carries. Deltas of "ln_2" and earlier
    norms don't add up: map several classes one after the other, each on the last one's result.

    Args:
        classifier: a `Classifier` whose encoder has LayerNorms; its weights, mode and device stay.
        shift: the latent edit (m,).
        target: name of the class.
        images: references of the class: a data set (of which its images are taken), or a tensor
            (N, 3, H, W) of preprocessed ones.
        anchors: the same for the other classes (of a data set all images but the target's).
        parameters: which LayerNorms, see `layernorm_names`. "ln_2" moves the other classes least.
            "ln_post" learns from one reference, but moves the others more, which adds up over several
            edits. More blocks fit the references better and other images of the class worse.
        method: "trained" or "published".
        steps: at most so many for "trained" (default 200), exactly so many for "published" (100).
        tol: "trained" ends where the loss falls by less than this share over 5 steps.
        retention, ridge: weights in the loss of "trained", 0 or more.
        n_references, n_anchors: draw at most so many a class from data sets. Five of each are plenty.
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
    in_range("steps", steps, 1, np.inf, error=EditError)
    for name, value, high in (
        ("tol", tol, 1),
        ("retention", retention, np.inf),
        ("ridge", ridge, np.inf),
    ):
        in_range(name, value, 0, high, open_high=True, error=EditError)
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
    objective = _Objective(suffix, shift, len(wanted), published, retention, ridge)
    converged = (_adam if published else _lbfgs)(objective, steps, tol)
    columns = ["loss", "target_error", "retention_error"]
    history = pd.DataFrame(objective.rows, columns=columns).rename_axis("step").reset_index()
    delta = Delta.on(
        classifier,
        f"{target}: {method} LayerNorms",
        {f"encoder.{k}": v.cpu().numpy() for k, v in suffix.split(objective.best).items()},
        how="LayerNorm mapping", method=method, target=target, layernorms=list(layernorms),
        retention=retention, ridge=ridge, references=len(wanted), anchors=len(kept), seed=seed,
        **history.iloc[-1].dropna().to_dict(),
    )  # fmt: skip
    done = time.perf_counter()
    return LayerNormMapping(delta, history, converged, done - cached, cached - start)


class _Objective:
    """The loss as a function of the change q (P,) of all affine parameters, and a record of the steps taken."""

    def __init__(self, suffix, shift, n: int, one_point: bool, retention: float, ridge: float):
        import torch

        self.suffix, self.n, self.ridge = suffix, n, ridge
        goal = suffix(suffix.origin)
        shift = torch.as_tensor(shift, dtype=goal.dtype, device=goal.device)
        first = goal[:n]
        goal[:n] = (first.mean(dim=0) if one_point else first) + shift
        self.goal, self.scale = goal, 1 / float(shift.norm())
        # of each image's squared error in the loss
        self.weights = torch.full((len(goal),), 1 / n, device=goal.device)
        self.weights[n:] = retention / max(len(goal) - n, 1)
        self.rows = []
        self.note(suffix.origin)

    def terms(self, q):
        """The loss, and the mean of |f(x) - goal|² / |shift|² over references and over anchors."""
        errors = ((self.suffix(q) - self.goal) * self.scale).square().sum(dim=1).double()
        loss = (self.weights * errors).sum() + self.ridge * q.square().sum()
        return loss, errors[: self.n].mean(), errors[self.n :].mean()

    def note(self, q) -> None:
        """Take q as the best so far and add a row to the history."""
        row = [float(term) for term in self.terms(q.detach())]
        if not np.isfinite(row[0]):
            raise EditError(
                f"the loss became {row[0]} at step {len(self.rows)}; "
                "ask for a shorter shift, or raise ridge"
            )
        self.best = q.detach().clone()
        self.rows.append(row)

    def at_rest(self, tol: float) -> bool:
        """Whether the loss fell by less than the share `tol` over the last steps."""
        losses = [row[0] for row in self.rows]
        return len(losses) > WINDOW and losses[-1] > (1 - tol) * losses[-1 - WINDOW]


def _lbfgs(objective: _Objective, steps: int, tol: float) -> bool:
    import torch
    from scipy.optimize import minimize

    def tensor(x, **options):
        return torch.tensor(x, dtype=objective.best.dtype, device=objective.best.device, **options)

    def value_and_gradient(x):
        q = tensor(x, requires_grad=True)
        loss = objective.terms(q)[0]
        (gradient,) = torch.autograd.grad(loss, q)
        return loss.item(), gradient.double().cpu().numpy()

    def after(intermediate_result):
        objective.note(tensor(intermediate_result.x))
        if objective.at_rest(tol):
            raise StopIteration

    result = minimize(
        value_and_gradient,
        np.zeros(len(objective.best)),
        jac=True,
        method="L-BFGS-B",
        callback=after,
        options={"maxiter": steps, "maxcor": 20, "maxfun": 20 * steps, "ftol": 0.0, "gtol": 0.0},
    )
    # else it came to rest, or no step in float32 lowers the loss any more
    return result.status != _AT_LIMIT


def _adam(objective: _Objective, steps: int, tol: float) -> bool:
    import torch

    q = torch.zeros_like(objective.best).requires_grad_()
    optimizer = torch.optim.Adam([q], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        objective.terms(q)[0].backward()
        optimizer.step()
        objective.note(q)
    return objective.at_rest(tol)


def _tensors(classifier, data, target: str, own: bool, limit: int | None, rng: np.random.Generator):
    """Preprocessed images (N, 3, H, W): of a data set those of the target, or (own False) all others."""
    import torch

    if isinstance(data, torch.Tensor):
        if data.ndim != 4:
            raise MismatchError(
                f"images need shape (N, 3, H, W), preprocessed; got {tuple(data.shape)}"
            )
        return data
    chosen = []
    for i, name in enumerate(() if data is None else data.classes):
        here = np.flatnonzero(np.asarray(data.targets) == i)
        if (name == target) == own:
            drawn = here if limit is None or limit >= len(here) else rng.choice(here, limit, False)
            chosen += sorted(drawn)
    images = [classifier.preprocess(data[int(i)][0]) for i in chosen]
    return torch.stack(images) if images else torch.empty(0)
