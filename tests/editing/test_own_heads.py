"""What a head computes decides how it is read: by probing, whatever class it has."""

import copy

import numpy as np
import pytest
import torch
from conftest import coloured, small_classifier
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from classvec_lab import (
    Classifier,
    ClassVectors,
    CosineHead,
    Features,
    extract_features,
    finetune,
    inject,
    map_edit,
)
from classvec_lab.editing.live import LiveEdits
from classvec_lab.editing.weights.sites import find_site
from classvec_lab.errors import EditError, ModelError
from classvec_lab.readout import find_rows, logits, predict

M, C = 6, 3


class Scaled(nn.Linear):
    """16 · cos, with an idle bias."""

    def forward(self, z):
        return 16 * F.linear(F.normalize(z, dim=-1), F.normalize(self.weight, dim=-1))


class Same(nn.Linear):
    def forward(self, z):
        return z @ self.weight.T + self.bias


class Dropping(nn.Linear):
    def forward(self, z):
        return super().forward(F.dropout(z, 0.5, self.training))


class Rectified(nn.Linear):
    def forward(self, z):
        return super().forward(F.relu(z))


class Capped(nn.Linear):
    def forward(self, z):
        return 30 * torch.tanh(super().forward(z) / 30)


class Tempered(CosineHead):
    def forward(self, z):
        return super().forward(z) / 2


class Shifted(CosineHead):
    def forward(self, z):
        return super().forward(z) + z[:, :1]


class Adapted(nn.Linear):
    """A low-rank adapter beside W."""

    def __init__(self, m, c):
        super().__init__(m, c)
        self.a, self.b = nn.Parameter(torch.randn(2, m)), nn.Parameter(torch.randn(c, 2))

    def forward(self, z):
        return super().forward(z) + z @ self.a.T @ self.b.T


class Warm(nn.Linear):
    def forward(self, z):
        return super().forward(z) / 0.07


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.fc, self.in_features, self.out_features = (
            nn.LayerNorm(M),
            nn.Linear(M, C),
            M,
            C,
        )

    def forward(self, z):
        return self.fc(self.norm(z))


class Squared(nn.Module):
    """No attribute of nn.Linear."""

    def __init__(self):
        super().__init__()
        self.rows, self.in_features, self.out_features = nn.Parameter(torch.randn(C, M)), M, C

    def forward(self, z):
        return -((z[:, None] - self.rows) ** 2).sum(-1)


def patched():
    head = nn.Linear(M, C)
    head.forward = lambda z: F.linear(z, head.weight) ** 3
    return head


def cosine(kind):
    return kind(torch.randn(C, M), 7.0)


HEADS = {
    "linear": (lambda: nn.Linear(M, C), "linear"),
    "no bias": (lambda: nn.Linear(M, C, bias=False), "linear"),
    "own forward, linear": (lambda: Same(M, C), "linear"),
    "dropout": (lambda: Dropping(M, C), "linear"),
    "weight norm": (lambda: weight_norm(nn.Linear(M, C)), "linear"),
    "spectral norm": (lambda: spectral_norm(nn.Linear(M, C)), "linear"),
    "adapted": (lambda: Adapted(M, C), None),
    "warm": (lambda: Warm(M, C), None),
    "layer norm": (lambda: Normed(), None),
    "cosine": (lambda: cosine(CosineHead), "cosine"),
    "16 cos": (lambda: Scaled(M, C), "cosine"),
    "tempered": (lambda: cosine(Tempered), "cosine"),
    "rectified": (lambda: Rectified(M, C), None),
    "capped": (lambda: Capped(M, C), None),
    "shifted": (lambda: cosine(Shifted), None),
    "patched": (patched, None),
    "squared": (lambda: Squared(), None),
}


def made(name):
    torch.manual_seed(0)
    base = small_classifier()
    return Classifier(
        base.encoder, HEADS[name][0](), classes=base.classes, preprocess=base.preprocess
    ).eval()


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    y = np.arange(90) % C
    centres = rng.standard_normal((C, M)) * 2
    z = (centres[y] + rng.standard_normal((90, M))).astype(np.float32)
    return Features(z - centres[y].astype(np.float32), y, small_classifier().classes), Features(
        z, y, small_classifier().classes
    )


