"""Weights between two networks are exact at both ends, and batch-norm statistics fit the data."""

import copy

import numpy as np
import pytest
import torch
from conftest import coloured, small_classifier
from torch import nn

from classvec_lab import Classifier, interpolate
from classvec_lab.errors import MismatchError, ModelError
from classvec_lab.models import interpolation, recalibrate


def same_state(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_the_ends_are_the_two_models():
    pre, ft = small_classifier(seed=0), small_classifier(seed=1)
    for alpha, encoder in ((0, pre.encoder), (1, ft.encoder)):
        between = interpolate(pre, ft, alpha)
        assert same_state(between.encoder, encoder)
        assert same_state(between.head, ft.head)
        assert not between.training


def test_half_way_is_the_mean_and_the_ends_stay():
    pre, ft = small_classifier(seed=0, batchnorm=True), small_classifier(seed=1, batchnorm=True)
    ft.train()
    pre.encoder[2].num_batches_tracked += 3
    before = [copy.deepcopy(m.state_dict()) for m in (pre, ft)]
    between = interpolate(pre, ft, 0.5)
    assert not any(m.training for m in between.modules())
    assert all(m.training for m in ft.modules())
    state = between.encoder.state_dict()
    for name, value in state.items():
        a, b = pre.encoder.state_dict()[name], ft.encoder.state_dict()[name]
        torch.testing.assert_close(value, (a + b) / 2 if value.is_floating_point() else a)
    for model, old in zip((pre, ft), before, strict=True):
        assert all(torch.equal(v, old[k]) for k, v in model.state_dict().items())


def test_double_stays_double_and_half_is_computed_in_single():
    pre, ft = small_classifier(seed=0).double(), small_classifier(seed=1).double()
    third = interpolate(pre, ft, 1 / 3).encoder[1].weight
    torch.testing.assert_close(
        third, 2 / 3 * pre.encoder[1].weight + 1 / 3 * ft.encoder[1].weight, rtol=0, atol=1e-16
    )
    halves = [copy.deepcopy(m).bfloat16() for m in (pre, ft)]
    middle = interpolate(*halves, 0.5).encoder[1].weight
    expected = (
        0.5 * halves[0].encoder[1].weight.float() + 0.5 * halves[1].encoder[1].weight.float()
    ).bfloat16()
    assert torch.equal(middle, expected)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), -1.01, 2.5, "half", None])
def test_impossible_alphas_are_refused(alpha):
    with pytest.raises(ModelError, match=r"finite numbers in \[-1, 2\]"):
        interpolate(small_classifier(), small_classifier(), alpha)


def test_another_architecture_is_refused():
    with pytest.raises(
        MismatchError, match=r"the fine-tuned encoder doesn't fit .*of another shape: 3\.weight"
    ):
        interpolate(small_classifier(), small_classifier(dim=5), 0.5)


def test_recalibration_gives_the_statistics_of_the_data(monkeypatch):
    """A batch norm on the pixels themselves: mean and variance are those of the images, whatever they were."""
    data = coloured(30)
    base = small_classifier()
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 6))
    nn.init.constant_(encoder[1].running_mean, 7.0)
    head = nn.Linear(6, 3)
    classifier = Classifier(encoder, head, classes=data.classes, preprocess=base.preprocess).eval()
    fresh = recalibrate(classifier, data)
    pixels = np.stack([base.preprocess(image).flatten().numpy() for image, _ in data])
    np.testing.assert_allclose(fresh.encoder[1].running_mean, pixels.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(fresh.encoder[1].running_var, pixels.var(axis=0, ddof=1), rtol=1e-4)
    monkeypatch.setattr(interpolation, "BATCH", 7)
    batches = recalibrate(classifier, data)  # of 6: means agree exactly, variances on average
    np.testing.assert_allclose(batches.encoder[1].running_mean, pixels.mean(axis=0), atol=1e-5)
    assert (classifier.encoder[1].running_mean == 7).all()
    assert not any(m.training for m in fresh.modules())
    assert fresh.encoder[1].momentum == classifier.encoder[1].momentum == 0.1


def test_dropout_stays_off_and_the_mode_as_it_was():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Dropout(0.9), nn.BatchNorm1d(8))
    encoder.train()
    encoder[1].eval()
    data, preprocess = coloured(64), small_classifier().preprocess
    classifier = Classifier(encoder, nn.Linear(8, 3), classes=data.classes, preprocess=preprocess)
    before = copy.deepcopy(encoder.state_dict())
    fresh = recalibrate(classifier, data).encoder
    for found in (encoder, fresh):
        assert [m.training for m in found] == [True, False, True, True]
        assert found[3].momentum == 0.1
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    x = torch.stack([preprocess(image) for image, _ in data])
    with torch.no_grad():
        torch.testing.assert_close(
            fresh[3].running_mean, encoder[1](x.flatten(1)).mean(0), atol=1e-5, rtol=1e-4
        )


