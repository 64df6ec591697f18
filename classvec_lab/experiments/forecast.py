"""What an edit will do to every class, from class moments, the head and a confusion matrix: no sample is edited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from ..edits import Edit
from ..errors import EditError, MismatchError
from ..gates import Gate
from ..moments import ClassMoments
from ..readout import head_rows

DRAWS = 4000
GAUSSIAN_FROM = 30.0  # degrees of freedom above which draws are Gaussian
LEAST_DF = 4.5  # a Student distribution has a kurtosis from 4 on


@dataclass(frozen=True, eq=False)
class MomentModel:
    """Each class about its mean with one pooled covariance and tail, seen through the head and corrected by a confusion.

    means (C, m): best those of the training representations of the fine-tuned model. factor (R, m): factor' factor
    is the pooled within-class covariance of *held-out* representations about their own class means (training
    ones are drawn together by fine-tuning). weight (C, m), bias (C,): the head's; the length of z divides all logits of a
    CosineHead alike and decides nothing. confusion (C, C): share of each true class (rows) that the unedited model
    calls each class, held out; count (C,): the samples behind it. df: degrees of freedom of the Student distribution
    that the draws follow, with the covariance above; above 2, None for a Gaussian. n_draws: draws, the same ones
    for every class, edit and lambda, made by `seed` in the few dimensions that head and gate read; per class they are
    weighted so that the unedited predictions have the shares in `confusion`. Such a weight can only be given to
    predictions that some draw shows; the samples behind the others, errors almost always, count as wrong at any lambda.
    """

    means: np.ndarray
    factor: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    confusion: np.ndarray
    count: np.ndarray
    classes: tuple[str, ...]
    n_draws: int = DRAWS
    seed: int = 0
    df: float | None = None

    def __post_init__(self):
        size, dim = np.shape(self.weight)
        wrong = [
            f"{name} {np.shape(getattr(self, name))} instead of {shape}"
            for name, shape in (
                ("means", (size, dim)),
                ("factor", (len(self.factor), dim)),
                ("bias", (size,)),
                ("confusion", (size, size)),
                ("count", (size,)),
                ("classes", (size,)),
            )
            if np.shape(getattr(self, name)) != shape
        ]
        if wrong:
            raise MismatchError(
                f"a forecast for a head of {size} classes and {dim} dimensions was given {'; '.join(wrong)}"
            )
        for name in ("means", "factor", "confusion"):
            if not np.isfinite(getattr(self, name)).all():
                raise MismatchError(f"a forecast needs finite {name}; every class needs samples")
        if self.n_draws < 1:
            raise MismatchError(f"a forecast needs at least one draw; got n_draws={self.n_draws}")
        if self.df is not None and not 2 < self.df < np.inf:
            raise MismatchError(
                f"a Student distribution has a covariance above 2 degrees of freedom; got df={self.df}"
            )

    @classmethod
    def from_features(
        cls, classifier, train, val, *, n_draws: int = DRAWS, seed: int = 0
    ) -> "MomentModel":
        """Means from `train`, covariance, df and confusion from `val`: Features of the fine-tuned encoder.

        df comes from the kurtosis of what the head reads, see `student_df`. No m × m array is made.

        Raises MismatchError, naming them, for classes without a sample in either, or classes or dimensions that differ;
        EditError for a head that is neither linear nor a CosineHead.
        """
        for features, owner in ((train, "the training features"), (val, "the validation features")):
            classifier.require_classes(features.classes, owner)
            _require_dim(classifier, features.z.shape[1], owner)
        weight, bias = head_rows(classifier)
        z, size = np.asarray(val.z, dtype=np.float64), len(classifier.classes)
        held = val.moments()
        means, freedom = (
            _means(train.moments(), classifier, "the training features"),
            _freedom(held, classifier),
        )
        factor = (z - held.mean[val.y]) / np.sqrt(freedom)
        calls = np.zeros((size, size))
        np.add.at(calls, (val.y, (z @ weight.T + bias).argmax(axis=1)), 1.0)
        confusion = calls / held.count[:, None]
        read = factor @ (weight - weight.mean(axis=0)).T
        return cls(
            means,
            factor,
            weight,
            bias,
            confusion,
            held.count,
            classifier.classes,
            n_draws,
            seed,
            student_df(read),
        )

    @classmethod
    def from_moments(
        cls,
        classifier,
        train: ClassMoments,
        val: ClassMoments,
        confusion,
        *,
        df: float | None = None,
        n_draws: int = DRAWS,
        seed: int = 0,
    ) -> "MomentModel":
        """The same from moments alone: `val` with a pooled scatter, and its confusion (C, C), shares or counts by true class.

        df: the one number that these moments don't hold, as `from_features` or `student_df` finds it; None for a Gaussian.
        Raises MismatchError as `from_features` does, and for moments without a pooled scatter.
        """
        weight, bias = head_rows(classifier)
        for moments, owner in ((train, "the training moments"), (val, "the validation moments")):
            _require_dim(classifier, moments.dim, owner)
            if moments.n_classes != len(classifier.classes):
                raise MismatchError(
                    f"{owner} have {moments.n_classes} classes and the classifier {len(classifier.classes)}"
                )
        if val.scatter is None:
            raise MismatchError(
                "the validation moments have no pooled scatter: make them with ClassMoments(..., pooled_scatter=True)"
            )
        means = _means(train, classifier, "the training moments")
        values, vectors = np.linalg.eigh(val.scatter / _freedom(val, classifier))
        factor = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        calls = np.asarray(confusion, dtype=np.float64)
        if (
            calls.shape != (len(means), len(means))
            or not (calls >= 0).all()
            or not (calls.sum(axis=1) > 0).all()
        ):
            raise MismatchError(
                f"the confusion must be C × C, non-negative, with no empty row; got shape {calls.shape}"
            )
        shares = calls / calls.sum(axis=1, keepdims=True)
        return cls(
            means, factor, weight, bias, shares, val.count, classifier.classes, n_draws, seed, df
        )

    @cached_property
    def _read_factor(self) -> np.ndarray:
        return self.factor @ self.weight.T

    @cached_property
    def _stretch(self) -> np.ndarray | float:
        """What makes normal draws Student draws of covariance 1, (n_draws, 1)."""
        if self.df is None:
            return 1.0
        return np.sqrt(
            (self.df - 2)
            / np.random.default_rng([self.seed, 2]).chisquare(self.df, (self.n_draws, 1))
        )

    @cached_property
    def _noise(self) -> np.ndarray:
        """What within-class variation adds to the logits, (n_draws, C)."""
        normals = np.random.default_rng(self.seed).standard_normal((self.n_draws, len(self.weight)))
        return self._stretch * normals @ _root(self._read_factor)

    @cached_property
    def _start(self) -> np.ndarray:
        """Logits (C, C) of the class means."""
        return self.means @ self.weight.T + self.bias

    @cached_property
    def _unedited(self) -> tuple[np.ndarray, np.ndarray]:
        """Of every class and draw, (C, n_draws): the unedited prediction and its weight, at most 1 in sum."""
        size = len(self.weight)
        called = np.stack([(self._noise + start).argmax(axis=1) for start in self._start])
        seen = np.stack([np.bincount(calls, minlength=size) for calls in called])
        weights = np.take_along_axis(self.confusion / np.maximum(seen, 1), called, axis=1)
        return called, weights

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """What within-class variation adds to rows · z, (n_draws, K), jointly with what it adds to the logits."""
        read = self.factor @ rows.T
        known = np.linalg.lstsq(self._read_factor, read, rcond=None)[0]
        normals = np.random.default_rng([self.seed, 1]).standard_normal((self.n_draws, len(rows)))
        return self._noise @ known + self._stretch * normals @ _root(
            read - self._read_factor @ known
        )


@dataclass(frozen=True, eq=False)
class LinearMove:
    """z becomes z + Σ_t (k_t · z + o_t) v_t for every input: keys (T, m), offsets (T,), steps (T, m).

    A `MappedEdit` has these too.
    """

    keys: np.ndarray
    offsets: np.ndarray
    steps: np.ndarray


def student_df(residuals: np.ndarray) -> float | None:
    """Degrees of freedom whose Student distribution has the kurtosis of residuals (N, K); None, a Gaussian, above 30.

    Mardia's kurtosis b = E[(e' S^-1 e)²] of p dimensions (those in which there is variation) is p (p + 2) for a Gaussian
    and (1 + 2 / (df - 4)) times as much for a Student distribution; at least 4.5 is returned. residuals: about the class
    means, in the space that the head tells apart. Source: Mardia (1970), Measures of multivariate skewness and kurtosis.
    """
    residuals = np.asarray(residuals, dtype=np.float64)
    values, vectors = np.linalg.eigh(residuals.T @ residuals / len(residuals))
    kept = values > max(values[-1] * 1e-8, 0)
    if not kept.any():
        return None
    p = kept.sum()
    squares = np.square(residuals @ (vectors[:, kept] / np.sqrt(values[kept]))).sum(axis=1)
    excess = np.square(squares).mean() / (p * (p + 2)) - 1
    return max(LEAST_DF, 4 + 2 / excess) if excess > 2 / (GAUSSIAN_FROM - 4) else None


def forecast(model: MomentModel, edit, lambdas: Sequence[float]) -> np.ndarray:
    """Accuracy (L, C) of every class under lambda times an edit, in 0..1, without running it on any sample.

    edit: an `Edit` with its gate or none; a pair (direction (m,), gate or None); or a `MappedEdit` or
    `LinearMove`, whose steps are multiplied by lambda. Where a gate reads z at length 1,
    |z|² is taken as |mean|² + trace of the covariance + 2 mean · (z - mean), which is exact on average.
    Raises MismatchError for other dimensions or classes, EditError for lambdas that are not finite.
    """
    rows, amounts, steps = _parts(model, edit)
    return _accuracy(model, rows, amounts, steps[None], _finite(lambdas))[0]


def forecast_along(
    model: MomentModel, edit, directions: np.ndarray, lambdas: Sequence[float]
) -> np.ndarray:
    """`forecast` of one edit's selection along other directions (D, m) than its own, (D, L, C), gating only once."""
    rows, amounts, steps = _parts(model, edit)
    if len(steps) != 1:
        raise EditError(
            f"only an edit of one step can be turned along other directions; this one has {len(steps)}"
        )
    return _accuracy(
        model, rows, amounts, np.asarray(directions, dtype=np.float64)[:, None], _finite(lambdas)
    )


