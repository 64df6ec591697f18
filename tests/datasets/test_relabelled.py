"""Relabelled images are the same images under another label, known as other data."""

import numpy as np
import pytest
from conftest import coloured

from classvec_lab.errors import DatasetError


def pixels(data):
    return np.stack([np.asarray(image) for image, _ in data])


@pytest.mark.parametrize("form", ["indices", "mask"])
def test_only_the_labels_at_these_positions_change(form):
    data = coloured(12)
    positions = np.array([0, 3, 7])
    chosen = np.isin(np.arange(12), positions) if form == "mask" else positions
    before, fingerprint = data.targets.copy(), data.fingerprint
    changed = data.relabelled(chosen, "blue")
    expected = before.copy()
    expected[positions] = 2
    np.testing.assert_array_equal(changed.targets, expected)
    assert [label for _, label in (changed[i] for i in range(12))] == expected.tolist()
    np.testing.assert_array_equal(pixels(changed), pixels(data))
    np.testing.assert_array_equal(data.targets, before)
    assert data.fingerprint == fingerprint
    assert (changed.classes, changed.name, changed.split, len(changed)) == (
        data.classes,
        data.name,
        data.split,
        12,
    )


def test_the_fingerprint_is_that_of_the_labels():
    data = coloured(12)
    changed = data.relabelled([0], "blue")
    assert changed.fingerprint != data.fingerprint
    assert changed.fingerprint != data.relabelled([0], "green").fingerprint
    assert changed.fingerprint == coloured(12).relabelled([0], "blue").fingerprint
    assert changed.relabelled([0], "red").fingerprint == data.fingerprint
    assert data.relabelled([2], "blue").fingerprint == data.fingerprint


def test_positions_are_those_of_the_subset():
    data = coloured(12).subset([9, 4, 6])
    changed = data.relabelled([1], "red")
    np.testing.assert_array_equal(data.targets, [0, 1, 0])
    np.testing.assert_array_equal(changed.targets, [0, 0, 0])
    np.testing.assert_array_equal(pixels(changed), pixels(data))
    np.testing.assert_array_equal(changed.subset([1, 2]).targets, [0, 0])


def test_labels_follow_a_choice_of_classes():
    data = coloured(12).relabelled(np.arange(12) < 3, "blue")
    kept = data.only(["blue", "green"])
    assert len(kept) == 9
    np.testing.assert_array_equal(kept.targets, [0, 0, 0, 1, 0, 1, 0, 1, 0])


def test_unknown_labels_are_named():
    with pytest.raises(DatasetError, match="no class 'pink'; there are red, green, blue"):
        coloured(6).relabelled([0], "pink")
