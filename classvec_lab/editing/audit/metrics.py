"""What an edit did to a class, from arrays alone: divergences, where its samples go, attacks, probes, side effects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...readout import Readout
from ...statistics import Estimate, mean_interval, share, wilson

FOLDS = 5  # of the cross-validation that tells whether a membership attack has any power


@dataclass(frozen=True)
class Membership:
    """What a membership attack says.

    members: share of the forget set called members. false_alarms: share of the non-members that the same attack, in
    cross-validation, calls members. balanced_accuracy and auc: its cross-validated power, 0.5 being chance.
    """

    members: Estimate
    false_alarms: Estimate
    balanced_accuracy: Estimate
    auc: Estimate

    @property
    def has_power(self) -> bool:
        """Whether the interval of the AUC lies above 0.5: otherwise `members` says nothing about forgetting."""
        return self.auc.low > 0.5

    def says(self) -> str:
        """One sentence: the share called members, and whether the attack has any power."""
        text = f"A membership attack calls {_percent(self.members)} of the forget set members (n = {self.members.n})"
        auc = f"AUC {self.auc.value:.2f} [{self.auc.low:.2f}, {self.auc.high:.2f}]"
        if self.has_power:
            return f"{text}, and {_percent(self.false_alarms)} of images never trained on; its {auc} shows that it has power."
        return f"{text}, but it has no power here ({auc}, chance is 0.5): it can't tell training images from others at all."


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear probe on held-out representations: `recall` of the target class, `others`, accuracy on all other classes.

    hits: whether each target sample of the test split was found (n,), for paired comparisons. converged:
    whether the solver reached its tolerance.
    """

    recall: Estimate
    others: Estimate
    hits: np.ndarray
    converged: bool


def js_divergence(p, q) -> np.ndarray:
    """Jensen-Shannon divergence of p and q (..., C), in bits, in [0, 1]; each is normalised to sum 1.

    1/2 KL(p|m) + 1/2 KL(q|m) with m = (p + q) / 2, summed over the classes. A class of probability 0
    adds nothing to its own term.
    """
    p, q = _distributions(p, q)
    m = (p + q) / 2
    bits = [
        np.where(a > 0, a * np.log2(np.where(a > 0, a, 1) / np.where(m > 0, m, 1)), 0).sum(axis=-1)
        for a in (p, q)
    ]
    return np.clip((bits[0] + bits[1]) / 2, 0, 1)


def total_variation(p, q) -> np.ndarray:
    """Total variation distance 1/2 Σ |p - q| of p and q (..., C), in [0, 1]; each is normalised to sum 1."""
    p, q = _distributions(p, q)
    return np.clip(np.abs(p - q).sum(axis=-1) / 2, 0, 1)


def zrf(unlearned_probabilities, incompetent_probabilities) -> Estimate:
    """Zero retrain forgetting: 1 - mean JS (bits) of both models' outputs (N, C) on the forget set, in [0, 1].

    1 where the model answers as one that never learnt anything. Student's t interval over samples.
    Source: Chundawat et al. 2023 (Bad Teaching), with KL from each output to their mean.
    """
    mean, low, high = mean_interval(
        1 - js_divergence(unlearned_probabilities, incompetent_probabilities)
    )
    return Estimate(mean, max(low, 0.0), min(high, 1.0), len(unlearned_probabilities))


def confidence_scores(probabilities) -> np.ndarray:
    """(N, 2): log-odds of the largest probability, and entropy in bits, of outputs (N, C). No label is used.

    Without labels a class that the model can't name at all does not decide the attack by itself.
    """
    p = np.sort(np.asarray(probabilities, dtype=np.float64), axis=1)
    rest = np.maximum(p[:, :-1].sum(axis=1), 1e-12)
    entropy = -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(axis=1)
    return np.column_stack([np.log(np.maximum(p[:, -1], 1e-12) / rest), entropy])


