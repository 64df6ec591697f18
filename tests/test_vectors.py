"""Class vectors equal the definition, come back from disk, and refuse what they were not made with."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import coloured, small_classifier
from hypothesis import given, settings
from hypothesis import strategies as st

from classvec_lab import ClassVectors, Features, class_vectors, extract_features
from classvec_lab.errors import FileFormatError, MismatchError


def make(seed=0, n_classes=3, dim=4, n=30):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    names = [f"c{i}" for i in range(n_classes)]
    pre, ft = (
        Features(rng.normal(size=(n, dim)), y, names, model, "data")
        for model in ("before", "after")
    )
    return pre, ft


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_kappa_is_the_difference_of_means(n_classes, dim, seed):
    pre, ft = make(seed, n_classes, dim)
    vectors = ClassVectors.from_features(pre, ft)
    expected = [(ft.z[pre.y == c] - pre.z[pre.y == c]).mean(axis=0) for c in range(n_classes)]
    np.testing.assert_allclose(vectors.kappa, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(
        vectors.z_pre + vectors.kappa, vectors.z_pre + (vectors.z_ft - vectors.z_pre)
    )
    assert vectors.count.sum() == 30
    assert vectors.kappa.dtype == np.float64


def test_order_of_samples_does_not_matter():
    pre, ft = make()
    turn = np.random.default_rng(1).permutation(30)
    turned = (Features(f.z[turn], f.y[turn], f.classes, f.model, f.data) for f in (pre, ft))
    np.testing.assert_allclose(
        ClassVectors.from_features(*turned).kappa,
        ClassVectors.from_features(pre, ft).kappa,
        atol=1e-14,
    )


def test_centred_sums_to_zero_and_is_idempotent():
    vectors = ClassVectors.from_features(*make())
    centred = vectors.centred()
    for array in (centred.z_pre, centred.z_ft, centred.kappa):
        np.testing.assert_allclose(array.sum(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(
        centred.kappa, vectors.kappa - vectors.kappa.mean(axis=0), atol=1e-13
    )
    np.testing.assert_allclose(centred.centred().kappa, centred.kappa, atol=1e-13)


def test_identical_models_give_zero():
    pre, _ = make()
    assert not ClassVectors.from_features(pre, pre).kappa.any()


def test_features_that_do_not_belong_together():
    pre, ft = make()
    pre = replace(pre, precision="float32")
    for other, message in (
        (
            replace(ft, precision="bfloat16"),
            "number formats: pre-trained float32, fine-tuned bfloat16; .* one precision=",
        ),
        (
            Features(ft.z, ft.y, ft.classes, data="elsewhere"),
            "different data: pre-trained data, fine-tuned elsewhere",
        ),
        (Features(ft.z, ft.y, ["x", "y", "z"]), "the fine-tuned features lacks c0"),
        (Features(ft.z, ft.y[::-1], ft.classes), "other labels .* from sample 0 on"),
        (Features(ft.z[:, :2], ft.y, ft.classes), "different shapes"),
    ):
        with pytest.raises(MismatchError, match=message):
            ClassVectors.from_features(pre, other)
    assert ClassVectors.from_features(pre, ft).ft == "after"  # a precision that isn't known passes


def test_a_class_without_samples_is_named():
    pre, ft = (Features(f.z, f.y, [*f.classes, "ghost"]) for f in make())
    with pytest.raises(MismatchError, match=r"without samples, .*; class ghost"):
        ClassVectors.from_features(pre, ft)
    with pytest.raises(MismatchError, match="not finite; class b"):
        ClassVectors(np.zeros((2, 2)), np.array([[0, 0], [np.inf, 0]]), [1, 1], "ab")


def test_saved_and_loaded(tmp_path):
    vectors = ClassVectors.from_features(*make())
    loaded = ClassVectors.load(vectors.save(tmp_path / "v.safetensors"))
    for name in ("z_pre", "z_ft", "kappa", "count"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(vectors, name))
    assert (loaded.classes, loaded.pre, loaded.ft, loaded.data) == (
        vectors.classes,
        "before",
        "after",
        "data",
    )
    assert (
        vectors.save(tmp_path / "w.safetensors").read_bytes()
        == (tmp_path / "v.safetensors").read_bytes()
    )


def test_a_mismatch_is_refused_by_name(tmp_path):
    path = ClassVectors.from_features(*make()).save(tmp_path / "v.safetensors")
    loaded = ClassVectors.load(path)
    assert loaded.require(pre="before", ft="after", data="data") is loaded
    with pytest.raises(MismatchError, match=r"another pre-trained model .*another data") as caught:
        loaded.require(pre="other", ft="after", data="else")
    assert "fine-tuned" not in str(caught.value)
    with pytest.raises(
        MismatchError, match="the given list has 1 classes and these class vectors 3"
    ):
        loaded.require(classes=["c0"])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError):
        ClassVectors.load(path)


def test_models_and_data_stand_for_their_fingerprints(tmp_path):
    pre, ft, data = small_classifier(seed=0), small_classifier(seed=1), coloured()
    path = class_vectors(pre, ft, data, progress=False).save(tmp_path / "v.safetensors")
    loaded = ClassVectors.load(path).require(pre=pre, ft=ft, data=data)
    with pytest.raises(MismatchError, match="another fine-tuned model"):
        loaded.require(ft=pre)
    with pytest.raises(MismatchError, match="another data"):
        loaded.require(data=coloured(29))


def test_from_models_equals_from_features():
    pre, ft, data = small_classifier(seed=0), small_classifier(seed=1), coloured()
    direct = class_vectors(pre, ft, data, progress=False)
    z = [extract_features(m, data, progress=False).z.astype(np.float64) for m in (pre, ft)]
    y = data.targets
    expected = np.array([(z[1] - z[0])[y == c].mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(direct.kappa, expected, rtol=1e-9, atol=1e-12)


def test_names_are_looked_up():
    vectors = ClassVectors.from_features(*make())
    assert vectors.index("c2") == 2
    with pytest.raises(MismatchError, match="no class 'cat'; there are c0, c1, c2"):
        vectors.index("cat")
