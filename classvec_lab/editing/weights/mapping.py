"""Weight mapping in closed form: a linear gate and a step, written into one linear map."""

import time
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path

import numpy as np
import pandas as pd

from ...checks import in_range, listed, one_of, record, same_classes
from ...edits import Edit, read_card, require_all, write_card
from ...errors import EditError, MismatchError
from ...features import Features
from ...files import reading
from ...gates import Gate
from ...moments import ClassMoments
from ...statistics import columns, share
from .delta import Delta, WrittenEdit
from .keys import discriminant_keys, nullspace_keys
from .sites import Site, find_site

KEYS = {"nullspace": nullspace_keys, "discriminant": discriminant_keys}
METHODS = (*KEYS, "ridge")
KIND = "mapped edit"


@record
class MappedEdit(WrittenEdit):
    """z becomes z + Σ_t (k_t · z + o_t) v_t for every input, without gate or label.

    Args:
        edits: one for each of the T terms, with their vectors v (T, m) as steps.
        keys, offsets: k (T, m) and o (T,), which select the class.
        site: where it is written.
        delta: the change of the weights.
        seconds: from moments or features at hand to the delta.
        moved_means: k · m + o for the calibration mean m of each class (rows) and each term
            (columns, named by the edits' targets).
    """

    edits: tuple[Edit, ...]
    keys: np.ndarray = field(repr=False)
    offsets: np.ndarray = field(repr=False)
    site: Site
    delta: Delta
    seconds: float
    moved_means: pd.DataFrame = field(repr=False)

    @property
    def steps(self) -> np.ndarray:
        """v (T, m)."""
        return np.stack([e.vector for e in self.edits])

    def amounts(self, z: np.ndarray) -> np.ndarray:
        """k_t · z + o_t (N, T): 1 at the mean of the edited class, 0 at the means of the others."""
        return np.asarray(z) @ self.keys.T + self.offsets

    def moved(self, z: np.ndarray) -> np.ndarray:
        """The edited representations (N, m) of z (N, m)."""
        return np.asarray(z) + self.amounts(z) @ self.steps

    def limits(self, features: Features) -> pd.DataFrame:
        """How well k · z + o tells the classes apart: the limit of the mapping, known before it.

        Args:
            features: held-out `Features` of the encoder before the edit.
        Returns:
            A frame with one row an edit: `target`; `own`, the 5 % quantile of the amounts of the
            class's samples, which should be 1 (below about a half most edits leave them); `others`,
            the 95 % quantile of |k · z + o| over the others' samples, which should be 0.
        """
        rows = [
            (edit.target, np.quantile(own, 0.05), np.quantile(others, 0.95))
            for edit, own, others in self._sides(features)
        ]
        return pd.DataFrame(rows, columns=["target", "own", "others"])

    def report(self, calibration: Features, features: Features) -> pd.DataFrame:
        """How far single samples of the retained classes move.

        Args:
            calibration, features: `Features` of the encoder before the edit.
        Returns:
            A frame with one row an edit: `edit`, `target`, the 95 % `quantile` of |k · z + o| |v|
            on the calibration features, `norm` |v|, and of the `n` samples in `features` the share
            `beyond` that quantile with `low` and `high` (95 % Wilson).
        """
        rows = []
        sides = zip(self._sides(calibration), self._sides(features), strict=True)
        for (edit, _, held), (*_, new) in sides:
            quantile = float(np.quantile(held * edit.norm, 0.95, method="higher"))
            beyond = share(new * edit.norm > quantile)
            row = {
                "edit": edit.expression,
                "target": edit.target,
                "quantile": quantile,
                "norm": edit.norm,
                "n": beyond.n,
            }
            rows.append(row | columns("beyond", beyond, ""))
        return pd.DataFrame(rows)

    def _sides(self, features):
        """Each edit, its amounts on samples of its class, and their sizes on all others."""
        for edit, amount in zip(self.edits, self.amounts(features.z).T, strict=True):
            own = features.y == features.classes.index(edit.target)
            yield edit, amount[own], np.abs(amount[~own])

    def save(self, path: str | Path) -> Path:
        """Write a card: one safetensors file with edits, keys and weights, all or nothing."""
        card = {"kind": KIND, **vars(self)}
        means = card.pop("moved_means").to_numpy()
        arrays = {name: card.pop(name) for name in ("keys", "offsets")}
        return write_card(path, arrays | {"moved_means": means}, card)

    @classmethod
    def load(cls, path: str | Path, classifier=None) -> "MappedEdit":
        """Read what `save` wrote.

        Args:
            classifier: where given, it must be the model that the edit was mapped for.
        Raises:
            FileFormatError: for a damaged card, or a file that is none.
            MismatchError: for another model, saying what differs.
        """
        arrays, card = read_card(path, KIND)
        with reading(path):
            card["delta"].pop("fingerprint", None)
            delta, site = Delta(**card["delta"]), Site(**card["site"])
            edits = [Edit(**e | {"gate": e["gate"] and Gate(**e["gate"])}) for e in card["edits"]]
            targets = [edit.target for edit in edits]
            arrays["moved_means"] = pd.DataFrame(arrays["moved_means"], delta.classes, targets)
            mapped = cls(tuple(edits), site=site, delta=delta, seconds=card["seconds"], **arrays)
        if classifier is not None:
            delta.require(classifier)
        return mapped


