"""Figures show the frames they were given."""

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import coloured

from classvec_lab import ClassVectors, Features, orthogonality, plots
from classvec_lab.plots import style
from classvec_lab.statistics import mean_interval

pytestmark = pytest.mark.usefixtures("look")


def frame(n=4, seed=0):
    names = [f"c{i}" for i in range(n)]
    return pd.DataFrame(
        np.random.default_rng(seed).uniform(-1, 1, (n, n)), index=names, columns=names
    )


def shown(ax):
    return ax.collections[0].get_array().reshape(len(ax.get_yticks()), -1)


def test_a_heat_map_shows_its_frame():
    data = frame()
    ax = plots.heatmap(data, limit=1, mark=-0.11, title="t")
    np.testing.assert_allclose(np.asarray(shown(ax)), data.to_numpy())
    assert [t.get_text() for t in ax.get_xticklabels()] == list(data.columns)
    assert ax.collections[0].get_clim() == (-1, 1)
    for end in (0.0, 1.0):
        assert ax.collections[0].cmap(end) == pytest.approx(mpl.colormaps[style.DIVERGING](end))
    bar = ax.collections[0].colorbar.ax
    assert [t.get_text() for t in bar.texts] == ["forced mean -0.11"]
    assert {t.get_text() for t in ax.texts} == {f"{v:.2f}" for v in data.to_numpy().ravel()}


def test_the_colour_bar_marks_both_ends_of_chance():
    plain = plots.heatmap(frame(), limit=1, mark=()).collections[0].colorbar.ax
    bar = plots.heatmap(frame(), limit=1, mark=(-0.4, 0.3)).collections[0].colorbar.ax
    assert [line.get_ydata()[0] for line in bar.lines[len(plain.lines) :]] == [-0.4, 0.3]
    assert bar.texts[0].get_text() == "95 % of random directions: -0.40 to +0.30"
    assert not plain.texts
    wide = plots.heatmap(frame(), limit=0.2, mark=(-0.4, 0.3)).collections[0].colorbar.ax
    assert len(wide.lines) == len(plain.lines)  # beyond the colours there is no line, but the words
    assert wide.get_ylim() == (-0.2, 0.2)
    assert wide.texts


def test_colours_are_symmetric_about_zero_without_a_limit():
    data = frame() * 0.3
    low, high = plots.heatmap(data).collections[0].get_clim()
    assert low == -high == -np.abs(data.to_numpy()).max()


def test_order_moves_rows_and_columns_together():
    data = frame(5)
    names = ["c3", "c0", "c4", "c1", "c2"]
    ax = plots.heatmap(data, order=names)
    np.testing.assert_allclose(np.asarray(shown(ax)), data.loc[names, names].to_numpy())
    with pytest.raises(ValueError, match="got 'size'"):
        plots.heatmap(data, order="size")


def test_clustering_finds_planted_blocks():
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat([0, 1, 2], 5))
    names = [f"c{i}" for i in range(15)]
    data = pd.DataFrame(
        (group[:, None] == group) + 0.05 * rng.normal(size=(15, 15)), index=names, columns=names
    )
    ordered = [group[int(name[1:])] for name in plots.cluster_order(data)]
    assert sum(a != b for a, b in itertools.pairwise(ordered)) == 2
    assert plots.cluster_order(data.iloc[:2, :2]) == ["c0", "c1"]


def test_missing_values_and_many_classes_are_drawn():
    data = frame()
    data.iloc[1] = np.nan
    plots.heatmap(data, order="cluster")
    plots.heatmap(data * np.nan)
    ax = plots.heatmap(frame(80), order="cluster")
    assert not ax.texts
    ax.figure.canvas.draw()
    assert len(ax.get_xticklabels()) == 40  # as many as there is room for
    ax = plots.heatmap(frame(3).rename(columns=lambda c: f"a long name, namely {c}"))
    assert [t.get_text() for t in ax.get_xticklabels()] == [f"a long…mely c{i}" for i in range(3)]


def test_the_histogram_counts_off_diagonal_entries():
    rng = np.random.default_rng(0)
    report = orthogonality(
        ClassVectors(rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), [3] * 6, list("abcdef"))
    )
    ax = plots.histogram(report)
    assert sum(p.get_height() for p in ax.patches) == 2 * 30
    assert any("-0.200" in t.get_text() for t in ax.get_legend().get_texts())


def test_the_sample_sheet_shows_each_class_by_name():
    ax = plots.sample_sheet(coloured())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["red", "green", "blue"]
    image = np.asarray(ax.images[0].get_array())
    assert image.shape == (3 * 68 - 4, 8 * 68 - 4, 3)
    assert [int(image[68 * i : 68 * i + 64, :64].mean(axis=(0, 1)).argmax()) for i in range(3)] == [
        0,
        1,
        2,
    ]


def test_accuracy_bars_history_and_map():
    table = pd.DataFrame(
        {
            "class": ["a", "b"] * 2,
            "n": [30, 31] * 2,
            "accuracy": [0.5, 1, 0.9, np.nan],
            "low": [0.2, 0.7, 0.8, np.nan],
            "high": [0.8, 1, 1, np.nan],
            "model": ["pre", "pre", "ft", "ft"],
        }
    )
    ax = plots.accuracy_bars(table)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["pre", "ft"]
    assert "n = 30 to 31" in ax.get_ylabel()
    points = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 2)), columns=["pc1", "pc2"])
    points["class"] = pd.Categorical.from_codes(np.arange(12) % 3, ["x", "y", "z"])
    points.attrs["explained"] = [0.5, 0.25]
    ax = plots.scatter_map(points)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("first component (50%)", "second component (25%)")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["x", "y", "z"]
    assert sum(len(c.get_offsets()) for c in ax.collections) == 12 + 3


