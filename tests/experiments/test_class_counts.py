"""Numbers of classes and epochs: each run is the experiment it says, and the words follow the numbers."""

import numpy as np
import pandas as pd
import pytest

from classvec_lab import ClassVectors, extract_features, orthogonality, prepare
from classvec_lab.errors import MismatchError
from classvec_lab.experiments import ClassCountStudy, class_count_study

SETUP = {
    "dataset": "digits",
    "limit": 100,
    "model": "mlp",
    "model_args": {"size": 16, "hidden": [16], "dim": 8},
    "lr": 1e-3,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSVEC_DATA", str(tmp_path_factory.mktemp("data")))
        return class_count_study(
            {"digits": SETUP}, counts=[2, 4], epochs=[1, 2], n_draws=2, n_boot=20, progress=False
        )


def test_each_cell_of_the_plan_is_run_once(study):
    cells = study.runs[["n_classes", "epochs", "draw"]].to_numpy().tolist()
    assert cells == [[c, e, d] for c, e in ((2, 2), (4, 2), (4, 1)) for d in (0, 1)]
    assert (study.runs["classes"].str.split().str.len() == study.runs["n_classes"]).all()
    two = study.runs.query("n_classes == 4 and draw == 1")
    assert two["classes"].nunique() == 1  # the same classes, trained shorter and longer


def test_a_run_is_the_experiment_it_says(study):
    row = study.runs.iloc[3]
    exp = prepare(
        **SETUP, epochs=int(row["epochs"]), classes=row["classes"].split(), seed=int(row["draw"])
    )
    features = [extract_features(model, exp.test, progress=False) for model in (exp.pre, exp.ft)]
    report = orthogonality(ClassVectors.from_features(*features))
    off = report.cosine.to_numpy()[~np.eye(4, dtype=bool)]
    assert row["off_diagonal"] == pytest.approx(off.mean())
    assert row["entries_sd"] == pytest.approx(off.std())
    assert row["expected"] == pytest.approx(report.expected)
    assert row["n_samples"] == len(exp.test)


def test_the_table_has_an_interval_over_draws(study):
    table = study.table().set_index(["n_classes", "epochs", "measure"])
    runs = study.runs.query("n_classes == 2")["shift_ratio"]
    row = table.loc[(2, 2, "shift_ratio")]
    assert row["mean"] == pytest.approx(runs.mean())
    assert row["low"] < row["mean"] < row["high"]
    assert row["n_runs"] == 2


def test_too_many_classes_are_named_before_anything_is_trained():
    with pytest.raises(MismatchError, match="digits has 10 classes; the study asks for 11"):
        class_count_study({"digits": SETUP}, counts=[2, 11], epochs=[1])
    with pytest.raises(MismatchError, match="counts >= 2"):
        class_count_study({"digits": SETUP}, counts=[1], epochs=[1])


def test_the_words_follow_the_numbers():
    runs = pd.DataFrame(
        {
            "dataset": "x",
            "n_classes": [2, 2, 10, 10],
            "epochs": 5,
            "draw": [0, 1, 0, 1],
            "expected": [-0.6, -0.6, -0.1, -0.1],
        }
        | {"entries_sd": 0.1, "shift_ratio": 0.5, "off_diagonal": [-0.6, -0.61, -0.1, -0.11]}
    )
    near = " ".join(ClassCountStudy(runs).says())
    assert "nearer to the former" in near
    assert "closer to 0" in near
    far = " ".join(
        ClassCountStudy(runs.assign(off_diagonal=[-1.0, -1.0, -1 / 9, -1 / 9], expected=0.3)).says()
    )
    assert "no nearer to the former" in far
    away = " ".join(ClassCountStudy(runs.assign(off_diagonal=[0.0, 0.0, 0.4, 0.4])).says())
    assert "further from 0" in away
