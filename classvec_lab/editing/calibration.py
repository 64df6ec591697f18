"""Gates from held-out features: thresholds with a finite-sample guarantee, and what a gate does."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..checks import in_range, one_of, representations, same_classes
from ..errors import EditError, MismatchError
from ..gates import SCORES, Gate
from ..readout import head_rows
from ..statistics import class_counts, rates

GUARANTEES = ("marginal", "pac", "youden")
CONFIDENCE = 0.95
# in units of the largest score: what rounding can't tell apart, and the most room above a score
SAME, ROOM = 1e-12, 1e-9


def negatives_needed(false_fire: float, guarantee: str = "marginal") -> int:
    """Fewest held-out samples of other classes from which a rate `false_fire` can be guaranteed.

    marginal: 1/rate - 1 (99 at 1 %); pac: log(.05) / log(1 - rate) (299 at 1 %).
    """
    _check(false_fire, guarantee, GUARANTEES[:2])
    if guarantee == "pac":
        return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-false_fire) - 1e-9)
    return math.ceil(1 / false_fire - 1 - 1e-9)


def threshold(
    negative_scores: np.ndarray, false_fire: float, guarantee: str = "marginal", *, among=()
) -> float:
    """A threshold above which few enough of the others fire: just above an order statistic.

    marginal: split conformal prediction, the ceil((n + 1)(1 - rate))-th smallest of n exchangeable
    scores, so that the *expected* rate on a new sample of the other classes is at most the stated
    one (Vovk et al. 2005). pac: the smallest order statistic for which Binomial(n, rate) gives at
    most 5 % to as few exceedances, so that the rate exceeds the stated one in at most 5 % of
    calibrations.

    The threshold lies strictly between two calibration scores: in the middle of the gap above the
    order statistic, but at most 1e-9 of the largest score above it. At a calibration score itself
    rounding would decide, and a deployed network (another library, precision or batch size) would
    fire where this table says that it doesn't. Every calibration sample is decided as at the order
    statistic, and the rate is no higher, so the guarantee stays. The limit keeps the rate from
    getting lower than the guarantee makes it.

    Args:
        negative_scores: (n,), of held-out samples of the other classes.
        false_fire: the rate, in (0, 1).
        guarantee: "marginal" or "pac".
        among: further scores between which the threshold shall lie: those of the target's samples.
    Raises:
        EditError: for too few scores, with the number needed.
    """
    _check(false_fire, guarantee, GUARANTEES[:2])
    scores = np.sort(np.asarray(negative_scores, dtype=np.float64))
    n = len(scores)
    above = np.arange(n)
    if guarantee == "pac":
        from scipy.stats import binom

        allowed = binom.cdf(above, n, false_fire) <= (1 - CONFIDENCE) * (1 + 1e-9)
    else:
        allowed = above + 1 <= (n + 1) * false_fire + 1e-9
    if not allowed.any():
        needed, least = negatives_needed(false_fire, guarantee), _reachable(n, guarantee)
        raise EditError(
            f"a gate with false fire {false_fire:g} and the {guarantee} guarantee needs at least "
            f"{needed} held-out samples of other classes; there are {n}. "
            f"Calibrate on more, or state a rate of at least {least:.3g}"
        )
    levels = _between(np.concatenate([scores, among]), ROOM)
    return float(levels[np.searchsorted(levels, scores[n - allowed.sum()])])


def calibrate_gate(
    features,
    vectors,
    target: str,
    *,
    false_fire: float = 0.01,
    score: str = "margin",
    guarantee: str = "marginal",
    classifier=None,
    moments=None,
    shrinkage: float = 0.1,
) -> Gate:
    """A gate for class `target`, its threshold set on held-out features of the fine-tuned encoder.

    A guarantee holds for one gate chosen beforehand and for images distributed as the other classes
    in `features` are: not under shift or another balance of classes.

    Args:
        features: representations that neither the class vectors nor the weights were made from;
            their labels only tell the other classes from the target.
        vectors: `ClassVectors` of the same classes.
        false_fire: the stated rate on the other classes, in (0, 1).
        score: "margin", cos to the target's mean less the largest cos to another's; "cosine", the
            published cos(z, z_ft^c) alone; "discriminant", the linear discriminant with a shrunk
            pooled covariance; "predicted", the decision of `classifier`'s head, which has no
            threshold to set.
        guarantee: "marginal", "pac" (see `threshold`), or "youden": the threshold that maximises
            hits less false fires on `features`, without a guarantee.
        classifier: needed by "predicted".
        moments: training moments with a pooled scatter, needed by "discriminant"; shrinkage: of
            their covariance towards a multiple of the identity, in [0, 1].
    Raises:
        EditError: for too few samples, saying how many are needed.
        MismatchError: for an unknown class, other classes or another model.
    """
    _check(false_fire, guarantee)
    own = vectors.index(target)
    vectors.require(classes=features.classes, ft=vectors.ft and features.model)
    representations(features.z, vectors.dim, "a gate by these class vectors")
    gate = _scorer(vectors, own, score, classifier, moments, shrinkage)
    if score == "predicted":
        return gate
    scores, negative = gate.scores(features.z), features.y != own
    n = {"n_negatives": int(negative.sum())}
    if guarantee == "youden":
        return gate.at(_youden(scores, negative, target), **n)
    level = threshold(scores[negative], false_fire, guarantee, among=scores[~negative])
    return gate.at(level, guarantee=guarantee, false_fire=float(false_fire), **n)


def firing(fired: np.ndarray, y: np.ndarray, classes, target: str) -> pd.DataFrame:
    """Where a gate for `target` fires, by class.

    Args:
        fired: (N,) bool.
        y: (N,) class positions: true ones, or predictions where none are known.
    Returns:
        One row each for the target (group "target": its misses are the rest), all other classes
        together ("others": false fires) and every other class ("other"), with class, n, fires,
        rate, its 95 % Wilson interval (low, high; NaN without samples), and `worst`, which marks
        the other class that fires most.
    """
    own = classes.index(target)
    counts = np.array(class_counts(fired, y, len(classes)))
    others = np.delete(counts, own, axis=1)
    fires, n = np.column_stack([counts[:, own], others.sum(axis=1), others])
    groups = ["target", "others", *["other"] * (len(classes) - 1)]
    names = [target, "all others", *(c for c in classes if c != target)]
    table = pd.DataFrame({"group": groups, "class": names, "n": n, "fires": fires})
    table["rate"], table["low"], table["high"] = rates(fires, n)
    others = table["rate"].iloc[2:]
    return table.assign(worst=table.index == (others.idxmax() if others.notna().any() else -1))


def gate_report(gate: Gate, features) -> pd.DataFrame:
    """Where a gate fires on labelled features, see `firing`; nothing is edited."""
    same_classes(features.classes, gate.classes, "the features", "the gate")
    return firing(gate.fires(features.z), features.y, gate.classes, gate.target)


def gate_curve(
    gate: Gate, features, *, n: int = 200, scores: np.ndarray | None = None
) -> pd.DataFrame:
    """Miss and false-fire rate of a gate's score at n thresholds over its range.

    Args:
        features: labelled; scores: (N,), where they are known.
    Returns:
        A frame with target, score, threshold, miss, false_fire, worst (the highest rate of a single
        other class) and chosen, which marks the gate's own threshold, or the largest for one that
        is infinite.
    """
    scores = gate.scores(features.z) if scores is None else scores
    own, y = gate.classes.index(gate.target), features.y
    level = gate.threshold if np.isfinite(gate.threshold) else scores.max()
    grid = np.unique([level, *np.linspace(scores.min(), scores.max(), n)])
    others = [_share_above(scores[y == i], grid) for i in range(len(gate.classes)) if i != own]
    return pd.DataFrame(
        {
            "target": gate.target,
            "score": gate.score,
            "threshold": grid,
            "miss": 1 - _share_above(scores[y == own], grid),
            "false_fire": _share_above(scores[y != own], grid),
            "worst": np.nanmax(others, axis=0),
            "chosen": grid == level,
        }
    )


@dataclass(frozen=True)
class Exchangeability:
    """Whether held-out features and new ones may share one distribution, as a guarantee supposes.

    Args:
        balance_p: chi-square p value that the other classes occur in the same proportions.
        scores_p: Kolmogorov-Smirnov p value that their gate scores do.
        n_calibration: samples of other classes; n_new: likewise among the new ones.
        level: below this p value the guarantee is in doubt.
    """

    target: str
    guarantee: str
    balance_p: float
    scores_p: float
    n_calibration: int
    n_new: int
    level: float = 0.01

    @property
    def doubtful(self) -> bool:
        """True where either p value is below `level`: the guarantee can't be relied on."""
        return min(self.balance_p, self.scores_p) < self.level

    def says(self) -> tuple[str, ...]:
        """One sentence: whether the guarantee can hold on the new images, and why not."""
        if self.guarantee not in GUARANTEES[:2]:
            return (f"The gate for {self.target} carries no guarantee.",)
        causes = {
            "another balance of the other classes": self.balance_p,
            "other scores (a shift)": self.scores_p,
        }
        found = " and ".join(text for text, p in causes.items() if p < self.level)
        tests = (
            f"class balance p = {self.balance_p:.2g}, gate scores p = {self.scores_p:.2g}; "
            f"n = {self.n_new}"
        )
        if not found:
            return (
                f"Nothing speaks against the {self.guarantee} guarantee of the gate for "
                f"{self.target} ({tests}).",
            )
        return (
            f"No guarantee holds for the gate for {self.target} on these images: they show {found} "
            f"than its calibration set ({tests}).",
        )


