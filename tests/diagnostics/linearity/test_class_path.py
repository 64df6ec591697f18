"""A class on its way to another: predictions at any alpha, and where a third class lies between."""

import numpy as np
import pytest
import torch
from torch import nn

from classvec_lab import Classifier, ClassVectors, CosineHead, Features, class_interpolation
from classvec_lab.diagnostics.linearity import class_path
from classvec_lab.errors import MismatchError
from classvec_lab.models import Preprocess


def plane(head="linear"):
    """Class a at (1, 0), b at (-1, 0), c between and above at (0, h): the line from a to b passes c for h small."""
    means = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.4], [0.0, -5.0]])
    vectors = ClassVectors(np.zeros_like(means), means, np.full(4, 5), ("a", "b", "c", "d"))
    z = np.stack([means[0] + np.array([0, 0.1 * k]) for k in range(6)])
    features = Features(z.astype(np.float32), np.zeros(6, dtype=int), vectors.classes)
    layer = CosineHead(torch.tensor(means).float(), 5.0) if head == "cosine" else nn.Linear(2, 4)
    if head == "linear":
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(means))
            layer.bias.copy_(-0.5 * torch.tensor(means).square().sum(dim=1))
    preprocess = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})
    return (
        Classifier(nn.Identity(), layer, classes=vectors.classes, preprocess=preprocess),
        features,
        vectors,
    )


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_predictions_are_those_of_the_head_at_any_alpha(head):
    classifier, features, vectors = plane(head)
    path = class_path(classifier, features, vectors, "a", "b")
    for alpha in (0.0, 0.37, 0.5, 1.0):
        z = features.z + alpha * (vectors.kappa[1] - vectors.kappa[0])
        with torch.no_grad():
            expected = classifier.logits(torch.tensor(z, dtype=torch.float32)).argmax(dim=1).numpy()
        assert path.predicted(alpha).tolist() == expected.tolist()
        rows = path.distribution(alpha)
        assert rows["class"].tolist()[:2] == ["a", "b"]
        assert rows["hits"].sum() == len(path) == 6
        assert dict(zip(rows["class"], rows["hits"], strict=True)) == {
            c: int((expected == i).sum())
            for i, c in enumerate("abcd")
            if i < 2 or (expected == i).any()
        }
        assert ((rows["low"] <= rows["share"]) & (rows["share"] <= rows["high"])).all()


def test_detours_are_the_ranges_in_which_some_sample_is_a_third_class():
    classifier, features, vectors = plane()
    path = class_path(classifier, features, vectors, "a", "b")
    alphas = np.linspace(0, 1, 101)
    seen = np.array([path.third(path.predicted(a)).any() for a in alphas])
    detours = path.detours()
    assert set(detours["class"]) == {"c"}
    inside = np.zeros(101, dtype=bool)
    for row in detours.itertuples():
        inside |= (alphas >= row.first - 1e-9) & (alphas <= row.last + 1e-9)
        assert 0 < row.samples <= 6
    assert inside.tolist() == seen.tolist()
    report = class_interpolation(classifier, features, vectors, "a", "b", n_boot=20)
    assert report.detour.name == "c"
    assert detours["samples"].max() >= round(report.detour.value * report.detour.n)
    assert class_path(classifier, features, vectors, "a", "c").detours().empty


def test_what_cannot_be_is_refused():
    given = plane()
    for pair, words in (
        (("a", "a"), "name two classes"),
        (("b", "a"), "no sample"),
        (("a", "x"), "'x'"),
    ):
        with pytest.raises(MismatchError, match=words):
            class_path(*given, *pair)