def _accuracy(
    model: MomentModel, rows, amounts, steps: np.ndarray, lambdas: np.ndarray
) -> np.ndarray:
    """Accuracies (D, L, C) for steps (D, T, m)."""
    if not rows.shape[1] == steps.shape[2] == model.weight.shape[1]:
        raise MismatchError(
            f"the edit has {steps.shape[2]} dimensions, its gate or keys {rows.shape[1]} and the model {model.weight.shape[1]}"
        )
    noise, at_means = model._read(rows), model.means @ rows.T
    called, weights = model._unedited
    change = steps @ model.weight.T
    accuracy = np.empty((len(steps), len(lambdas), len(model.weight)))
    for j, start in enumerate(model._start):
        amount = amounts(noise + at_means[j], j)
        moved = amount.any(axis=1) & (weights[j] > 0)
        weight = weights[j][moved]
        accuracy[:, :, j] = weights[j][~moved] @ (called[j][~moved] == j)
        if not len(weight):
            continue
        logits = model._noise[moved] + start
        for d, steps_change in enumerate(change):
            shift = amount[moved] @ steps_change
            for i, lambda_ in enumerate(lambdas):
                accuracy[d, i, j] += weight @ ((logits + lambda_ * shift).argmax(axis=1) == j)
    return np.clip(accuracy, 0, 1)


