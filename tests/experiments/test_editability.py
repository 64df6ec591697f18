"""What is forecast is what then happens: green models forget, models that knew the class beforehand do not, and it says so."""

import numpy as np
import pytest
import torch
from torch import nn

from classvec_lab import Classifier, ClassVectors, Features
from classvec_lab.editing.advice import overall
from classvec_lab.editing.calibration import calibrate_gate
from classvec_lab.editing.injection import inject
from classvec_lab.editing.strength import strength_curve
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.experiments.outlook import METHODS, editability

CLASSES = ("cat", "dog", "elk", "fox", "gnu")


class World:
    """Five classes on a simplex of radius 10 in twelve dimensions; before fine-tuning `kept` of the way from their centre."""

    def __init__(self, *, kept=0.0, noise=1.0, n=600, seed=0, bias=True):
        rng = np.random.default_rng(seed)
        basis = np.linalg.qr(rng.normal(size=(12, 5)))[0].T
        corners = basis - basis.mean(axis=0)
        corners *= 10 / np.linalg.norm(corners, axis=1, keepdims=True)
        centre = (
            3 * np.linalg.qr(np.concatenate([basis, rng.normal(size=(7, 12))]).T)[0][:, -1]
        )  # unseen by the head
        head = nn.Linear(12, 5, bias=bias)
        head.weight.data = torch.as_tensor(corners).float()
        if bias:
            head.bias.data[:] = 0
        self.corners, self.classifier = (
            corners,
            Classifier(nn.Identity(), head, classes=CLASSES, preprocess=None),
        )

        def draw(scale, size):
            y = np.arange(size) % 5
            return Features(
                centre + scale * corners[y] + noise * rng.normal(size=(size, 12)), y, CLASSES
            )

        self.pre_train, self.pre_val = draw(kept, n), draw(kept, n)
        self.train, self.val, self.test = (draw(1.0, size) for size in (n, n, 3000))
        self.vectors = ClassVectors.from_features(self.pre_train, self.train)

    def report(self, **options):
        options = {"pre_val": self.pre_val, **options}
        return editability(self.classifier, self.vectors, self.train, self.val, **options)

    def edited(self, target, lambda_, gate="predicted"):
        """ACC_f and ACC_r on test images after the edit is made."""
        edit = self.vectors[target].gated(
            calibrate_gate(self.val, self.vectors, target, score=gate, classifier=self.classifier)
        )
        with torch.inference_mode():
            logits = inject(self.classifier, lambda_ * edit).logits(
                torch.as_tensor(self.test.z).float()
            )
        hit, own = logits.argmax(1).numpy() == self.test.y, self.test.y == CLASSES.index(target)
        return hit[own].mean(), hit[~own].mean()


@pytest.fixture(scope="module")
def collapsed():
    return World()


@pytest.fixture(scope="module")
def known():
    """The pre-trained model tells the classes apart already: fine-tuning added 40 % of the way."""
    return World(kept=0.6)


def test_a_collapsed_model_that_moved_far_is_green_and_forgets(collapsed):
    report = collapsed.report()
    assert report.light == "green"
    assert (report.recommendation["light"] == "green").all()
    assert (report.recommendation["method"] == "class vector").all()
    for row in report.recommendation.itertuples():
        acc_f, acc_r = collapsed.edited(row[1], row.lambda_)
        assert abs(row.lambda_) <= 1.5
        assert acc_f <= 0.03
        assert acc_r >= 0.98
        assert row.acc_f == pytest.approx(acc_f, abs=0.02)
        assert row.acc_r == pytest.approx(acc_r, abs=0.02)
    assert len(report.says()) == 3
    assert report.says()[0].startswith(
        "GREEN: class vectors at |lambda| <= 1.5 behind the gate 'predicted' are forecast to forget 5"
    )


def test_a_model_that_knew_the_classes_before_says_that_lambda_one_fails(known):
    report = known.report()
    assert report.light == "amber"
    (sentence,) = (s for s in report.says() if s.startswith("Lambda = -1"))
    assert "not enough" in sentence
    assert "names 100.0% of the pre-trained representations (n = 600)" in report.says()[1]
    curves = report.curves[
        (report.curves["method"] == "class vector") & (report.curves["gate"] == "predicted")
    ]
    for target in CLASSES:
        curve = curves[curves["class"] == target].set_index("lambda_")
        for lambda_ in (-1.0, -1.5, -3.0, -5.0):
            acc_f, acc_r = known.edited(target, lambda_)
            assert curve.loc[lambda_, "acc_f"] == pytest.approx(acc_f, abs=0.03)
            assert curve.loc[lambda_, "acc_r"] == pytest.approx(acc_r, abs=0.02)
        assert curve.loc[-1.0, "acc_f"] > 0.95
        assert not curve.loc[-1.5, "meets"]
        assert curve.loc[-5.0, "meets"]
    assert (report.recommendation["light"] == "amber").all()


