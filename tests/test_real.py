"""Real images and real pre-trained weights, where they lie beside the repository."""

import numpy as np
import pytest
import torch

from classvec_lab import (
    class_vectors,
    editability,
    extract_features,
    finetune,
    forget_study,
    inject,
    load_classifier,
    load_dataset,
    orthogonality,
    panels,
)
from classvec_lab.experiments import Experiment, standard_methods
from classvec_lab.experiments.methods import measure
from classvec_lab.models.weights import read_state_dict
from classvec_lab.readout import predict
from classvec_lab.weightspace import TaskVector

pytestmark = pytest.mark.real
MOBILENET = {
    "pad_type": "same",
    "num_classes": 1000,
    "pretrained_cfg_overlay": {
        "input_size": [3, 96, 96],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_pct": 1.0,
    },
}


def plain_kappa(pre, ft, dataset):
    """The definition in two lines of numpy, over a forward pass of its own."""
    z = [
        m.encode(torch.stack([m.preprocess(x) for x, _ in dataset])).double().numpy()
        for m in (pre, ft)
    ]
    return np.stack(
        [(z[1] - z[0])[dataset.targets == c].mean(axis=0) for c in range(len(dataset.classes))]
    )


def check(pre, ft, dataset):
    vectors = class_vectors(pre, ft, dataset, progress=False)
    features = [extract_features(m, dataset, progress=False) for m in (pre, ft)]
    from_features = np.stack(
        [
            (features[1].z.astype(float) - features[0].z)[dataset.targets == c].mean(0)
            for c in range(10)
        ]
    )
    assert np.isfinite(vectors.kappa).all()
    assert np.linalg.norm(vectors.kappa - from_features) <= 1e-9 * np.linalg.norm(from_features)
    with torch.inference_mode():
        independent = plain_kappa(pre, ft, dataset)
    assert np.linalg.norm(vectors.kappa - independent) <= 1e-6 * np.linalg.norm(independent)
    report = orthogonality(vectors)
    assert np.isfinite(report.cosine.to_numpy()).all()
    assert report.summary()["off_diagonal"].abs().max() < 1
    return vectors


def check_panels(pre, ft, dataset):
    """Photographs or scans behind any head: a pair with its pictures, and an edit.

    The edit does what the injected classifier does.
    """
    features = [extract_features(m, dataset, progress=False) for m in (pre, ft)]
    vectors = class_vectors(pre, ft, dataset, progress=False)
    cosines = panels.OrthogonalityPanel(vectors, features=features, classifier=ft, dataset=dataset)
    assert len(set(cosines.selected)) == 2
    keys = [item["key"] for group in cosines.gallery.groups for item in group["items"]]
    assert len(keys) == 16
    sent = []
    cosines.gallery.send = lambda message, buffers: sent.extend(buffers)
    cosines.gallery._asked(None, {"type": "images", "keys": keys}, None)
    assert len(sent) == 16
    term = panels.EditTerm("forget", dataset.classes[3], 2.0, gate="predicted")
    edits = panels.EditPanel(ft, vectors, features[1], dataset=dataset)
    edits.edits = (term,)
    injected = predict(inject(ft, edits.edit(edits.term)), features[1])
    assert (edits.readout.after == injected).mean() > 0.99


def test_mnist_from_a_folder_with_the_built_in_model(shared):
    train, val, test = (
        load_dataset(shared / "data" / "mnist", split=s, limit=n)
        for s, n in (("train", 600), ("val", 100), ("test", 200))
    )
    assert test.classes == tuple("0123456789")
    pre = load_classifier("tiny-clip", classes=train.classes)
    ft, history = finetune(pre, train, val=val, epochs=8, progress=False)
    assert history["val_accuracy"].max() > history["val_accuracy"][0] + 0.2
    check(pre, ft, test)
    check_panels(pre, ft, test)


def test_mobilenet_on_cifar(shared):
    """ImageNet weights through timm, a linear head, one short epoch."""
    train, test = (
        load_dataset(shared / "data" / "cifar10", split=s, limit=n)
        for s, n in (("train", 300), ("test", 100))
    )
    weights = shared / "weights" / "mobilenetv2_100_imagenet.safetensors"
    pre = load_classifier(
        "timm:mobilenetv2_100", classes=train.classes, weights=weights, model_args=MOBILENET
    )
    assert pre.dim == 1280
    ft, history = finetune(pre, train, epochs=1, batch_size=16, progress=False)
    assert history["step"].iloc[-1] == 19
    check(pre, ft, test)
    check_panels(pre, ft, test)
    right = [
        (predict(ft, extract_features(m, train, progress=False)) == train.targets).mean()
        for m in (pre, ft)
    ]
    assert right[1] > right[0]
    tau = TaskVector.between(pre, ft)
    assert tau.norm() > 0
    edited = tau.apply(pre)
    assert np.allclose(class_vectors(edited, ft, test, progress=False).kappa, 0, atol=1e-3)


