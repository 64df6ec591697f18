"""A classifier is its encoder and head, comes back from disk bit for bit, and refuses what doesn't fit."""

import copy

import numpy as np
import pytest
import torch
from conftest import coloured, small_classifier
from torch import nn
from torch.nn import functional as F

from classvec_lab import Classifier, CosineHead, extract_features, load_classifier, readout
from classvec_lab.errors import FileFormatError, MismatchError, ModelError
from classvec_lab.models import Preprocess
from classvec_lab.readout import Latent


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_forward_is_the_head_on_the_representation(classifier):
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(classifier(x), classifier.head(classifier.encoder(x)))
    assert torch.equal(classifier.logits(classifier.encode(x)), classifier(x))
    assert classifier.encode(x).shape == (4, classifier.dim)
    assert not classifier.training


def test_a_copy_shares_nothing(classifier):
    other = copy.deepcopy(classifier)
    assert same_weights(other, classifier)
    assert other.fingerprint == classifier.fingerprint
    with torch.no_grad():
        other.encoder[1].weight.add_(1)
    assert not same_weights(other, classifier)
    assert other.fingerprint != classifier.fingerprint


def test_fingerprint_sees_architecture_weights_and_preprocessing():
    def variant(activation=nn.ReLU, size=8, seed=0):
        torch.manual_seed(seed)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), activation())
        return Classifier(
            encoder,
            nn.Linear(4, 2),
            classes="ab",
            preprocess=Preprocess("open_clip", {"size": size}),
        )

    prints = [
        variant().fingerprint,
        variant(nn.GELU).fingerprint,
        variant(size=9).fingerprint,
        variant(seed=1).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert variant().fingerprint == prints[0]


def test_fingerprint_ignores_the_head(classifier):
    other = copy.deepcopy(classifier)
    nn.init.zeros_(other.head.weight)
    assert other.fingerprint == classifier.fingerprint


def plain_preprocess(image):
    return torch.from_numpy(np.array(image, np.float32).transpose(2, 0, 1) / 255)


def test_functions_and_lambdas_are_hashed_and_an_open_file_is_not(tmp_path):
    assert small_classifier(preprocess=plain_preprocess).fingerprint is not None
    assert small_classifier(preprocess=lambda im: plain_preprocess(im)).fingerprint is not None
    with open(tmp_path / "x", "w") as file:
        assert small_classifier(preprocess=lambda im: file.write(im)).fingerprint is None


@pytest.mark.parametrize("training", [True, False])
def test_no_module_s_mode_changes(training):
    encoder, head = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).train(training), nn.Linear(4, 2)
    encoder[1].train(not training)
    modes = [m.training for m in (*encoder.modules(), *head.modules())]
    classifier = Classifier(encoder, head, classes="ab", preprocess=plain_preprocess)
    assert [m.training for m in (*encoder.modules(), *head.modules())] == modes
    assert classifier.training is training


class DroppingHead(nn.Linear):
    """A linear head with dropout before it, which makes its logits random in training mode."""

    def __init__(self, *size):
        super().__init__(*size)
        self.drop = nn.Dropout(0.5)

    def forward(self, z):
        return super().forward(self.drop(z))


def test_a_classifier_in_training_mode_is_read_as_in_eval_mode():
    """Built by hand it is in training mode, with dropout on, as any new network."""
    data = coloured()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Dropout(0.5), nn.BatchNorm1d(6))
    given = {"classes": data.classes, "preprocess": small_classifier().preprocess}
    classifier = Classifier(encoder, DroppingHead(6, 3), **given)
    calm = copy.deepcopy(classifier).eval()
    before = copy.deepcopy(classifier.state_dict())
    features, expected = (
        extract_features(c, data, cache=False, progress=False) for c in (classifier, calm)
    )
    assert (features.z == expected.z).all()
    assert (readout.logits(classifier, features.z) == readout.logits(calm, features.z)).all()
    step = np.ones(6)
    lines = [Latent(c, features.z).along(step, [0.0, 1.0]) for c in (classifier, calm)]
    assert (lines[0] == lines[1]).all()
    with pytest.raises(RuntimeError):
        readout.logits(classifier, np.zeros((2, 5)))
    assert all(module.training for module in classifier.modules())
    assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items())