def test_where_nothing_is_strong_enough_it_is_red(known):
    report = known.report(lambdas=(-0.5,))
    assert report.lambdas == (0.0, -0.5, -1.0)
    assert report.light == "red"
    assert (
        report.recommendation["direction"].isin(["retired to the mean"]).all()
    )  # as long as the classes are apart
    assert (
        report.smallest.loc[report.smallest["method"] != "retired to the mean", "lambda_"]
        .isna()
        .all()
    )
    said = report.says()[-1]
    assert said.startswith(
        "gnu: class vectors will not forget it down to lambda -1, where the others are kept ACC_f stays at"
    )
    assert "no other step of that length will either, but a longer one, retired to the mean" in said


def test_another_direction_is_named_where_it_does_what_the_class_vector_cannot():
    world = World()
    aside = np.linalg.svd(world.corners)[2][
        -1
    ]  # fine-tuning moved the cat aside, where the head does not look
    z_pre = world.vectors.z_pre.copy()
    z_pre[0] = world.vectors.z_ft[0] - 12 * aside
    world.vectors = ClassVectors(z_pre, world.vectors.z_ft, world.vectors.count, CLASSES)
    report = world.report(gates=("none", "predicted"))
    row = report.recommendation.set_index("class").loc["cat"]
    assert row["light"] == "amber"
    assert row["method"] == "z_ft - mu"
    assert row["gate"] == "predicted"
    assert report.light == "amber"
    said = report.says()[-1]
    assert said.startswith(
        "cat: class vectors will not forget it down to lambda -5, where the others are kept ACC_f stays at 100"
    )
    assert "the z_ft - mu will at lambda" in said
    cat = report.table.iloc[0]
    assert cat["read_share"] < 0.05
    assert world.edited("cat", -5.0)[0] > 0.95
    # behind the mapping alone, the same direction is written into the weights
    row = world.report(gates="mapping").recommendation.set_index("class").loc["cat"]
    assert (row["method"], row["direction"], row["light"]) == (
        "weight mapping",
        "z_ft - mu",
        "amber",
    )


def test_the_geometry_by_hand(collapsed):
    table = collapsed.report().table
    assert list(table["class"]) == list(CLASSES)
    np.testing.assert_allclose(table["norm_kappa"], np.linalg.norm(collapsed.vectors.kappa, axis=1))
    np.testing.assert_allclose(table["spread"], np.sqrt(12), rtol=0.1)
    np.testing.assert_allclose(table["shift_to_spread"], table["norm_kappa"] / table["spread"])
    assert (table["alignment"] > 0.99).all()
    assert (table["read_share"] > 0.98).all()
    assert (table["read_share"] <= 1).all()
    right = collapsed.pre_val.z @ collapsed.corners.T
    hits = right.argmax(axis=1) == collapsed.pre_val.y
    np.testing.assert_allclose(
        table["head_on_pre"], [hits[collapsed.pre_val.y == i].mean() for i in range(5)]
    )
    assert (
        (table["head_on_pre_low"] < table["head_on_pre"])
        & (table["head_on_pre"] < table["head_on_pre_high"])
    ).all()
    assert (table["n_pre"] == 120).all()


def test_without_the_pretrained_features_that_column_is_empty(collapsed):
    report = collapsed.report(pre_val=None, gates="predicted")
    assert (
        report.table[["head_on_pre", "head_on_pre_low", "head_on_pre_high"]].isna().all(axis=None)
    )
    assert (report.table["n_pre"] == 0).all()
    assert "pre-trained representations" not in report.says()[1]


def test_curves_start_unedited_and_agree_with_the_edit_on_samples(collapsed):
    report = collapsed.report(lambdas=(-1.5,))
    assert set(report.curves["gate"]) == {"none", "predicted", "margin", "mapping"}
    assert set(report.curves["method"]) == set(METHODS)
    start = report.curves[report.curves["lambda_"] == 0]
    assert not start["meets"].any()
    np.testing.assert_array_equal(start["acc_f"], start["base_f"])
    assert len(report.curves) == len(METHODS) * 4 * 5 * 3
    edit = collapsed.vectors["elk"]
    real = strength_curve(
        collapsed.classifier, edit, collapsed.test, lambdas=(-1.0, -1.5)
    ).set_index("lambda_")
    told = report.curves.query(
        "method == 'class vector' and gate == 'none' and `class` == 'elk'"
    ).set_index("lambda_")
    np.testing.assert_allclose(told["acc_r"], real.loc[told.index, "acc_r"], atol=0.03)


