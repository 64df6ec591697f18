"""Gates from held-out features: thresholds with a finite-sample guarantee, and what a gate does on labelled images."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import EditError, MismatchError
from ..gates import SCORES, Gate
from ..readout import head_rows
from ..statistics import wilson

GUARANTEES = ("marginal", "pac", "youden")
CONFIDENCE = 0.95


def negatives_needed(false_fire: float, guarantee: str = "marginal") -> int:
    """Fewest held-out samples of other classes from which a rate `false_fire` can be guaranteed.

    marginal: 1/rate - 1 (99 at 1 %); pac: log(.05) / log(1 - rate) (299 at 1 %).
    """
    _check(false_fire, guarantee, GUARANTEES[:2])
    if guarantee == "pac":
        return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-false_fire) - 1e-9)
    return math.ceil(1 / false_fire - 1 - 1e-9)


def threshold(negative_scores: np.ndarray, false_fire: float, guarantee: str = "marginal") -> float:
    """Smallest calibration score of the other classes above which at most `false_fire` of them fire; a gate fires strictly above.

    marginal: split conformal prediction, the ceil((n + 1)(1 - rate))-th smallest of n exchangeable scores, so
    that the *expected* rate on a new sample of the other classes is at most the stated one (Vovk et al. 2005).
    pac: the smallest order statistic for which Binomial(n, rate) gives at most 5 % to as few exceedances, so that
    the rate exceeds the stated one in at most 5 % of calibrations. Raises EditError, with the number needed, for
    too few scores.
    """
    _check(false_fire, guarantee, GUARANTEES[:2])
    scores = np.sort(np.asarray(negative_scores, dtype=np.float64))
    n, needed = len(scores), negatives_needed(false_fire, guarantee)
    if n < needed:
        raise EditError(
            f"a gate with false fire {false_fire:g} and the {guarantee} guarantee needs at least {needed} held-out samples "
            f"of other classes; there are {n}. Calibrate on more, or state a rate of at least {_reachable(n, guarantee):.3g}"
        )
    if guarantee == "pac":
        from scipy.stats import binom

        above = int(binom.ppf(1 - CONFIDENCE, n, false_fire))
        while above >= 0 and binom.cdf(above, n, false_fire) > 1 - CONFIDENCE:
            above -= 1
        return float(scores[n - 1 - above])
    return float(scores[math.ceil((n + 1) * (1 - false_fire) - 1e-9) - 1])


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
    """A gate for class `target`, its threshold set on held-out `features` of the fine-tuned encoder.

    features: representations that neither the class vectors nor the weights were made from; their labels
    only tell the other classes from the target. false_fire in (0, 1): the stated rate on the other classes.
    score: "margin", cos to the target's mean less the largest cos to another's; "cosine", the published
    cos(z, z_ft^c) alone; "discriminant", the linear discriminant with a shrunk pooled covariance, which needs
    `moments` (training moments with pooled scatter; shrinkage in [0, 1] towards a multiple of the identity);
    "predicted", the decision of `classifier`'s head, which is needed and has no threshold to set.
    guarantee: "marginal", "pac" (see `threshold`), or "youden": the threshold that maximises hits less false
    fires on `features`, without a guarantee. A guarantee holds for one gate chosen beforehand and for images
    distributed as the other classes in `features` are: not under shift or another balance of classes.
    Raises EditError for too few samples (saying how many are needed), MismatchError for an unknown class.
    """
    _check(false_fire, guarantee)
    own = vectors.index(target)
    vectors.require(classes=features.classes)
    if features.z.shape[1] != vectors.dim:
        raise MismatchError(
            f"the class vectors have {vectors.dim} dimensions and the features {features.z.shape[1]}"
        )
    if None not in (features.model, vectors.ft) and features.model != vectors.ft:
        raise MismatchError(
            f"the gate reads the fine-tuned model {vectors.ft}; the features are of {features.model}"
        )
    gate = _scorer(vectors, own, score, classifier, moments, shrinkage)
    if score == "predicted":
        return gate
    scores, negative = gate.scores(features.z), features.y != own
    if guarantee == "youden":
        return gate.at(_youden(scores, negative, target), n_negatives=int(negative.sum()))
    level = threshold(scores[negative], false_fire, guarantee)
    return gate.at(
        level, guarantee=guarantee, false_fire=float(false_fire), n_negatives=int(negative.sum())
    )


def gate_report(gate: Gate, features) -> pd.DataFrame:
    """Where a gate fires on labelled features, with 95 % Wilson intervals.

    One row each for the target ("target": share that fires; its misses are the rest), all other classes
    together ("others": false fires) and every other class; `worst` marks the other class that fires most.
    """
    _require_classes(gate, features)
    fired, own = gate.fires(features.z), gate.classes.index(gate.target)
    groups = [
        ("target", gate.target, features.y == own),
        ("others", "all others", features.y != own),
    ]
    groups += [("other", c, features.y == i) for i, c in enumerate(gate.classes) if i != own]
    rows = []
    for kind, name, chosen in groups:
        hits, n = int(fired[chosen].sum()), int(chosen.sum())
        low, high = wilson(hits, n)
        rate = hits / n if n else np.nan
        rows.append(
            {
                "group": kind,
                "class": name,
                "n": n,
                "fires": hits,
                "rate": rate,
                "low": float(low),
                "high": float(high),
            }
        )
    table = pd.DataFrame(rows)
    others = table.loc[table["group"] == "other", "rate"]
    table["worst"] = False
    if others.notna().any():
        table.loc[others.idxmax(), "worst"] = True
    return table


def gate_curve(
    gate: Gate, features, *, n: int = 200, scores: np.ndarray | None = None
) -> pd.DataFrame:
    """Miss and false-fire rate of a gate's score at n thresholds over its range on labelled features.

    Columns target, score, threshold, miss, false_fire, worst (the highest rate of a single other class), chosen
    (the threshold nearest to the gate's own, which is among those tried). `scores` (N,): where they are known.
    """
    scores = gate.scores(features.z) if scores is None else scores
    own = features.y == gate.classes.index(gate.target)
    grid = np.unique(
        [
            *np.linspace(scores.min(), scores.max(), n),
            *([gate.threshold] if np.isfinite(gate.threshold) else []),
        ]
    )
    others = [
        scores[features.y == i]
        for i in range(len(gate.classes))
        if i != gate.classes.index(gate.target)
    ]

    def above(values):
        values = np.sort(values)
        return (
            1 - np.searchsorted(values, grid, side="right") / max(len(values), 1)
            if len(values)
            else np.full(len(grid), np.nan)
        )

    frame = pd.DataFrame({"target": gate.target, "score": gate.score, "threshold": grid})
    frame["miss"], frame["false_fire"] = 1 - above(scores[own]), above(scores[~own])
    frame["worst"] = np.nanmax([above(values) for values in others], axis=0)
    frame["chosen"] = grid == grid[np.abs(grid - gate.threshold).argmin()]
    return frame


def dry_run(gate: Gate, z: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Where the gate would fire on images of any kind: n, fires and share by class and for all, nothing being edited.

    z (N, m) representations; labels (N,) class positions: true ones, or the model's predictions where none are known.
    """
    fired, labels = gate.fires(z), np.asarray(labels)
    if labels.shape != fired.shape:
        raise MismatchError(
            f"one label a representation: got {len(fired)} representations and labels of shape {labels.shape}"
        )
    rows = []
    for name, chosen in [
        *((c, labels == i) for i, c in enumerate(gate.classes)),
        ("all", np.ones(len(labels), bool)),
    ]:
        n = int(chosen.sum())
        rows.append(
            {
                "class": name,
                "n": n,
                "fires": int(fired[chosen].sum()),
                "share": fired[chosen].mean() if n else np.nan,
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Exchangeability:
    """Whether held-out features and new ones may share one distribution, as a gate's guarantee supposes.

    balance_p: chi-square p value that the other classes occur in the same proportions; scores_p: Kolmogorov-Smirnov
    p value that their scores do (both small where the data differ); n_calibration, n_new: samples of other classes.
    """

    target: str
    guarantee: str
    balance_p: float
    scores_p: float
    n_calibration: int
    n_new: int

    @property
    def doubtful(self) -> bool:
        """True where either p value is below 1 %: the guarantee can't be relied on."""
        return min(self.balance_p, self.scores_p) < 0.01

    def says(self) -> tuple[str, ...]:
        """One sentence: whether the guarantee can hold on the new images, and why not."""
        if self.guarantee not in ("marginal", "pac"):
            return (f"The gate for {self.target} carries no guarantee.",)
        tests = f"class balance p = {self.balance_p:.2g}, gate scores p = {self.scores_p:.2g}"
        if not self.doubtful:
            return (
                f"Nothing speaks against the {self.guarantee} guarantee of the gate for {self.target} "
                f"({tests}; n = {self.n_new}).",
            )
        causes = [
            text
            for p, text in (
                (self.balance_p, "another balance of the other classes"),
                (self.scores_p, "other scores (a shift)"),
            )
            if p < 0.01
        ]
        return (
            f"No guarantee holds for the gate for {self.target} on these images: they show {' and '.join(causes)} "
            f"than its calibration set ({tests}; n = {self.n_new}).",
        )


def exchangeability(gate: Gate, calibration, features) -> Exchangeability:
    """Compare the other classes' balance and gate scores between the calibration features and labelled new ones."""
    from scipy.stats import chi2_contingency, ks_2samp

    for given in (calibration, features):
        _require_classes(gate, given)
    own = gate.classes.index(gate.target)
    sides = [(f.y[f.y != own], gate.scores(f.z)[f.y != own]) for f in (calibration, features)]
    if not all(len(y) for y, _ in sides):
        raise MismatchError(
            f"both sets of features need samples of classes other than {gate.target!r}"
        )
    counts = np.stack([np.bincount(y, minlength=len(gate.classes)) for y, _ in sides])
    counts = counts[:, counts.sum(axis=0) > 0]
    balance = 1.0 if counts.shape[1] < 2 else float(chi2_contingency(counts).pvalue)
    scores = float(ks_2samp(sides[0][1], sides[1][1]).pvalue)
    return Exchangeability(
        gate.target, gate.guarantee, balance, scores, len(sides[0][0]), len(sides[1][0])
    )


def _scorer(vectors, own: int, score: str, classifier, moments, shrinkage: float) -> Gate:
    target, classes, means = vectors.classes[own], vectors.classes, vectors.z_ft
    unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    if score == "cosine":
        return Gate(target, classes, score, unit[own : own + 1], np.zeros(1), 0.0, normalise=True)
    if score not in SCORES:
        raise MismatchError(f"unknown gate score {score!r}; choose among {', '.join(SCORES)}")
    if len(classes) < 2:
        raise MismatchError(f"a {score} gate compares classes; there is only one")
    if score == "margin":
        return Gate(
            target,
            classes,
            score,
            unit,
            np.zeros(len(unit)),
            0.0,
            own=own,
            rivals=True,
            normalise=True,
        )
    if score == "predicted":
        if classifier is None:
            raise EditError('score="predicted" asks the head: pass classifier=')
        classifier.require_classes(classes, "the class vectors")
        weight, bias = head_rows(classifier)
        return Gate(target, classes, score, weight, bias, 0.0, own=own, rivals=True)
    if moments is None or moments.scatter is None:
        raise EditError(
            "a discriminant gate needs moments= with a pooled scatter, from training features"
        )
    if (moments.n_classes, moments.dim) != means.shape:
        raise MismatchError(
            f"the moments have {moments.n_classes} classes and {moments.dim} dimensions, the class vectors "
            f"{means.shape[0]} and {means.shape[1]}"
        )
    if not 0 <= shrinkage <= 1:
        raise EditError(f"shrinkage must lie in [0, 1]; got {shrinkage}")
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    covariance = moments.scatter / max(moments.count.sum() - len(classes), 1)
    flat = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    try:
        weight = cho_solve(cho_factor((1 - shrinkage) * covariance + shrinkage * flat), means.T).T
    except LinAlgError:
        raise EditError(
            f"the within-class covariance of {moments.count.sum()} samples is singular; give a shrinkage above {shrinkage}"
        ) from None
    return Gate(
        target,
        classes,
        score,
        weight,
        -0.5 * np.einsum("cm,cm->c", weight, means),
        0.0,
        own=own,
        rivals=True,
    )


def _youden(scores: np.ndarray, negative: np.ndarray, target: str) -> float:
    from sklearn.metrics import roc_curve

    if negative.all() or not negative.any():
        raise EditError(
            f"Youden's threshold needs held-out samples of {target!r} and of other classes"
        )
    false, true, levels = roc_curve(~negative, scores)
    best = float(
        levels[np.argmax(true - false)]
    )  # roc_curve counts scores at the level as fired; a gate fires above
    below = scores[scores < best].max(initial=-np.inf)
    middle = best - 1.0 if np.isinf(below) else (best + below) / 2
    return float(middle if middle < best else below)


def _require_classes(gate: Gate, features) -> None:
    if tuple(features.classes) != gate.classes:
        raise MismatchError(
            f"the gate tells other classes apart ({', '.join(gate.classes[:10])}) than the features name "
            f"({', '.join(features.classes[:10])})"
        )


def _check(false_fire: float, guarantee: str, known=GUARANTEES) -> None:
    if not 0 < false_fire < 1:
        raise EditError(f"false_fire is a rate between 0 and 1; got {false_fire}")
    if guarantee not in known:
        raise EditError(f"unknown guarantee {guarantee!r}; choose among {', '.join(known)}")


def _reachable(n: int, guarantee: str) -> float:
    if n == 0:
        return 1.0
    return 1 - (1 - CONFIDENCE) ** (1 / n) if guarantee == "pac" else 1 / (n + 1)