def exchangeability(gate: Gate, calibration, features, *, level: float = 0.01) -> Exchangeability:
    """Compare the other classes' balance and gate scores between calibration and new features.

    Args:
        calibration, features: labelled, of the gate's classes.
        level: p value below which the guarantee is called doubtful.
    """
    from scipy.stats import chi2_contingency, ks_2samp

    own, sides = gate.classes.index(gate.target), []
    for given in (calibration, features):
        same_classes(given.classes, gate.classes, "the features", "the gate")
        other = given.y != own
        if not other.any():
            raise MismatchError(
                f"both sets of features need samples of classes other than {gate.target!r}"
            )
        sides.append((given.y[other], gate.scores(given.z)[other]))
    (y, scores), (new_y, new_scores) = sides
    counts = np.stack([np.bincount(labels, minlength=len(gate.classes)) for labels in (y, new_y)])
    counts = counts[:, counts.any(axis=0)]
    balance = 1.0 if counts.shape[1] < 2 else float(chi2_contingency(counts).pvalue)
    shift = float(ks_2samp(scores, new_scores).pvalue)
    return Exchangeability(gate.target, gate.guarantee, balance, shift, len(y), len(new_y), level)


def _scorer(vectors, own, score, classifier, moments, shrinkage) -> Gate:
    """The gate at threshold 0."""
    one_of(score, SCORES, "gate score")
    target, means, cosine = vectors.classes[own], vectors.z_ft, score in ("cosine", "margin")
    if cosine:
        weight = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        bias = np.zeros(len(means))
    elif score == "predicted":
        if classifier is None:
            raise EditError('score="predicted" asks the head: pass classifier=')
        classifier.require_classes(vectors.classes, "the class vectors")
        weight, bias = head_rows(classifier)
    else:
        weight = _discriminant(means, moments, shrinkage)
        bias = -0.5 * np.einsum("cm,cm->c", weight, means)
    rivals = score != "cosine"
    if not rivals:
        weight, bias, own = weight[own : own + 1], bias[:1], 0
    return Gate(
        target, vectors.classes, score, weight, bias, 0.0, own, rivals=rivals, normalise=cosine
    )