def membership_inference(retain_scores, test_scores, forget_scores, seed: int = 0) -> Membership:
    """How much of the forget set a confidence attack takes for training images.

    retain_scores (N, k) or (N,): scores such as `confidence_scores` of training images of the retained classes
    (members); test_scores (M, k) of unseen images of the same classes (non-members); forget_scores (F, k)
    of training images of the forgotten class. The attacker is a logistic regression with balanced classes. Its power is
    measured on five folds drawn by `seed`; the AUC's interval is DeLong's (1988). Raises MismatchError for scores
    of differing width, not finite, or fewer than 10 on a side of the training.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    members, others, forgotten = (_columns(s) for s in (retain_scores, test_scores, forget_scores))
    if len({members.shape[1], others.shape[1], forgotten.shape[1]}) > 1:
        raise MismatchError(
            f"scores must have one width; got {members.shape}, {others.shape} and {forgotten.shape}"
        )
    if min(len(members), len(others)) < 2 * FOLDS or not len(forgotten):
        raise MismatchError(
            f"a membership attack needs at least {2 * FOLDS} members and non-members and a forget sample; "
            f"got {len(members)}, {len(others)} and {len(forgotten)}"
        )
    x, y = np.concatenate([members, others]), np.repeat([True, False], [len(members), len(others)])
    attack = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    decision = cross_val_predict(attack, x, y, cv=folds, method="decision_function")
    right, wrong = share(decision[y] > 0), share(decision[~y] > 0)
    half = (
        np.hypot(right.value - right.low, wrong.high - wrong.value) / 2,
        np.hypot(right.high - right.value, wrong.value - wrong.low) / 2,
    )
    balanced = (right.value + 1 - wrong.value) / 2
    called = share(attack.fit(x, y).decision_function(forgotten) > 0)
    accuracy = Estimate(
        balanced, float(max(balanced - half[0], 0)), float(min(balanced + half[1], 1)), len(y)
    )
    return Membership(called, wrong, accuracy, _auc(decision[y], decision[~y]))


def routing(predicted, y, target: str, classes: Sequence[str]) -> pd.DataFrame:
    """Where the samples of class `target` go: one row a predicted class: count, share, its Wilson interval (low, high), n."""
    own = np.asarray(y) == _index(target, classes)
    counts = np.bincount(np.asarray(predicted)[own], minlength=len(classes))
    n = int(own.sum())
    low, high = wilson(counts, n)
    shares = counts / n if n else np.full(len(classes), np.nan)
    return pd.DataFrame(
        {"class": list(classes), "count": counts, "share": shares, "low": low, "high": high, "n": n}
    )


def routing_distance(counts, reference, *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How far apart two routing histograms are: rows "js" (bits) and "tv", both in [0, 1].

    counts and reference (C,): how many samples went to each class. Columns value, low, high (95 % bootstrap percentiles
    over samples of both sides, less the bias that resampling adds), n, n_reference, and chance: what 95 % of pairs of
    samples of these sizes from their common histogram stay below. A value within chance shows no difference.
    """
    a, b = (np.asarray(c, dtype=np.int64) for c in (counts, reference))
    if (
        a.shape != b.shape
        or a.ndim != 1
        or min(a.min(initial=0), b.min(initial=0)) < 0
        or not (a.sum() and b.sum())
    ):
        raise MismatchError(
            f"routing_distance compares two histograms of counts over the same classes; got {a} and {b}"
        )
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(c.sum(), c / c.sum(), size=n_boot) for c in (a, b)]
    pooled = (a / a.sum() + b / b.sum()) / 2
    same = [rng.multinomial(c.sum(), pooled, size=n_boot) for c in (a, b)]
    rows = []
    for name, distance in (("js", js_divergence), ("tv", total_variation)):
        value, boot = float(distance(a, b)), distance(*drawn)
        low, high = np.clip(np.quantile(boot, (0.025, 0.975)) - (boot.mean() - value), 0, 1)
        row = {
            "distance": name,
            "value": value,
            "low": min(low, value),
            "high": max(high, value),
            "n": int(a.sum()),
        }
        rows.append(
            row | {"n_reference": int(b.sum()), "chance": float(np.quantile(distance(*same), 0.95))}
        )
    return pd.DataFrame(rows).set_index("distance")


