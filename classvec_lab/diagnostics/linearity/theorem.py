"""Theorem 3.1 put to the test: does the shorter path in weight space deviate less from linearity?"""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...models import Classifier
from ...models.interpolation import blend, check_alphas
from ...models.preprocess import PreprocessedImages
from ...progress import progress_bar
from ...statistics import mean_interval, ratio_interval, wilson
from ...weightspace import TaskVector
from .cross_task import REPRESENTATION, compare_features

AS_IS, MATCHED = "as is", "length-matched"


@dataclass(frozen=True, eq=False)
class PathOrder:
    """Ordered pairs (i, j) of fine-tuned models: the path θ_pre to θ_i against the path θ_i to θ_j, on images of i.

    table, two rows a pair: kind "as is", and "length-matched" where the second path runs between
    θ_pre + scale τ_i and θ_pre + scale τ_j, as long as |τ_i|. norm_pre = |θ_i - θ_pre|, norm_between =
    |θ_i - θ_j| (as they are), premise = norm_pre < norm_between. delta_pre and delta_between are
    relative deviations E|A - B| / E|f_1 - f_0| with 95 % intervals over the n images, difference =
    delta_pre - delta_between with its paired interval, order = difference < 0. gap_pre and
    gap_between are the absolute E|A - B|, order_of_gaps their order.
    """

    table: pd.DataFrame
    alpha: float

    def summary(self) -> pd.DataFrame:
        """By kind and premise: the rate at which the order holds, an interval over models, and how many pairs and models.

        The rate is the mean of per-model rates (a model's pairs are those on its images) and the 95 %
        interval Wilson's with n = models: pairs of one model share its weights and images, so at
        worst they are one observation. Wilson stays informative at rates of 0 and 1, where a
        jackknife over models has no width. Seeds of one task are fewer independent models still.
        """
        rows = []
        for (kind, premise), pairs in self.table.groupby(["kind", "premise"], sort=False):
            row = {
                "kind": kind,
                "premise": premise,
                "n_pairs": len(pairs),
                "n_models": pairs["i"].nunique(),
            }
            for name, column in (("order", "order"), ("gap_order", "order_of_gaps")):
                rate = pairs.groupby("i")[column].mean().mean()
                low, high = wilson(rate * row["n_models"], row["n_models"])
                row |= {
                    f"{name}_rate": rate,
                    f"{name}_low": float(low),
                    f"{name}_high": float(high),
                }
            clear = (pairs["difference_low"] > 0) | (pairs["difference_high"] < 0)
            rows.append(
                {**row, "n_clear": int(clear.sum()), "mean_difference": pairs["difference"].mean()}
            )
        return pd.DataFrame(rows)

    def says(self) -> tuple[str, ...]:
        """The sentences: what became of the order where the premise holds, where it fails, and at equal length."""
        summary = self.summary()
        rows = {(r["kind"], bool(r["premise"])): r for r in summary.to_dict("records")}
        sentences = []
        for premise, words in ((True, "holds"), (False, "fails")):
            if row := rows.get((AS_IS, premise)):
                sentences.append(
                    f"Where the premise {words}, the pre-trained model's path deviates less for {row['order_rate']:.0%} of the "
                    f"pairs ({row['n_pairs']} pairs of {row['n_models']} models, 95 % interval over models "
                    f"{row['order_low']:.0%} to {row['order_high']:.0%})."
                )
            else:
                sentences.append(f"The premise {words} for no pair.")
        matched = self.table[self.table["kind"] == MATCHED]
        if len(matched):
            rate, difference = (
                matched.groupby("i")["order"].mean().mean(),
                matched["difference"].mean(),
            )
            low, high = (
                float(v) for v in wilson(rate * matched["i"].nunique(), matched["i"].nunique())
            )
            verdict = (
                "the order outlives the shorter path" if low > 0.5 else
                "the order is reversed once the paths are equally long" if high < 0.5 else
                "beyond the shorter path there is no order to be told with so few models"
            )  # fmt: skip
            sentences.append(
                f"Between points as far apart as the pre-trained and the fine-tuned model it does so for {rate:.0%} "
                f"({low:.0%} to {high:.0%}; mean difference {difference:+.3f}): {verdict}."
            )
        return tuple(sentences)


