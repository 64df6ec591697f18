"""Does an edit along one class vector leave the other classes alone? Scaling, adding and shifting, without a gate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...features import Features
from ...models import Classifier
from ...readout import Latent, check_labelled, random_like
from ...statistics import mean_interval, wilson
from ...vectors import ClassVectors

VECTOR, RANDOM = "class vector", "random direction"
SCALES = tuple(round(-2 + 0.25 * k, 10) for k in range(17))


@dataclass(frozen=True, eq=False)
class Scaling:
    """Accuracy of class c, and of all others, when z + alpha κ_c is read, and the same along random directions.

    table: direction, class, alpha, n and accuracy of class c with its 95 % Wilson interval (low, high),
    n_others, others and its interval: the other classes under the same edit. For random directions
    the shares are means over n_draws. knows_label: class c is chosen by its label; nothing gates the others.
    """

    table: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Means over classes of both accuracies with 95 % t-intervals over the classes, by direction and alpha."""
        rows = []
        for (direction, alpha), part in self.table.groupby(["direction", "alpha"], sort=False):
            row = {
                "direction": direction,
                "alpha": alpha,
                "n_classes": len(part),
                "n": int(part["n"].sum()),
            }
            for name, column in (("", "accuracy"), ("others_", "others")):
                row[column], row[f"{name}low"], row[f"{name}high"] = _mean_share(part[column])
            rows.append(row)
        return pd.DataFrame(rows)

    def says(self) -> tuple[str, ...]:
        """The sentences: what the strongest negative and positive edits do to class c and to the others."""
        table, sentences = self.summary().set_index(["direction", "alpha"]), []
        alphas = sorted(self.table["alpha"].unique())
        start = table.loc[(VECTOR, min(alphas, key=abs))]
        for alpha in dict.fromkeys(a for a in (alphas[0], -1.0, alphas[-1]) if a in alphas and a):
            row, control = table.loc[(VECTOR, alpha)], table.loc[(RANDOM, alpha)]
            lost = start["others"] - row["others"]
            effect = (
                "leaves the other classes alone"
                if lost < 0.01
                else f"costs the other classes {100 * lost:.1f} points"
            )
            sentences.append(
                f"At alpha = {alpha:+g} a class keeps {row['accuracy']:.1%} [{row['low']:.1%}, {row['high']:.1%}] and the others "
                f"{row['others']:.1%} (n = {row['n_classes']:.0f} classes); a random direction leaves "
                f"{control['accuracy']:.1%} and {control['others']:.1%}. The edit {effect}."
            )
        return tuple(sentences)


