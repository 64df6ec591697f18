"""The theorem's premise and order on networks whose weights and curvature are chosen."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import Classifier, cross_task_linearity, path_order
from classvec_lab.diagnostics.linearity.theorem import PathOrder
from classvec_lab.errors import MismatchError
from classvec_lab.statistics import resampling_counts

DATA = coloured(12)


class Point(nn.Module):
    """A network with two weights (a, b) and the features (w_a^2, w_b^2), nearly the same for every image; curved in both."""

    def __init__(self, a, b):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([a, b], dtype=torch.float64))

    def forward(self, x):
        shade = 1 + 0.01 * x.double().mean((1, 2, 3))[:, None]
        return torch.cat([self.w, self.w**2]).expand(len(x), -1) * shade


def at(a, b, classes=CLASSES):
    return Classifier(
        Point(a, b),
        nn.Linear(4, len(classes)),
        classes=classes,
        preprocess=small_classifier().preprocess,
    )


def measure(pre, models, **options):
    return path_order(pre, models, dict.fromkeys(models, DATA), **options)


def test_premise_lengths_and_deviations_are_those_of_the_constructed_points():
    """Orthogonal equally long steps: |θ_i - θ_j| = √2, so the premise holds; the deviation along w² is a closed form."""
    report = measure(at(0, 0), {"i": at(1, 0), "j": at(0, 1)})
    rows = report.table.query("kind == 'as is'")
    np.testing.assert_allclose(rows["norm_pre"], 1, rtol=1e-6)
    np.testing.assert_allclose(rows["norm_between"], np.sqrt(2), rtol=1e-6)
    assert rows["premise"].all()
    # A - B = (0, 0, -1/4, 0) against f_1 - f_0 = (1, 0, 1, 0); between the two (0, 0, -1/4, -1/4) against (-1, 1, -1, 1)
    np.testing.assert_allclose(rows["delta_pre"], 0.25 / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(rows["delta_between"], 0.25 * np.sqrt(2) / 2, rtol=1e-6)
    assert (rows["order_of_gaps"]).all()


def test_length_matched_points_are_as_far_apart_as_pre_and_ft():
    report = measure(at(0, 0), {"i": at(1, 0), "j": at(0, 2)})
    row = report.table.set_index(["kind", "i", "j"]).loc[("length-matched", "j", "i")]
    scale = 2 / np.sqrt(5)
    assert row["scale"] == pytest.approx(scale)
    # between (scale, 0) and (0, 2 scale): the squares' middle misses by a quarter of the squared step
    gap = np.hypot(scale**2, (2 * scale) ** 2) / 4
    length = np.sqrt(scale**2 * 5 + scale**4 + (2 * scale) ** 4)
    assert row["delta_between"] == pytest.approx(gap / length, rel=1e-6)


def test_two_seeds_of_one_task_break_the_premise_and_it_is_said():
    """Near one another and far from the pre-trained point: the path between them is shorter and straighter."""
    report = measure(at(0, 0), {"i": at(3, 0.1), "j": at(3.1, 0)})
    rows = report.table.query("kind == 'as is'")
    assert not rows["premise"].any()
    assert not rows["order"].any()
    said = " ".join(report.says())
    assert "The premise holds for no pair" in said
    assert (
        "Where the premise fails, the pre-trained model's path deviates less for 0% [0%, 66%] of the pairs (2 pairs of 2 models"
        in said
    )
    assert "95 % interval over models): undecided." in said  # [0%, 66%] holds a half
    opposite = " ".join(measure(at(0, 0), {"i": at(1, 0), "j": at(-3, 0)}).says())
    assert (
        "Where the premise holds, the pre-trained model's path deviates less for 100%" in opposite
    )


def test_the_summary_counts_models_not_pairs():
    models = {str(k): at(np.cos(k), np.sin(k)) for k in range(4)}
    summary = measure(at(0, 0), models).summary()
    assert summary.groupby("kind")["n_pairs"].sum().to_dict() == {"as is": 12, "length-matched": 12}
    assert (summary["n_models"] <= 4).all()
    assert (summary["order_high"] - summary["order_low"] > 0.4).all()  # four models never tell much
    table = measure(at(0, 0), models).table
    assert {"n", "delta_pre_low", "delta_between_high", "difference_low", "gap_pre_low"} <= set(
        table
    )
    assert (table["n"] == len(DATA)).all()


def test_the_paired_interval_is_that_of_resampled_images():
    """Linearisation against the bootstrap over images, drawn together for both paths."""
    pre, models = (
        small_classifier(seed=0),
        {k: small_classifier(seed=s) for k, s in (("i", 1), ("j", 2))},
    )
    data = coloured(60)
    row = path_order(pre, models, dict.fromkeys(models, data)).table.iloc[0]
    paths = [
        cross_task_linearity(*ends, data, alphas=(0.5,), progress=False).images[
            0.5, "representation"
        ]
        for ends in ((pre, models["i"]), (models["i"], models["j"]))
    ]
    counts = resampling_counts(len(data), 4000, np.random.default_rng(0))
    own, other = (counts @ p["gap"] / (counts @ p["distance"]) for p in paths)
    assert row["difference"] == pytest.approx(row["delta_pre"] - row["delta_between"])
    np.testing.assert_allclose(
        row[["difference_low", "difference_high"]].tolist(),
        np.quantile(own - other, (0.025, 0.975)),
        atol=4e-3,
    )
    assert row["difference_low"] < row["difference"] < row["difference_high"]


def test_models_may_have_other_classes():
    report = measure(at(0, 0), {"i": at(1, 0, ("a", "b")), "j": at(0, 1)})
    assert len(report.table) == 4


def test_what_cannot_be_ordered_is_refused():
    with pytest.raises(MismatchError, match="two or more models"):
        measure(at(0, 0), {"i": at(1, 0)})
    with pytest.raises(MismatchError, match="two or more models and a data set for each"):
        path_order(at(0, 0), {"i": at(1, 0), "j": at(0, 1)}, {"i": DATA})
    with pytest.raises(
        MismatchError, match="no path to measure: the pre-trained model and i have the same weights"
    ):
        measure(at(0, 0), {"i": at(0, 0), "j": at(0, 1)})
    with pytest.raises(MismatchError, match="no path to measure: i and j"):
        measure(at(0, 0), {"i": at(1, 0), "j": at(1, 0)})


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (0.46, "undecided, as so few models can't tell an order beyond the shorter path."),
        (1.0, "the order outlives the shorter path."),
        (0.0, "the order is reversed once the paths are equally long."),
    ],
)
def test_an_order_that_the_interval_does_not_bear_is_undecided(rate, told):
    """Of four models, the share of each one's pairs that keep the order at equal length."""
    rows = [
        {"kind": kind, "premise": True, "i": i, "order": order, "difference": 0.1}
        for kind in ("as is", "length-matched")
        for i in range(4)
        for order in np.arange(50) < 50 * rate
    ]
    said = PathOrder(pd.DataFrame(rows)).says()
    assert said[-1].endswith(told)
    most = {0.46: "undecided", 1.0: "most do", 0.0: "most don't"}[rate]
    assert said[0].endswith(f"4 models, 95 % interval over models): {most}.")
