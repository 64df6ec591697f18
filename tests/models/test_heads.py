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