def _discriminant(means, moments, shrinkage):
    """The means (C, m) times the inverse of the within-class covariance."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    if moments is None or moments.scatter is None:
        raise EditError(
            "a discriminant gate needs moments= with a pooled scatter, from training features"
        )
    if (moments.n_classes, moments.dim) != means.shape:
        raise MismatchError(
            f"the moments have {moments.n_classes} classes and {moments.dim} dimensions, "
            f"the class vectors {means.shape[0]} and {means.shape[1]}"
        )
    in_range("shrinkage", shrinkage, 0, 1, error=EditError)
    try:
        return cho_solve(cho_factor(moments.covariance(shrinkage)), means.T).T
    except LinAlgError:
        raise EditError(
            f"the within-class covariance of {moments.count.sum()} samples is singular; "
            f"give a shrinkage above {shrinkage}"
        ) from None


def _youden(scores, negative, target) -> float:
    if negative.all() or not negative.any():
        raise EditError(
            f"Youden's threshold needs held-out samples of {target!r} and of other classes"
        )
    levels = np.array([scores.min() - 1, *_between(scores)])[::-1]  # of equals the highest
    gain = _share_above(scores[~negative], levels) - _share_above(scores[negative], levels)
    return float(levels[gain.argmax()])


def _between(scores, room=1.0):
    """A level above each score, ascending: in the middle of the gap, and `room` above it at most.

    Room is in units of the largest score. Scores that rounding can't tell apart count as one.
    """
    scores = np.sort(scores)
    size = np.abs(scores).max() or 1.0
    gaps = np.append(np.diff(scores), np.inf)
    last = gaps > SAME * size
    return scores[last] + np.minimum(gaps[last] / 2, room * size)


def _share_above(values, levels):
    """Share of values (n,) strictly above each level; NaN for none."""
    n = len(values)
    above = n - np.searchsorted(np.sort(values), levels, side="right")
    return above / n if n else np.full(len(levels), np.nan)


def _check(false_fire, guarantee, known=GUARANTEES) -> None:
    in_range("false_fire", false_fire, 0, 1, open_low=True, open_high=True, error=EditError)
    one_of(guarantee, known, "guarantee", EditError)


def _reachable(n, guarantee) -> float:
    if n == 0:
        return 1.0
    return 1 - (1 - CONFIDENCE) ** (1 / n) if guarantee == "pac" else 1 / (n + 1)