def test_collateral_and_the_gates_that_were_tried(collapsed):
    report = collapsed.report(gates=("none", "margin"))
    assert report.deploy == "none"
    table = report.collateral(gate="margin")
    assert (np.diag(table) < -0.9).all()
    assert (table.to_numpy()[~np.eye(5, dtype=bool)] > -0.05).all()
    found = report.curves.set_index(["method", "gate", "class", "lambda_"]).loc[
        ("class vector", "margin", "dog", -1.5)
    ]
    assert table.loc["dog", "dog"] == pytest.approx(found["acc_f"] - found["base_f"])
    with pytest.raises(
        EditError,
        match=r"no forecast of 'class vector' behind 'predicted' at lambda -1\.5; there are",
    ):
        report.collateral(gate="predicted")
    with pytest.raises(EditError, match="at lambda -7"):
        report.collateral(lambda_=-7)


@pytest.mark.parametrize(
    ("goal", "method"), [("labels", "logit mask"), ("representation", "retraining")]
)
def test_the_goal_decides_what_no_forecast_can(collapsed, goal, method):
    report = collapsed.report(goal=goal, gates="predicted")
    assert (report.recommendation["method"] == method).all()
    assert report.light == "green"  # the light stays that of the forecasts
    assert method.split()[-1].removesuffix("ing") in report.recommendation["sentence"].iloc[0]


def test_no_single_class_is_forgotten_by_negating_a_task(collapsed, known):
    assert NEGATION in RECOMMENDED
    for world in (collapsed, known):
        assert set(world.report(gates="predicted").recommendation["method"]) <= set(RECOMMENDED) - {
            NEGATION
        }


def test_the_margin_gate_needs_samples():
    world = World(n=50)
    assert set(world.report().curves["gate"]) == {"none", "predicted", "mapping"}
    with pytest.raises(EditError, match="needs at least 99 held-out samples"):
        world.report(gates=("none", "margin"))
    with pytest.raises(EditError, match="needs at least 99 held-out samples"):
        world.report(deploy="margin")


def test_the_gate_to_be_deployed_is_forecast_and_decides(collapsed):
    report = collapsed.report(deploy="cosine")
    assert report.deploy == "cosine"
    assert set(report.curves["gate"]) == {"none", "predicted", "margin", "mapping", "cosine"}
    assert (report.recommendation["gate"] == "cosine").all()
    assert (report.collateral().to_numpy() == report.collateral(gate="cosine").to_numpy()).all()


def test_the_overall_light():
    import pandas as pd

    assert overall(pd.Series(["green"] * 9)) == "green"
    assert overall(pd.Series(["green"] * 9 + ["amber"])) == "amber"
    assert overall(pd.Series(["green"] * 5 + ["red"] * 5)) == "amber"
    assert overall(pd.Series(["green"] * 4 + ["red"] * 5)) == "red"


def test_bad_input_is_named(collapsed):
    world = collapsed
    for options, error, text in (
        ({"lambdas": (-1, 0.5)}, EditError, "below 0"),
        ({"lambdas": ()}, EditError, "below 0"),
        ({"gates": ("none", "magic")}, EditError, "unknown gates 'magic'"),
        ({"gates": ()}, EditError, "none given"),
        ({"gates": ("none",), "deploy": "margin"}, EditError, "deploy='margin' is not among"),
        ({"goal": "fame"}, EditError, "goal is one of"),
        ({"threshold": 1.5}, EditError, "shares in"),
        (
            {"pre_val": Features(np.ones((5, 3)), np.arange(5), CLASSES)},
            MismatchError,
            "3 in the validation features of the pre",
        ),
    ):
        with pytest.raises(error, match=text):
            world.report(**options)
    kept = world.val.y != 3
    with pytest.raises(MismatchError, match="no sample of class fox in the validation set"):
        editability(
            world.classifier,
            world.vectors,
            world.train,
            Features(world.val.z[kept], world.val.y[kept], CLASSES),
        )
    still = ClassVectors(world.vectors.z_ft, world.vectors.z_ft, world.vectors.count, CLASSES)
    with pytest.raises(EditError, match="norm 0"):
        editability(world.classifier, still, world.train, world.val, gates="none")
    mine = ClassVectors(
        world.vectors.z_pre, world.vectors.z_ft, world.vectors.count, CLASSES, "pre", "ft"
    )
    wrong = Features(world.train.z, world.train.y, CLASSES, model="pre")
    with pytest.raises(MismatchError, match=r"training features come from another model \(pre\)"):
        editability(world.classifier, mine, wrong, world.val)