def forecast_edits(
    model: MomentModel, edits: Mapping[str, object], lambdas: Sequence[float]
) -> pd.DataFrame:
    """`forecast` of several edits, target to edit: one row an edited class, lambda (0 is added) and class, with accuracy."""
    lambdas = with_zero(lambdas)
    require_targets(edits, model.classes)
    return tidy(
        {target: forecast(model, edit, lambdas) for target, edit in edits.items()},
        lambdas,
        model.classes,
    )


def collateral_forecast(
    model: MomentModel, edits: Mapping[str, object], lambda_: float
) -> pd.DataFrame:
    """Forecast change of every class's accuracy (columns) under lambda times every class's edit (rows), in [-1, 1]."""
    require_targets(edits, model.classes)
    rows = {}
    for target, edit in edits.items():
        before, after = forecast(model, edit, [0.0, lambda_])
        rows[target] = after - before
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(model.classes))
    return table.rename_axis(index="edited", columns="class")


def _parts(model: MomentModel, edit):
    """Rows (K, m) to read from z, how far the edit acts given these readings and the class, and its steps (T, m)."""
    if hasattr(edit, "offsets"):
        offsets = np.asarray(edit.offsets, dtype=np.float64)
        return (
            np.asarray(edit.keys, dtype=np.float64),
            lambda read, j: read + offsets,
            np.asarray(edit.steps, dtype=np.float64),
        )
    vector, gate = vector_and_gate(edit)
    if isinstance(edit, Edit) and edit.classes != tuple(model.classes):
        raise MismatchError(
            f"the edit {edit.expression} tells other classes than the model: {', '.join(edit.classes[:10])}"
        )
    if gate is None:
        return np.zeros((0, len(vector))), lambda read, j: np.ones((len(read), 1)), vector[None]
    size = len(gate.weight)
    reader = replace(gate, weight=np.eye(size), normalise=False)
    if not gate.normalise:
        return gate.weight, lambda read, j: reader.weights(read)[:, None], vector[None]
    if gate.dim != model.means.shape[1]:
        raise MismatchError(
            f"the gate reads {gate.dim} dimensions and the model has {model.means.shape[1]}"
        )
    square, trace = np.square(model.means).sum(axis=1), np.square(model.factor).sum()

    def amounts(read, j):
        along = read[:, size + j]  # mean_j · z = |mean_j|² + mean_j · (z - mean_j)
        length = np.sqrt(np.maximum(2 * along - square[j] + trace, 1e-24))
        return reader.weights(read[:, :size] / length[:, None])[:, None]

    return np.concatenate([gate.weight, model.means]), amounts, vector[None]


