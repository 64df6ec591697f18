"""Real images and real pre-trained weights, where they lie beside the repository."""

import numpy as np
import pytest
import torch
from conftest import MOBILENET
from small_experiments import warmed
from torch import nn
from torch.nn import functional as F

from classvec_lab import (
    Classifier,
    ClassVectors,
    calibrate_gate,
    class_vectors,
    editability,
    extract_features,
    finetune,
    forget_study,
    inject,
    load_classifier,
    load_dataset,
    map_edit,
    orthogonality,
    panels,
)
from classvec_lab.applications import attribute_vectors
from classvec_lab.applications.routing import route
from classvec_lab.datasets.corruptions import corrupted
from classvec_lab.editing import head_aware, relocation
from classvec_lab.experiments import Experiment, standard_methods
from classvec_lab.experiments.methods import measure
from classvec_lab.models import state_dict_as_loaded
from classvec_lab.readout import predict
from classvec_lab.weightspace import TaskVector

pytestmark = pytest.mark.real


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

    The edit does what the injected classifier does, and the attribute's router what it does alone.
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
    worn = corrupted(dataset, "contrast", 0.8)
    plain, met = features[1], extract_features(ft, worn, progress=False)
    shifts = attribute_vectors(plain, {"contrast": met}, plain=plain)
    conditions = {"contrast": (met, 0 * met.y), "clean": plain}
    away = panels.AttributePanel(ft, shifts, plain, conditions, datasets={"contrast": worn})
    routed = predict(route(shifts.pooled(), plain).on(ft), met)
    assert (away.readouts[0].after == routed).mean() > 0.99


def edited(pre, data, **recipe):
    """The experiment of `pre` fine-tuned on the training split."""
    recipe = {"seed": 0} | recipe
    tuned = finetune(pre, data["train"], val=data["val"], progress=False, **recipe)
    return Experiment(pre, tuned.classifier, tuned.history, **data, recipe=recipe)


@pytest.fixture(scope="module")
def mnist(shared, tmp_path_factory):
    """The built-in model fine-tuned on digits from a folder."""
    data = {
        s: load_dataset(shared / "data" / "mnist", split=s, limit=300)
        for s in ("train", "val", "test")
    }

    def make():
        pre = load_classifier("tiny-clip", classes=data["train"].classes)
        return edited(pre, data, epochs=3, batch_size=32)

    return warmed(tmp_path_factory, make)


def test_mnist_from_a_folder_with_the_built_in_model(mnist):
    test = mnist.test
    assert test.classes == tuple("0123456789")
    accuracy = mnist.history["val_accuracy"]
    assert accuracy.max() > accuracy[0] + 0.2
    check(mnist.pre, mnist.ft, test)
    check_panels(mnist.pre, mnist.ft, test)


def check_unlearning(pre, ft, train, test, network):
    """Forget the class that is known best, behind the encoder and in the weights.

    The others stay, the edit comes off again, and the weights go back under their own names into
    the network that they came from, which then gives the same logits.
    """
    known = [extract_features(m, train, progress=False) for m in (pre, ft)]
    vectors, z = ClassVectors.from_features(*known), extract_features(ft, test, progress=False)
    before, y = predict(ft, z), test.targets
    c = int(np.argmax([(before == y)[y == k].mean() for k in range(10)]))
    target = ft.classes[c]
    assert (before == y)[y == c].mean() > 0.4
    gate = calibrate_gate(known[1], vectors, target, score="predicted", classifier=ft)
    latent = inject(ft, head_aware(ft, vectors, target, known[1]).gated(gate))
    retired = relocation(vectors, target)
    mapped = map_edit(ft, retired, known[1], method="discriminant")
    written = mapped.apply_to(ft)
    moved = extract_features(written, test, progress=False)
    for after in (predict(latent, z), predict(written, moved)):
        assert (after == y)[y == c].mean() <= 0.2
        assert (after == y)[y != c].mean() >= (before == y)[y != c].mean() - 0.02
    off = mapped.remove_from(written).state_dict()
    assert all(torch.equal(off[name], value) for name, value in ft.state_dict().items())
    assert state_dict_as_loaded(written).keys() == network.state_dict().keys()
    network.load_state_dict(state_dict_as_loaded(written))
    x = torch.stack([ft.preprocess(image) for image, _ in test.subset(range(8))])
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(x), written(x), rtol=1e-4, atol=1e-4)


def test_mobilenet_on_cifar(shared):
    """ImageNet weights through timm, a linear head, two short epochs."""
    train, test = (
        load_dataset(shared / "data" / "cifar10", split=s, limit=n)
        for s, n in (("train", 200), ("test", 100))
    )
    weights = shared / "weights" / "mobilenetv2_100_imagenet.safetensors"
    with pytest.warns(UserWarning, match="a head of 1000 outputs, not of 10: a new one is drawn"):
        pre = load_classifier(
            "timm:mobilenetv2_100", classes=train.classes, weights=weights, model_args=MOBILENET
        )
    assert pre.dim == 1280
    ft, history = finetune(pre, train, epochs=2, batch_size=16, progress=False)
    assert history["step"].iloc[-1] == 26
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
    import timm  # once what it needs is in order

    network = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=10)
    check_unlearning(pre, ft, train, test, network)


class ResNet20(nn.Module):
    """The network of akamaster/pytorch_resnet_cifar10, as its user would write it."""

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.width, self.stride = (width - before) // 2, stride

        def forward(self, x):
            out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            if self.stride > 1:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.width, self.width))
            return torch.relu(out + x)

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for i, (before, width) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            blocks = [self.Block(before, width, 1 if i == 1 else 2)]
            blocks += [self.Block(width, width, 1) for _ in range(2)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def test_a_pickled_checkpoint_of_one_s_own_network(shared):
    """Batch norm live, names under "module.": it classifies as well as its author's, and is a pair with one fine-tuned."""
    test = load_dataset(shared / "data" / "cifar10", split="test", limit=300)
    how = {"size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    blank = Classifier.from_module(ResNet20(), classes=test.classes, preprocess=how)
    weights = shared / "weights" / "resnet20_cifar10.th"
    pre = load_classifier(weights, arch=blank)
    assert (predict(pre, extract_features(pre, test, progress=False)) == test.targets).mean() > 0.75
    train = load_dataset(shared / "data" / "cifar10", split="train", limit=200)
    ft = finetune(pre, train, epochs=1, lr=1e-3, progress=False).classifier
    check(pre, ft, test)
    check_unlearning(pre, ft, train, test, ResNet20())


def test_mnist_digits_are_forgotten(mnist):
    """The head-aware class vector removes a digit at no cost to the others.

    The fine-tuned model knew it.
    """
    targets = ["1", "3", "7"]
    methods = standard_methods(gates=["margin", "predicted"], n_random=1)
    study = forget_study(mnist, targets, methods, progress=False)
    assert (study.table["n_f"].min(), study.table["n_r"].min()) == (30, 270)
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
    options = {"weights": shared / "weights" / "mobilenetv2_100_imagenet.safetensors"}
    options["model_args"] = MOBILENET
    with pytest.warns(UserWarning, match="a head of 1000 outputs, not of 10: a new one is drawn"):
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
