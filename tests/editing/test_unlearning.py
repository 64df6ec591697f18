"""Unlearning forgets what it should, leaves its argument alone, keeps the checkpoint that its rule names, and is cached."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import coloured, small_classifier
from torch import nn

from classvec_lab import Classifier, CosineHead, extract_features, finetune
from classvec_lab.editing.unlearning import METHODS, rank, retrain_without, unlearn
from classvec_lab.errors import DatasetError, MismatchError, ModelError
from classvec_lab.files import cache_dir
from classvec_lab.models import Preprocess
from classvec_lab.readout import predict

TRAIN, VAL, TEST = coloured(60), coloured(30, split="validation"), coloured(60, split="testing")
TUNE = {"epochs": 8, "lr": 1e-2, "batch_size": 16, "progress": False}
QUICK = {"val": VAL, "steps": 12, "every": 2, "lr": 3e-3, "batch_size": 16, "progress": False}


@pytest.fixture(scope="module")
def tuned():
    return finetune(small_classifier(), TRAIN, cache=False, **TUNE).classifier


def weights(classifier):
    return {k: v.clone() for k, v in classifier.state_dict().items()}


def equal(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def accuracies(classifier, data, target):
    features = extract_features(classifier, data, cache=False, progress=False)
    right, own = (
        predict(classifier, features) == features.y,
        features.y == features.classes.index(target),
    )
    return right[own].mean(), right[~own].mean()


def without(data, target):
    return data.subset(data.targets != data.classes.index(target))


def test_the_fine_tuned_model_knows_every_class(tuned):
    assert min(accuracies(tuned, TEST, "green")) > 0.9


@pytest.mark.parametrize("method", ["neggrad", "neggrad+", "random_label"])
def test_it_forgets_the_class_and_the_argument_is_untouched(tuned, method):
    before, generator = weights(tuned), torch.get_rng_state()
    options = {**QUICK, "steps": 40, "lr": 2e-2}
    if method == "neggrad+":
        options["alpha"] = 0.5
    unlearned = unlearn(tuned, TRAIN, "green", method=method, **options)
    assert equal(before, weights(tuned))
    assert torch.equal(generator, torch.get_rng_state())
    forgot, kept = accuracies(unlearned.classifier, TEST, "green")
    assert forgot < 0.2
    assert kept > (0.4 if method == "neggrad" else 0.8)
    assert not unlearned.classifier.training
    assert unlearned.classifier.classes == tuned.classes
    assert unlearned.seconds > 0


def test_retaining_keeps_the_others_and_never_sees_the_class(tuned):
    absent = TRAIN.subset(
        np.r_[np.flatnonzero(TRAIN.targets != 1), np.flatnonzero(TRAIN.targets == 1)[:1]]
    )
    a, b = (unlearn(tuned, data, "green", method="retain", **QUICK) for data in (TRAIN, absent))
    assert accuracies(a.classifier, TEST, "green")[1] > 0.9
    assert equal(weights(a.classifier), weights(b.classifier))
    assert "loss_f" not in a.history


@pytest.mark.parametrize("method", METHODS)
def test_the_history_is_that_of_validation(tuned, method):
    unlearned = unlearn(tuned, TRAIN, "green", method=method, **QUICK)
    history = unlearned.history
    assert (history["step"].diff().dropna() == 2).all()
    for model, row in (
        (tuned, history.iloc[0]),
        (unlearned.classifier, history[history["kept"]].iloc[0]),
    ):
        assert (row["val_ACC_f"], row["val_ACC_r"]) == pytest.approx(
            accuracies(model, VAL, "green")
        )
    assert history["kept"].sum() == 1
    assert not history["kept"][0]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("lr", [1e-4, 2e-2])
def test_the_checkpoint_follows_the_rule(tuned, threshold, lr):
    options = {**QUICK, "every": 1, "threshold": threshold, "lr": lr}
    history = unlearn(tuned, TRAIN, "green", method="neggrad+", **options).history[1:]
    kept = history[history["kept"]].iloc[0]
    forgot = history[history["val_ACC_f"] <= threshold]
    if len(forgot):
        assert kept["val_ACC_f"] <= threshold
        assert kept["val_ACC_r"] == forgot["val_ACC_r"].max()
    else:
        assert kept["val_ACC_f"] == history["val_ACC_f"].min()
        assert (
            kept["val_ACC_r"]
            == history.loc[history["val_ACC_f"] == kept["val_ACC_f"], "val_ACC_r"].max()
        )


@pytest.mark.parametrize(
    ("threshold", "best"),
    [
        (0.01, (0.0, 0.8, 0.2)),
        (0.1, (0.1, 0.9, 0.4)),
        (0.5, (0.4, 0.95, 0.1)),
        (-1.0, (0.0, 0.8, 0.2)),
    ],
)
def test_the_rule_by_hand(threshold, best):
    tried = [
        (0.4, 0.95, 0.1),
        (0.1, 0.9, 0.4),
        (0.0, 0.8, 0.3),
        (0.0, 0.8, 0.2),
        (0.0, 0.7, 0.1),
        (0.4, 0.95, 0.3),
    ]
    rows = [{"val_ACC_f": f, "val_ACC_r": r, "val_loss_r": loss} for f, r, loss in tried]
    chosen = max(rows, key=lambda row: rank(row, threshold))
    assert tuple(chosen.values()) == best


def test_gradient_ascent_ends_when_the_batch_is_forgotten(tuned):
    options = {**QUICK, "steps": 40, "every": 1, "lr": 2e-2}
    stopped = unlearn(tuned, TRAIN, "green", method="neggrad", **options).history
    assert stopped["step"].iloc[-1] < 40
    assert stopped["train_ACC_f"].iloc[-1] == 0
    assert (stopped["train_ACC_f"].iloc[1:-1] > 0).all()


def test_one_step_of_ascent_is_the_gradient_of_the_forgotten_loss(tuned, monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", lambda p, lr, weight_decay: torch.optim.SGD(p, lr=lr))
    own = TRAIN.subset(TRAIN.targets == 1)
    options = {"val": VAL, "steps": 1, "lr": 0.1, "clip": 1e9, "progress": False}
    moved = unlearn(
        tuned, TRAIN, "green", method="neggrad", batch_size=len(own), **options
    ).classifier
    x = torch.stack([tuned.preprocess(image) for image, _ in own])
    model = small_classifier()
    model.load_state_dict(tuned.state_dict())
    nn.functional.cross_entropy(model(x), torch.ones(len(own), dtype=int)).backward()
    for (name, p), new in zip(model.named_parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(new, p + 0.1 * p.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_random_labels_are_every_class_but_its_own(tuned, monkeypatch):
    from classvec_lab.editing import unlearning

    given, accumulate = [], unlearning.accumulate

    def listen(model, x, y, **rest):
        given.append(y)
        return accumulate(model, x, y, **rest)

    monkeypatch.setattr(unlearning, "accumulate", listen)
    unlearn(tuned, TRAIN, "green", method="random_label", **QUICK)
    drawn, counts = np.unique(torch.cat(given[1::2]), return_counts=True)
    assert drawn.tolist() == [0, 2]
    assert counts.min() > 0.3 * counts.sum()
    assert set(torch.cat(given[::2]).tolist()) == {0, 2}


def test_the_seed_decides(tuned):
    runs = []
    for seed in (1, 1, 2):
        shutil.rmtree(cache_dir("models"), ignore_errors=True)
        options = {"method": "random_label", "seed": seed, **QUICK}
        runs.append(unlearn(tuned, TRAIN, "green", **options))
    a, b, c = (weights(r.classifier) for r in runs)
    assert equal(a, b)
    assert not equal(a, c)
    pd.testing.assert_frame_equal(runs[0].history, runs[1].history)


def test_the_cache_gives_the_same_and_does_not_train(tuned, monkeypatch):
    first = unlearn(tuned, TRAIN, "green", method="neggrad+", **QUICK)
    monkeypatch.setattr(torch.optim, "AdamW", lambda *a, **k: pytest.fail("it trained again"))
    second = unlearn(tuned, TRAIN, "green", method="neggrad+", **QUICK)
    assert equal(weights(first.classifier), weights(second.classifier))
    pd.testing.assert_frame_equal(first.history, second.history)
    assert (first.settings, first.seconds) == (second.settings, second.seconds)


def test_the_cache_key_sees_everything(tuned):
    changes = [
        {}, {"seed": 1}, {"steps": 2}, {"lr": 1e-3}, {"batch_size": 8}, {"weight_decay": 0.0}, {"clip": 0.5}, {"alpha": 0.7},
        {"threshold": 0.3}, {"every": 1}, {"val": VAL.subset(range(20))}, {"method": "random_label"}, {"target": "red"},
        {"train": TRAIN.subset(range(50))}, {"ft": small_classifier(seed=3)},
    ]  # fmt: skip
    base = {
        "ft": tuned,
        "train": TRAIN,
        "target": "green",
        "method": "neggrad+",
        **QUICK,
        "steps": 1,
    }
    for n, changed in enumerate(changes, 1):
        unlearn(**{**base, **changed})
        assert len(list(cache_dir("models").glob("*.safetensors"))) == n, changed


def test_what_cannot_be_hashed_is_not_cached(monkeypatch):
    monkeypatch.setattr("classvec_lab.models.fingerprint.TOLD", set())
    plain, nothing = Preprocess("open_clip", {"size": 8}), object()
    opaque = small_classifier(preprocess=lambda image: plain(image) if nothing else None)
    with pytest.warns(UserWarning, match=r"preprocess.nothing can't be hashed"):
        unlearn(opaque, TRAIN, "green", method="retain", **QUICK)
    assert not cache_dir("models").exists()


def test_a_cosine_head_and_batch_norm_statistics_stay():
    linear = small_classifier(batchnorm=True)
    frozen = Classifier(
        linear.encoder,
        CosineHead(torch.randn(3, 6), 10.0),
        classes=linear.classes,
        preprocess=linear.preprocess,
    )
    moved = unlearn(frozen, TRAIN, "green", method="neggrad+", **QUICK).classifier
    assert torch.equal(moved.head.weight, frozen.head.weight)
    assert torch.equal(moved.encoder[2].running_mean, frozen.encoder[2].running_mean)
    assert not torch.equal(moved.encoder[2].weight, frozen.encoder[2].weight)
    changed = unlearn(linear, TRAIN, "green", method="neggrad+", **QUICK).classifier
    assert not torch.equal(changed.head.weight, linear.head.weight)


@pytest.mark.parametrize("method", METHODS)
def test_the_rate_follows_the_model(tuned, method):
    unlearned = unlearn(tuned, TRAIN, "green", method=method, **{**QUICK, "lr": None, "steps": 1})
    wrong = 1 - (unlearned.history["val_ACC_f"][0] + 2 * unlearned.history["val_ACC_r"][0]) / 3
    assert unlearned.settings["lr"] == pytest.approx(
        METHODS[method]["rate"] * 1e-4 * max(wrong, 0.05)
    )


def test_retraining_is_fine_tuning_without_the_class():
    pre = small_classifier()
    retrained = retrain_without(pre, TRAIN, "green", val=VAL, cache=False, **TUNE)
    reference = finetune(
        pre, without(TRAIN, "green"), val=without(VAL, "green"), cache=False, **TUNE
    )
    assert equal(weights(retrained.classifier), weights(reference.classifier))
    assert retrained.classifier.classes == pre.classes
    assert retrained.seconds > 0
    first, second = (retrain_without(pre, TRAIN, "green", val=VAL, **TUNE) for _ in range(2))
    assert first.seconds == second.seconds
    assert equal(weights(first.classifier), weights(second.classifier))
    forgot, kept = accuracies(retrained.classifier, TEST, "green")
    assert forgot < 0.2
    assert kept > 0.9


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"method": "negrad"},
            ModelError,
            "no unlearning method 'negrad'; there are retain, neggrad",
        ),
        ({"target": "gren"}, MismatchError, "no class 'gren'; there are red, green, blue"),
        (
            {"train": without(TRAIN, "green")},
            DatasetError,
            "class 'green' has no image in the training set",
        ),
        (
            {"val": without(VAL, "green")},
            DatasetError,
            "class 'green' has no image in the validation set",
        ),
        (
            {"train": TRAIN.subset(TRAIN.targets == 1)},
            DatasetError,
            "every class but 'green' has no image in the training set",
        ),
        ({"train": coloured(classes=("red", "green", "white"))}, MismatchError, "the training set"),
        ({"steps": 0}, ModelError, "steps=0"),
        ({"steps": 1.5}, ModelError, "steps=1.5"),
        ({"lr": -1.0}, ModelError, "lr=-1.0"),
        ({"batch_size": 0}, ModelError, "batch_size=0"),
        ({"stesp": 3}, ModelError, "no setting of 'neggrad\\+' 'stesp'; there are lr, batch_size"),
        ({"method": "neggrad", "alpha": 0.5}, ModelError, "no setting of 'neggrad' 'alpha'"),
        ({"alpha": 0.0}, ModelError, "alpha=0.0"),
        ({"threshold": 2}, ModelError, "threshold=2"),
        ({"every": 0}, ModelError, "every=0"),
        ({"lr": 1e30, "clip": 1e30}, ModelError, "the loss became .*lower lr"),
    ],
)
def test_impossible_requests_are_refused(changed, error, message):
    base = {
        "ft": small_classifier(),
        "train": TRAIN,
        "target": "green",
        "method": "neggrad+",
        **QUICK,
    }
    with pytest.raises(error, match=message):
        unlearn(**{**base, **changed})


def test_impossible_retraining_is_refused():
    pre = small_classifier()
    for data, target, error in (
        (TRAIN, "gren", MismatchError),
        (without(TRAIN, "green"), "green", DatasetError),
        (TRAIN.subset(TRAIN.targets == 1), "green", DatasetError),
    ):
        with pytest.raises(error, match=target):
            retrain_without(pre, data, target, **TUNE)
