"""Paths in the representation: closed forms equal brute force, and constructed geometries give what they must."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import (
    Classifier,
    ClassVectors,
    CosineHead,
    Features,
    class_interpolation,
    class_vectors,
    extract_features,
    latent_paths,
)
from classvec_lab.diagnostics.linearity import (
    Additivity,
    additivity,
    class_interpolations,
    cyclic_shift,
    scaling,
    weight_path,
)
from classvec_lab.diagnostics.linearity.between_classes import _falls
from classvec_lab.diagnostics.linearity.independence import Scaling
from classvec_lab.errors import MismatchError
from classvec_lab.readout import Latent, predict, random_like
from classvec_lab.statistics import with_ends

RNG = np.random.default_rng(0)
HEADS = {
    "linear": lambda m, c: nn.Linear(m, c),
    "without bias": lambda m, c: nn.Linear(m, c, bias=False),
    "cosine": lambda m, c: CosineHead(torch.randn(c, m), 30.0),
}


def names(n):
    return tuple(f"c{i}" for i in range(n))


def reader(head, n_classes):
    return Classifier(
        nn.Flatten(), head, classes=names(n_classes), preprocess=small_classifier().preprocess
    )


def with_head(kind, m=5, c=4):
    torch.manual_seed(1)
    return reader(HEADS[kind](m, c), c)


class Squared(nn.Module):
    """A head that is neither linear nor normalising."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.in_features, self.out_features = (
            inner,
            inner.in_features,
            inner.out_features,
        )

    def forward(self, z):
        return self.inner(z) ** 2


