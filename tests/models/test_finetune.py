"""Fine-tuning repeats by its seed, leaves its argument alone, keeps the best epoch, and is cached under all that matters."""

import itertools
import math

import pandas as pd
import pytest
import torch
from conftest import coloured, small_classifier
from torch import nn

from classvec_lab import Classifier, CosineHead, finetune
from classvec_lab.errors import MismatchError, ModelError
from classvec_lab.files import cache_dir
from classvec_lab.models import Preprocess, device
from classvec_lab.models.finetuning import default_lr
from classvec_lab.models.training import cosine_with_warmup

TRAIN, VAL = coloured(60), coloured(30, split="validation")
QUICK = {"epochs": 3, "lr": 1e-2, "batch_size": 16, "progress": False}


def weights(classifier):
    return {k: v.clone() for k, v in classifier.state_dict().items()}


def equal(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns_and_the_argument_is_untouched(classifier):
    before = weights(classifier.train())
    tuned, history = finetune(classifier, TRAIN, val=VAL, **{**QUICK, "epochs": 8})
    assert classifier.training
    assert equal(before, weights(classifier))
    assert not equal(before, weights(tuned))
    assert not tuned.training
    assert history["val_accuracy"].max() > 0.9 > history["val_accuracy"][0]
    assert history["epoch"].tolist() == list(range(9))
    assert history["step"].iloc[-1] == 8 * math.ceil(60 / 16)


def test_the_seed_decides(classifier):
    runs = [finetune(classifier, TRAIN, seed=s, cache=False, **QUICK) for s in (1, 1, 2)]
    a, b, c = (weights(r.classifier) for r in runs)
    assert equal(a, b)
    assert not equal(a, c)
    pd.testing.assert_frame_equal(runs[0].history, runs[1].history)


def test_the_global_generator_is_left_alone(classifier):
    state = torch.get_rng_state()
    finetune(classifier, TRAIN, cache=False, **QUICK)
    assert torch.equal(state, torch.get_rng_state())


def test_the_best_epoch_on_validation_is_kept(classifier):
    seen = {}

    def remember(epoch, model, row):
        assert not model.training
        seen[epoch] = (row["val_accuracy"], -row["val_loss"], weights(model))

    tuned, history = finetune(
        classifier, TRAIN, val=VAL, on_epoch=remember, cache=False, **{**QUICK, "lr": 0.3}
    )
    best = max(sorted(seen)[1:], key=lambda e: seen[e][:2])
    assert history.loc[history["kept"], "epoch"].tolist() == [best]
    assert equal(weights(tuned), seen[best][2])


def test_no_gradient_stays_with_the_model(classifier):
    """They take as much memory as the weights, for as long as the model lives."""
    tuned, _ = finetune(classifier, TRAIN, val=VAL, cache=False, **QUICK)
    assert all(p.grad is None for p in (*tuned.parameters(), *classifier.parameters()))


def test_without_validation_the_last_epoch_is_kept(classifier):
    _, history = finetune(classifier, TRAIN, cache=False, **QUICK)
    assert history.loc[history["kept"], "epoch"].tolist() == [3]
    assert "val_accuracy" not in history


def test_the_cache_gives_the_same_and_does_not_train(classifier, monkeypatch):
    first = finetune(classifier, TRAIN, val=VAL, **QUICK)
    monkeypatch.setattr(torch.optim, "AdamW", lambda *a, **k: pytest.fail("it trained again"))
    second = finetune(classifier, TRAIN, val=VAL, **QUICK)
    assert equal(weights(first.classifier), weights(second.classifier))
    pd.testing.assert_frame_equal(first.history, second.history)


def test_the_cache_key_sees_everything():
    variants = [
        {},
        {"seed": 1}, {"epochs": 2}, {"lr": 2e-2}, {"batch_size": 8}, {"weight_decay": 0.0}, {"clip": 0.5},
        {"precision": "bfloat16"}, {"val": None}, {"val": VAL.subset(range(20))},
    ]  # fmt: skip
    for n, changed in enumerate(variants, 1):
        finetune(small_classifier(), TRAIN, **{"val": VAL, **QUICK, **changed})
        assert len(list(cache_dir("models").glob("*.safetensors"))) == n, changed
    head = small_classifier()
    nn.init.zeros_(head.head.weight)
    for n, (model, data) in enumerate(
        [
            (small_classifier(seed=1), TRAIN),
            (head, TRAIN),
            (small_classifier(), TRAIN.subset(range(50))),
        ],
        len(variants) + 1,
    ):
        finetune(model, data, val=VAL, **QUICK)
        assert len(list(cache_dir("models").glob("*.safetensors"))) == n


def test_a_damaged_cache_is_trained_again(classifier):
    first = finetune(classifier, TRAIN, **QUICK)
    (path,) = cache_dir("models").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="a file in the cache is damaged and will be made again"):
        second = finetune(classifier, TRAIN, **QUICK)
    assert equal(weights(first.classifier), weights(second.classifier))


