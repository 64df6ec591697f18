"""A probe finds what is there, whatever the frame, and not what is not."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from classvec_lab.editing.audit.probe import probe_recovery
from classvec_lab.readout import Readout
from classvec_lab.statistics import rates

CLASSES = ("a", "b", "c")


def blobs(
    n: int, *, seed: int = 0, dim: int = 5, noise: float = 0.3, collapse: str = ""
) -> Readout:
    """Clouds around three corners; with `collapse` "a", class a lies where class b does."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    where = np.where(y == 0, 1, y) if collapse else y
    z = 3 * np.eye(3, dim)[where] + noise * rng.normal(size=(n, dim))
    return Readout(z, z[:, :3], y, CLASSES)


def test_a_probe_finds_what_is_there_and_not_what_is_not():
    found = probe_recovery(blobs(300), blobs(90, seed=1), "a")
    assert found.recall.value == 1
    assert found.recall.low == pytest.approx(float(rates(30, 30)[1]))
    assert (found.recall.n, found.others.n) == (30, 60)
    assert found.hits.tolist() == [True] * 30
    gone = probe_recovery(blobs(300, collapse="a"), blobs(90, seed=1, collapse="a"), "a")
    assert 0.2 < gone.recall.value < 0.8  # a and b can't be told apart
    assert gone.hits.sum() == round(gone.recall.value * 30)


@pytest.mark.parametrize("step", [-1.5, -40, 40])
def test_a_shift_of_one_class_hides_nothing_from_a_probe(step):
    moved = [
        Readout(part.z + step * (part.y == 0)[:, None] * np.eye(5)[0], part.logits, part.y, CLASSES)
        for part in (blobs(300), blobs(300, seed=1))
    ]
    found = probe_recovery(*moved, "a")
    assert (found.recall.value, found.others.value) == (1, 1)


def test_a_probe_is_blind_to_rotation_shift_and_scale():
    rng = np.random.default_rng(0)
    turn = ortho_group.rvs(40, random_state=0)
    plain, turned = [], []
    for part in (blobs(90, noise=1.5), blobs(600, seed=1, noise=1.5)):
        z = np.hstack(
            [part.z, rng.normal(size=(len(part), 35)) * np.geomspace(0.01, 10, 35)]
        )  # a scale for each would matter
        plain.append(Readout(z, part.logits, part.y, CLASSES))
        turned.append(Readout(1e3 * z @ turn + 7, part.logits, part.y, CLASSES))
    a, b = probe_recovery(*plain, "b"), probe_recovery(*turned, "b")
    assert np.mean(a.hits == b.hits) > 0.99
    assert b.others.value == pytest.approx(a.others.value, abs=0.01)
    assert 0.3 < a.recall.value < 0.95  # neither all nor nothing, where agreement would be no proof
