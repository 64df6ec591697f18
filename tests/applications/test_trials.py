"""A trial's external samples are apart from its test images, and judging gives labels to none but one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from attribute_worlds import DARK, dark_trial, world
from conftest import coloured
from small_experiments import changed, small_experiment
from test_removal import classifier_of

from classvec_lab.applications import Trial, judge, over_seeds, route, trials_say
from classvec_lab.datasets.corruptions import written_on
from classvec_lab.errors import DatasetError, EditError
from classvec_lab.readout import logits, predict
from classvec_lab.statistics import share


@pytest.fixture(scope="module")
def exp():
    return small_experiment()


@pytest.fixture
def trial(exp):
    return dark_trial(exp, strength=1.5)


def test_a_trial_draws_pairs_and_says_which_images_have_the_value(trial, exp):
    assert trial.few.counts.tolist() == [3, 3, 3] == trial.worn["dark"].counts.tolist()
    for (clean, y), (dark, same) in zip(trial.few, trial.worn["dark"], strict=True):
        assert y == same
        assert np.asarray(dark).std() < 0.8 * np.asarray(clean).std()
    assert {name: set(w) for name, (_, w) in trial.conditions.items()} == {
        "dark": {0},
        "clean": {-1},
    }
    assert trial.vectors.values == ("dark",)
    np.testing.assert_array_equal(trial.vectors.means, exp.features["val"].moments().mean)
    again = Trial(exp, exp.train, 3, {"dark": DARK}, {"clean": None}, seed=0)
    other = Trial(exp, exp.train, 3, {"dark": DARK}, {"clean": None}, seed=1)
    assert again.few.hashes == trial.few.hashes != other.few.hashes


def test_external_samples_that_are_test_images_are_refused(exp):
    with pytest.raises(DatasetError, match="9 of the external samples are images of test"):
        Trial(exp, exp.test, 3, {"dark": DARK}, {"clean": None}, seed=0)
    with pytest.raises(DatasetError, match="test"):  # also where only the changed ones are
        Trial(exp, exp.train, 3, {"dark": lambda data: exp.test}, {"clean": None}, seed=0)
    with pytest.raises(DatasetError, match="train has fewer than 61 images of red, green, blue"):
        Trial(exp, exp.train, 61, {"dark": DARK}, {"clean": None}, seed=0)


def test_words_of_images_are_their_values(exp):
    classes = exp.ft.classes
    write = {word: partial(written_on, word=word) for word in classes}
    tests = {"conflict": partial(written_on, word="conflict"), "clean": None}
    trial = Trial(exp, exp.train, 2, write, tests, seed=0)
    features, w = trial.conditions["conflict"]
    told = trial.images["conflict"].metadata["word"]
    assert [classes[i] for i in w] == told.tolist()
    assert (w != features.y).all()
    assert (trial.conditions["clean"][1] == -1).all()


def test_only_what_is_class_known_is_given_labels():
    w = world()
    seen = []

    def deployed(*given):
        seen.append(len(given))
        return given[0]

    def known(z, y, values):
        seen.append((y.tolist(), set(values)))
        return z

    ways = {"deployed": {"a": deployed}, "control": {"b": deployed}, "class known": {"c": known}}
    judge(classifier_of(w), ways, {"snow": w.tests["snow"]})
    assert seen == [1, 1, (w.tests["snow"][0].y.tolist(), {0})]
    with pytest.raises(EditError, match="no setting 'secret'"):
        judge(classifier_of(w), {"secret": {}}, w.tests)


def test_predictions_as_deployed_do_not_change_with_the_labels(trial):
    """Labels of test images shuffled: the same predictions, so accuracy is all that changes."""
    router = route(trial.vectors.pooled(), trial.plain)
    features, w = trial.conditions["dark"]
    mixed = replace(features, y=np.random.default_rng(0).permutation(features.y))
    called = predict(router.on(trial.exp.ft), features)
    for given in (features, mixed):
        tried = judge(trial.exp.ft, {"deployed": {"router": router.moved}}, {"dark": (given, w)})
        assert tried["accuracy"].iloc[1] == (called == given.y).mean()


def test_gain_and_attack_are_counted_over_the_same_images(trial):
    flipped = {
        name: logits(trial.exp.ft, z.z)[:, ::-1] for name, (z, _) in trial.conditions.items()
    }
    table = trial.judge({"deployed": {"flipped": flipped}}, words=True)
    assert table[["seed", "n_external", "strength"]].drop_duplicates().to_numpy().tolist() == [
        [0, 3, 1.5]
    ]
    for name, (z, w) in trial.conditions.items():
        rows = table[table["condition"] == name].set_index("method")
        own, other = predict(trial.exp.ft, z), flipped[name].argmax(axis=1)
        assert rows.loc["unedited", "gain"] == 0
        gain = (other == z.y).mean() - (own == z.y).mean()
        assert rows.loc["flipped", "gain"] == pytest.approx(gain)
        if name == "clean":
            assert rows["attack"].isna().all()
        else:
            foreign = z.y != 0  # all have value 0, which with words=True is class 0
            assert rows.loc["flipped", "attack"] == pytest.approx((other == 0)[foreign].mean())
            assert set(w) == {0}


def test_other_weights_behind_the_router_leave_what_it_does_not_find(trial):
    router, other = route(trial.vectors.pooled(), trial.plain), small_experiment(seed=3).ft
    whole, gated = trial.logits(other), trial.logits(other, router=router)
    for name, (features, _) in trial.conditions.items():
        found = router.found(features.z) >= 0
        assert (gated[name][found] == whole[name][found]).all()
        rest = logits(trial.exp.ft, features.z)[~found]
        np.testing.assert_allclose(gated[name][~found], rest, rtol=1e-5, atol=1e-5)
    again = trial.logits(trial.exp.ft, change=DARK)["clean"]
    np.testing.assert_array_equal(again, logits(trial.exp.ft, trial.conditions["dark"][0].z))


def table_of(gains, clean=(0.0, 0.0, 0.0), accuracy=0.6):
    rows = []
    for seed, (gain, cost) in enumerate(zip(gains, clean, strict=True)):
        for condition, by in (("snow", gain), ("clean", cost)):
            for method, change in (("unedited", 0.0), ("edit", by)):
                setting = "deployed" if method == "edit" else "reference"
                row = {"condition": condition, "method": method, "setting": setting}
                row |= {"accuracy": accuracy + change, "gain": change, "n": 100, "seed": seed}
                rows.append(row | {"attack": np.nan})
    return pd.DataFrame(rows)


def test_over_seeds_the_interval_is_that_of_the_seeds():
    found = over_seeds(table_of((0.02, 0.03, 0.04))).set_index(["condition", "method"])
    row = found.loc[("snow", "edit")]
    half = 4.302653 * 0.01 / np.sqrt(3)  # t with 2 degrees of freedom
    assert (row["gain"], row["n"], row["unit"]) == (pytest.approx(0.03), 3, "seeds")
    np.testing.assert_allclose(
        [row["gain_low"], row["gain_high"]], [0.03 - half, 0.03 + half], 1e-6
    )
    assert "attack" not in found


def test_of_one_seed_the_interval_is_over_images(trial):
    table = trial.judge({})
    found = over_seeds(table, ["n_external"])
    assert set(found["unit"]) == {"images"}
    hits = predict(trial.exp.ft, trial.conditions["clean"][0]) == trial.conditions["clean"][0].y
    row = found.set_index("condition").loc["clean"]
    assert (row["accuracy"], row["accuracy_low"]) == (share(hits).value, share(hits).low)


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ((0.02, 0.03, 0.04), "it gains +3.0 [+0.5, +5.5] points"),
        ((-0.02, -0.03, -0.04), "it loses -3.0 [-5.5, -0.5] points"),
        ((-0.02, 0.03, 0.0), "it shows no change"),
    ],
)
def test_sentences_follow_the_numbers(gains, said):
    (told,) = trials_say(over_seeds(table_of(gains, (-0.02, -0.02, -0.02))), "snow")
    assert said in told
    assert "60.0% unedited" in told
    assert told.endswith("clean images -2.0 [-2.0, -2.0] points.")


def test_a_trial_on_an_experiment_with_other_labels_uses_them_only_where_it_may(exp):
    """Shuffled labels of val move the class means, those of test nothing that is deployed."""
    y = np.random.default_rng(0).permutation(exp.test.targets)
    test = exp.test
    for i, name in enumerate(exp.test.classes):
        test = test.relabelled(y == i, name)
    mixed = changed(exp, test=test)
    args = ({"dark": DARK}, {"dark": DARK})
    one, other = (Trial(e, exp.train, 3, *args, seed=0) for e in (exp, mixed))
    np.testing.assert_array_equal(one.vectors.shift, other.vectors.shift)
    routers = [route(t.vectors, t.plain) for t in (one, other)]
    np.testing.assert_array_equal(routers[0].weight, routers[1].weight)
    assert coloured(3).hashes & coloured(6).hashes == coloured(3).hashes