def collapsed(n_classes=4, n=12, *, noise=0.0, ft=1.0, seed=0):
    """Class means at ft · e_c after fine-tuning and near 0 before; a head that reads coordinate c as class c."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n)
    z_pre = 0.01 * np.eye(n_classes)[y] + noise * rng.normal(size=(len(y), n_classes))
    z_ft = ft * np.eye(n_classes)[y] + noise * rng.normal(size=(len(y), n_classes))
    head = nn.Linear(n_classes, n_classes)
    with torch.no_grad():
        head.weight.copy_(torch.eye(n_classes))
        head.bias.zero_()
    pre, after = (Features(z, y, names(n_classes)) for z in (z_pre, z_ft))
    return reader(head, n_classes), pre, after, ClassVectors.from_features(pre, after)


@pytest.mark.parametrize("kind", HEADS)
def test_logits_along_a_line_equal_the_head(kind):
    classifier, alphas = with_head(kind), np.linspace(-2, 2, 9)
    z, shared, each = RNG.normal(size=(7, 5)), RNG.normal(size=5), RNG.normal(size=(7, 5))
    latent = Latent(classifier, z)
    generic = Latent(reader(Squared(classifier.head), 4), z)
    for step in (shared, each):
        with torch.no_grad():
            brute = np.stack(
                [classifier.double().head(torch.tensor(z + a * step)).numpy() for a in alphas]
            )
        np.testing.assert_allclose(latent.along(step, alphas), brute, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(latent.predict(step, alphas), brute.argmax(axis=2))
        np.testing.assert_allclose(generic.along(step, alphas), brute**2, rtol=1e-5, atol=1e-4)


def test_at_the_origin_a_normalising_head_gives_no_nan():
    classifier, z = with_head("cosine"), RNG.normal(size=(3, 5))
    assert np.isfinite(Latent(classifier, z).along(-z, [1.0])).all()


def test_random_directions_have_the_given_norms():
    vectors = RNG.normal(size=(6, 5)) * np.arange(6)[:, None]
    drawn = random_like(vectors, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(vectors, axis=1))


def test_latent_paths_leak_the_label_and_show_it():
    classifier, pre, _, vectors = collapsed(noise=0.05)
    paths = latent_paths(pre, vectors, classifier)
    at = paths.at(1.0).set_index("path")
    assert at.loc["true class", "accuracy"] == at.loc["wrong class", "added_share"] == 1
    assert at.loc["wrong class", "accuracy"] == 0
    assert 0.25 < at.loc["nearest class", "accuracy"] < 0.6
    assert at["knows_label"].to_dict() == {
        "true class": True,
        "nearest class": False,
        "wrong class": True,
        "random direction": True,
    }
    start = paths.at(0.0).set_index("path")["accuracy"]
    assert start.nunique() == 1
    assert start.iloc[0] == pytest.approx((predict(classifier, pre) == pre.y).mean())
    assert "decides the prediction" in " ".join(paths.says())
    assert paths.table.groupby("path")["normalised"].max()["true class"] == 1
    assert (paths.table["low"] <= paths.table["accuracy"] + 1e-12).all()


def test_weak_class_vectors_are_said_to_decide_nothing():
    """Well separated before, hardly moved by fine-tuning: the sample shows, not the vector."""
    classifier, _, after, _ = collapsed(noise=0.05)
    moved = Features(after.z + 0.05 * np.eye(4)[after.y], after.y, after.classes)
    paths = latent_paths(after, ClassVectors.from_features(after, moved), classifier)
    assert "doesn't decide the prediction" in " ".join(paths.says())


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((0.4, 0.6), "is undecided"),
        ((0.51, 0.6), "decides the prediction: "),
        ((0.4, 0.49), "doesn't decide the prediction."),
    ],
)
def test_whether_the_vector_decides_is_said_as_far_as_the_interval_goes(ends, told):
    classifier, _, after, vectors = collapsed(noise=0.05)
    paths = latent_paths(after, vectors, classifier)
    wrong = paths.table["path"] == "wrong class"
    paths.table.loc[wrong, with_ends("added")[1:]] = ends
    assert told in paths.says()[1]


def test_the_same_seed_draws_the_same_wrong_classes():
    classifier, pre, _, vectors = collapsed(noise=0.3)
    a, b, c = (latent_paths(pre, vectors, classifier, seed=s).table for s in (0, 0, 1))
    assert a.equals(b)
    assert not a.equals(c)


def test_the_weight_path_ends_at_the_two_models():
    pre, ft, data = small_classifier(seed=0), small_classifier(seed=1), coloured()
    path = weight_path(pre, ft, data, alphas=(0, 0.5, 1))
    for alpha, model in ((0.0, pre), (1.0, ft)):
        np.testing.assert_array_equal(
            path[alpha].z, extract_features(model, data, progress=False).z
        )
    vectors = class_vectors(pre, ft, data, progress=False)
    report = latent_paths(path[0.0], vectors, ft, alphas=(0, 0.5, 1), weight=path)
    weights = report.table.query("path == 'weights'").set_index("alpha")["accuracy"]
    assert weights[1.0] == pytest.approx((predict(ft, path[1.0]) == data.targets).mean())
    latent = report.table.query("path == 'true class'").set_index("alpha")
    assert latent.loc[0.0, ["deviation", "cosine"]].tolist() == pytest.approx([0, 1])
    with pytest.raises(MismatchError, match=r"no weight path at alpha 0\.2"):
        latent_paths(path[0.0], vectors, ft, alphas=(0.2,), weight=path)
    for changes, message in (
        ({"y": path[0.0].y[::-1]}, "has other labels than"),
        ({"precision": "another"}, "number formats"),
    ):
        other = replace(path[0.0], **changes)
        with pytest.raises(MismatchError, match=message):
            latent_paths(other, vectors, ft, alphas=(0, 0.5, 1), weight=path)


def test_a_linear_encoder_walks_both_paths_alike():
    """One linear layer whose fine-tuning adds the same shift to every image: the weight path is z_pre + alpha κ."""
    torch.manual_seed(0)
    pair = []
    for shift in (0.0, 1.0):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
        nn.init.constant_(encoder[1].bias, shift)
        pair.append(
            Classifier(
                encoder, nn.Linear(6, 3), classes=CLASSES, preprocess=small_classifier().preprocess
            )
        )
    data, alphas = coloured(), (0, 0.5, 1)
    path = weight_path(*pair, data, alphas=alphas)
    vectors = class_vectors(*pair, data, progress=False)
    rows = latent_paths(path[0.0], vectors, pair[1], alphas=alphas, weight=path).table
    rows = rows.set_index("path")
    assert rows.loc[["true class", "nearest class", "wrong class"], "deviation"].max() < 1e-5
    assert rows.loc["random direction", "deviation"].max() > 0.5


def test_class_interpolation_of_symmetric_classes_crosses_half_way():
    classifier, _, after, vectors = collapsed(noise=0.02)
    report = class_interpolation(classifier, after, vectors, "c0", "c2")
    crossing = report.crossing.set_index("of")
    assert crossing.loc["shares", "alpha"] == pytest.approx(0.5, abs=0.03)
    assert crossing.loc["probabilities", "alpha"] == pytest.approx(0.5, abs=0.03)
    assert (
        crossing.loc["shares", "low"]
        <= crossing.loc["shares", "alpha"]
        <= crossing.loc["shares", "high"]
    )
    assert report.success.value == 1
    assert report.detour.value == 0
    shares = report.table[["source_share", "target_share", "other_share"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(
        report.table["source_probability"] + report.table["target_probability"], 1
    )
    assert report.table["knows_label"].all()
    assert "most arrive at 'c2'" in report.says()[0]


def test_a_path_that_leads_nowhere_never_crosses_and_says_so():
    """Class vectors a tenth as long as the way between the classes."""
    classifier, _, after, _ = collapsed(noise=0.02)
    moved = Features(after.z + 0.1 * np.eye(4)[after.y], after.y, after.classes)
    vectors = ClassVectors.from_features(after, moved)
    report = class_interpolation(classifier, after, vectors, "c0", "c2")
    assert report.crossing[["alpha", "low", "high"]].isna().all(axis=None)
    assert "less than half arrive at 'c2'" in report.says()[0]
    assert "never cross" in report.says()[1]
    every = class_interpolations(classifier, after, vectors)
    assert every.matrix("crossing").isna().all(axis=None)
    assert "0.0% of 12 pairs of classes arrive" in every.says()[0]


def test_a_planted_detour_is_found_and_named():
    """Three class means on a line: from the first to the last the way leads through the middle one."""
    y = np.repeat(np.arange(3), 10)
    place = np.array([[-1.0, 1], [0, 1], [1, 1]])
    after = Features(place[y] + 1e-3 * RNG.normal(size=(30, 2)), y, names(3))
    vectors = ClassVectors.from_features(Features(0 * after.z, y, names(3)), after)
    head = nn.Linear(2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[-2.0, 0], [0, 1], [2, 0]]))
        head.bias.zero_()
    classifier = reader(head, 3)
    report = class_interpolation(classifier, after, vectors, "c0", "c2")
    assert (report.detour.value, report.detour.name, report.detour.n) == (1, "c1", 10)
    assert report.says()[2] == (
        "Most often 'c1' is passed: 100.0% [72.2%, 100.0%] pass a third class on the way (n = 10)."
    )
    detour = class_interpolations(classifier, after, vectors).matrix("detour")
    assert detour.loc["c0", "c2"] == detour.loc["c2", "c0"] == 1
    assert detour.loc["c0", "c1"] == 0
    assert np.isnan(np.diag(detour)).all()


def test_all_pairs_repeat_the_single_pair():
    classifier, _, after, vectors = collapsed(noise=0.25)
    every = class_interpolations(classifier, after, vectors)
    success = every.matrix("success")
    for row in every.table.iloc[[0, 5, 11]].itertuples():
        one = class_interpolation(classifier, after, vectors, row.source, row.target)
        assert one.success.value == row.success == success.loc[row.source, row.target]
        np.testing.assert_equal(one.detour.value, row.detour)
        np.testing.assert_allclose(one.crossing["alpha"], [row.crossing, row.probability_crossing])
    few = class_interpolations(classifier, after, vectors, max_pairs=3, seed=4)
    assert few.matrix("success").notna().sum().sum() == len(few.table) == 3
    assert {"n", "success_low", "detour_high", "crossing_low", "n_detour", "knows_label"} <= set(
        few.table
    )


def test_crossings_of_curves():
    alphas = np.array([0, 0.5, 1.0])
    curves = np.array(
        [[1, 1, -1], [1, -1, 1], [1, 0.5, 0.2], [-1, -1, -1], [1, 0, -1], [-1, 1, -1.0]]
    )
    np.testing.assert_allclose(_falls(alphas, curves), [0.75, 0.25, np.inf, np.inf, 0.5, 0.75])


def test_scaling_on_orthogonal_classes_spares_the_others():
    classifier, _, after, vectors = collapsed(noise=0.02)
    report = scaling(classifier, after, vectors)
    table = report.summary().set_index(["direction", "alpha"])
    assert table.loc[("class vector", 0.0), ["accuracy", "others"]].tolist() == [1, 1]
    assert table.loc[("class vector", -2.0), ["accuracy", "others"]].tolist() == [0, 1]
    assert report.table["knows_label"].all()
    assert (report.table["n"] + report.table["n_others"] == len(after)).all()
    said = report.says()
    assert "shows no effect on the other classes (+0.0 [+0.0, +0.0] points)" in said[0]
    assert "costs the other classes accuracy (-100.0 [-100.0, -100.0] points)" in said[-1]


def test_additivity_forgets_the_set_and_keeps_the_rest():
    classifier, _, after, vectors = collapsed(noise=0.02)
    table = additivity(classifier, after, vectors, lambda_=-2).table.set_index(["direction", "k"])
    own = table.loc["class vector"]
    assert (own["inside"].iloc[:-1] == 0).all()
    assert (own["outside"].dropna() == 1).all()
    assert np.isnan(own["outside"].iloc[-1])
    assert (table["n_orders"] == 5).all()
    classifier, _, after, vectors = collapsed(40, 2)
    sizes = additivity(classifier, after, vectors).table["k"].unique()
    assert (len(sizes), sizes.min(), sizes.max()) == (12, 1, 40)


@pytest.mark.parametrize(
    ("gap", "word"),
    [((0.1, 0.3), "above"), ((-0.1, 0.5), "not told from"), ((-0.3, -0.1), "below")],
)
def test_additivity_is_told_from_its_control_by_the_paired_interval(gap, word):
    columns = ["direction", "k", "inside", *with_ends("outside", "beside"), "n_orders"]
    beside = (np.mean(gap), *gap)
    rows = [
        ("class vector", 1, 0.1, 0.7, 0.6, 0.8, *beside, 5),
        ("random direction", 1, 0.9, 0.5, 0.0, 1.0, *beside, 5),
    ]
    (said,) = Additivity(pd.DataFrame(rows, columns=columns), -1.5).says()
    assert f"70.0% [60.0%, 80.0%] of the others (n = 5 orders), {word} a random direction's" in said


def test_additivity_is_paired_over_orders():
    """Noise that the other classes share with the control does not hide a difference."""
    classifier, _, after, vectors = collapsed(noise=0.3)
    table = additivity(classifier, after, vectors).table.set_index(["direction", "k"])
    own, control = (table.loc[d] for d in ("class vector", "random direction"))
    np.testing.assert_allclose(own["beside"], own["outside"] - control["outside"], atol=1e-12)
    np.testing.assert_array_equal(own["beside_low"], control["beside_low"])
    known = own.dropna()
    assert (known["beside_low"] <= known["beside"]).all()


def test_the_effect_of_scaling_on_others_is_paired_over_classes():
    """The others of one class are easier than those of another, and all lose alike."""
    rows = [
        (direction, c, alpha, 0.5, 10, level + loss * alpha, 90)
        for direction in ("class vector", "random direction")
        for c, level in zip("abc", (0.5, 0.7, 0.9), strict=True)
        for alpha, loss in ((-2.0, 0.05), (-1.0, 0.05), (0.0, 0.0), (2.0, 0.0))
    ]
    columns = ["direction", "class", "alpha", "accuracy", "n", "others", "n_others"]
    said = Scaling(pd.DataFrame(rows, columns=columns)).says()
    assert "costs the other classes accuracy (-10.0 [-10.0, -10.0] points)" in said[0]
    assert "shows no effect on the other classes" in said[2]


def test_the_cyclic_shift_arrives_or_is_said_to_fail():
    classifier, _, after, vectors = collapsed(noise=0.02)
    report = cyclic_shift(classifier, after, vectors)
    assert (report.table["success"] == 1).all()
    assert report.table["target"].tolist() == ["c1", "c2", "c3", "c0", ""]
    assert (report.table["random"] < 0.6).all()
    assert "brings most of the samples there: 100.0%" in report.says()[0]
    still = ClassVectors(
        vectors.z_ft - 0.1 * vectors.kappa, vectors.z_ft, vectors.count, vectors.classes
    )
    assert (
        "less than half of the samples there: 0.0%"
        in (cyclic_shift(classifier, after, still).says()[0])
    )


def test_what_does_not_belong_together_is_refused():
    classifier, pre, after, vectors = collapsed()
    other = Features(after.z, after.y, ("a", "b", "c", "d"))
    narrow = ClassVectors(vectors.z_pre[:, :3], vectors.z_ft[:, :3], vectors.count, vectors.classes)
    for function in (scaling, additivity, cyclic_shift, class_interpolations):
        with pytest.raises(MismatchError, match="the features"):
            function(classifier, other, vectors)
        with pytest.raises(MismatchError, match=r"shape \(N, 3\)"):
            function(classifier, after, narrow)
    with pytest.raises(MismatchError, match="no class 'c9'"):
        class_interpolation(classifier, after, vectors, "c9", "c0")
    with pytest.raises(MismatchError, match="name two classes"):
        class_interpolation(classifier, after, vectors, "c0", "c0")
    without = Features(after.z[after.y > 0], after.y[after.y > 0], after.classes)
    with pytest.raises(MismatchError, match="no sample of class 'c0'"):
        class_interpolation(classifier, without, vectors, "c0", "c1")
    assert (
        class_interpolations(classifier, without, vectors).matrix("success").loc["c0"].isna().all()
    )
    with pytest.raises(MismatchError, match="lambda_ must lie in"):
        additivity(classifier, after, vectors, lambda_=np.nan)
    with pytest.raises(MismatchError, match=r"no alpha 0\.33"):
        latent_paths(pre, vectors, classifier).at(0.33)


def test_many_classes_are_quick():
    """43 classes, 10,000 samples: every pair within memory and a few seconds (some 4 s on one core)."""
    rng = np.random.default_rng(0)
    y = np.arange(10_000) % 43
    means = rng.normal(size=(43, 64))
    after = Features(means[y] + 0.2 * rng.normal(size=(len(y), 64)), y, names(43))
    vectors = ClassVectors(0 * means, means, np.full(43, 232), names(43))
    classifier = reader(CosineHead(torch.tensor(means), 30.0), 43)
    report = class_interpolations(classifier, after, vectors, n_boot=50, max_pairs=300)
    assert report.table["success"].mean() > 0.9