def test_impossible_classifiers_are_refused():
    encoder, head, preprocess = nn.Flatten(), nn.Linear(4, 2), plain_preprocess
    with pytest.raises(ModelError, match="2 outputs but 3 classes"):
        Classifier(encoder, head, classes="abc", preprocess=preprocess)
    with pytest.raises(ModelError, match="distinct; repeated: a"):
        Classifier(encoder, head, classes="aa", preprocess=preprocess)
    with pytest.raises(ModelError, match=r"vectors of shape \(N, 4\) for this head; got \(2, 48\)"):
        Classifier(encoder, head, classes="ab", preprocess=preprocess)(torch.zeros(2, 3, 4, 4))


def test_saved_and_loaded_with_an_encoder_of_one_s_own(tmp_path, classifier):
    folder = classifier.save(tmp_path / "mine")
    blank = small_classifier(seed=9).encoder
    loaded = Classifier.load(folder, encoder=blank)
    assert same_weights(loaded, classifier)
    assert loaded.classes == classifier.classes
    assert loaded.fingerprint == classifier.fingerprint
    with pytest.raises(ModelError, match="pass encoder="):
        Classifier.load(folder)
    with pytest.raises(MismatchError, match=r"another shape: encoder\.1\.weight"):
        Classifier.load(
            folder,
            encoder=nn.Sequential(nn.Flatten(), nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 6)),
        )


def test_own_preprocessing_is_asked_for(tmp_path):
    folder = small_classifier(preprocess=plain_preprocess).save(tmp_path / "mine")
    with pytest.raises(ModelError, match="pass preprocess="):
        Classifier.load(folder, encoder=small_classifier().encoder)
    loaded = Classifier.load(
        folder, encoder=small_classifier().encoder, preprocess=plain_preprocess
    )
    assert loaded.preprocess is plain_preprocess


@pytest.mark.parametrize("source", ["mlp", "timm:resnet10t/random"])
def test_saved_and_loaded_by_source(tmp_path, source):
    classifier = load_classifier(source, classes=["a", "b"], seed=3)
    loaded = load_classifier(classifier.save(tmp_path / "m"))
    assert same_weights(loaded, classifier)
    assert loaded.fingerprint == classifier.fingerprint
    assert loaded.source == classifier.source
    with pytest.raises(MismatchError, match="lacks b; the classifier lacks c"):
        load_classifier(tmp_path / "m", classes=["a", "c"])


def test_mixed_up_and_missing_files_are_named(tmp_path):
    a, b = (small_classifier(seed=s).save(tmp_path / str(s)) for s in (0, 1))
    (a / "card.json").write_text((b / "card.json").read_text())
    with pytest.raises(FileFormatError, match="don't belong together"):
        Classifier.load(a, encoder=small_classifier().encoder)
    (b / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no card\.json"):
        load_classifier(b)


def test_saving_again_replaces_the_folder(tmp_path):
    small_classifier(seed=0).save(tmp_path / "m")
    second = small_classifier(seed=1)
    second.save(tmp_path / "m")
    assert same_weights(Classifier.load(tmp_path / "m", encoder=small_classifier().encoder), second)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "card.json",
        "weights.safetensors",
    ]


def test_cosine_head_is_scaled_cosine_and_frozen():
    weight, z = torch.randn(5, 7), torch.randn(3, 7)
    head = CosineHead(3 * weight, 20.0)
    torch.testing.assert_close(head(z), 20 * F.cosine_similarity(z[:, None], weight[None], dim=-1))
    torch.testing.assert_close(head(10 * z), head(z))
    assert not list(head.parameters())
    assert (head.in_features, head.out_features) == (7, 5)
    with pytest.raises(ModelError, match=r"shape \(C, m\)"):
        CosineHead(torch.zeros(3), 1.0)


def test_class_order_is_checked(classifier):
    classifier.require_classes(classifier.classes, "x")
    with pytest.raises(MismatchError, match="another order"):
        classifier.require_classes(classifier.classes[::-1], "x")