@pytest.mark.parametrize("name", HEADS)
def test_rows_are_what_the_head_computes_or_there_are_none(name, features):
    classifier, kind = made(name), HEADS[name][1]
    classifier.head.train()
    rows, z = find_rows(classifier.head), features[1].z.astype(float)
    assert classifier.head.training
    assert (rows is not None) == (kind is not None)
    if kind is not None:
        assert (rows.scale is not None) == (kind == "cosine")
        length = 1 if rows.scale is None else np.linalg.norm(z, axis=1, keepdims=True) / rows.scale
        np.testing.assert_allclose(
            (z @ rows.weight.T + rows.bias) / length, logits(classifier, z), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", HEADS)
def test_the_live_panel_and_the_mapping_agree_with_the_model_or_refuse(name, features):
    classifier, kind = made(name), HEADS[name][1]
    vectors = ClassVectors.from_features(*features)
    edit = -1.5 * vectors["red"]
    truth = predict(inject(classifier, edit), features[1])
    if kind is None:
        with pytest.raises(EditError, match=r"heads W z \+ b and scale"):
            LiveEdits(classifier, features[1])
    else:
        assert (LiveEdits(classifier, features[1]).read(edit).after == truth).all()
    site = find_site(classifier)
    assert (site.kind == "head") == (
        kind == "linear" and name not in ("weight norm", "spectral norm")
    )
    mapped = map_edit(classifier, edit, features[1], method="discriminant")
    z = torch.as_tensor(features[1].z)
    if site.kind == "head":  # the head then reads z as it would read the moved z
        with torch.no_grad():
            moved = classifier.head(torch.as_tensor(mapped.moved(features[1].z)).float())
            torch.testing.assert_close(
                mapped.apply_to(classifier).head(z), moved, rtol=1e-3, atol=1e-3
            )


class LastMap(nn.Linear):
    def forward(self, x):
        return super().forward(x).tanh()


class Tied(nn.Module):
    """Its last map is its middle one, too."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(192, M), nn.Linear(M, M), nn.Linear(M, M)
        self.last.weight = self.middle.weight

    def forward(self, x):
        return self.last(self.middle(self.first(x.flatten(1)).relu()).relu())


def test_a_last_map_whose_weights_another_layer_reads_is_no_place_for_an_edit():
    base, of = small_classifier(), {"classes": small_classifier().classes}
    tied = Classifier(Tied(), cosine(CosineHead), **of, preprocess=base.preprocess)
    with pytest.raises(ModelError, match="neither a linear head nor a linear last map"):
        find_site(tied)
    tied.encoder.last.weight = nn.Parameter(tied.encoder.last.weight.detach().clone())
    tied.encoder.alias = tied.encoder.last  # another name for the same layer
    assert find_site(tied).kind == "linear"


@pytest.mark.parametrize(
    "wrap", [nn.Identity, nn.DataParallel, lambda net: net.append(nn.Dropout())]
)
def test_wrapped_and_dropping_encoders_in_train_mode(wrap, tmp_path):
    base, data = small_classifier(), coloured(30)
    encoder = base.encoder if wrap is nn.Identity else wrap(base.encoder)
    kept = {"classes": base.classes, "preprocess": base.preprocess}
    classifier = Classifier(encoder, base.head, **kept)
    classifier.train()
    features = extract_features(classifier, data, cache=False, progress=False)
    again = extract_features(small_classifier(), data, cache=False, progress=False)
    np.testing.assert_array_equal(features.z, again.z)
    assert all(part.training for part in classifier.modules())
    tuned = finetune(classifier, data, epochs=1, progress=False).classifier
    fine = extract_features(tuned, data, progress=False)
    edit = -ClassVectors.from_features(features, fine)["red"]
    mapped = map_edit(tuned, edit, fine, method="discriminant")
    off = mapped.remove_from(mapped.apply_to(tuned)).state_dict()
    assert all(torch.equal(off[name], value) for name, value in tuned.state_dict().items())
    loaded = Classifier.load(tuned.save(tmp_path / "m"), encoder=copy.deepcopy(encoder))
    assert (logits(loaded, fine.z) == logits(tuned, fine.z)).all()


def test_a_last_map_that_is_not_linear_is_no_place_for_an_edit():
    base = small_classifier()
    base.encoder[-1] = LastMap(16, M)
    classifier = Classifier(
        base.encoder, cosine(CosineHead), classes=base.classes, preprocess=base.preprocess
    )
    with pytest.raises(ModelError, match="neither a linear head nor a linear last map"):
        find_site(classifier)


@pytest.mark.parametrize("name", ["no bias", "own forward, linear", "16 cos", "squared"])
def test_own_heads_are_trained_twice_saved_and_loaded(name, tmp_path):
    classifier, data = made(name), coloured(30)
    first, again = (
        finetune(classifier, data, epochs=1, lr=0.01, progress=False).classifier for _ in range(2)
    )
    features = extract_features(first, data, progress=False)
    assert not torch.equal(
        next(iter(first.head.parameters())), next(iter(classifier.head.parameters()))
    )
    assert (logits(first, features.z) == logits(again, features.z)).all()
    folder, encoder = first.save(tmp_path / "m"), small_classifier(seed=3).encoder
    if name != "no bias":
        with pytest.raises(ModelError, match="pass head="):
            Classifier.load(folder, encoder=encoder)
    head = None if name == "no bias" else HEADS[name][0]()
    loaded = Classifier.load(folder, encoder=encoder, head=head)
    assert (logits(loaded, features.z) == logits(first, features.z)).all()
    assert type(loaded.head) is type(copy.copy(first.head))
