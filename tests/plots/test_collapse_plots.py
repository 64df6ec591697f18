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
    assert len(shown[0].lines) == 2
    assert len(shown[3].collections) == 2  # an interval band a run
    assert len(shown[2].lines) == 4  # values and nulls
    assert [t.get_text() for t in axes.flat[0].figure.legends[0].get_texts()] == [
        "cosine",
        "linear",
    ]
    assert axes.flat[0].figure.get_suptitle() == "t"


def test_one_run_needs_no_legend_and_no_extra_columns():
    frame = curves(("only",))[["epoch", "metric", "value"]]
    axes = collapse_curves(frame, metrics=("nc1",))
    assert axes.shape == (1, 1)
    assert axes.flat[0].figure.legends == []


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
