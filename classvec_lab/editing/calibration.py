"""Gates from held-out features: thresholds with a finite-sample guarantee, and what a gate does."""

import math
import warnings

import numpy as np
import pandas as pd

from ..checks import in_range, one_of, representations, same_classes
from ..errors import EditError, MismatchError
from ..gates import SCORES, Gate
from ..readout import head_rows

GUARANTEES = ("marginal", "pac", "youden")
EXCEEDED = 0.05  # share of calibrations in which the rate of a "pac" gate may be exceeded
DOUBT = 0.01  # p value below which a guarantee can't be relied on
# in units of the largest score: what rounding can't tell apart, and the most room above a score
SAME, ROOM = 1e-12, 1e-9


class RelaxedRate(UserWarning):
    """A gate is calibrated for a higher rate than was asked for.

    args: the reason alone.
    """

    def __str__(self) -> str:
        return f"{self.args[0]}; the gate has that rate"


def quietly():
    """A context for callers whose page tells of relaxed rates in a sentence."""
    return warnings.catch_warnings(action="ignore", category=RelaxedRate)


def least_rate(n: int, guarantee: str) -> float:
    """The smallest rate in (0, 1] that n held-out samples of other classes allow."""
    if guarantee == "pac":
        return 1 - EXCEEDED ** (1 / n) if n else 1.0
    return 1 / (n + 1)


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
    in_range("false_fire", false_fire, 0, 1, open_low=True, open_high=True, error=EditError)
    one_of(guarantee, GUARANTEES[:2], "guarantee", EditError)
    scores = np.sort(np.asarray(negative_scores, float))
    n = len(scores)
    if guarantee == "pac":
        from scipy.stats import binom

        allowed = binom.cdf(np.arange(n), n, false_fire) <= EXCEEDED * (1 + 1e-9)
    else:
        allowed = np.arange(1, n + 1) <= (n + 1) * false_fire + 1e-9
    if not allowed.any():
        raise EditError(_shortage(n, false_fire, guarantee))
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
) -> Gate:
    """A gate for class `target`, its threshold set on held-out features of the fine-tuned encoder.

    A guarantee holds for one gate chosen beforehand and for images distributed as the other classes
    in `features` are: not under shift or another balance of classes. Where there are too few
    samples of the other classes for the rate asked for, the gate has the least that they allow,
    1 / (n + 1) ("marginal") or 1 - 0.05^(1/n) ("pac"): it says so, and so does a `RelaxedRate`.

    Args:
        features: representations that neither the class vectors nor the weights were made from;
            their labels only tell the other classes from the target.
        vectors: `ClassVectors` of the same classes.
        false_fire: the rate asked for on the other classes, in (0, 1).
        score: "margin", cos to the target's mean less the largest cos to another's; "cosine", the
            published cos(z, z_ft^c) alone; "discriminant", the linear discriminant with a pooled
            covariance shrunk by a tenth; "predicted", the decision of `classifier`'s head, which
            has no threshold to set.
        guarantee: "marginal", "pac" (see `threshold`), or "youden": the threshold that maximises
            hits less false fires on `features`, without a guarantee.
        classifier: needed by "predicted".
        moments: training moments with a pooled scatter, needed by "discriminant".
    Raises:
        EditError: for no sample of another class.
        MismatchError: for an unknown class, other classes or another model.
    """
    one_of(guarantee, GUARANTEES, "guarantee", EditError)
    own = vectors.index(target)
    vectors.require(classes=features.classes, ft=vectors.ft and features.model)
    representations(features.z, vectors.dim, "a gate by these class vectors")
    gate = _scorer(vectors, own, score, classifier, moments)
    if score == "predicted":
        return gate
    scores, negative = gate.scores(features.z), features.y != own
    n = int(negative.sum())
    if guarantee == "youden":
        return gate.at(_youden(scores, negative, target), n_negatives=n)
    least, rate = least_rate(n, guarantee), float(false_fire)
    if 0 < rate < least < 1:
        warnings.warn(RelaxedRate(_shortage(n, rate, guarantee)), stacklevel=2)
        rate = least
    level = threshold(scores[negative], rate, guarantee, among=scores[~negative])
    return gate.at(level, guarantee=guarantee, false_fire=rate, n_negatives=n)


