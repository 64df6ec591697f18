"""Cross-Task Linearity: zero for linear networks, read beside its baselines, nothing left behind."""

import copy

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import Classifier, CosineHead, cross_task_linearity
from classvec_lab.errors import MismatchError, ModelError
from classvec_lab.models.interpolation import interpolate

EVERY = (-1.0, -0.3, 0.0, 0.25, 0.5, 0.75, 1.0, 1.6, 2.0)


def with_encoder(build, *, head=None, dim=6):
    pair = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        encoder = build()
        pair.append(
            Classifier(
                encoder,
                head or nn.Linear(dim, 3),
                classes=CLASSES,
                preprocess=small_classifier().preprocess,
            )
        )
    return pair


def measure(pre, ft, data=None, **options):
    return cross_task_linearity(
        pre, ft, coloured() if data is None else data, progress=False, **options
    )


def test_a_linear_network_deviates_by_nothing():
    pre, ft = with_encoder(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6)).double())
    table = measure(pre, ft, alphas=EVERY).table
    assert table["deviation"].max() <= 1e-10
    np.testing.assert_allclose(table[["cosine", "coef"]], 1, atol=1e-10)


def test_both_ends_are_exact():
    table = measure(
        small_classifier(seed=0), small_classifier(seed=1), alphas=(0, 1), layers="blocks"
    ).table
    assert (table["deviation"] == 0).all()
    assert set(table["layer"]) == {"1", "3", "representation"}


def test_a_nonlinear_network_deviates_and_matches_the_definition():
    pre, ft = small_classifier(seed=0).double(), small_classifier(seed=1).double()
    data, alpha = coloured(), 0.3
    row = measure(pre, ft, data, alphas=(alpha,)).summary().iloc[0]
    x = torch.stack([pre.preprocess(image) for image, _ in data]).double()
    with torch.no_grad():
        f0, f1, a = (m.encoder(x).numpy() for m in (pre, ft, interpolate(pre, ft, alpha)))
    b = (1 - alpha) * f0 + alpha * f1
    norm = np.linalg.norm
    assert row["deviation"] == pytest.approx(
        norm(a - b, axis=1).mean() / norm(f1 - f0, axis=1).mean(), rel=1e-12
    )
    assert row["cosine"] == pytest.approx(
        ((a * b).sum(1) / norm(a, axis=1) / norm(b, axis=1)).mean(), rel=1e-12
    )
    assert row["coef"] == pytest.approx(((a * b).sum(1) / (b * b).sum(1)).mean(), rel=1e-12)
    assert row["end_cosine"] == pytest.approx(
        ((f0 * f1).sum(1) / norm(f0, axis=1) / norm(f1, axis=1)).mean(), rel=1e-12
    )
    assert row["deviation_low"] < row["deviation"] < row["deviation_high"]
    assert row["trivial_deviation"] == pytest.approx(0.3)
    assert row["n"] == 30


def test_the_order_of_the_models_mirrors_alpha():
    pre, ft = small_classifier(seed=0), small_classifier(seed=1)
    there, back = measure(pre, ft, alphas=(0.2,)).table, measure(ft, pre, alphas=(0.8,)).table
    columns = [
        "n",
        "cosine",
        "deviation",
        "deviation_high",
        "end_cosine",
        "nearer_end_cosine",
        "trivial_deviation",
    ]
    np.testing.assert_allclose(there[columns], back[columns], rtol=1e-5)


