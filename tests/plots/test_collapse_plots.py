"""Figures of neural collapse show the frames they were given, from two classes to two hundred."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from classvec_lab import Features, neural_collapse
from classvec_lab.plots.collapse import collapse_bars, collapse_curves, collapse_map

pytestmark = pytest.mark.usefixtures("look")


def curves(runs=("cosine", "linear"), epochs=4):
    rows = [
        {
            "run": run,
            "epoch": e,
            "metric": m,
            "value": v / (e + 1),
            "low": np.nan,
            "high": np.nan,
            "null_high": np.nan,
        }
        for run in runs
        for e in range(epochs)
        for m, v in (("nc1", 2.0), ("cdnv", 1.0), ("nc2_etf", 0.5), ("nc3", np.nan), ("nc4", 0.9))
    ]
    frame = pd.DataFrame(rows)
    frame.loc[frame["metric"] == "nc4", ["low", "high"]] = 0.1, 0.95
    frame.loc[frame["metric"] == "nc2_etf", "null_high"] = 0.2
    return frame


def bands(ax):
    return [c for c in ax.collections if c.get_paths() and c.get_paths()[0].vertices.size]


def test_curves_have_a_panel_a_metric_and_a_line_a_run():
    axes = collapse_curves(curves(), title="t")
    shown = [ax for ax in axes.flat if ax.get_title("left")]
    assert [ax.get_title("left") for ax in shown] == [
        "NC1: spread within classes",
        "CDNV: spread over distance",
        "NC2: distance from an ETF",
        "NC4: as the nearest mean",
    ]
    assert [ax.get_yscale() for ax in shown] == ["log", "log", "linear", "linear"]
    np.testing.assert_allclose(shown[0].lines[0].get_ydata(), 2.0 / np.arange(1, 5))
    assert len(bands(shown[0])) == 0
    assert len(bands(shown[3])) == 2  # an interval band a run
    assert len(bands(shown[2])) == 2  # the null of each
    np.testing.assert_allclose(shown[2].lines[1].get_ydata(), 0.2)
    assert [t.get_text() for t in axes.flat[0].figure.legends[0].get_texts()] == [
        "cosine",
        "linear",
    ]
    assert axes.flat[0].figure.get_suptitle() == "t"


def test_one_run_needs_no_legend_but_for_the_epochs_that_are_marked():
    (ax,) = collapse_curves(curves(("only",)), metrics=("nc1", "nc3"))
    assert ax.figure.legends == []
    (ax,) = collapse_curves(curves(("only",)), metrics=("nc1",), at=2, kept=3)
    (legend,) = ax.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["kept: epoch 3", "epoch 2"]
    assert [line.get_xdata()[0] for line in ax.lines[-2:]] == [3, 2]
    assert len(collapse_curves(curves(), metrics=("nc3",))) == 0  # nothing is known of it


def history(k, epochs=5, n=30):
    rng = np.random.default_rng(0)
    names = [f"class {i}" for i in range(k)]
    frames = []
    for size, labels in ((n, rng.integers(k, size=n)), (k, np.arange(k))):
        frame = pd.DataFrame({"epoch": np.repeat(np.arange(epochs), size)})
        frame["class"] = pd.Categorical.from_codes(np.tile(labels, epochs), categories=names)
        frame["x"], frame["y"] = rng.normal(size=(2, size * epochs))
        frame.attrs["explained"] = (0.6, 0.3)
        frames.append(frame)
    return SimpleNamespace(points=frames[0], means2d=frames[1])


@pytest.mark.parametrize("k", [2, 10, 200])
def test_the_map_shows_first_middle_and_last(k):
    film = history(k)
    axes = collapse_map(film)
    assert [ax.get_title("left") for ax in axes] == ["before fine-tuning", "epoch 2", "epoch 4"]
    drawn = axes[1].collections[1].get_offsets()
    np.testing.assert_allclose(drawn, film.means2d.query("epoch == 2")[["x", "y"]])
    assert len(axes[0].figure.legends) == (k <= 20)
    axes[0].figure.draw_without_rendering()
    assert len(collapse_map(film, epochs=(0, 4))) == 2


@pytest.mark.parametrize("k", [2, 10, 200])
@pytest.mark.filterwarnings("ignore:.*simplex ETF")
def test_bars_order_the_classes_and_name_them_where_there_is_room(k):
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(k), 3)
    f = Features(
        rng.normal(size=(k, 8))[y] + 0.3 * rng.normal(size=(3 * k, 8)),
        y,
        [f"class {i}" for i in range(k)],
    )
    per_class = neural_collapse(f).per_class()
    frame = pd.concat(
        [
            per_class.assign(run="before"),
            per_class.assign(run="after", cdnv=per_class["cdnv"][::-1].to_numpy()),
        ]
    )
    axes = collapse_bars(frame)
    assert len(axes) == 2  # without a head there is no self-duality
    worst_first = (
        frame[frame["run"] == "after"].sort_values("cdnv", ascending=False)["class"].tolist()
    )
    labels = [t.get_text() for t in axes[-1].get_xticklabels()]
    assert labels == (worst_first if k <= 40 else [])
    np.testing.assert_allclose(axes[1].lines[1].get_ydata(), np.sort(per_class["cdnv"])[::-1])
    axes[0].figure.draw_without_rendering()