def gate_curve(gate: Gate, features, *, scores: np.ndarray | None = None) -> pd.DataFrame:
    """Miss and false-fire rate of a gate's score at 200 thresholds over its range.

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
    grid = np.unique([level, *np.linspace(scores.min(), scores.max(), 200)])
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


def exchangeability(gate: Gate, calibration, features) -> dict:
    """Whether held-out features and new ones may share one distribution, as a guarantee supposes.

    Args:
        calibration, features: labelled, of the gate's classes.
    Returns:
        target and guarantee of the gate; balance_p, the chi-square p value that the other classes
        occur in the same proportions; scores_p, the Kolmogorov-Smirnov p value that their gate
        scores do; n, the new samples of other classes; doubtful, whether a p value is below 1 %, so
        that the guarantee can't be relied on; says, a sentence that tells why.
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
    labels, scores = zip(*sides, strict=True)
    counts = np.stack([np.bincount(y, minlength=len(gate.classes)) for y in labels])
    n = len(labels[1])
    balance = float(chi2_contingency(counts[:, counts.any(axis=0)]).pvalue)  # 1 for one class
    shift = float(ks_2samp(*scores).pvalue)
    causes = {"another balance of the other classes": balance, "other scores (a shift)": shift}
    found = " and ".join(text for text, p in causes.items() if p < DOUBT)
    tests = f"class balance p = {balance:.2g}, gate scores p = {shift:.2g}; n = {n}"
    if gate.guarantee not in GUARANTEES[:2]:
        says = f"The gate for {gate.target} carries no guarantee."
    elif found:
        says = (
            f"No guarantee holds for the gate for {gate.target} on these images: they show {found} "
            f"than its calibration set ({tests})."
        )
    else:
        says = (
            f"Nothing speaks against the {gate.guarantee} guarantee of the gate for {gate.target} "
            f"({tests})."
        )
    return {
        "target": gate.target,
        "guarantee": gate.guarantee,
        "balance_p": balance,
        "scores_p": shift,
        "n": n,
        "doubtful": bool(found),
        "says": says,
    }


def _shortage(n, rate, guarantee):
    needed = math.log(EXCEEDED) / math.log1p(-rate) if guarantee == "pac" else 1 / rate - 1
    return (
        f"a gate with false fire {rate:g} and the {guarantee} guarantee needs at least "
        f"{math.ceil(needed - 1e-9)} held-out samples of other classes; there are {n}. "
        f"Calibrate on more, or state a rate of at least {least_rate(n, guarantee):.3g}"
    )


def _scorer(vectors, own, score, classifier, moments) -> Gate:
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
        weight = _discriminant(means, moments)
        bias = -0.5 * np.einsum("cm,cm->c", weight, means)
    rivals = score != "cosine"
    if not rivals:
        weight, bias, own = weight[own : own + 1], bias[:1], 0
    return Gate(
        target, vectors.classes, score, weight, bias, 0.0, own, rivals=rivals, normalise=cosine
    )


def _discriminant(means, moments):
    """The means (C, m) times the inverse of the within-class covariance."""
    from scipy.linalg import cho_factor, cho_solve

    if moments is None or moments.scatter is None or not moments.scatter.any():
        raise EditError(
            "a discriminant gate needs moments= with a pooled scatter, from training features of "
            "more than one sample a class"
        )
    if (moments.n_classes, moments.dim) != means.shape:
        raise MismatchError(
            f"the moments have {moments.n_classes} classes and {moments.dim} dimensions, "
            f"the class vectors {means.shape[0]} and {means.shape[1]}"
        )
    return cho_solve(cho_factor(moments.covariance(0.1)), means.T).T


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