def probe_recovery(train: Readout, test: Readout, target: str, *, strength: float = 1.0) -> Probe:
    """Recall of `target` by a linear probe over all C classes, trained on true labels of `train`, tested on `test`.

    A multinomial logistic regression (L2, sklearn's C = strength) on representations that are centred and divided
    by one number, the root mean square of the training split's standard deviations. So the probe does not
    change under rotation, shift or scale, which carry nothing, and does not blow up directions that an encoder hardly
    uses, as a scale for each dimension or whitening would. Hence a direction that an edit shrank a thousandfold may pass
    for erased. Deterministic. Raises MismatchError where a split lacks the class or representations differ in width.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if train.z.shape[1] != test.z.shape[1] or train.classes != test.classes:
        raise MismatchError(
            f"a probe's splits must agree: {train.z.shape[1]} dimensions and {len(train.classes)} classes in training, "
            f"{test.z.shape[1]} and {len(test.classes)} in the test"
        )
    own = train.index(target)
    for name, part in (("training", train), ("test", test)):
        if not (part.y == own).any():
            raise MismatchError(
                f"class {target!r} has no sample in the {name} split: no probe can be trained or tested on it"
            )
    if (train.y == own).all():
        raise MismatchError(
            f"the training split holds class {target!r} alone; a probe needs other classes to tell it from"
        )
    z = np.asarray(train.z, dtype=np.float64)
    mean = z.mean(axis=0)
    scale = np.sqrt(z.var(axis=0).mean()) or 1.0
    probe = LogisticRegression(C=strength, max_iter=1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        probe.fit((z - mean) / scale, train.y)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    hits = probe.predict((np.asarray(test.z, dtype=np.float64) - mean) / scale) == test.y
    return Probe(
        share(hits[test.y == own]), share(hits[test.y != own]), hits[test.y == own], converged
    )


def linear_cka(x, y) -> float:
    """Linear CKA of two representations (N, m) and (N, k) of the same samples, in [0, 1]; NaN where one is constant.

    |YᵀX|² / (|XᵀX| |YᵀY|) of centred X and Y (Frobenius), without an N × N matrix. Biased upwards where N is
    not large beside the dimensions. Source: Kornblith et al. 2019.
    """
    x, y = (np.asarray(a, dtype=np.float64) for a in (x, y))
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not len(x):
        raise MismatchError(
            f"CKA compares representations (N, m) and (N, k) of the same samples; got {x.shape} and {y.shape}"
        )
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    size = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(min(np.square(np.linalg.norm(y.T @ x)) / size, 1.0)) if size > 0 else np.nan


def worst_sibling(fired, y, target: str, classes: Sequence[str]) -> Estimate:
    """Largest share of another class on which a gate fires, with that class's name, n and Wilson interval.

    The interval is that one class's own: it is not corrected for having been picked as the largest. Ties
    go to the class with more samples. Raises MismatchError where there is no sample of another class.
    """
    fired, y, own = np.asarray(fired, dtype=bool), np.asarray(y), _index(target, classes)
    if fired.shape != y.shape:
        raise MismatchError(
            f"worst_sibling needs whether the gate fired for each label; got {fired.shape} and {y.shape}"
        )
    found = [(i, share(fired[y == i])) for i in range(len(classes)) if i != own and (y == i).any()]
    if not found:
        raise MismatchError(
            f"there is no sample of a class other than {target!r}, so no sibling to look at"
        )
    i, worst = max(found, key=lambda item: (item[1].value, item[1].n))
    return Estimate(worst.value, worst.low, worst.high, worst.n, classes[i])


def collateral(before: Readout, after: Mapping[str, Readout]) -> pd.DataFrame:
    """Change of every class's accuracy (columns) under every class's edit (rows), in [-1, 1]; NaN without samples.

    before: the original; after: target of each edit to what the edited model gives for the same images.
    """
    own = before.predicted == before.y
    rows = {}
    for target, readout in after.items():
        before.index(target)
        if readout.classes != before.classes or not np.array_equal(readout.y, before.y):
            raise MismatchError(
                f"the read-out after the edit of {target!r} is of other images or classes than the one before"
            )
        change = (readout.predicted == readout.y) * 1.0 - own
        rows[target] = [
            change[before.y == i].mean() if (before.y == i).any() else np.nan
            for i in range(len(before.classes))
        ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(before.classes))
    return table.rename_axis(index="edited", columns="class")


def _distributions(p, q) -> tuple[np.ndarray, np.ndarray]:
    p, q = (np.asarray(a, dtype=np.float64) for a in (p, q))
    sums = p.sum(axis=-1, keepdims=True), q.sum(axis=-1, keepdims=True)
    if (
        p.shape != q.shape
        or not p.ndim
        or min(p.min(initial=0), q.min(initial=0)) < 0
        or not all((s > 0).all() for s in sums)
    ):
        raise MismatchError(
            f"p and q must be non-negative, of one shape (..., C), and not all 0; got {p.shape} and {q.shape}"
        )
    return p / sums[0], q / sums[1]


def _auc(positive: np.ndarray, negative: np.ndarray) -> Estimate:
    """Area under the ROC curve with DeLong's 95 % interval."""
    from scipy.stats import norm, rankdata

    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - rankdata(positive)) / n  # share of negatives below each positive
    below = 1 - (ranks[m:] - rankdata(negative)) / m
    half = norm.ppf(0.975) * np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    value = float(above.mean())
    return Estimate(value, float(max(value - half, 0)), float(min(value + half, 1)), m + n)


def _columns(scores) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise MismatchError(f"scores must be finite, of shape (N,) or (N, k); got {scores.shape}")
    return scores


def _index(target: str, classes: Sequence[str]) -> int:
    if target not in classes:
        raise MismatchError(f"no class {target!r}; there are {', '.join(list(classes)[:20])}")
    return list(classes).index(target)


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
