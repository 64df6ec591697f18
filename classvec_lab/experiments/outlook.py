"""Will class vectors edit this model? Told beforehand, per class, from geometry and forecasts; no edit is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..editing.advice import CONTRAST, HEAD, MAPPING, RETIRE, VECTOR, recommend, sentences, verdict
from ..editing.calibration import calibrate_gate, negatives_needed
from ..editing.directions import contrast_direction, head_direction, relocation
from ..editing.strength import THRESHOLD, TOLERANCE
from ..edits import Edit
from ..errors import EditError, MismatchError, ModelError
from ..gates import SCORES
from ..readout import head_rows
from ..statistics import wilson
from .forecast import DRAWS, LinearMove, MomentModel, forecast_along

METHODS = (VECTOR, CONTRAST, HEAD, RETIRE)
GATES = ("none", *SCORES, MAPPING)
DEFAULT_GATES = ("none", "predicted", "margin", MAPPING)
LAMBDAS = (-0.5, -1.0, -1.5, -2.0, -3.0, -5.0)


@dataclass(frozen=True, eq=False)
class Editability:
    """What forgetting each class is forecast to do, and which method to take.

    table, one row a class: n (validation samples), norm_kappa, spread (root mean square distance of validation
    samples to their class mean), shift_to_spread (the first over the second: below about 1 fine-tuning moved the class less
    than its samples differ), alignment (cosine of the centred class vector with the head's centred row), read_share (share of
    |kappa_c|² in the span of the head's centred rows: the head sees no more of it), head_on_pre (accuracy of
    the head on z_pre, what lambda = -1 gives back) with its 95 % Wilson interval (_low, _high) and n_pre; NaN without pre_val.
    curves, one row a method, gate, class and lambda_ (0 included): forecast acc_f and acc_r (all other classes, in the
    validation set's balance), base_f and base_r (unedited), n_f and n_r (validation samples behind both), meets.
    smallest: per method, gate and class the lambda_ of smallest size that meets both bounds; NaN if none.
    recommendation: per class light, method, direction, gate, lambda_, acc_f, acc_r and a sentence; see `recommend`.
    light: see `verdict`. forecasts: (method, gate) to accuracies (class edited, lambda, class affected).
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    smallest: pd.DataFrame
    recommendation: pd.DataFrame
    light: str
    deploy: str
    threshold: float
    tolerance: float
    classes: tuple[str, ...]
    lambdas: tuple[float, ...]
    forecasts: Mapping[tuple[str, str], np.ndarray] = field(repr=False)

    def collateral(
        self, method: str = VECTOR, gate: str | None = None, lambda_: float = -1.5
    ) -> pd.DataFrame:
        """Forecast change of every class's accuracy (columns) under every class's edit (rows), in [-1, 1].

        gate: by default the one to be deployed. Raises EditError for what was not forecast, saying what was.
        """
        gate = self.deploy if gate is None else gate
        if (method, gate) not in self.forecasts or lambda_ not in self.lambdas:
            raise EditError(
                f"no forecast of {method!r} behind {gate!r} at lambda {lambda_:g}; there are methods and gates "
                f"{', '.join(f'{m!r} behind {g!r}' for m, g in self.forecasts)} at {', '.join(f'{x:g}' for x in self.lambdas)}"
            )
        found = self.forecasts[method, gate]
        change = found[:, self.lambdas.index(lambda_)] - found[:, self.lambdas.index(0.0)]
        table = pd.DataFrame(change, index=list(self.classes), columns=list(self.classes))
        return table.rename_axis(index="edited", columns="class")

    def says(self) -> tuple[str, ...]:
        """The sentences: the light, the geometry behind it, what lambda = -1 does, and one for every class that isn't green."""
        return sentences(self)


def editability(
    classifier,
    vectors,
    train,
    val,
    *,
    pre_val=None,
    gates: Sequence[str] | None = None,
    deploy: str | None = None,
    lambdas: Sequence[float] = LAMBDAS,
    threshold: float = THRESHOLD,
    tolerance: float = TOLERANCE,
    false_fire: float = 0.01,
    goal: str = "edit",
    n_draws: int | None = None,
    seed: int = 0,
) -> Editability:
    """Forecast the forgetting of every class by latent edits, and recommend a method for each.

    train, val: labelled Features of the fine-tuned encoder; pre_val: of the pre-trained one, on the images of val.
    Directions, of length |kappa_c|: the class vector; z_ft - mu, which needs no pre-trained model; and the head's own
    centred row. Beside them, at its own length, relocation to the mean of the other classes, which lambda = -1 completes.
    gates: of "none", "predicted", "margin", "cosine", "discriminant", calibrated on val at `false_fire`,
    and "mapping", the closed-form linear gate that `map_edit` writes into weights. By default all of "none", "predicted",
    "margin" and "mapping" that this model and this many samples allow. deploy: the gate that is meant to be used,
    by default "predicted", else the first. lambdas: negative; -1, which gives the pre-trained mean back, is always added.
    An edit meets the bounds where ACC_f <= threshold and ACC_r >= (1 - tolerance) of unedited, both forecast.
    goal: "edit", "labels" or "representation", see `recommend`.

    A forecast is a `MomentModel`'s: from class means, one covariance, the weight of the tails and the unedited confusion.
    It is meant to tell working edits from failing ones, and is off where a curve falls steeply: by up to 15 points of ACC_f
    between lambda -.5 and -1 on MNIST. Try the edit on validation images (`choose_lambda`) before relying on it. Time grows
    with C² n_draws, lambdas and gates.
    Raises MismatchError for models, classes or dimensions that differ, or classes without samples; EditError for unknown
    gates, lambdas that are not negative, too few samples for a gate that was asked for, or a class that was not moved.
    """
    alphas = _lambdas(lambdas)
    named = _check(
        classifier, vectors, (train, val, pre_val), gates, deploy, threshold, tolerance, goal
    )
    n_draws = (
        max(DRAWS // 10, min(DRAWS, 10 * DRAWS // len(vectors))) if n_draws is None else n_draws
    )
    model = MomentModel.from_features(classifier, train, val, n_draws=n_draws, seed=seed)
    found = _gates(classifier, vectors, train, val, named, deploy, false_fire)
    deploy = deploy or ("predicted" if "predicted" in found else next(iter(found)))
    edits = [_directions(classifier, vectors, c) for c in vectors.classes]
    forecasts = {}
    for name, gate in found.items():
        along = [
            forecast_along(
                model,
                _selected(own[VECTOR], selection),
                np.stack([own[m].vector for m in METHODS]),
                alphas,
            )
            for own, selection in zip(edits, gate, strict=True)
        ]
        forecasts |= {
            (method, name): np.stack([a[i] for a in along]) for i, method in enumerate(METHODS)
        }
    curves = _curves(forecasts, model, alphas, threshold, tolerance)
    table = _table(classifier, vectors, val, pre_val)
    smallest = _smallest(curves)
    recommendation = recommend(curves, smallest, deploy, goal, tolerance)
    return Editability(
        table, curves, smallest, recommendation, verdict(recommendation["light"]), deploy, threshold, tolerance,
        vectors.classes, alphas, forecasts,
    )  # fmt: skip


def _lambdas(lambdas) -> tuple[float, ...]:
    given = np.atleast_1d(np.asarray(lambdas, dtype=np.float64))
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all() or (given >= 0).any():
        raise EditError(
            f"forgetting moves a class back: lambdas must be finite and below 0; got {lambdas}"
        )
    return tuple(float(x) + 0.0 for x in np.unique([0.0, -1.0, *given])[::-1])


def _check(
    classifier, vectors, features, gates, deploy, threshold, tolerance, goal
) -> tuple[str, ...] | None:
    classifier.require_classes(vectors.classes, "the class vectors")
    if len(vectors) < 2:
        raise MismatchError("forgetting a class needs another one to keep; there is only one")
    owners = (
        "training features",
        "validation features",
        "validation features of the pre-trained encoder",
    )
    for owner, part, model in zip(
        owners, features, (vectors.ft, vectors.ft, vectors.pre), strict=True
    ):
        if part is None:
            continue
        classifier.require_classes(part.classes, f"the {owner}")
        if not part.z.shape[1] == vectors.dim == classifier.dim:
            raise MismatchError(
                f"dimensions differ: {part.z.shape[1]} in the {owner}, {vectors.dim} in the class vectors, "
                f"{classifier.dim} in the head"
            )
        if None not in (part.model, model) and part.model != model:
            raise MismatchError(
                f"the {owner} come from another model ({part.model}) than the class vectors ({model})"
            )
    if goal not in ("edit", "labels", "representation"):
        raise EditError(f"goal is one of 'edit', 'labels', 'representation'; got {goal!r}")
    if not 0 <= threshold < 1 or not 0 <= tolerance < 1:
        raise EditError(
            f"threshold and tolerance are shares in [0, 1); got {threshold} and {tolerance}"
        )
    named = None if gates is None else ((gates,) if isinstance(gates, str) else tuple(gates))
    unknown = [g for g in (*(named or ()), *([deploy] if deploy else [])) if g not in GATES]
    if unknown or named == ():
        raise EditError(
            f"unknown gates {', '.join(map(repr, unknown)) or '(none given)'}; choose among {', '.join(GATES)}"
        )
    if named and deploy and deploy not in named:
        raise EditError(
            f"deploy={deploy!r} is not among the gates to be forecast, {', '.join(named)}"
        )
    return named


def _gates(classifier, vectors, train, val, named, deploy, false_fire: float) -> dict[str, list]:
    """Gate name to what selects each class: None, a Gate, or the (key, offset) of a mapping."""
    found = {}
    fewest = len(val.y) - int(np.bincount(val.y).max())
    for name in dict.fromkeys(named or (*DEFAULT_GATES, *([deploy] if deploy else ()))):
        asked = bool(named) or name == deploy
        if name == "none":
            found[name] = [None] * len(vectors)
        elif name == MAPPING:
            try:
                found[name] = _keys(classifier, train)
            except (EditError, ModelError):
                if asked:
                    raise
        elif asked or name != "margin" or fewest >= negatives_needed(false_fire):
            moments = train.moments(pooled_scatter=True) if name == "discriminant" else None
            found[name] = [
                calibrate_gate(
                    val,
                    vectors,
                    c,
                    false_fire=false_fire,
                    score=name,
                    classifier=classifier,
                    moments=moments,
                )
                for c in vectors.classes
            ]
    return found


def _keys(classifier, train) -> list[tuple[np.ndarray, float]]:
    from ..editing.weights.mapping import nullspace_keys
    from ..editing.weights.sites import find_site

    bias = find_site(classifier).bias
    moments = train.moments(pooled_scatter=True)
    keys, offsets = nullspace_keys(moments, range(len(train.classes)), bias=bias)
    return list(zip(keys, offsets, strict=True))


def _directions(classifier, vectors, target: str) -> dict[str, Edit]:
    edit = vectors[target].require_effect()
    return {
        VECTOR: edit,
        CONTRAST: contrast_direction(vectors, target).scaled_to(edit.norm),
        HEAD: head_direction(classifier, vectors, target).scaled_to(edit.norm),
        RETIRE: -relocation(vectors, target),
    }


def _selected(edit: Edit, selection):
    if isinstance(selection, tuple):
        key, offset = selection
        return LinearMove(key[None], np.array([offset]), edit.vector[None])
    return edit if selection is None else edit.gated(selection)


def _curves(
    forecasts, model: MomentModel, lambdas, threshold: float, tolerance: float
) -> pd.DataFrame:
    rows, zero = [], lambdas.index(0.0)
    for (method, gate), accuracy in forecasts.items():
        for c, name in enumerate(model.classes):
            others = np.delete(np.arange(len(model.classes)), c)
            n_f, n_r = int(model.count[c]), int(model.count[others].sum())
            acc_f, acc_r = accuracy[c, :, c], accuracy[c][:, others] @ model.count[others] / n_r
            for i, lambda_ in enumerate(lambdas):
                row = {"method": method, "gate": gate, "class": name, "lambda_": lambda_}
                row |= {
                    "acc_f": acc_f[i],
                    "acc_r": acc_r[i],
                    "base_f": acc_f[zero],
                    "base_r": acc_r[zero],
                }
                meets = (
                    i != zero
                    and acc_f[i] <= threshold
                    and acc_r[i] >= (1 - tolerance) * acc_r[zero]
                )
                rows.append(row | {"n_f": n_f, "n_r": n_r, "meets": bool(meets)})
    return pd.DataFrame(rows)


def _smallest(curves: pd.DataFrame) -> pd.DataFrame:
    keys = ["method", "gate", "class"]
    found = (
        curves[curves["meets"]].groupby(keys, sort=False)["lambda_"].max()
    )  # all negative: the largest is the mildest
    return curves[keys].drop_duplicates().join(found, on=keys).reset_index(drop=True)


def _table(classifier, vectors, val, pre_val) -> pd.DataFrame:
    head, kappa = head_rows(classifier), vectors.kappa
    centred, basis = head.centred, head.basis
    moved, norm = kappa - kappa.mean(axis=0), np.linalg.norm(kappa, axis=1)
    held = val.moments()
    spread = np.sqrt(held.variance)
    lengths = np.linalg.norm(moved, axis=1) * np.linalg.norm(centred, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        table = pd.DataFrame(
            {
                "class": vectors.classes,
                "n": held.count,
                "norm_kappa": norm,
                "spread": spread,
                "shift_to_spread": norm / spread,
                "alignment": np.einsum("cm,cm->c", moved, centred) / lengths,
                "read_share": np.square(kappa @ basis.T).sum(axis=1) / norm**2,
            }
        )
    hits, n = np.zeros(len(kappa)), np.zeros(len(kappa))
    if pre_val is not None:
        right = (np.asarray(pre_val.z, dtype=np.float64) @ head.weight.T + head.bias).argmax(
            axis=1
        ) == pre_val.y
        hits, n = (
            np.bincount(pre_val.y, weights=w, minlength=len(kappa))
            for w in (right, np.ones(len(right)))
        )
    low, high = wilson(hits, n)
    table["head_on_pre"] = np.divide(hits, n, out=np.full(len(n), np.nan), where=n > 0)
    table["head_on_pre_low"], table["head_on_pre_high"], table["n_pre"] = low, high, n.astype(int)
    return table
