"""Task vectors: exact arithmetic, an argument never changed, and refusal of what doesn't fit."""

import math

import pytest
import torch
from conftest import small_classifier
from torch import nn

from classvec_lab import Classifier, interpolate
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


class Tied(nn.Module):
    """A network whose first and last layer share one weight, and a buffer that is seen twice."""

    def __init__(self, seed, how="parameter"):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("scale", torch.rand(8))
        if how == "parameter":
            self.last.weight = self.first.weight
        elif how == "storage":
            self.last.weight.data = self.first.weight.data
        else:
            self.register_buffer("part", self.scale[:3])

    def forward(self, images):
        z = self.first(images.flatten(1)[:, :8] * self.scale)
        return self.last(z).relu()


def tied(seed, how="parameter"):
    given = {"classes": "ab", "preprocess": small_classifier().preprocess}
    return Classifier(Tied(seed, how), nn.Linear(8, 2), **given).eval()


def whole(classifier):
    """Every entry of the encoder, shared or not."""
    return classifier.encoder.state_dict().values()


@pytest.mark.parametrize("how", ["parameter", "storage", "view"])
def test_tied_weights_move_once(how):
    pre, ft = tied(0, how), tied(1, how)
    tau = TaskVector.between(pre, ft)
    for moved, goal in (
        (tau.apply(pre), ft),
        ((-tau).apply(ft), pre),
        (interpolate(pre, ft, 1.0), ft),
        (interpolate(pre, ft, 0.0), pre),
    ):
        for value, wanted in zip(whole(moved), whole(goal), strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)
    half, mixed = tau.apply(pre, 0.5), interpolate(pre, ft, 0.5)
    for a, b in zip(whole(half), whole(mixed), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(tau.apply(pre).encode(images), ft.encode(images))


def test_a_tied_weight_counts_once():
    tau = TaskVector.between(tied(0), tied(1))
    assert list(tau.deltas) == ["scale", "first.weight", "first.bias", "last.bias"]
    squares = sum(p.detach().square().sum() for p in delta_parameters())
    assert tau.norm() == pytest.approx(squares.item() ** 0.5, rel=1e-5)
    assert TaskVector.between(tied(0), tied(2)).cosine(tau, by="parameter").size == 4


def delta_parameters():
    a, b = (tied(seed).encoder for seed in (0, 1))
    return [y - x for x, y in zip(a.parameters(), b.parameters(), strict=True)] + [
        b.scale - a.scale
    ]


def test_weights_that_are_tied_in_one_network_alone_are_refused():
    apart = tied(0, "view")
    del apart.encoder.part
    for call in (TaskVector.between, lambda a, b: interpolate(a, b, 0.5)):
        for pair in ((tied(0), apart), (apart, tied(0))):
            with pytest.raises(MismatchError, match=r"1 (missing|unexpected): last\.weight"):
                call(*pair)


def test_a_classifier_with_tied_weights_comes_back_tied(tmp_path):
    saved = tied(0)
    loaded = Classifier.load(saved.save(tmp_path / "m"), encoder=Tied(3))
    assert loaded.encoder.last.weight is loaded.encoder.first.weight
    for a, b in zip(whole(saved), whole(loaded), strict=True):
        assert torch.equal(a, b)