def report_with_intervals(n_classes=6, n=12, dim=16):
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(n_classes), n)
    means = rng.normal(size=(2, n_classes, dim))
    pre, ft = (
        Features(
            m[y] + 0.5 * rng.normal(size=(len(y), dim)), y, [f"c{i}" for i in range(n_classes)]
        )
        for m in means
    )
    return orthogonality(ClassVectors.from_features(pre, ft), features=(pre, ft), n_boot=50)


def test_the_two_kinds_of_random_directions_differ_without_colour():
    report = report_with_intervals()
    ax = plots.histogram(report)
    half = 1.96 / np.sqrt(report.dim)
    dotted = [x for x in ax.lines if x.get_linestyle() == ":"]
    np.testing.assert_allclose([x.get_xdata()[0] for x in dotted], [-half, half])
    (band,) = [p for p in ax.patches if "covariance" in str(p.get_label())]
    ends = np.quantile(report.directions["cosine"], [0.025, 0.975])
    np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], ends)


def test_marked_cells_carry_a_dot_in_the_order_shown():
    data = frame(5)
    marked = data > 0.3
    names = ["c3", "c0", "c4", "c1", "c2"]
    ax = plots.heatmap(data, order=names, marked=marked)
    dots = np.floor(ax.collections[-1].get_offsets()).astype(int)
    expected = np.argwhere(marked.loc[names, names].to_numpy())[:, ::-1]
    assert sorted(map(tuple, dots)) == sorted(map(tuple, expected))


def test_entries_show_each_pair_or_both_ends(monkeypatch):
    table = report_with_intervals().table()
    off = table[table["kappa"] != table["z_ft"]].sort_values("corrected")
    ax = plots.entries(table)
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        f"{a} → {b}" for a, b in zip(off["kappa"], off["z_ft"], strict=True)
    ]
    drawn = np.sort(
        np.concatenate(
            [
                c.get_offsets()[:, 1]
                for c in ax.collections
                if len(c.get_offsets()) and c.get_label()
            ]
        )
    )
    assert {round(v, 9) for v in off["corrected"]} <= {round(float(v), 9) for v in drawn}
    monkeypatch.setattr("classvec_lab.plots.matrices.MOST_PAIRS", 10)
    short = plots.entries(table)
    assert len(short.get_xticklabels()) == 10
    assert any("20 pairs between" in t.get_text() for t in short.texts)


def test_departures_name_every_assumption():
    report = report_with_intervals()
    ax = plots.departures(report.assumptions)
    assert [t.get_text() for t in ax.get_yticklabels()] == report.assumptions["assumption"].tolist()
    widths = [p.get_width() for p in ax.patches]
    np.testing.assert_allclose(widths[:4], report.assumptions["rms_added"])


def test_runs_are_drawn_one_by_one():
    rng = np.random.default_rng(0)
    measures = ["entries_sd", "shift_ratio", "explained", "nc1"]
    columns = ["off_diagonal", "expected", "low", "high", "shown", "refuted", "null_sd", *measures]
    keys = ("dataset", "n_classes", "epochs", "draw")
    rows = [
        dict(zip((*keys, *columns), (d, c, e, k, *rng.random(len(columns))), strict=True))
        for d in ("a", "b")
        for c, e in ((2, 4), (5, 4), (5, 1))
        for k in range(3)
    ]
    runs = pd.DataFrame(rows).assign(delta=0.1)
    axes = plots.over_class_counts(runs)
    last = runs[runs["epochs"] == 4]
    for ax, names in zip(
        axes,
        (
            {"forced by shift, offset, C": "expected", "measured": "off_diagonal"},
            {"shown": "shown", "refuted": "refuted"},
            {"random directions": "null_sd", "measured": "entries_sd"},
        ),
        strict=True,
    ):
        clouds = {c.get_label(): c.get_offsets()[:, 1] for c in ax.collections}
        for name, column in names.items():
            for dataset, own in last.groupby("dataset"):
                np.testing.assert_allclose(clouds[f"{dataset}: {name}"], own[column])
    assert "within ±0.1" in axes[1].get_title(loc="left")
    for cloud in (c for ax in axes for c in ax.collections if len(c.get_offsets()) > 1):
        assert set(cloud.get_offsets()[:, 0]) <= {2, 5}  # a run stands at its number of classes
    means = pd.DataFrame(
        [
            (*key, m, *mean_interval(own[m]), len(own))
            for key, own in runs.groupby(["dataset", "n_classes", "epochs"])
            for m in ("shown", *measures)
        ],
        columns=["dataset", "n_classes", "epochs", "measure", "mean", "low", "high", "n_runs"],
    )
    axes = plots.over_epochs(runs, means)
    assert len(axes) == 5
    assert [t.get_text() for t in axes[0].get_xticklabels()] == ["1", "4"]
    for ax, measure in zip(axes, ("shown", *measures), strict=True):
        shown = means[(means["measure"] == measure) & (means["n_classes"] == 5)]
        for (_, own), line in zip(shown.groupby("dataset"), ax.lines, strict=True):
            np.testing.assert_allclose(line.get_xydata(), own[["epochs", "mean"]])
        ends = {"explained": (0, 1), "off_diagonal": (-1, 1)}.get(measure, (0, np.inf))
        for spans in (c for c in ax.collections if isinstance(c, mpl.collections.LineCollection)):
            reached = np.concatenate(spans.get_segments())[:, 1]
            assert (reached.min() >= ends[0]) & (reached.max() <= ends[1])
        clouds = [c for c in ax.collections if isinstance(c, mpl.collections.PathCollection)]
        assert sum(len(c.get_offsets()) for c in clouds) == 2 * 2 * 3