def test_what_cannot_be_hashed_is_not_cached():
    plain, nothing = Preprocess("open_clip", {"size": 8}), object()
    classifier = small_classifier(preprocess=lambda image: plain(image) if nothing else None)
    with pytest.warns(UserWarning, match="trained models are not cached: preprocess.nothing"):
        finetune(classifier, TRAIN, **QUICK)
    assert not cache_dir("models").exists()


def test_on_epoch_is_called_even_when_cached(classifier):
    calls = []
    for _ in range(2):
        finetune(classifier, TRAIN, on_epoch=lambda epoch, *_: calls.append(epoch), **QUICK)
    assert calls == [0, 1, 2, 3] * 2


def test_a_cosine_head_stays_and_a_linear_head_moves(classifier):
    frozen = Classifier(
        classifier.encoder,
        CosineHead(torch.randn(3, 6), 10.0),
        classes=classifier.classes,
        preprocess=classifier.preprocess,
    )
    tuned = finetune(frozen, TRAIN, **QUICK).classifier
    assert torch.equal(tuned.head.weight, frozen.head.weight)
    assert not torch.equal(
        finetune(classifier, TRAIN, **QUICK).classifier.head.weight, classifier.head.weight
    )


@pytest.mark.parametrize("batchnorm", [False, True])
def test_parts_of_a_batch_train_as_the_whole(monkeypatch, batchnorm):
    classifier = small_classifier(batchnorm=batchnorm)
    whole = finetune(classifier, TRAIN, cache=False, **QUICK)
    monkeypatch.setattr(device, "AT_ONCE", 5 * 192)
    in_parts = finetune(classifier, TRAIN, cache=False, **QUICK)
    for name, value in weights(whole.classifier).items():
        torch.testing.assert_close(weights(in_parts.classifier)[name], value, rtol=1e-3, atol=1e-4)
    pd.testing.assert_frame_equal(in_parts.history, whole.history, rtol=1e-4)
    assert len(device.parts(torch.zeros(12, 3, 8, 8), torch.device("cpu"))) == 3
    assert len(device.parts(torch.zeros(12, 3, 8, 8), torch.device("meta"))) == 1


def test_batch_norm_statistics_stay():
    classifier = small_classifier(batchnorm=True)
    tuned = finetune(classifier, TRAIN, **QUICK).classifier
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(tuned.encoder[2], name), getattr(classifier.encoder[2], name))
    assert not torch.equal(tuned.encoder[2].weight, classifier.encoder[2].weight)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"clip": 0}, "clip=0"),
        ({"precision": "int8"}, "no precision 'int8'; there are auto, float32, bfloat16"),
        ({"lr": 1e30, "clip": 1e30}, "the loss became .*lower lr"),
    ],
)
def test_impossible_settings_are_refused(classifier, changed, message):
    with pytest.raises(ModelError, match=message):
        finetune(classifier, TRAIN, **{**QUICK, **changed})


def test_other_classes_are_refused(classifier):
    with pytest.raises(MismatchError, match="the training set"):
        finetune(classifier, coloured(classes=("red", "green", "white")), **QUICK)
    with pytest.raises(MismatchError, match="the validation set"):
        finetune(classifier, TRAIN, val=coloured(classes=("green", "red", "blue")), **QUICK)


def test_the_schedule_rises_and_falls():
    factors = [cosine_with_warmup(s, 10, 100) for s in range(100)]
    assert max(factors) == factors[10] == 1
    assert all(a < b for a, b in itertools.pairwise(factors[:10]))
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] < 1e-3


def test_the_rate_follows_what_there_is_to_learn(classifier):
    assert default_lr(classifier, 0.25) == pytest.approx(0.75e-4)
    assert default_lr(classifier, 1.0) == pytest.approx(0.05e-4)
    classifier.source = {"name": "mlp", "model_args": {}}
    assert default_lr(classifier, 0.0) == 1e-3
    classifier.source = {"name": "open_clip:ViT-B-16/openai", "model_args": {}}
    assert default_lr(classifier, 0.9) == 1e-5  # as published, whatever the accuracy


def test_the_rate_used_is_recorded_and_cached(classifier):
    options = {k: v for k, v in QUICK.items() if k != "lr"}
    first, second = (finetune(classifier, TRAIN, val=VAL, **options) for _ in range(2))
    assert first.settings == second.settings
    assert first.settings["lr"] == pytest.approx(1e-4 * (1 - first.history["val_accuracy"][0]))
    assert finetune(classifier, TRAIN, **options).settings["lr"] <= 1e-4


def test_small_networks_train_in_float32_on_any_processor(classifier, data, monkeypatch):
    monkeypatch.setattr("classvec_lab.models.device.has_bf16", lambda device: True)
    assert (
        finetune(classifier, data, epochs=1, cache=False, progress=False).settings["precision"]
        == "float32"
    )
    monkeypatch.setattr("classvec_lab.models.device.LARGE", 10)
    assert (
        finetune(classifier, data, epochs=1, cache=False, progress=False).settings["precision"]
        == "bfloat16"
    )