def path_order(
    pre: Classifier,
    models: Mapping[str, Classifier],
    datasets: Mapping[str, object],
    *,
    alpha: float = 0.5,
    calibration: Mapping[str, object] | None = None,
    batch_size: int = 128,
    progress: bool = True,
) -> PathOrder:
    """Measure, for every ordered pair of models fine-tuned from `pre`, both deviations of the theorem on the first one's images.

    models: name to classifier, classes may differ (only encoders are compared); datasets: the same
    names to images. Theorem 3.1 says: if |θ_i - θ_pre| < |θ_i - θ_j| then delta(pre, i) < delta(i, j).
    It orders bounds, not deviations, so the order is counted; and since a shorter path is straighter
    anyway, pairs of equal length are its control. alpha strictly between 0 and 1; `calibration` as in
    `cross_task_linearity`. Lengths are over all floating-point entries of the encoder.
    Raises MismatchError for fewer than two models, names that differ, architectures that don't fit or
    two models with the same weights.
    Source: Kim and Do, NeurIPS 2025, Theorem 3.1.
    """
    (alpha,) = check_alphas(alpha)
    if not 0 < alpha < 1:
        raise MismatchError(
            f"the deviation is measured between the ends, at 0 < alpha < 1; got {alpha:g}"
        )
    if len(models) < 2 or set(models) != set(datasets):
        raise MismatchError(
            f"path_order needs two or more models and a data set for each; got {list(models)} and {list(datasets)}"
        )
    taus = {name: TaskVector.between(pre, model) for name, model in models.items()}
    norms = {name: tau.norm() for name, tau in taus.items()}
    pairs = list(itertools.permutations(models, 2))
    between = {p: (taus[p[0]] - taus[p[1]]).norm() for p in itertools.combinations(models, 2)}
    same = [
        f"{name} has the weights of the pre-trained model"
        for name, norm in norms.items()
        if norm == 0
    ]
    same += [f"{i} and {j} have the same weights" for (i, j), norm in between.items() if norm == 0]
    if same:
        raise MismatchError(f"no path to measure: {same[0]}")

    def measure(first, second, name):
        images = PreprocessedImages(datasets[name], pre.preprocess)
        source = (calibration or datasets)[name]
        found, _ = compare_features(
            first, second, images, alphas=(alpha,), batch_size=batch_size,
            calibration=PreprocessedImages(source, pre.preprocess, memory=0),
        )  # fmt: skip
        return found[alpha, REPRESENTATION]

    rows = []
    with progress_bar(
        total=len(models) + 2 * len(pairs), desc="paths", disable=not progress
    ) as bar:
        own = {}
        for name, model in models.items():
            own[name] = measure(pre.encoder, model.encoder, name)
            bar.update()
        for i, j in pairs:
            length = between.get((i, j)) or between[j, i]
            scale = norms[i] / length
            ends = {AS_IS: (models[i].encoder, models[j].encoder)}
            ends[MATCHED] = tuple(
                _point(pre.encoder, models[name].encoder, scale) for name in (i, j)
            )
            for kind, (first, second) in ends.items():
                facts = {
                    "i": i,
                    "j": j,
                    "kind": kind,
                    "scale": scale if kind == MATCHED else 1.0,
                    "n": len(own[i]["gap"]),
                }
                facts |= {
                    "norm_pre": norms[i],
                    "norm_between": length,
                    "premise": norms[i] < length,
                }
                rows.append(facts | _compared(own[i], measure(first, second, i)))
                bar.update()
    return PathOrder(
        pd.DataFrame(rows).sort_values("kind", kind="stable", ignore_index=True), alpha
    )


def _point(pre, model, scale: float):
    point = copy.deepcopy(pre)
    blend(point, pre, model, scale)
    return point


def _compared(own: dict, other: dict) -> dict:
    row, residuals = {}, []
    for name, scalars in (("pre", own), ("between", other)):
        delta, low, high = ratio_interval(scalars["gap"], scalars["distance"])
        row |= {f"delta_{name}": delta, f"delta_{name}_low": low, f"delta_{name}_high": high}
        residuals.append(
            (scalars["gap"] - delta * scalars["distance"]) / scalars["distance"].mean()
        )
    row["difference"] = row["delta_pre"] - row["delta_between"]
    _, low, high = mean_interval(
        residuals[0] - residuals[1]
    )  # the images are the same, so the comparison is paired
    row |= {
        "difference_low": row["difference"] + low,
        "difference_high": row["difference"] + high,
        "order": row["difference"] < 0,
    }
    for name, scalars in (("pre", own), ("between", other)):
        row[f"gap_{name}"], row[f"gap_{name}_low"], row[f"gap_{name}_high"] = mean_interval(
            scalars["gap"]
        )
    return {**row, "order_of_gaps": bool(np.less(row["gap_pre"], row["gap_between"]))}
