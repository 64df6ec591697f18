"""Accuracy, intervals, confusion and the map, against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small_classifier

from classvec_lab import Features
from classvec_lab.diagnostics.performance import confusion, feature_map, mean_over_seeds
from classvec_lab.readout import predict
from classvec_lab.statistics import accuracy

Y = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 2])


def test_predictions_are_the_head_s():
    classifier = small_classifier()
    z = np.random.default_rng(0).normal(size=(20, 6))
    with torch.inference_mode():
        expected = classifier.head(torch.tensor(z, dtype=torch.float32)).argmax(1).numpy()
    np.testing.assert_array_equal(
        predict(classifier, Features(z, np.zeros(20, int), classifier.classes)), expected
    )


def test_accuracy_per_class_and_over_all():
    table = accuracy(PREDICTED, Y, ["a", "b", "c"]).set_index("class")
    assert table["accuracy"].tolist()[:2] == [0.75, 0.5]
    assert np.isnan(table.loc["c", ["accuracy", "low", "high"]].astype(float)).all()
    assert table.loc["all", "accuracy"] == 0.6
    assert table["n"].tolist() == [4, 6, 0, 10]
    # Wilson (1927) for 6 of 10 at 95 %
    z = 1.959963984540054
    centre, half = (
        (0.6 + z * z / 20) / (1 + z * z / 10),
        z / (1 + z * z / 10) * np.sqrt(0.6 * 0.4 / 10 + z * z / 400),
    )
    assert table.loc["all", ["low", "high"]].tolist() == pytest.approx(
        [centre - half, centre + half]
    )


def test_confusion_rows_are_shares_of_the_true_class():
    table = confusion(PREDICTED, Y, ["a", "b", "c"])
    np.testing.assert_allclose(table.to_numpy()[:2], [[0.75, 0.25, 0], [1 / 3, 0.5, 1 / 6]])
    assert table.loc["c"].isna().all()
    assert (table.index.name, table.columns.name) == ("true", "predicted")


def test_mean_over_seeds():
    runs = pd.DataFrame({"model": ["a", "b"] * 3, "accuracy": [0.9, 0.5, 0.8, 0.5, 1.0, 0.5]})
    table = mean_over_seeds(runs).set_index("model")
    assert table.loc["a", "accuracy"] == pytest.approx(0.9)
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # t quantile for 2 degrees of freedom
    assert table.loc["a", ["low", "high"]].tolist() == pytest.approx([0.9 - half, 1])  # a share
    assert table.loc["b", ["low", "high", "n_runs"]].tolist() == [0.5, 0.5, 3]
    single = mean_over_seeds(runs.head(2))
    assert single[["low", "high"]].isna().to_numpy().all()


def test_the_map_keeps_distances_of_flat_data():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(15, 2)) @ rng.normal(size=(2, 7)) + 4
    frame = feature_map(Features(flat, np.arange(15) % 3, ["a", "b", "c"]))
    points = frame[["pc1", "pc2"]].to_numpy()
    np.testing.assert_allclose(
        np.linalg.norm(points[:, None] - points, axis=-1),
        np.linalg.norm(flat[:, None] - flat, axis=-1),
        atol=1e-9,
    )
    assert sum(frame.attrs["explained"]) == pytest.approx(1)
    assert frame["class"].tolist()[:3] == ["a", "b", "c"]
