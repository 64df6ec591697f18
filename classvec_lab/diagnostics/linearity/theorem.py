"""Theorem 3.1 put to the test: does the shorter path in weight space deviate less?"""

import copy
import itertools
from collections.abc import Mapping

import pandas as pd

from ...checks import record
from ...errors import MismatchError
from ...models import Classifier, blend
from ...progress import progress_bar
from ...statistics import columns, mean_interval, ratio_difference, ratio_interval, share
from ...weightspace import TaskVector
from ...words import MAJORITY, bound, percent
from .cross_task import REPRESENTATION, cross_task_linearity

AS_IS, MATCHED = "as is", "length-matched"
PRE = "the pre-trained model"
MIDDLE = 0.5  # alpha at which deviations are measured
ORDERS = {"above": "most do", "below": "most don't", "not told from": "undecided"}
VERDICTS = {
    "above": "the order outlives the shorter path",
    "below": "the order is reversed once the paths are equally long",
    "not told from": "undecided, as so few models can't tell an order beyond the shorter path",
}


@record
class PathOrder:
    """Ordered pairs (i, j) of models: the path θ_pre to θ_i against θ_i to θ_j, on images of i.

    table, two rows a pair: kind "as is", and "length-matched" where the second path runs between
    θ_pre + scale τ_i and θ_pre + scale τ_j, as long as |τ_i|. norm_pre = |θ_i - θ_pre|,
    norm_between = |θ_i - θ_j| (as they are), premise = norm_pre < norm_between. delta_pre and
    delta_between are relative deviations E|A - B| / E|f_1 - f_0| with 95 % intervals over the n
    images, difference = delta_pre - delta_between with its paired interval, order = difference < 0.
    gap_pre and gap_between are the absolute E|A - B|, order_of_gaps their order.
    """

    table: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """By kind and premise: the rate at which the order holds, and how many pairs and models.

        The rate is the mean of per-model rates (a model's pairs are those on its images), its 95 %
        interval Wilson's with n = models: pairs of one model share its weights and images, so at
        worst they are one observation. Wilson stays informative at rates of 0 and 1, where a
        jackknife over models has no width. Seeds of one task are fewer independent models still.
        """
        rows = []
        for (kind, premise), pairs in self.table.groupby(["kind", "premise"], sort=False):
            order = _rate(pairs, "order")
            clear = pairs["difference_low"] * pairs["difference_high"] > 0
            rows.append(
                {
                    "kind": kind,
                    "premise": premise,
                    "n_pairs": len(pairs),
                    "n_models": order.n,
                    **columns("order_rate", order, "order_"),
                    **columns("gap_order_rate", _rate(pairs, "order_of_gaps"), "gap_order_"),
                    "n_clear": clear.sum(),
                    "mean_difference": pairs["difference"].mean(),
                }
            )
        return pd.DataFrame(rows)

    def says(self) -> tuple[str, ...]:
        """The sentences: the order where the premise holds, where it fails, and at equal length."""
        as_is, matched = (self.table[self.table["kind"] == kind] for kind in (AS_IS, MATCHED))
        sentences = []
        for premise, word in ((True, "holds"), (False, "fails")):
            pairs = as_is[as_is["premise"] == premise]
            rate = _rate(pairs, "order")
            sentences.append(
                f"Where the premise {word}, the pre-trained model's path deviates less for "
                f"{percent(*rate, digits=0)} of the pairs ({len(pairs)} pairs of {rate.n} models, "
                f"95 % interval over models): {ORDERS[bound(*rate, MAJORITY)]}."
                if len(pairs)
                else f"The premise {word} for no pair."
            )
        rate = _rate(matched, "order")
        sentences.append(
            "Between points as far apart as the pre-trained and the fine-tuned model it does so "
            f"for {percent(*rate, digits=0)} (difference {matched['difference'].mean():+.3f}): "
            f"{VERDICTS[bound(*rate, MAJORITY)]}."
        )
        return tuple(sentences)


def path_order(
    pre: Classifier,
    models: Mapping[str, Classifier],
    datasets: Mapping[str, object],
) -> PathOrder:
    """Measure both deviations of the theorem for every ordered pair of fine-tuned models.

    Theorem 3.1 says: if |θ_i - θ_pre| < |θ_i - θ_j| then delta(pre, i) < delta(i, j). It orders
    bounds, not deviations, so the order is counted, at alpha = 1/2. A shorter path is straighter
    anyway, so pairs of equal length are the control. Lengths are over all floating-point entries of
    the encoder.

    Args:
        pre: the pre-trained model.
        models: name to fine-tuned classifier, two or more. Classes may differ: only encoders are
            compared.
        datasets: the same names to images, from which batch-norm statistics are re-estimated too.
    Returns:
        A `PathOrder`.
    Raises:
        MismatchError: for fewer than two models, names that differ, architectures that don't fit or
            two models with the same weights.
    Source: Kim and Do, NeurIPS 2025, Theorem 3.1.
    """
    if len(models) < 2 or set(models) != set(datasets):
        raise MismatchError(
            f"path_order needs two or more models and a data set for each; got {list(models)} "
            f"and {list(datasets)}"
        )
    taus = {name: TaskVector.between(pre, model) for name, model in {PRE: pre, **models}.items()}
    lengths = {(i, j): (taus[i] - taus[j]).norm() for i, j in itertools.permutations(taus, 2)}
    for (i, j), length in lengths.items():
        if not length:
            raise MismatchError(f"no path to measure: {i} and {j} have the same weights")

    def measure(first, second, name):
        found = cross_task_linearity(first, second, datasets[name], alphas=[MIDDLE], progress=False)
        return found.images[MIDDLE, REPRESENTATION]

    own = {name: measure(pre, model, name) for name, model in models.items()}
    pairs, rows = list(itertools.permutations(models, 2)), []
    for i, j in progress_bar(pairs, desc="paths"):
        norm, length = lengths[PRE, i], lengths[i, j]
        for kind, scale in ((AS_IS, 1.0), (MATCHED, norm / length)):
            first, second = (_point(pre, models[name], scale) for name in (i, j))
            rows.append(
                {"i": i, "j": j, "kind": kind, "scale": scale, "n": len(own[i])}
                | {"norm_pre": norm, "norm_between": length, "premise": norm < length}
                | _compared(own[i], measure(first, second, i))
            )
    return PathOrder(pd.DataFrame(rows).sort_values("kind", kind="stable", ignore_index=True))


def _point(pre, model, scale: float):
    """`pre` with an encoder at θ_pre + scale τ; at 1 the model's own."""
    point = copy.deepcopy(pre)
    blend(point.encoder, pre.encoder, model.encoder, scale)
    return point


def _rate(pairs, column):
    """Mean of the models' rates with Wilson's interval over models."""
    return share(pairs.groupby("i")[column].mean())


def _compared(own, other) -> dict:
    """Both deviations and gaps, and their paired difference: the images are the same."""
    paths = [(images["gap"], images["distance"]) for images in (own, other)]
    difference = ratio_difference(*paths)
    gaps = [mean_interval(gap) for gap, _ in paths]
    return {
        **columns("delta_pre", ratio_interval(*paths[0])),
        **columns("delta_between", ratio_interval(*paths[1])),
        **columns("difference", difference),
        "order": difference[0] < 0,
        **columns("gap_pre", gaps[0]),
        **columns("gap_between", gaps[1]),
        "order_of_gaps": gaps[0][0] < gaps[1][0],
    }