class Constant(nn.Module):
    """The same features for every image."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values, dtype=torch.float64))

    def forward(self, x):
        return self.values.expand(len(x), -1)


def test_the_trivial_baseline_of_orthogonal_ends():
    """Each of two orthogonal ends alone has cosine .707 with their mean."""
    ends = (Constant([1.0, 0, 0]), Constant([0, 1.0, 0]))
    pre, ft = (
        Classifier(e, nn.Linear(3, 3), classes=CLASSES, preprocess=small_classifier().preprocess)
        for e in ends
    )
    row = measure(pre, ft, alphas=(0.5,)).summary().iloc[0]
    assert row["nearer_end_cosine"] == pytest.approx(np.sqrt(0.5))
    assert (row["end_cosine"], row["trivial_deviation"]) == (0, 0.5)
    assert (row["deviation"], row["cosine"]) == pytest.approx((0, 1))


def test_a_head_that_normalises_adds_two_layers():
    head = CosineHead(torch.randn(3, 6), 20.0)
    pre, ft = with_encoder(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), head=head)
    table = measure(pre, ft, alphas=(0.5,)).summary().set_index("layer")
    assert list(table.index) == ["representation", "unit representation", "logits"]
    assert table.loc["representation", "deviation"] < 1e-5
    assert (
        table.loc["unit representation", "deviation"] > 1e-3
    )  # linear weights, but the norm isn't
    assert (
        table.loc["unit representation", "cosine"]
        > table.loc["unit representation", "nearer_end_cosine"]
    )


def transformer(batch_first):
    from classvec_lab.datasets.torchvision_repair import ensure_torchvision

    ensure_torchvision()
    from open_clip.transformer import VisionTransformer

    encoder = VisionTransformer(
        image_size=8, patch_size=4, width=8, layers=2, heads=2, mlp_ratio=2.0, output_dim=6
    )
    encoder.transformer.batch_first = batch_first
    for block in encoder.transformer.resblocks:
        block.attn.batch_first = batch_first
    return encoder


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_batch_size_changes_nothing(batch_first):
    """Five tokens: at a batch of five the shape can't tell the two axes apart."""
    pre, ft = with_encoder(lambda: transformer(batch_first))
    tables = [
        measure(pre, ft, coloured(20), layers="blocks", batch_size=b).table for b in (1, 3, 5, 20)
    ]
    numbers = [t.drop(columns=["layer", "class"]).to_numpy(float) for t in tables]
    for other in numbers[1:]:
        np.testing.assert_allclose(other, numbers[0], rtol=1e-4, atol=1e-6)
    assert list(tables[0]["layer"].unique()) == [
        "transformer.resblocks.0",
        "transformer.resblocks.1",
        "representation",
    ]


def traces(classifier):
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in classifier.modules())
    return hooks, classifier.training, {k: v.clone() for k, v in classifier.state_dict().items()}


@pytest.mark.parametrize("fails", [False, True])
def test_the_models_are_left_as_they_were(fails):
    pre, ft = small_classifier(seed=0, batchnorm=True), small_classifier(seed=1, batchnorm=True)
    ft.train()
    before = [traces(m) for m in (pre, ft)]

    def broken(image):
        raise RuntimeError("no")

    data = coloured()
    if fails:
        pre.preprocess = ft.preprocess = broken
        with pytest.raises(Exception, match="preprocessing failed"):
            measure(pre, ft, data, layers="blocks")
    else:
        measure(pre, ft, data, layers="blocks")
    for model, (hooks, training, state) in zip((pre, ft), before, strict=True):
        now = traces(model)
        assert now[:2] == (hooks, training)
        assert all(torch.equal(now[2][k], v) for k, v in state.items())
    assert before[0][0] == 0


