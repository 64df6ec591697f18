"""Weight mapping in closed form: a linear gate and a step, written into one linear map as a change of rank one a class."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ...edits import Edit, require_all
from ...errors import EditError, MismatchError
from ...features import Features, extract_features
from ...moments import ClassMoments
from .delta import Delta
from .sites import Site, find_site

METHODS = ("nullspace", "ridge")


@dataclass(frozen=True, eq=False)
class MappedEdit:
    """z becomes z + Σ_t (k_t · z + o_t) v_t for every input, without gate or label: one term for each edit t.

    keys k (T, m) and offsets o (T,) select the class, steps v (T, m) are the edits' vectors. delta holds the
    change of the weights, `n_parameters` numbers; site says where. seconds: from moments or features at hand
    to the delta. moved_means: by how much the calibration mean of each class moves, in units of |v|.
    """

    edits: tuple[Edit, ...]
    keys: np.ndarray
    offsets: np.ndarray
    site: Site
    delta: Delta
    method: str
    seconds: float
    moved_means: pd.DataFrame = field(repr=False)

    @property
    def steps(self) -> np.ndarray:
        """v (T, m)."""
        return np.stack([e.vector for e in self.edits])

    @property
    def n_parameters(self) -> int:
        """How many numbers are stored."""
        return self.delta.n_parameters

    def apply_to(self, classifier):
        """A copy of the classifier with the change in its weights, on top of those that it carries; see `apply_deltas`."""
        return self.delta.apply_to(classifier)

    def remove_from(self, classifier):
        """A copy without this change, bit for bit as if it had never been applied."""
        return self.delta.remove_from(classifier)

    def amounts(self, z: np.ndarray) -> np.ndarray:
        """k_t · z + o_t (N, T): 1 at the mean of the class that is edited, 0 at the means of the others."""
        return np.asarray(z, dtype=np.float64) @ self.keys.T + self.offsets

    def moved(self, z: np.ndarray) -> np.ndarray:
        """The edited representations (N, m) of z (N, m)."""
        return np.asarray(z, dtype=np.float64) + self.amounts(z) @ self.steps

    def report(
        self, calibration: Features, features: Features, *, level: float = 0.05
    ) -> pd.DataFrame:
        """How far single samples of the retained classes move: one row an edit with the (1 - level) quantile of
        |k · z + o| |v| on the calibration features, and the share of `features` beyond it, with n and its 95 % interval.
        """
        from ...statistics import wilson

        rows = []
        targets = [
            f.y == f.classes.index(e.target) for f in (calibration, features) for e in self.edits
        ]
        length = np.linalg.norm(self.steps, axis=1)
        sizes = [np.abs(self.amounts(f.z)) * length for f in (calibration, features)]
        for t, edit in enumerate(self.edits):
            held, new = sizes[0][~targets[t], t], sizes[1][~targets[len(self.edits) + t], t]
            quantile = float(np.quantile(held, 1 - level, method="higher"))
            low, high = wilson((new > quantile).sum(), len(new))
            row = {
                "edit": edit.expression,
                "target": edit.target,
                "quantile": quantile,
                "norm": length[t],
                "n": len(new),
            }
            rows.append(
                row
                | {"beyond": float((new > quantile).mean()), "low": float(low), "high": float(high)}
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        names = ", ".join(e.expression for e in self.edits)
        return f"<MappedEdit {names} by {self.method}: {self.n_parameters:,} numbers in {self.site.name}>"


def map_edit(
    classifier,
    edit: Edit | Iterable[Edit],
    references,
    *,
    method: str = "nullspace",
    shrinkage: float = 0.5,
    n_references: int = 5,
    ridge: float = 0.1,
    seed: int = 0,
    **options,
):
    """Write an edit into the weights, so that no gate is needed: the class's samples move by z_edit, the others stay.

    edit: one or several, of different targets; a gate that they carry is not used. references: labelled
    `Features` of this classifier's encoder (training images), a labelled data set, or `ClassMoments` with a
    pooled scatter.
    method "nullspace", from moments: the k that minimises k' S k, S the pooled within-class covariance shrunk
    by `shrinkage` towards a multiple of the identity, with k · (m_r - m_R) = 0 for every other class's mean
    (m_R their average) and k · (m_c - m_R) = 1; o = -k · m_R. Where the map has no bias, k · m_r = 0 and
    k · m_c = 1. Guarantee: the calibration means of the other classes don't move; a sample moves by
    |k · z + o| |z_edit|, see `MappedEdit.report`. Needs no more classes than dimensions.
    method "ridge", from `n_references` samples of each class drawn by `seed`: ridge regression of
    "belongs to c" on z with penalty `ridge` times the references' mean square; no exact guarantee.
    methods "layernorm" (`n_references` images a class, the others kept) and "published" (Algorithm 2: one image of the class
    and nothing else) train LayerNorms instead, see `map_layernorms`, to which `options` go; they take one edit and a data set.
    Raises MismatchError for another model or unknown classes, EditError for an edit that would change nothing,
    for too many classes, or dependent means.
    """
    edits = (edit,) if isinstance(edit, Edit) else tuple(edit)
    require_all(edits, classifier)
    targets = [e.target for e in edits]
    if not edits or len(set(targets)) < len(targets):
        raise EditError(
            f"map_edit takes one edit a class, at least one; got targets {', '.join(targets) or 'none'}"
        )
    if method in ("layernorm", "published"):
        from .layernorm import map_layernorms

        if len(edits) > 1:
            raise EditError(f"method {method!r} maps one edit at a time; got {len(edits)}")
        if isinstance(references, Features | ClassMoments):
            raise EditError(
                f"method {method!r} trains on images: give a labelled data set, not {type(references).__name__}"
            )
        own = {"n_references": 1, "method": "published"}
        if method == "layernorm":
            own = {
                "n_references": n_references,
                "n_anchors": n_references,
                "method": "trained",
                "anchors": references,
            }
        return map_layernorms(
            classifier,
            edits[0].vector,
            edits[0].target,
            references,
            **{**own, "seed": seed, **options},
        )
    if method not in METHODS:
        raise EditError(
            f"unknown mapping {method!r}; choose among {', '.join((*METHODS, 'layernorm', 'published'))}"
        )
    if options:
        raise EditError(f"method {method!r} takes no {', '.join(options)}")
    if not 0 <= shrinkage <= 1 or not ridge > 0 or n_references < 1:
        raise EditError(
            f"shrinkage lies in [0, 1], ridge is above 0 and n_references at least 1; got {shrinkage}, {ridge}, {n_references}"
        )
    references = _at_hand(classifier, references, method)
    site = find_site(classifier)
    start = time.perf_counter()
    own = [classifier.classes.index(t) for t in targets]
    if method == "nullspace":
        moments = (
            references
            if isinstance(references, ClassMoments)
            else references.moments(pooled_scatter=True)
        )
        _require_samples(moments.count, classifier.classes)
        keys, offsets = _nullspace(moments, own, shrinkage, site.bias)
    else:
        moments = references.moments()
        _require_samples(moments.count, classifier.classes)
        keys, offsets = _ridge(references, own, n_references, ridge, site.bias, seed)
    dense, factored = site.fold(classifier, keys, offsets, np.stack([e.vector for e in edits]))
    facts = {
        "method": method,
        "edits": [e.expression for e in edits],
        "targets": targets,
        "site": site.name,
    }
    delta = Delta.on(
        classifier,
        " and ".join(e.expression for e in edits),
        dense=dense,
        factored=factored,
        facts=facts,
    )
    seconds = time.perf_counter() - start
    moved = pd.DataFrame(moments.mean @ keys.T + offsets, index=classifier.classes, columns=targets)
    return MappedEdit(
        edits, keys, offsets, site, delta, method, seconds, moved.rename_axis("class")
    )


def _at_hand(classifier, references, method: str):
    if isinstance(references, ClassMoments):
        if method == "ridge":
            raise EditError(
                "the ridge mapping needs samples: give Features or a data set, not moments"
            )
        if references.scatter is None:
            raise EditError(
                "the null-space mapping needs moments with a pooled scatter: ClassMoments(..., pooled_scatter=True)"
            )
        if (references.n_classes, references.dim) != (len(classifier.classes), classifier.dim):
            raise MismatchError(
                f"moments of {references.n_classes} classes and {references.dim} dimensions don't fit a classifier of "
                f"{len(classifier.classes)} and {classifier.dim}"
            )
        return references
    if not isinstance(references, Features):
        references = extract_features(classifier, references, progress=False)
    classifier.require_classes(references.classes, "the references")
    if references.z.shape[1] != classifier.dim:
        raise MismatchError(
            f"the references have {references.z.shape[1]} dimensions and the classifier {classifier.dim}"
        )
    if (
        None not in (references.model, classifier.fingerprint)
        and references.model != classifier.fingerprint
    ):
        raise MismatchError(
            f"the references were extracted with another model ({references.model}) than this one ({classifier.fingerprint}); "
            "map edits on the classifier before any weights are edited, and apply the results one on the other"
        )
    return references


def _require_samples(count: np.ndarray, classes) -> None:
    if (count == 0).any():
        raise MismatchError(
            f"no reference of class {', '.join(c for c, n in zip(classes, count, strict=True) if n == 0)}"
        )


def _nullspace(
    moments: ClassMoments, own: list[int], shrinkage: float, bias: bool
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    n_classes, dim = moments.mean.shape
    if n_classes - bias > dim:
        raise EditError(
            f"{n_classes} class means can't be told apart linearly in {dim} dimensions; use inject with gates"
        )
    covariance = moments.scatter / max(int(moments.count.sum()) - n_classes, 1)
    size = np.trace(covariance) / dim
    if size == 0:  # nothing varies within classes: any metric serves
        covariance, size = np.eye(dim), 1.0
    metric = (1 - shrinkage) * covariance + max(shrinkage, 1e-9) * size * np.eye(dim)
    keys, offsets = np.empty((len(own), dim)), np.zeros(len(own))
    factor = cho_factor(metric)
    for t, c in enumerate(own):
        others = np.delete(np.arange(n_classes), c)
        centre = moments.mean[others].mean(axis=0) if bias and len(others) else np.zeros(dim)
        # with a centre the other means are dependent, by one
        constraints = moments.mean[[*(others[1:] if bias else others), c]] - centre
        solved = cho_solve(factor, constraints.T)
        gram = constraints @ solved
        scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
        try:
            weights = cho_solve(
                cho_factor(gram / np.outer(scale, scale)), np.eye(len(gram))[-1] / scale
            )
        except LinAlgError:
            weights = None
        if weights is not None:
            keys[t] = solved @ (weights / scale)
        # a gram matrix that is singular but for rounding has a factor too, of noise
        if (
            weights is None
            or not np.abs(constraints @ keys[t] - np.eye(len(gram))[-1]).max() < 1e-6
        ):
            raise EditError(
                "the class means are linearly dependent, so no linear gate can single one class out; use inject"
            )
        offsets[t] = -keys[t] @ centre
    return keys, offsets


def _ridge(
    features: Features, own: list[int], n_references: int, penalty: float, bias: bool, seed: int
):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            rng.permutation(np.flatnonzero(features.y == c))[:n_references]
            for c in range(len(features.classes))
        ]
    )
    z, y = np.asarray(features.z[chosen], dtype=np.float64), features.y[chosen]
    centred = z - z.mean(axis=0) if bias else z
    targets = (y[:, None] == np.asarray(own)).astype(np.float64)
    fitted = Ridge(alpha=penalty * np.square(centred).sum() / len(z), fit_intercept=bias).fit(
        z, targets
    )
    return np.atleast_2d(fitted.coef_), np.broadcast_to(
        np.atleast_1d(fitted.intercept_), (len(own),)
    ).astype(np.float64)