@dataclass(frozen=True, eq=False)
class Adding:
    """Accuracy inside and outside a growing set of classes whose vectors are added up, lambda_ · Σ κ_c, to every sample.

    table: direction, k (classes in the set), lambda_, n (samples), n_orders, inside and outside with 95 %
    t-intervals over random orders of the classes; a random direction of the sum's length is the control.
    Orders share the samples, so the intervals show the choice of classes, not of images.
    """

    table: pd.DataFrame
    lambda_: float

    def says(self) -> tuple[str, ...]:
        """The sentences: what one vector, half of the classes, and all but the last do."""
        table, sentences = self.table.set_index(["direction", "k"]), []
        ks = sorted(self.table["k"].unique())
        inner = [k for k in ks if np.isfinite(table.loc[(VECTOR, k), "outside"])] or ks
        for k in dict.fromkeys((inner[0], inner[len(inner) // 2], inner[-1])):
            row, control = table.loc[(VECTOR, k)], table.loc[(RANDOM, k)]
            verdict = "above" if row["outside"] > control["outside"] else "not above"
            sentences.append(
                f"{self.lambda_:+g} times the sum of {k} class vectors leaves {row['inside']:.1%} of the set and "
                f"{row['outside']:.1%} of the others [{row['outside_low']:.1%}, {row['outside_high']:.1%}] "
                f"(n = {row['n_orders']:.0f} orders), {verdict} a random direction's {control['outside']:.1%}."
            )
        return tuple(sentences)


@dataclass(frozen=True, eq=False)
class CyclicShift:
    """Every class moved to the next at once: share of its samples predicted as that next class.

    table: class (each, and "all"), target, n, success with its 95 % Wilson interval (low, high), stayed
    (predicted as the class itself) and random, the success of a random direction of the same length.
    """

    table: pd.DataFrame

    def says(self) -> tuple[str, ...]:
        """One sentence: overall and worst success."""
        every, classes = self.table.iloc[-1], self.table.iloc[:-1].dropna(subset="success")
        worst = classes.loc[classes["success"].idxmin()]
        verdict = (
            "works"
            if worst["low"] > 0.5
            else "fails"
            if every["high"] < 0.5
            else "works for some classes only"
        )
        return (
            f"Shifting every class to the next at once {verdict}: {every['success']:.1%} "
            f"[{every['low']:.1%}, {every['high']:.1%}] of {every['n']} samples arrive, worst {worst['class']} to "
            f"{worst['target']} with {worst['success']:.1%} (n = {worst['n']}); "
            f"random directions bring {every['random']:.1%} there.",
        )


def scaling(
    ft: Classifier,
    features: Features,
    vectors: ClassVectors,
    *,
    alphas: Sequence[float] = SCALES,
    n_random: int = 5,
    seed: int = 0,
) -> Scaling:
    """Read z + alpha κ_c for every class c on all samples: its own and, ungated, those of all others.

    features: ft's, best of images that the vectors were not made from; alphas in [-2, 2]. Memory is one
    alpha's logits (N, C); time grows with C² N alphas (1 + n_random). Raises MismatchError for classes
    or dimensions that don't agree. Source: Kim and Do, NeurIPS 2025, the independence plots.
    """
    check_labelled(ft, features, vectors)
    alphas = np.unique(_in_range(alphas))
    rng, y, latent = np.random.default_rng(seed), features.y, Latent(ft, features.z)
    rows = []
    for c, kappa in enumerate(vectors.kappa):
        own = y == c
        for direction, steps in (
            (VECTOR, kappa[None]),
            (RANDOM, random_like(np.tile(kappa, (n_random, 1)), rng)),
        ):
            hits = np.mean([latent.predict(step, alphas) == y for step in steps], axis=0)
            for alpha, hit in zip(alphas, hits, strict=True):
                row = {
                    "direction": direction,
                    "class": vectors.classes[c],
                    "knows_label": True,
                    "alpha": alpha,
                }
                row |= _share(hit[own], "accuracy", "") | _share(hit[~own], "others", "others_")
                rows.append(row | {"n_draws": len(steps)})
    return Scaling(pd.DataFrame(rows).rename(columns={"others_n": "n_others"}))


def adding(
    ft: Classifier,
    features: Features,
    vectors: ClassVectors,
    *,
    lambda_: float = -1.5,
    n_orders: int = 5,
    max_sizes: int = 12,
    seed: int = 0,
) -> Adding:
    """Add lambda_ · Σ κ_c over the first k classes of several random orders to every sample, without a gate.

    k runs over 1..C, at most `max_sizes` values of it. Raises MismatchError as `scaling` does, and for lambda_ that isn't finite.
    """
    check_labelled(ft, features, vectors)
    if not np.isfinite(lambda_) or n_orders < 1:
        raise MismatchError(
            f"adding needs a finite lambda_ and at least one order; got lambda_={lambda_} and n_orders={n_orders}"
        )
    n_classes, rng = len(vectors), np.random.default_rng(seed)
    sizes = np.unique(np.linspace(1, n_classes, min(max_sizes, n_classes)).round().astype(int))
    y, latent, found = features.y, Latent(ft, features.z), []
    for _ in range(n_orders):
        order = rng.permutation(n_classes)
        sums = lambda_ * np.cumsum(vectors.kappa[order], axis=0)
        for k in sizes:
            inside = np.isin(y, order[:k])
            for direction, step in ((VECTOR, sums[k - 1]), (RANDOM, random_like(sums[k - 1], rng))):
                hit = latent.predict(step, [1.0])[0] == y
                shares = [hit[part].mean() if part.any() else np.nan for part in (inside, ~inside)]
                found.append((direction, k, *shares))
    rows = []
    for (direction, k), part in pd.DataFrame(
        found, columns=["direction", "k", "inside", "outside"]
    ).groupby(["direction", "k"]):
        row = {
            "direction": direction,
            "k": k,
            "lambda_": lambda_,
            "knows_label": False,
            "n": len(y),
            "n_orders": n_orders,
        }
        for name in ("inside", "outside"):
            row[name], row[f"{name}_low"], row[f"{name}_high"] = _mean_share(part[name])
        rows.append(row)
    return Adding(pd.DataFrame(rows), float(lambda_))


def cyclic_shift(
    ft: Classifier, features: Features, vectors: ClassVectors, *, n_random: int = 5, seed: int = 0
) -> CyclicShift:
    """Move each sample of class c by κ_{c+1} - κ_c, the last class to the first, and read the head; the class is known here.

    Raises MismatchError as `scaling` does.
    """
    check_labelled(ft, features, vectors)
    y, rng, latent, n_classes = (
        features.y,
        np.random.default_rng(seed),
        Latent(ft, features.z),
        len(vectors),
    )
    step = np.roll(vectors.kappa, -1, axis=0) - vectors.kappa
    target = (y + 1) % n_classes
    predicted = latent.predict(step[y], [1.0])[0]
    random = np.mean(
        [latent.predict(random_like(step, rng)[y], [1.0])[0] == target for _ in range(n_random)],
        axis=0,
    )
    rows = []
    for c in (*range(n_classes), None):
        chosen = np.ones(len(y), bool) if c is None else y == c
        names = (
            ("all", "") if c is None else (vectors.classes[c], vectors.classes[(c + 1) % n_classes])
        )
        row = dict(zip(("class", "target"), names, strict=True)) | {"knows_label": True}
        row |= _share((predicted == target)[chosen], "success", "")
        row["stayed"] = float((predicted == y)[chosen].mean()) if chosen.any() else np.nan
        rows.append(
            row
            | {
                "random": float(random[chosen].mean()) if chosen.any() else np.nan,
                "n_draws": n_random,
            }
        )
    return CyclicShift(pd.DataFrame(rows))


def _in_range(alphas) -> np.ndarray:
    checked = np.asarray(alphas, dtype=np.float64)
    if checked.ndim != 1 or not len(checked) or not (np.abs(checked) <= 2).all():
        raise MismatchError(f"alpha must be finite numbers in [-2, 2]; got {alphas}")
    return checked


def _mean_share(shares: pd.Series) -> np.ndarray:
    return np.clip(
        mean_interval(shares.dropna()), 0, 1
    )  # no share lies outside, whatever Student's t says


def _share(hits: np.ndarray, name: str, prefix: str) -> dict:
    low, high = wilson(hits.sum(), len(hits))
    mean = float(hits.mean()) if len(hits) else np.nan
    return {
        f"{prefix}n": len(hits),
        name: mean,
        f"{prefix}low": float(low),
        f"{prefix}high": float(high),
    }
