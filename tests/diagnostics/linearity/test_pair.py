"""Two classes looked at closely: logits that the head really gives, nearest images, confusion that adds up."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import nn

from classvec_lab import Classifier, ClassVectors, CosineHead, Features
from classvec_lab.diagnostics.linearity import class_pair
from classvec_lab.errors import MismatchError
from classvec_lab.models import Preprocess
from classvec_lab.panels.pairs import pair_charts
from classvec_lab.readout import predict

NAMES = ("ant", "bee", "cow")


def world(head="linear", n=90, names=NAMES):
    rng = np.random.default_rng(0)
    z_ft = 2 * rng.normal(size=(len(names), 6))
    v = ClassVectors(z_ft - rng.normal(size=z_ft.shape), z_ft, np.full(len(names), 30), names)
    y = np.arange(n) % len(names)
    features = Features(z_ft[y] + rng.normal(size=(n, 6)), y, names)
    torch.manual_seed(0)
    layer = CosineHead(torch.tensor(z_ft), 7.0) if head == "cosine" else nn.Linear(6, len(names))
    preprocess = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})
    return Classifier(nn.Identity(), layer, classes=names, preprocess=preprocess), features, v


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_logits_are_those_of_the_head(head):
    classifier, features, v = world(head)
    pair = class_pair(classifier, features, v, "bee", "cow")
    np.testing.assert_allclose(sorted(pair.logits["lambda_"].unique()), np.linspace(-2, 2, 21))
    z = features.z[features.y == 2] - 2 * v.kappa[1]
    with torch.no_grad():
        logits = classifier.logits(torch.tensor(z, dtype=torch.float32)).numpy()
    rows = pair.logits[
        (pair.logits["samples_of"] == "cow") & (pair.logits["lambda_"] == -2)
    ].set_index("logit")
    assert rows.loc["first", "mean"] == pytest.approx(logits[:, 1].mean(), rel=1e-4)
    assert rows.loc["second", "mean"] == pytest.approx(logits[:, 2].mean(), rel=1e-4)
    assert rows.loc["other", "mean"] == pytest.approx(logits[:, 0].mean(), rel=1e-4)
    assert (rows["low"] < rows["mean"]).all()
    assert (rows["n"] == 30).all()


def test_nearest_are_nearest():
    classifier, features, v = world()
    near = class_pair(classifier, features, v, "ant", "cow").nearest
    for (own, other), rows in near.items():
        i, j = NAMES.index(own), NAMES.index(other)
        assert (features.y[rows] == i).all()
        assert len(rows) == 4
        distance = np.linalg.norm(features.z - v.z_ft[j], axis=1)
        left = np.setdiff1d(np.flatnonzero(features.y == i), rows)
        assert distance[rows].max() <= distance[left].min()


def test_confusion_is_that_of_the_classifier():
    classifier, features, v = world()
    table = class_pair(classifier, features, v, "ant", "bee").confusion
    whole = confusion_matrix(features.y, predict(classifier, features), normalize="true")
    for row in table.rename(columns={"class": "kind"}).itertuples():
        taken_for = NAMES.index("cow" if row.kind == "other" else row.kind)
        assert row.share == pytest.approx(whole[NAMES.index(row.true), taken_for])
    assert table.groupby("true")["hits"].sum().tolist() == [30, 30]


def test_two_classes_and_classes_without_samples():
    classifier, features, v = world(names=NAMES[:2])
    assert set(class_pair(classifier, features, v, "ant", "bee").logits["logit"]) == {
        "first",
        "second",
    }
    classifier, features, v = world()
    few = Features(features.z[features.y != 2], features.y[features.y != 2], NAMES)
    pair = class_pair(classifier, few, v, "ant", "cow")
    assert set(pair.logits["samples_of"]) == {"ant"}
    assert np.isnan(pair.confusion.set_index("true").loc["cow", "share"]).all()
    alone = features.y == 1
    none = class_pair(
        classifier, Features(features.z[alone], features.y[alone], NAMES), v, "ant", "cow"
    )
    assert none.logits.empty
    assert [len(rows) for rows in none.nearest.values()] == [0] * 4
    assert pair_charts(none) == []


def test_one_class_twice_and_unknown_ones():
    classifier, features, v = world()
    with pytest.raises(MismatchError, match="got 'ant' twice"):
        class_pair(classifier, features, v, "ant", "ant")
    with pytest.raises(MismatchError, match="no class 'elk'"):
        class_pair(classifier, features, v, "ant", "elk")
