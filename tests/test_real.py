"""Real images and real pre-trained weights, where they lie beside the repository."""

import numpy as np
import pytest
import torch

from classvec_lab import class_vectors, extract_features, finetune, load_classifier, load_dataset, orthogonality, predict
from classvec_lab.models.weights import read_state_dict
from classvec_lab.weightspace import TaskVector

pytestmark = pytest.mark.real
MOBILENET = {
    "pad_type": "same",
    "num_classes": 1000,
    "pretrained_cfg_overlay": {"input_size": [3, 96, 96], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 1.0},
}


def plain_kappa(pre, ft, dataset):
    """The definition in two lines of numpy, over a forward pass of its own."""
    z = [m.encode(torch.stack([m.preprocess(x) for x, _ in dataset])).double().numpy() for m in (pre, ft)]
    return np.stack([(z[1] - z[0])[dataset.targets == c].mean(axis=0) for c in range(len(dataset.classes))])


def check(pre, ft, dataset):
    vectors = class_vectors(pre, ft, dataset, progress=False)
    features = [extract_features(m, dataset, progress=False) for m in (pre, ft)]
    from_features = np.stack([(features[1].z.astype(float) - features[0].z)[dataset.targets == c].mean(0) for c in range(10)])
    assert np.isfinite(vectors.kappa).all()
    assert np.linalg.norm(vectors.kappa - from_features) <= 1e-9 * np.linalg.norm(from_features)
    with torch.inference_mode():
        independent = plain_kappa(pre, ft, dataset)
    assert np.linalg.norm(vectors.kappa - independent) <= 1e-6 * np.linalg.norm(independent)
    report = orthogonality(vectors)
    assert np.isfinite(report.cosine.to_numpy()).all()
    assert report.summary()["off_diagonal"].abs().max() < 1
    return vectors


def test_mnist_from_a_folder_with_the_built_in_model(shared):
    train, val, test = (
        load_dataset(shared / "data" / "mnist", split=s, limit=n) for s, n in (("train", 600), ("val", 100), ("test", 200))
    )
    assert test.classes == tuple("0123456789")
    pre = load_classifier("tiny-clip", classes=train.classes)
    ft, history = finetune(pre, train, val=val, epochs=8, progress=False)
    assert history["val_accuracy"].max() > history["val_accuracy"][0] + 0.2
    check(pre, ft, test)


def test_mobilenet_on_cifar(shared):
    """ImageNet weights through timm, a linear head, one short epoch."""
    train, test = (load_dataset(shared / "data" / "cifar10", split=s, limit=n) for s, n in (("train", 300), ("test", 100)))
    weights = shared / "weights" / "mobilenetv2_100_imagenet.safetensors"
    pre = load_classifier("timm:mobilenetv2_100", classes=train.classes, weights=weights, model_args=MOBILENET)
    assert pre.dim == 1280
    ft, history = finetune(pre, train, epochs=1, batch_size=16, progress=False)
    assert history["step"].iloc[-1] == 19
    check(pre, ft, test)
    right = [(predict(ft, extract_features(m, train, progress=False)) == train.targets).mean() for m in (pre, ft)]
    assert right[1] > right[0]
    tau = TaskVector.between(pre, ft)
    assert tau.norm() > 0
    edited = tau.apply(pre)
    assert np.allclose(class_vectors(edited, ft, test, progress=False).kappa, 0, atol=1e-3)


def test_a_pickled_checkpoint_of_tensors_is_read(shared):
    state = read_state_dict(shared / "weights" / "resnet20_cifar10.th")
    assert state["conv1.weight"].shape == (16, 3, 3, 3)
    assert not any(name.startswith("module.") for name in state)
