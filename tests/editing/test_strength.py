"""The curve over lambda is what injecting gives, and the chosen lambda the smallest that serves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import class_vectors_of, reader, samples

from classvec_lab import Features
from classvec_lab.editing.calibration import calibrate_gate
from classvec_lab.editing.injection import inject
from classvec_lab.editing.strength import FEW, choose_lambda, scarce, strength_curve
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.readout import predict

V = class_vectors_of()
HELD = samples(V, 800, spread=2.0)
VAL = samples(V, 300, seed=5, spread=2.0)


def gated(target="c1"):
    return V[target].gated(calibrate_gate(HELD, V, target, false_fire=0.05))


def accuracies(classifier, edit, lambda_, features):
    """(ACC_f, ACC_r) from an injected classifier."""
    edited = inject(classifier, lambda_ * edit) if lambda_ else classifier
    hit, own = predict(edited, features) == features.y, features.y == V.index(edit.target)
    return hit[own].mean(), hit[~own].mean()


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("kind", ["free", "gated", "soft"])
def test_the_curve_is_what_injection_gives(head, kind):
    classifier = reader(V, head)
    edit = {"free": V["c1"], "gated": gated(), "soft": V["c1"].gated(gated().gate.soft(0.1))}[kind]
    curve = strength_curve(classifier, edit, VAL, lambdas=(-0.5, -1, 2.5)).set_index("lambda_")
    assert curve.index.tolist() == [2.5, 0, -0.5, -1]
    for lambda_, row in curve.iterrows():
        np.testing.assert_allclose(
            (row["acc_f"], row["acc_r"]), accuracies(classifier, edit, lambda_, VAL), atol=1e-12
        )
        for name in ("f", "r"):
            assert row[f"acc_{name}_low"] <= row[f"acc_{name}"] <= row[f"acc_{name}_high"]
    assert (curve["n_f"] == 75).all()
    assert (curve["n_r"] == 225).all()
    assert curve["acc_f"].nunique() > 1


def test_on_an_edited_classifier_gates_still_read_the_raw_representation():
    edited = inject(reader(V), -2.0 * gated("c2"))
    edit = V["c1"]  # without a gate, so that it moves what the first gate would see
    curve = strength_curve(edited, edit, VAL, lambdas=(-1, -3)).set_index("lambda_")
    for lambda_ in (0, -1, -3):
        found = curve.loc[lambda_, ["acc_f", "acc_r"]].astype(float)
        np.testing.assert_allclose(found, accuracies(edited, edit, lambda_, VAL), atol=1e-12)
    assert (
        curve.loc[0, "acc_r"]
        < strength_curve(reader(V), edit, VAL).set_index("lambda_").loc[0, "acc_r"]
    )


def test_training_images_of_a_class_count_where_val_has_few():
    """From 15 on val is enough; below, training images of that class are given, and no others."""
    for n in (FEW - 1, FEW):
        rows = np.concatenate([np.flatnonzero(VAL.y == 1)[:n], np.flatnonzero(VAL.y != 1)])
        val = Features(VAL.z[rows], VAL.y[rows], VAL.classes)
        found = scarce(val, HELD)
        assert (found is None) == (n == FEW)
        assert scarce(val, HELD, "c0") is None
        if found is not None:
            np.testing.assert_array_equal(found.z, HELD.z[HELD.y == 1])
            assert set(found.y) == {1}
            np.testing.assert_array_equal(scarce(val, HELD, "c1").z, found.z)


lambda_lists = st.lists(
    st.sampled_from([-0.1, -0.3, -0.5, -0.75, -1.0, -1.5, -2.0, -4.0, 0.5, 2.0]), max_size=6
)


@given(
    lambda_lists,
    st.sampled_from([0.0, 0.02, 0.2, 0.5]),
    st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    st.sampled_from([0.0, 0.75, 1.5, 9.0]),
    st.sampled_from(V.classes),
)
def test_the_choice_is_that_of_a_search(lambdas, bound, tolerance, floor, target):
    classifier, edit = reader(V), V[target]
    options = {"threshold": bound, "tolerance": tolerance, "floor": floor}
    chosen = choose_lambda(classifier, edit, VAL, lambdas=lambdas, **options)
    tried = sorted({*lambdas, -1.0}, reverse=True)
    found = {x: accuracies(classifier, edit, x, VAL) for x in tried}
    base = accuracies(classifier, edit, 0, VAL)[1]
    meeting = [x for x in tried if found[x][0] <= bound and found[x][1] >= (1 - tolerance) * base]
    assert chosen.curve["lambda_"].tolist() == sorted({*tried, 0.0}, reverse=True)
    assert chosen.curve.loc[chosen.curve["meets"], "lambda_"].tolist() == meeting
    if meeting:
        strong = [abs(x) for x in meeting if abs(x) >= floor]
        assert chosen.lambda_ in meeting
        assert abs(chosen.lambda_) == (min(strong) if strong else max(map(abs, meeting)))
        assert chosen.best == chosen.lambda_
    else:
        assert np.isnan(chosen.lambda_)
        cost = {x: acc_f - acc_r for x, (acc_f, acc_r) in found.items()}
        assert cost[chosen.best] <= min(cost.values()) + 1e-9


def test_few_images_do_not_make_a_strength_mild():
    """The smallest that serves on few images leaves new ones more often than one with a reserve."""
    edit, left = gated(), {0.0: [], 2.0: []}
    many = samples(V, 4000, seed=4, spread=2.0)
    found = strength_curve(reader(V), edit, many).set_index("lambda_")["acc_f"]
    for seed in range(30):
        few = samples(V, 28, seed=seed, spread=2.0)
        for floor, known in left.items():
            known.append(found[choose_lambda(reader(V), edit, few, floor=floor).best])
    assert np.mean(left[2.0]) < np.mean(left[0.0]) - 0.01


def test_what_a_gate_does_not_see_is_out_of_reach_of_every_strength():
    edit, own = gated(), VAL.y == 1
    gate = edit.gate.at(float(np.quantile(edit.gate.scores(VAL.z)[own], 0.3)))
    found = choose_lambda(reader(V), edit.gated(gate), VAL, lambdas=[-2.0, -100.0])
    right = predict(reader(V), VAL)[own] == 1
    assert found.out_of_reach == (right & ~gate.fires(VAL.z[own])).mean() > 0.2
    assert found.curve["acc_f"].min() >= found.out_of_reach
    assert f"no strength brings ACC_f below {found.out_of_reach:.1%}" in found.says()[-1]
    assert choose_lambda(reader(V), V["c1"], VAL).out_of_reach == 0


def test_what_it_says():
    good = choose_lambda(reader(V), gated(), VAL, threshold=0.3, tolerance=0.2)
    assert np.isfinite(good.lambda_)
    first, second, *_ = good.says()
    assert (
        f"c1: lambda = {good.lambda_:+g} is taken, with ACC_f <= 30% "
        "and ACC_r within 20% of unedited on val" in first
    )
    assert "(n = 75)" in first
    assert "(n = 225)" in first
    minus_one = good.curve.set_index("lambda_").loc[-1.0]
    assert (
        second == f"At lambda = -1: ACC_f {minus_one['acc_f']:.1%}, ACC_r {minus_one['acc_r']:.1%}."
    )
    bad = choose_lambda(
        reader(V), V["c1"], VAL, lambdas=[-0.01, -0.02], threshold=0.0, tolerance=0.0
    )
    assert np.isnan(bad.lambda_)
    assert "no lambda tried brings" in bad.says()[0]
    assert f"the best is {bad.best:+g}" in bad.says()[0]


def test_bounds_are_said_as_they_were_given():
    """A bound of half a per cent is not rounded to none."""
    found = choose_lambda(reader(V), gated(), VAL, threshold=0.005, tolerance=0.125)
    assert "ACC_f <= 0.5% and ACC_r within 12.5% of unedited on val" in found.says()[0]


def test_bad_input():
    classifier = reader(V)
    only = Features(VAL.z[VAL.y == 1], VAL.y[VAL.y == 1], VAL.classes)
    none = Features(VAL.z[VAL.y != 1], VAL.y[VAL.y != 1], VAL.classes)
    for features in (only, none):
        with pytest.raises(
            EditError, match="samples of 'c1' and of other classes in the val split"
        ):
            choose_lambda(classifier, V["c1"], features)
    assert np.isnan(strength_curve(classifier, V["c1"], none)["acc_f"]).all()
    with pytest.raises(EditError, match="lambdas must be finite"):
        strength_curve(classifier, V["c1"], VAL, lambdas=[np.nan])
    with pytest.raises(EditError, match="strength 0"):
        choose_lambda(classifier, 0 * V["c1"], VAL)
    with pytest.raises(MismatchError, match="made for another model"):
        choose_lambda(classifier, class_vectors_of(3)["c1"], VAL)
    with pytest.raises(MismatchError, match="the features"):
        choose_lambda(classifier, V["c1"], samples(class_vectors_of(3)))
