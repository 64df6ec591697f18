"""The figures of linearity show the numbers of their reports."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import coloured, small_classifier

from classvec_lab import (
    class_interpolation,
    class_vectors,
    cross_task_linearity,
    extract_features,
    latent_paths,
    path_order,
    plots,
)
from classvec_lab.diagnostics.linearity import additivity, cyclic_shift, scaling, weight_path

pytestmark = pytest.mark.usefixtures("look")


@pytest.fixture(scope="module")
def world():
    """Two networks, data, features and class vectors, without any cache."""
    pre, ft, data = small_classifier(seed=0), small_classifier(seed=1), coloured()
    kept = {"cache": False, "progress": False}
    return pre, ft, data, extract_features(ft, data, **kept), class_vectors(pre, ft, data, **kept)


def line(ax, label):
    (found,) = [x for x in ax.lines if x.get_label() == label]
    return found.get_ydata()


def labels(ax):
    return [t.get_text() for t in ax.get_legend().get_texts()]


def test_deviations_by_alpha_and_by_layer(world):
    report = cross_task_linearity(*world[:3], layers="blocks", progress=False)
    rows = report.summary()
    ax = plots.deviation_curves(report, title="t")
    for layer, part in rows.groupby("layer"):
        np.testing.assert_allclose(line(ax, layer), part["deviation"])
    np.testing.assert_allclose(line(ax, "nearer end alone"), [0.25, 0.5, 0.25])
    assert ax.get_title(loc="left") == "t"
    ax = plots.deviation_by_layer(report)
    rows = rows.query("alpha == 0.5")
    assert [t.get_text() for t in ax.get_xticklabels()] == rows["layer"].tolist()
    np.testing.assert_allclose(
        line(ax, "cosine of the nearer end alone"), rows["nearer_end_cosine"]
    )
    assert "α = 0.5, n = 30" in ax.get_ylabel()


def test_pairs_lie_on_their_side_of_the_diagonal(world):
    pre, ft, data = world[:3]
    models = {"a": ft, "b": small_classifier(seed=2)}
    report = path_order(pre, models, dict.fromkeys(models, data))
    ax = plots.order_scatter(report)
    drawn = np.concatenate(
        [np.c_[c[0].get_xdata(), c[0].get_ydata()] for c in ax.containers]
    ).astype(float)
    expected = report.table[["delta_pre", "delta_between"]].to_numpy()
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0))
    assert sum(int(text.rpartition("(")[2].rstrip(")")) for text in labels(ax)) == len(report.table)
    assert ax.get_xlim() == ax.get_ylim()


def test_paths_show_all_five_and_the_distance_but_four(world):
    pre, ft, data, _, vectors = world
    path = weight_path(pre, ft, data, alphas=(0, 0.5, 1))
    report = latent_paths(path[0.0], vectors, ft, alphas=(0, 0.5, 1), weight=path)
    ax = plots.over_path(report)
    assert len(labels(ax)) == 5
    np.testing.assert_allclose(
        line(ax, "weights: θ_pre + α τ"), report.table.query("path == 'weights'")["accuracy"]
    )
    assert len(labels(plots.over_path(report, value="deviation"))) == 4
    without = latent_paths(path[0.0], vectors, ft, alphas=(0, 1))
    assert len(labels(plots.over_path(without))) == 4


def test_a_pair_of_classes_with_its_crossings(world):
    _, ft, _, features, vectors = world
    report = class_interpolation(ft, features, vectors, "red", "blue")
    ax = plots.class_shift(report)
    np.testing.assert_allclose(line(ax, "predicted: blue"), report.table["target_share"])
    crossings = [x for x in ax.lines if "cross:" in str(x.get_label())]
    assert [x.get_xdata()[0] for x in crossings] == report.crossing["alpha"].dropna().tolist()


def test_independence_has_its_control(world):
    _, ft, _, features, vectors = world
    scaled, added, shift = (
        scaling(ft, features, vectors),
        additivity(ft, features, vectors),
        cyclic_shift(ft, features, vectors),
    )
    ax = plots.scaling_curves(scaled)
    rows = scaled.summary().set_index("direction")
    np.testing.assert_allclose(line(ax, "class c, κ_c"), rows.loc["class vector", "accuracy"])
    np.testing.assert_allclose(
        line(ax, "other classes, random"), rows.loc["random direction", "others"]
    )
    ax = plots.adding_curves(added)
    np.testing.assert_allclose(
        line(ax, "classes in the set, sum of κ"),
        added.table.query("direction == 'class vector'")["inside"],
    )
    assert "-1.5" in ax.get_xlabel()
    ax = plots.shift_bars(shift)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], shift.table["success"])
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        "red → green",
        "green → blue",
        "blue → red",
        "all",
    ]


def test_given_axes_are_used(world):
    _, axes = plt.subplots(1, 2)
    shift = cyclic_shift(world[1], *world[3:])
    assert plots.shift_bars(shift, ax=axes[1]) is axes[1]
    assert not axes[0].has_data()
