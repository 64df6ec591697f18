"""Collapse over epochs: on held-out images, beside an untouched training, and cached."""

import numpy as np
import pandas as pd
import pytest
from conftest import coloured, small_classifier

from classvec_lab import collapse_over_training, extract_features, finetune, neural_collapse
from classvec_lab.diagnostics.collapse import tracking
from classvec_lab.errors import MismatchError
from classvec_lab.files import cache_dir

HELD_OUT, TRAIN, VAL = coloured(36, split="test"), coloured(48), coloured(18, split="val")


def measured(classifier=None, **changes):
    arguments = {
        "held_out": HELD_OUT,
        "val": VAL,
        "samples": 10,
        "epochs": 2,
        "lr": 1e-2,
        "progress": False,
    } | changes
    return collapse_over_training(classifier or small_classifier(), TRAIN, **arguments)


def test_each_epoch_is_measured_as_it_stands_and_training_is_not_disturbed():
    history = measured()
    plain = finetune(
        small_classifier(), TRAIN, val=VAL, epochs=2, lr=1e-2, cache=False, progress=False
    )
    pd.testing.assert_frame_equal(history.history, plain.history)
    assert not history.table.duplicated(["epoch", "metric"]).any()
    assert sorted(history.table["epoch"].unique()) == [0, 1, 2]
    last = history.history["epoch"][history.history["kept"]].item()
    for epoch, classifier in ((0, small_classifier()), (last, history.classifier)):
        features = extract_features(classifier, HELD_OUT, cache=False, progress=False)
        expected = neural_collapse(features, classifier.head).table()
        found = history.table[history.table["epoch"] == epoch].reset_index(drop=True)
        np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-6)
        np.testing.assert_allclose(
            history.means[epoch], features.moments().mean, rtol=1e-5, atol=1e-6
        )
    assert (found["n"] == 36).all()
    assert found.set_index("metric").loc["nc4", ["low", "high"]].notna().all()
    assert history.drawn.shape == (3, 10, 6)


def test_the_map_is_the_plane_of_the_last_means():
    history = measured()
    means, points = history.means2d, history.points
    assert means.columns.tolist() == points.columns.tolist() == ["epoch", "class", "x", "y"]
    assert len(means) == 3 * 3
    assert len(points) == 3 * 10
    # three class means span a plane: the map keeps their last distances, and no distance grows
    assert sum(means.attrs["explained"]) == pytest.approx(1)
    for epoch, close in ((2, True), (0, False)):
        flat = means[means["epoch"] == epoch][["x", "y"]].to_numpy()
        between = np.linalg.norm(flat[0] - flat[1])
        true = np.linalg.norm(history.means[epoch][0].astype(float) - history.means[epoch][1])
        assert between == pytest.approx(true, rel=1e-5) if close else between <= true + 1e-6
    labels = history.labels
    assert points["class"].cat.codes[:10].tolist() == labels.tolist()


def test_a_second_call_reads_the_cache_and_gives_the_same(monkeypatch):
    first = measured()
    monkeypatch.setattr(tracking, "extract_features", None)  # nothing is measured again
    second = measured()
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(first.means2d, second.means2d)
    pd.testing.assert_frame_equal(first.points, second.points)
    pd.testing.assert_frame_equal(first.history, second.history)
    for a, b in zip(
        first.classifier.state_dict().values(), second.classifier.state_dict().values(), strict=True
    ):
        assert (a == b).all()
    assert len(list(cache_dir("collapse").glob("*.safetensors"))) == 1


def test_the_cache_knows_every_setting():
    for changes in (
        {},
        {"samples": 5},
        {"seed": 1},
        {"epochs": 1},
        {"held_out": VAL},
        {"val": None},
        {"batch_size": 7},
    ):
        measured(**changes)
    measured(small_classifier(seed=3))
    assert len(list(cache_dir("collapse").glob("*.safetensors"))) == 8


def test_a_damaged_cache_is_measured_again():
    first = measured()
    (path,) = cache_dir("collapse").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="a file in the cache is damaged"):
        second = measured()
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(second.table, measured().table)


def test_without_a_cache_nothing_is_written():
    measured(cache=False)
    assert not cache_dir("collapse").exists()


def test_other_classes_and_absent_ones_are_named():
    with pytest.raises(MismatchError, match="the held-out set lacks green"):
        measured(held_out=coloured(9, classes=("red", "blue")))
    with pytest.raises(MismatchError, match="1 of 3 classes have no samples: blue"):
        measured(held_out=coloured(2))
