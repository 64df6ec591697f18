"""Writing a latent edit into weights by the LayerNorm parameters of an encoder's last blocks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import EditError, MismatchError
from .delta import Delta

METHODS = ("trained", "ridge", "published")
WINDOW = 5  # steps over which the loss must have come to rest
_AT_LIMIT = 1  # scipy's status of an L-BFGS-B that ran out of steps
RATE = 1e-2  # Adam's, for the published method: the upper end of what its sources name


@dataclass(frozen=True, eq=False)
class LayerNormMapping:
    """A latent edit as a change of LayerNorm parameters, and how it was found.

    delta: the change, `delta.apply_to(classifier)` gives the edited copy. n_references and n_anchors: images
    of the target class and of the others. history: one row a step, step 0 unedited, with the `loss` and the
    mean squared errors of references (`target_error`) and anchors (`retention_error`), both in units of
    |shift|², so that 1 is no edit at all and 0 a perfect one. converged: the loss had come to rest, or its
    minimum was computed. prefix_seconds: for the activations that are computed once; seconds: for the rest.
    """

    delta: Delta
    target: str
    method: str
    layernorms: tuple[str, ...]
    n_references: int
    n_anchors: int
    history: pd.DataFrame
    converged: bool
    seconds: float
    prefix_seconds: float

    @property
    def n_parameters(self) -> int:
        """How many numbers were changed and are stored."""
        return self.delta.n_parameters

    @property
    def steps(self) -> int:
        """Steps taken."""
        return int(self.history["step"].iloc[-1])

    def apply_to(self, classifier):
        """A copy of the classifier with the change in its weights, on top of those that it carries."""
        return self.delta.apply_to(classifier)

    def remove_from(self, classifier):
        """A copy without this change, bit for bit as if it had never been applied."""
        return self.delta.remove_from(classifier)

    def __repr__(self) -> str:
        last = self.history.iloc[-1]
        return (
            f"<LayerNormMapping of {self.target!r} ({self.method}): {self.n_parameters:,} parameters, {self.steps} steps in "
            f"{self.seconds:.2f} s, target error {last['target_error']:.3f}, retention error {last['retention_error']:.3f}>"
        )


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
    """Change only LayerNorm parameters so that images of `target` are encoded `shift` away from before, and anchors as before.

    shift (m,): the latent edit. images: references of the target class, a data set (of which the images of
    `target` are taken) or a tensor (N, 3, H, W) of preprocessed ones; anchors: the same for other classes (of a
    data set all images but the target's). n_references and n_anchors draw at most so many a class from
    data sets, by `seed`; five of each are plenty. parameters: which LayerNorms, see `layernorm_names`.
    "ln_2" of the last block, two numbers a feature, moves the other classes least. "ln_post" is linear in its
    parameters and learns from one reference, but moves the others more, which adds up over several edits:
    take it for one class. More blocks fit the references better and other images of the class worse.

    method "trained": with q the change of the parameters, minimises
    mean |f(x) - f0(x) - shift|² / |shift|² over references + retention · (the same without shift over anchors) + ridge · |q|²
    by L-BFGS, until over 5 steps the loss falls by less than the share `tol`, at most `steps` (default 200).
    "ridge": the exact minimum of the same objective, without steps; only for parameters="ln_post" of an encoder linear in it.
    "published": one point mean f0 + shift for all references, no retention and no ridge (anchors
    are measured, not kept), Adam at rate 0.01 for exactly `steps` steps (default 100); Kim and Do (2025), Algorithm 2.
    The edit starts from the classifier as it is, with the deltas that it carries; its weights, mode and device stay. Deltas of
    "ln_2" and earlier norms don't add up: map several classes one after the other, each on the last one's result.

    Raises MismatchError for an unknown target or a shift of another shape, EditError for a shift of norm 0, no
    references, or impossible settings, ModelError for an encoder without LayerNorm or one that can't be cut.
    """
    from .suffix import Suffix, layernorm_names

    shift = _checked(classifier, shift, target, method, steps, tol, retention, ridge)
    suffix = Suffix(classifier.encoder, layernorm_names(classifier.encoder, parameters))
    if method == "ridge":
        suffix.require_linear()
    rng = np.random.default_rng(seed)
    wanted = _tensors(classifier, images, target, True, n_references, rng)
    if len(wanted) == 0:
        raise EditError(
            f"no reference image of class {target!r} was given; one is enough, five are better"
        )
    kept = _tensors(classifier, anchors, target, False, n_anchors, rng)
    if method != "published" and retention > 0 and len(kept) == 0:
        raise EditError(
            f"no image of a class other than {target!r} to hold on to: pass anchors= (a few a class), or retention=0"
        )

    start = time.perf_counter()
    states = [suffix.prefix(x) for x in (wanted, kept) if len(x)]
    cached = time.perf_counter()
    problem = _Problem(suffix, states, shift, one_point=method == "published")
    if method != "published":
        problem.retention, problem.ridge = retention, ridge
    solve = {"trained": _lbfgs, "ridge": _ridge, "published": _adam}[method]
    converged = solve(problem, steps or (100 if method == "published" else 200), tol)
    history = pd.DataFrame(
        problem.rows, columns=["step", "loss", "target_error", "retention_error"]
    )
    facts = {
        "how": "LayerNorm mapping", "method": method, "target": target, "layernorms": list(suffix.layernorms),
        "steps": len(history) - 1, "retention": problem.retention, "ridge": problem.ridge,
        "references": len(wanted), "anchors": len(kept), "seed": seed, **history.iloc[-1, 1:].dropna().to_dict(),
    }  # fmt: skip
    delta = Delta.on(
        classifier, f"{target}: {method} LayerNorms", dense=problem.differences(), facts=facts
    )
    done = time.perf_counter()
    return LayerNormMapping(
        delta,
        target,
        method,
        suffix.layernorms,
        len(wanted),
        len(kept),
        history,
        converged,
        done - cached,
        cached - start,
    )


class _Problem:
    """The objective as a function of the change q (P,) of all affine parameters, and a record of the steps taken."""

    def __init__(self, suffix, states, shift: np.ndarray, *, one_point: bool):
        import torch

        own = dict(suffix.named_parameters())
        self.suffix, self.before = suffix, {name: own[name].detach() for name in suffix.names}
        self.state, self.n = torch.cat(states), len(states[0])
        with torch.no_grad():
            goal = suffix(self.state)
        self.shift = shift
        shift = torch.as_tensor(shift, dtype=goal.dtype, device=goal.device)
        first = goal[: self.n]
        goal[: self.n] = (first.mean(dim=0) if one_point else first) + shift
        self.goal, self.scale = goal, 1 / float(shift.norm())
        self.retention, self.ridge = 0.0, 0.0
        self.best = torch.zeros(sum(p.numel() for p in self.before.values()), device=goal.device)
        self.rows = []
        self.note(self.best)

    def split(self, q) -> dict:
        """q as named changes of the parameters' shapes."""
        parts = q.split([p.numel() for p in self.before.values()])
        return {
            name: part.view_as(p)
            for (name, p), part in zip(self.before.items(), parts, strict=True)
        }

    def residuals(self, q):
        """(f(x) - goal) / |shift|, (N, m), references first."""
        changed = {name: self.before[name] + change for name, change in self.split(q).items()}
        return (self.suffix(self.state, changed) - self.goal) * self.scale

    def weights(self):
        """The weight (N, 1) of each image's squared error in the loss."""
        import torch

        weights = torch.full((len(self.state), 1), 1 / self.n, device=self.goal.device)
        weights[self.n :] = self.retention / max(len(self.state) - self.n, 1)
        return weights

    def loss(self, q):
        """The objective."""
        return (self.weights() * self.residuals(q).square()).sum() + self.ridge * q.square().sum()

    def note(self, q) -> float:
        """Take q as the best so far and add a row to the history; returns the loss."""
        import torch

        with torch.no_grad():
            error = self.residuals(q).square().sum(dim=1).double()
            loss = float((self.weights()[:, 0] * error).sum() + self.ridge * q.square().sum())
        target = float(error[: self.n].mean())
        held = float(error[self.n :].mean()) if len(error) > self.n else np.nan
        if not np.isfinite(loss):
            raise EditError(
                f"the loss became {loss} at step {len(self.rows)}; ask for a shorter shift, or raise ridge"
            )
        self.best = q.detach().clone()
        self.rows.append((len(self.rows), loss, target, held))
        return loss

    def differences(self) -> dict[str, np.ndarray]:
        """The best change, by name."""
        return {name: change.cpu().numpy() for name, change in self.split(self.best).items()}


def _lbfgs(problem: _Problem, steps: int, tol: float) -> bool:
    import torch
    from scipy.optimize import minimize

    like = problem.best
    _restart(problem)

    def value_and_gradient(x):
        q = torch.tensor(x, dtype=like.dtype, device=like.device, requires_grad=True)
        loss = problem.loss(q)
        (gradient,) = torch.autograd.grad(loss, q)
        return loss.item(), gradient.double().cpu().numpy()

    def after(intermediate_result):
        problem.note(torch.tensor(intermediate_result.x, dtype=like.dtype, device=like.device))
        if _at_rest(problem.rows, tol):
            raise StopIteration

    options = {"maxiter": steps, "maxcor": 20, "maxfun": 20 * steps, "ftol": 0.0, "gtol": 0.0}
    result = minimize(
        value_and_gradient,
        np.zeros(len(like)),
        jac=True,
        method="L-BFGS-B",
        callback=after,
        options=options,
    )
    return (
        result.status != _AT_LIMIT
    )  # else it came to rest, or no step in float32 lowers the loss any more


def _ridge(problem: _Problem, steps: int, tol: float) -> bool:
    """The minimum where the encoder is linear in q = (gain, bias): z = Pᵀ (n · gain + bias), n the normalised tokens."""
    import torch
    from scipy.linalg import solve

    tokens, projection = (t.double().cpu().numpy() for t in problem.suffix.linear(problem.state))
    weights = problem.weights()[:, 0].double().cpu().numpy()
    metric, d = projection @ projection.T, tokens.shape[1]
    total, mean = weights.sum(), weights @ tokens
    system = np.empty((2 * d, 2 * d))
    system[:d, :d] = metric * ((tokens.T * weights) @ tokens)
    system[:d, d:] = metric * mean[:, None]
    system[d:, :d] = system[:d, d:].T
    system[d:, d:] = metric * total
    system[np.diag_indices(2 * d)] += problem.ridge / problem.scale**2
    wanted, pull = weights[: problem.n], projection @ problem.shift
    q = solve(
        system,
        np.concatenate([(wanted @ tokens[: problem.n]) * pull, wanted.sum() * pull]),
        assume_a="pos",
    )
    _restart(problem)
    problem.note(torch.as_tensor(q, dtype=problem.best.dtype, device=problem.best.device))
    return True


def _adam(problem: _Problem, steps: int, tol: float) -> bool:
    import torch

    q = torch.zeros_like(problem.best).requires_grad_()
    optimizer = torch.optim.Adam([q], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss(q).backward()
        optimizer.step()
        problem.note(q.detach())
    return _at_rest(problem.rows, tol)


def _restart(problem: _Problem) -> None:
    """Write the history's first row with the weights that the objective has by now."""
    problem.rows.clear()
    problem.note(problem.best)


def _at_rest(rows: list[tuple], tol: float) -> bool:
    """Whether the loss fell by less than the share `tol` over the last steps."""
    return len(rows) > WINDOW and rows[-1][1] > (1 - tol) * rows[-1 - WINDOW][1]


def _checked(classifier, shift, target, method, steps, tol, retention, ridge) -> np.ndarray:
    """The shift as float64 (m,); raises for every setting that can't be."""
    if target not in classifier.classes:
        raise MismatchError(f"no class {target!r}; there are {', '.join(classifier.classes[:20])}")
    shift = np.asarray(shift, dtype=np.float64)
    if shift.shape != (classifier.dim,):
        raise MismatchError(
            f"shift needs shape ({classifier.dim},), the classifier's dimension; got {shift.shape}"
        )
    if not np.isfinite(shift).all():
        raise EditError("shift is not finite")
    if not shift.any():
        raise EditError("shift has norm 0 and would change nothing; choose lambda other than 0")
    for name, value, good in (
        ("method", method, method in METHODS),
        ("steps", steps, steps is None or (isinstance(steps, int) and steps >= 1)),
        ("tol", tol, 0 <= tol < 1),
        ("retention", retention, 0 <= retention < np.inf),
        ("ridge", ridge, 0 <= ridge < np.inf and (ridge > 0 or method != "ridge")),
    ):
        if not good:
            raise EditError(
                f"map_layernorms can't work with {name}={value!r}"
                + (f"; one of {', '.join(METHODS)}" if name == "method" else "")
            )
    return shift


def _tensors(classifier, data, target: str, own: bool, limit: int | None, rng: np.random.Generator):
    """Preprocessed images (N, 3, H, W): of a data set those of the target, or (own False) all others."""
    import torch

    if data is None:
        return torch.empty(0)
    if isinstance(data, torch.Tensor):
        if data.ndim != 4:
            raise MismatchError(
                f"images as a tensor need shape (N, 3, H, W), preprocessed; got {tuple(data.shape)}"
            )
        return data
    labels = np.asarray(data.targets)
    if target not in data.classes and own:
        raise MismatchError(
            f"the reference images have no class {target!r}; theirs are {', '.join(data.classes[:20])}"
        )
    chosen = []
    for i, name in enumerate(data.classes):
        if (name == target) == own:
            here = np.flatnonzero(labels == i)
            chosen += sorted(
                here
                if limit is None or limit >= len(here)
                else rng.choice(here, limit, replace=False)
            )
    return (
        torch.stack([classifier.preprocess(data[int(i)][0]) for i in chosen])
        if chosen
        else torch.empty(0)
    )
