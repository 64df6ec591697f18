"""Task vectors: exact arithmetic, an argument never changed, and refusal of what doesn't fit."""

import math

import pytest
import torch
from conftest import small_classifier

from classvec_lab.errors import MismatchError
from classvec_lab.weightspace import TaskVector
from classvec_lab.weightspace.taskvector import block_of


def state(classifier):
    return {k: v.clone() for k, v in classifier.encoder.state_dict().items()}


@pytest.fixture
def models():
    return [small_classifier(seed=s, batchnorm=True) for s in range(3)]


def test_applying_the_difference_gives_the_fine_tuned_encoder(models):
    pre, ft, _ = models
    before = state(pre)
    edited = TaskVector.between(pre, ft).apply(pre)
    for name, value in state(ft).items():
        torch.testing.assert_close(edited.encoder.state_dict()[name], value, rtol=1e-6, atol=1e-7)
    assert all(torch.equal(v, before[k]) for k, v in state(pre).items())
    assert torch.equal(edited.head.weight, pre.head.weight)
    half = TaskVector.between(pre, ft).apply(pre, 0.5).encoder[1].weight
    torch.testing.assert_close(half, (pre.encoder[1].weight + ft.encoder[1].weight) / 2)
    zero = TaskVector.between(pre, ft).apply(pre, 0.0)
    assert all(torch.equal(v, before[k]) for k, v in state(zero).items())


def test_operators(models):
    a, b = TaskVector.between(models[0], models[1]), TaskVector.between(models[0], models[2])
    for combined, expected in (
        (a + b, lambda x, y: x + y),
        (a - b, lambda x, y: x + -y),
        (-a, lambda x, y: -x),
        (2 * a, lambda x, y: 2 * x),
        (a * 0.25, lambda x, y: 0.25 * x),
        (a / 4, lambda x, y: 0.25 * x),
        (sum([a, b]), lambda x, y: x + y),
    ):
        assert all(
            torch.equal(combined.deltas[k], expected(a.deltas[k], b.deltas[k])) for k in a.deltas
        )
    with pytest.raises(TypeError):
        a + 1
    with pytest.raises(TypeError):
        a * b


def test_only_floating_point_entries(models):
    vector = TaskVector.between(models[0], models[1])
    assert "2.running_mean" in vector.deltas
    assert "2.num_batches_tracked" not in vector.deltas


def test_norm_and_cosine(models):
    a, b = TaskVector.between(models[0], models[1]), TaskVector.between(models[0], models[2])
    flat = [torch.cat([d.double().flatten() for d in v.deltas.values()]) for v in (a, b)]
    assert a.norm() == pytest.approx(flat[0].norm().item(), rel=1e-12)
    assert a.cosine(b) == pytest.approx(torch.cosine_similarity(*flat, dim=0).item(), rel=1e-12)
    assert a.cosine(a) == pytest.approx(1)
    assert a.cosine(-3 * a) == pytest.approx(-1)
    by_parameter = a.cosine(a, by="parameter")
    assert list(by_parameter.index) == list(a.deltas)
    assert by_parameter["1.weight"] == pytest.approx(1)
    assert math.isnan(by_parameter["2.weight"])  # batch norm starts alike in both networks
    assert list(a.cosine(b, by="block").index) == ["1", "2", "4"]
    with pytest.raises(MismatchError, match="no level 'layer'; there are model, block, parameter"):
        a.cosine(b, by="layer")


def test_blocks():
    assert block_of("transformer.resblocks.3.attn.in_proj_weight") == "transformer.resblocks.3"
    assert block_of("blocks.0.1.conv.weight") == "blocks.0"
    assert block_of("ln_post.weight") == "ln_post"


def test_networks_that_do_not_fit_are_named(models):
    vector = TaskVector.between(models[0], models[1])
    with pytest.raises(MismatchError, match=r"2\.running_mean"):
        TaskVector.between(models[0], small_classifier())
    with pytest.raises(MismatchError, match=r"of another shape: 4\.weight"):
        vector.apply(small_classifier(dim=5, batchnorm=True))
    with pytest.raises(MismatchError, match="at least one"):
        TaskVector({})