def map_edit(
    classifier,
    edit: Edit | Iterable[Edit],
    references,
    *,
    method: str = "nullspace",
    shrinkage: float | None = None,
    n_references: int = 5,
    seed: int = 0,
) -> MappedEdit:
    """Write an edit into the weights, so that no gate is needed: the class moves, the others stay.

    "nullspace" finds k and o from moments, see `nullspace_keys`. Guarantee: the calibration means
    of the other classes don't move; a sample moves by |k · z + o| |z_edit|, see
    `MappedEdit.report`. With many classes its C - 1 constraints leave little freedom, and single
    samples move far: see `MappedEdit.limits`.
    "discriminant" minimises the movement of single samples instead, see `discriminant_keys`: the
    other classes' means move a little, their samples less.
    "ridge" regresses "belongs to the class" on z of a few samples, with no exact guarantee and a
    penalty of a tenth of their mean square.
    `map_layernorms` trains LayerNorms instead.

    Args:
        classifier: a `Classifier`, never changed.
        edit: one `Edit` or several, of different targets; a gate that they carry is not used.
        references: labelled `Features` of this classifier's encoder (training images) or, for
            "nullspace" and "discriminant", `ClassMoments` with a pooled scatter.
        method: "nullspace", "discriminant" or "ridge".
        shrinkage: of the within-class covariance, in [0, 1], by default as the two keys have it.
        n_references: samples a class, drawn by `seed`, for "ridge".
        seed: of the drawing.
    Raises:
        MismatchError: for another model, unknown classes, or a class without references.
        EditError: for an edit that would change nothing, and as `nullspace_keys` does.
        ModelError: if the classifier has no linear head and no linear last map.
    """
    edits = (edit,) if isinstance(edit, Edit) else tuple(edit)
    require_all(edits, classifier)
    targets = [e.target for e in edits]
    if not edits or len(set(targets)) < len(targets):
        raise EditError(
            "map_edit takes one edit a class, at least one; got targets "
            f"{listed(targets) or 'none'}"
        )
    one_of(method, METHODS, "mapping", EditError)
    chosen = {} if shrinkage is None else {"shrinkage": shrinkage}
    in_range("shrinkage", shrinkage or 0.0, 0, 1, error=EditError)
    in_range("n_references", n_references, 1, np.inf, error=EditError)
    if method == "ridge" and isinstance(references, ClassMoments):
        raise EditError("the ridge mapping needs samples: give Features, not moments")
    start = time.perf_counter()
    moments, site = reference_moments(classifier, references), find_site(classifier)
    own = [classifier.classes.index(t) for t in targets]
    if method == "ridge":
        keys, offsets = _ridge_keys(references, own, n_references, site.bias, seed)
    else:
        keys, offsets = KEYS[method](moments, own, bias=site.bias, **chosen)
    return written(classifier, site, edits, keys, offsets, moments, start)


def reference_moments(classifier, references: Features | ClassMoments) -> ClassMoments:
    """Moments with a pooled scatter, if they are of this classifier's encoder and classes.

    Raises:
        MismatchError: saying what differs, or which classes have no sample.
    """
    if isinstance(references, Features):
        same_classes(references.classes, classifier.classes, "the references", "the classifier")
        known = {references.model, classifier.fingerprint} - {None}
        if len(known) > 1:
            raise MismatchError(
                f"the references were extracted with another model than this one ({listed(known)});"
                " map edits on the classifier before any weights are edited, and apply the results "
                "one on the other"
            )
        references = references.moments(pooled_scatter=True)
    sizes, own = (references.n_classes, references.dim), (len(classifier.classes), classifier.dim)
    if sizes != own:
        raise MismatchError(
            f"references of {sizes} classes and dimensions don't fit a classifier of {own}"
        )
    if len(empty := np.array(classifier.classes)[references.count == 0]):
        raise MismatchError(f"no reference of class {listed(empty)}")
    return references


def written(
    classifier, site: Site, edits, keys, offsets, moments: ClassMoments, start: float
) -> MappedEdit:
    """The `MappedEdit` of these terms: the change of the weights, and what it does to class means.

    Args:
        classifier, site, edits, keys, offsets: as in `MappedEdit`.
        moments: of the representations that are edited.
        start: `time.perf_counter()` when the work began.
    """
    changes = site.changes(classifier, keys, offsets, np.stack([e.vector for e in edits]))
    delta = Delta.on(classifier, " and ".join(e.expression for e in edits), changes)
    amounts = moments.mean @ keys.T + offsets
    moved = pd.DataFrame(amounts, classifier.classes, [e.target for e in edits])
    seconds = time.perf_counter() - start
    return MappedEdit(tuple(edits), keys, offsets, site, delta, seconds, moved)


def _ridge_keys(features, own, n_references, bias, seed):
    """Keys (T, m) and offsets (T,) of ridge regressions on n_references samples of each class."""
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(seed)
    order = (rng.permutation(np.flatnonzero(features.y == c)) for c in range(len(features.classes)))
    chosen = np.concatenate([drawn[:n_references] for drawn in order])
    z = np.asarray(features.z[chosen], float)
    centred = z - z.mean(axis=0) if bias else z
    model = Ridge(alpha=0.1 * np.square(centred).sum() / len(z), fit_intercept=bias)
    model.fit(z, (features.y[chosen][:, None] == np.asarray(own)).astype(float))
    return np.atleast_2d(model.coef_), np.full(len(own), model.intercept_)