def vector_and_gate(edit) -> tuple[np.ndarray, Gate | None]:
    """The displacement (m,) at lambda 1 and the gate of an `Edit` or of a pair."""
    vector, gate = (edit.vector, edit.gate) if isinstance(edit, Edit) else edit
    vector = np.asarray(vector, dtype=np.float64)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise MismatchError(
            f"the direction of an edit is a finite vector (m,); got shape {vector.shape}"
        )
    return vector, gate


def _root(factor: np.ndarray) -> np.ndarray:
    """Symmetric square root of factor' factor: unlike a Cholesky factor it exists, and varies little, at any rank."""
    values, vectors = np.linalg.eigh(factor.T @ factor)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def tidy(accuracy: Mapping[str, np.ndarray], lambdas: np.ndarray, classes) -> pd.DataFrame:
    """One row an edited class, lambda and class of accuracy, target to (L, C)."""
    index = pd.MultiIndex.from_product(
        [list(accuracy), lambdas, list(classes)], names=["edited", "lambda_", "class"]
    )
    return pd.DataFrame(
        {"accuracy": np.stack(list(accuracy.values())).ravel()}, index=index
    ).reset_index()


def _finite(lambdas) -> np.ndarray:
    found = np.atleast_1d(np.asarray(lambdas, dtype=np.float64))
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise EditError(f"lambdas must be finite numbers; got {lambdas}")
    return found


def with_zero(lambdas) -> np.ndarray:
    """The strengths and 0, each once, from the highest down; raises EditError unless all are finite."""
    return np.unique([0.0, *_finite(lambdas)])[::-1] + 0.0


def require_targets(edits: Mapping[str, object], classes) -> None:
    """Raise MismatchError unless there are edits, each given by a class that there is."""
    unknown = [t for t in edits if t not in classes]
    if unknown or not edits:
        raise MismatchError(
            f"edits are given by the class they edit; got {unknown or 'none'}, there are {', '.join(classes[:20])}"
        )


def _require_dim(classifier, dim: int, owner: str) -> None:
    if dim != classifier.dim:
        raise MismatchError(f"the head reads {classifier.dim} dimensions and {owner} have {dim}")


def _means(moments: ClassMoments, classifier, owner: str) -> np.ndarray:
    _require_samples(moments, classifier, owner)
    return moments.mean


def _freedom(moments: ClassMoments, classifier) -> int:
    _require_samples(moments, classifier, "the validation set")
    df = int(moments.count.sum()) - moments.n_classes
    if df < 1:
        raise MismatchError(
            f"{moments.count.sum()} validation samples of {moments.n_classes} classes show no variation within them; use more"
        )
    return df


def _require_samples(moments: ClassMoments, classifier, owner: str) -> None:
    empty = [c for c, n in zip(classifier.classes, moments.count, strict=True) if n == 0]
    if empty:
        raise MismatchError(
            f"no sample of class {', '.join(empty)} in {owner}: nothing can be forecast for it"
        )
