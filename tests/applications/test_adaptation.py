"""What a lesson teaches: goals without the attribute, and where images are for those without it."""

import numpy as np
import pytest
from attribute_worlds import dark_trial
from small_experiments import changed, small_experiment, with_labels

from classvec_lab import extract_features
from classvec_lab.applications import lesson
from classvec_lab.editing.matching import match


@pytest.fixture(scope="module")
def exp():
    return small_experiment()


@pytest.fixture
def trial(exp):
    return dark_trial(exp)


def test_half_of_the_copies_stay_and_the_others_lose_the_attribute(trial):
    images, goals = lesson(trial, "dark", copies=4)
    n, seen = len(trial.exp.train), trial.read(images).z
    own = trial.read(trial.exp.train)
    for way in goals.values():
        np.testing.assert_array_equal(way[: 2 * n], np.tile(own.z, (2, 1)))
    shift = trial.vectors.shift[0, np.tile(own.y, 2)]
    np.testing.assert_allclose(goals["κ"][2 * n :], seen[2 * n :] - shift)
    np.testing.assert_array_equal(goals["DirMatch"][2 * n :], np.tile(own.z, (2, 1)))
    steps = (goals["random"] - seen)[2 * n :]
    size = np.linalg.norm(steps, axis=1)
    np.testing.assert_allclose(size, np.linalg.norm(shift, axis=1))
    assert np.linalg.matrix_rank(steps, tol=1e-6 * size.max()) == 1


def test_without_pairs_the_external_images_are_taught_alone(trial):
    images, goals = lesson(trial, "dark", copies=4, pairs=False)
    assert len(images) == 2 * len(trial.exp.train)
    assert images.hashes == trial.worn["dark"].hashes
    np.testing.assert_array_equal(goals["DirMatch"], trial.vectors.means[images.targets])


def test_what_is_taught_carries_over_to_other_images_and_random_steps_do_not(trial):
    """The encoder's answer to test images with the attribute is nearer to that of their twins."""
    images, goals = lesson(trial, "dark", copies=4)
    clean, away = trial.conditions["clean"][0].z, {}
    for way in ("κ", "DirMatch", "random"):
        made = match(trial.exp.ft, images, goals[way], epochs=8, lr=3e-3, progress=False)
        dark = extract_features(made.classifier, trial.images["dark"], progress=False)
        away[way] = np.square(dark.z - clean).sum()
    before = np.square(trial.conditions["dark"][0].z - clean).sum()
    assert away["DirMatch"] < 0.85 * before
    assert away["κ"] < 0.9 * before
    assert away["random"] > 1.2 * before


def test_no_label_of_a_test_image_is_read(trial, exp):
    rng = np.random.default_rng(0)
    other = changed(exp, test=with_labels(exp.test, rng.permutation(exp.test.targets)))
    again = dark_trial(other)
    for one, two in zip(
        lesson(trial, "dark").goals.values(), lesson(again, "dark").goals.values(), strict=True
    ):
        np.testing.assert_array_equal(one, two)