def test_statistics_of_a_network_in_half_precision():
    classifier, data = small_classifier(batchnorm=True), coloured(30)
    whole, half = (
        recalibrate(c, data).encoder for c in (classifier, copy.deepcopy(classifier).half())
    )
    assert half[2].running_mean.dtype == torch.float16
    torch.testing.assert_close(
        half[2].running_mean.float(), whole[2].running_mean, rtol=0.01, atol=0.01
    )


def test_without_batch_norm_nothing_happens():
    classifier = small_classifier()
    assert recalibrate(classifier, coloured()) is classifier


def test_calibration_covers_a_sorted_data_set_in_batches_alike(monkeypatch):
    monkeypatch.setattr(interpolation, "CALIBRATION", 9)
    monkeypatch.setattr(interpolation, "BATCH", 8)
    sizes, brightest = [], []

    class Watched(nn.Flatten):
        def forward(self, x):
            sizes.append(len(x))
            brightest.extend(x.mean(dim=(2, 3)).argmax(dim=1).tolist())
            return super().forward(x)

    data = coloured(30)
    data = data.subset(np.argsort(data.targets, kind="stable"))
    classifier = small_classifier(batchnorm=True)
    classifier.encoder[0] = Watched()
    recalibrate(classifier, data)
    assert sizes == [5, 4]
    assert np.bincount(brightest).tolist() == [3, 3, 3]
    assert brightest != sorted(brightest)
    with pytest.raises(ModelError, match="two images; got 1"):
        recalibrate(classifier, coloured(1))


def test_statistics_are_re_estimated_where_they_moved_and_only_there():
    pre, ft = small_classifier(seed=0, batchnorm=True), small_classifier(seed=1, batchnorm=True)
    data = coloured()
    frozen = interpolate(pre, ft, 0.5, calibration=data)
    assert same_state(frozen, interpolate(pre, ft, 0.5))
    assert torch.equal(frozen.encoder[2].running_mean, pre.encoder[2].running_mean)
    ft.encoder[2].running_var[3] += 1
    plain = interpolate(pre, ft, 0.5)
    assert plain.encoder[2].running_var[3] == 1.5
    assert same_state(interpolate(pre, ft, 0.5, calibration=data), recalibrate(plain, data))
    for alpha, end in ((0, pre), (1, ft)):
        assert same_state(interpolate(pre, ft, alpha, calibration=data).encoder, end.encoder)
    with pytest.raises(ModelError, match="two images; got 0"):
        interpolate(pre, ft, 0.5, calibration=[])


def test_it_reads_as_the_fine_tuned_one_does():
    """A classifier with an encoding of its own keeps it, and its preprocessing."""

    class Doubled(Classifier):
        def encode(self, images):
            return 2 * super().encode(images)

    pre, base = small_classifier(seed=0), small_classifier(seed=1)
    ft = Doubled(base.encoder, base.head, classes=base.classes, preprocess=base.preprocess)
    between, x = interpolate(pre, ft, 0.5), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(between.encode(x), 2 * interpolate(pre, base, 0.5).encode(x))