def test_a_pickled_checkpoint_of_tensors_is_read(shared):
    state = read_state_dict(shared / "weights" / "resnet20_cifar10.th")
    assert state["conv1.weight"].shape == (16, 3, 3, 3)
    assert not any(name.startswith("module.") for name in state)


def edited(pre, data, **recipe):
    """The experiment of `pre` fine-tuned on the training split."""
    recipe = {"seed": 0} | recipe
    tuned = finetune(pre, data["train"], val=data["val"], progress=False, **recipe)
    return Experiment(pre, tuned.classifier, tuned.history, **data, recipe=recipe)


def test_mnist_digits_are_forgotten(shared):
    """The head-aware class vector removes a digit at no cost to the others.

    The fine-tuned model knew it.
    """
    data = {
        s: load_dataset(shared / "data" / "mnist", split=s, limit=400)
        for s in ("train", "val", "test")
    }
    exp = edited(load_classifier("tiny-clip", classes=data["train"].classes), data, epochs=4)
    targets = ["1", "3", "7"]
    methods = standard_methods(gates=["margin", "predicted"], n_random=1)
    study = forget_study(exp, targets, methods, progress=False)
    assert (study.table["n_f"].min(), study.table["n_r"].min()) == (40, 360)
    table = study.table.set_index(["method", "target"])
    for target in targets:
        row = table.loc[("head-aware class vector", target)]
        assert row["unedited_f"] >= 0.4
        assert row["acc_f"] <= 0.05
        assert row["change_r"] >= -0.02
    assert table.loc["logit mask", "acc_f"].eq(0).all()


@pytest.mark.slow
def test_mobilenet_classes_are_forgotten(shared):
    """Behind a linear head of 1280 inputs, by latent injection and by weights, mean over classes.

    900 images of 64 pixels.
    """
    sizes = {"train": 900, "val": 300, "test": 300}
    data = {
        s: load_dataset(shared / "data" / "cifar10", split=s, limit=n) for s, n in sizes.items()
    }
    overlay = MOBILENET["pretrained_cfg_overlay"] | {"input_size": [3, 64, 64]}
    options = {"weights": shared / "weights" / "mobilenetv2_100_imagenet.safetensors"}
    options["model_args"] = MOBILENET | {"pretrained_cfg_overlay": overlay}
    pre = load_classifier("timm:mobilenetv2_100", classes=data["train"].classes, **options)
    exp = edited(pre, data, epochs=2, batch_size=16)
    methods, left, y = standard_methods(), {}, exp.features["test"].y
    for target in exp.ft.classes:
        for name in ("fine-tuned", "head-aware class vector", "mapping, class vector"):
            (outcome,) = measure(exp, name, target, methods[name])
            own, hit = y == exp.ft.classes.index(target), outcome.predicted == y
            left.setdefault(name, []).append((hit[own].mean(), hit[~own].mean()))
        assert outcome.result.site.kind == "head"
    acc_f, acc_r = (
        {method: np.mean([x[i] for x in found]) for method, found in left.items()} for i in (0, 1)
    )
    assert acc_f["fine-tuned"] > 0.4
    for method in ("head-aware class vector", "mapping, class vector"):
        assert acc_f[method] <= 0.05
        assert acc_r[method] >= acc_r["fine-tuned"] - 0.02

    features = exp.features
    told = editability(
        exp.ft,
        exp.vectors,
        features["train"],
        features["val"],
        pre_val=exp.pre_features["val"],
    )
    assert told.recommendation["class"].tolist() == list(exp.ft.classes)
    assert told.table["n"].eq(30).all()
    start = told.curves[told.curves["lambda_"] == 0].groupby("class")["acc_f"].first()
    assert abs(start.mean() - acc_f["fine-tuned"]) < 0.1
    chosen = told.curves[
        (told.curves["method"] == "class vector") & (told.curves["gate"] == "predicted")
    ]
    assert chosen.groupby("lambda_")["acc_f"].mean()[-5.0] < 0.05
