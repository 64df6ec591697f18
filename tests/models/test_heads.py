"""A linear probe as a head answers as scikit-learn's logistic regression does."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from classvec_lab import Features
from classvec_lab.models.heads import PENALTIES, probe_head


def drawn(n, n_classes, seed):
    rng = np.random.default_rng(seed)
    means = 2 * np.random.default_rng(0).normal(size=(n_classes, 6))
    y = np.arange(n) % n_classes
    scale = np.array([1.0, 30.0, 0.01, 1.0, 5.0, 1.0])  # a probe must not mind the units
    z = (means[y] + rng.normal(size=(n, 6))) * scale + 3
    return Features(z, y, [f"c{i}" for i in range(n_classes)])


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_head_is_the_regression_that_val_chooses(n_classes):
    train, val = drawn(120, n_classes, 1), drawn(200, n_classes, 2)
    head = probe_head(train, val).double()
    mean, spread = train.z.mean(axis=0), train.z.std(axis=0)
    z = [(f.z - mean) / spread for f in (train, val)]
    models = [LogisticRegression(C=c, max_iter=2000).fit(z[0], train.y) for c in PENALTIES]
    scores = [model.score(z[1], val.y) for model in models]
    best = models[int(np.argmax(scores))]  # of equals the strongest penalty
    with torch.no_grad():
        found = head(torch.as_tensor(val.z)).softmax(1).numpy()
    np.testing.assert_allclose(found, best.predict_proba(z[1]), atol=1e-4)
    assert (found.argmax(1) == val.y).mean() == max(scores) > 1.5 / n_classes


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_of_an_absent_class_nothing_is_read(n_classes):
    """It is the probe of the others, and the class's row knows nothing of it."""
    train, val = drawn(120, n_classes, 1), drawn(200, n_classes, 2)
    absent, rng = n_classes - 2, np.random.default_rng(5)
    others = [f.y != absent for f in (train, val)]
    heads = []
    for noise in (0.0, 100.0):  # its images change nothing
        z = (
            f.z + noise * rng.normal(size=f.z.shape) * (f.y == absent)[:, None]
            for f in (train, val)
        )
        parts = [Features(each, f.y, f.classes) for each, f in zip(z, (train, val), strict=True)]
        heads.append(probe_head(*parts, absent).state_dict())
    for name, values in heads[0].items():
        np.testing.assert_array_equal(values, heads[1][name])
    weight, bias = (heads[0][name].double().numpy() for name in ("weight", "bias"))
    assert (weight[absent] == 0).all()
    assert bias[absent] == pytest.approx(-np.log(others[0].sum()))
    found = val.z @ weight.T + bias
    assert not (found[others[1]].argmax(axis=1) == absent).any()
    if n_classes > 2:
        rest = [i for i in range(n_classes) if i != absent]
        alone = [
            Features(f.z[k], np.searchsorted(rest, f.y[k]), [f.classes[i] for i in rest])
            for f, k in zip((train, val), others, strict=True)
        ]
        head = probe_head(*alone).state_dict()
        np.testing.assert_array_equal(head["weight"], heads[0]["weight"][rest])
        np.testing.assert_array_equal(head["bias"], heads[0]["bias"][rest])