def test_batch_norm_is_recalibrated():
    """Two networks whose statistics are nonsense in between: recalibration on the images brings the deviation down."""
    pre, ft = small_classifier(seed=0, batchnorm=True), small_classifier(seed=1, batchnorm=True)
    from classvec_lab.models import recalibrate

    pre, ft = recalibrate(pre, coloured()), recalibrate(ft, coloured())
    x = torch.stack([pre.preprocess(image) for image, _ in coloured()])
    gap = measure(pre, ft, alphas=(0.5,)).images[0.5, "representation"]["gap"]
    plain = interpolate(pre, ft, 0.5)
    with torch.no_grad():
        mixture = (pre.encoder(x) + ft.encoder(x)) / 2
        fresh, raw = (
            (middle.encoder(x) - mixture).norm(dim=1).numpy()
            for middle in (recalibrate(plain, coloured()), plain)
        )
    np.testing.assert_allclose(gap, fresh, rtol=1e-4)
    assert not np.allclose(gap, raw, rtol=1e-2)
    assert (measure(pre, ft, alphas=(0, 1)).table["deviation"] == 0).all()
    frozen = copy.deepcopy(pre)
    with torch.no_grad():
        frozen.encoder[1].weight.add_(0.05 * torch.randn(16, 192))
    kept = interpolate(pre, frozen, 0.5, calibration=coloured())
    plain = interpolate(pre, frozen, 0.5)  # one fixed normalisation: in between as at the ends
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in kept.state_dict().items())


def test_identical_models_are_said_to_be_and_do_not_deviate_by_zero():
    report = measure(small_classifier(), small_classifier(), layers="blocks")
    assert report.table["deviation"].isna().all()
    assert "nothing to compare" in report.says()[0]


def test_classes_with_one_image_and_with_none():
    data = coloured()
    data = data.subset(np.flatnonzero((data.targets == 0) | (np.arange(30) == 1)))
    table = measure(
        small_classifier(seed=0), small_classifier(seed=1), data, alphas=(0.5,)
    ).table.set_index("class")
    assert table["n"].to_dict() == {"red": 10, "green": 1, "blue": 0, "all": 11}
    assert np.isfinite(table.loc["green", "deviation"])
    assert table.loc["green", ["deviation_low", "cosine_high"]].isna().all()
    assert table.loc["blue", ["deviation", "cosine", "end_cosine"]].isna().all()


def test_what_cannot_be_measured_is_refused():
    pre, ft = small_classifier(seed=0), small_classifier(seed=1)
    for alphas in ((0.5, np.nan), (3,), ()):
        with pytest.raises(ModelError, match=r"finite numbers in \[-1, 2\]"):
            measure(pre, ft, alphas=alphas)
    with pytest.raises(ModelError, match="no layer '7'"):
        measure(pre, ft, layers=["7"])
    with pytest.raises(MismatchError, match="another shape"):
        measure(small_classifier(dim=5), ft)
    ft.encoder.unused = nn.Linear(2, 2)
    pre.encoder.unused = nn.Linear(2, 2)
    ft.encoder.forward = pre.encoder.forward = lambda x: torch.zeros(len(x), 6)
    with pytest.raises(ModelError, match="takes no part"):
        measure(pre, ft, layers=["unused"])


class Bent(nn.Module):
    """f = ±w² elementwise: the mixture of the ends of w = 1 and w = -1 misses the middle by more than either end."""

    def __init__(self, w, power):
        super().__init__()
        self.w, self.power = nn.Parameter(torch.full((2,), float(w), dtype=torch.float64)), power

    def forward(self, x):
        wave = torch.sin(8 * self.w) + 0.2 * self.w if self.power else self.w
        return wave.expand(len(x), -1) * (
            1 + x.mean((1, 2, 3), dtype=torch.float64)[:, None] * 0.01
        )


def test_it_says_the_opposite_of_a_network_that_is_not_linear():
    said = []
    for power in (0, 1):
        pair = [
            Classifier(
                Bent(w, power),
                nn.Linear(2, 3),
                classes=CLASSES,
                preprocess=small_classifier().preprocess,
            )
            for w in (0.1, 0.9)
        ]
        said.append(" ".join(measure(*pair, alphas=(0.5,)).says()))
    assert "better than the nearer end alone" in said[0]
    assert "worse than the nearer end alone: linearity fails" in said[1]
    assert "can't be told apart" in measure(*pair, coloured().subset([0]), alphas=(0.5,)).says()[0]
