"""The published architectures, at full size with random weights, go the whole way."""

import numpy as np
import pytest
import torch
from conftest import coloured

from classvec_lab import (
    calibrate_gate,
    class_vectors,
    cross_task_linearity,
    extract_features,
    finetune,
    inject,
    load_classifier,
    map_edit,
    neural_collapse,
    orthogonality,
)
from classvec_lab.models import state_dict_as_loaded

QUIET = {"progress": False}
SMALL = {"preprocess": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}}


def whole_way(name, model_args, n):
    """Fine-tune, measure, edit behind a gate and in the weights; the original stays as it was."""
    data = coloured(n)
    how = {"classes": data.classes, "head": "linear", "model_args": model_args}
    pre = load_classifier(name, **how)
    ft = finetune(pre, data, epochs=1, lr=1e-3, batch_size=4, **QUIET).classifier
    vectors = class_vectors(pre, ft, data, **QUIET)
    before, after = (extract_features(model, data, **QUIET) for model in (pre, ft))
    assert np.linalg.norm(vectors.kappa, axis=1).min() > 0
    assert orthogonality(vectors, features=(before, after), n_boot=20).says()
    assert neural_collapse(after, ft.head, n_boot=0).says()
    assert cross_task_linearity(pre, ft, data, alphas=[0.5], progress=False).table.size
    edit = -vectors["red"]
    gate = calibrate_gate(after, vectors, "red", score="predicted", classifier=ft)
    state = state_dict_as_loaded(ft)
    images = torch.stack([ft.preprocess(data[i][0]) for i in range(3)])
    with torch.no_grad():
        plain = ft(images)
        assert torch.isfinite(inject(ft, edit.gated(gate))(images)).all()
        mapped = map_edit(ft, edit, after, method="ridge")
        assert not torch.equal(mapped.apply_to(ft)(images), plain)
        assert torch.equal(ft(images), plain)
    again = state_dict_as_loaded(ft)
    assert all(torch.equal(tensor, again[key]) for key, tensor in state.items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "model_args"),
    [("mlp", {}), ("torchvision:resnet18/random", SMALL)],
    ids=["mlp", "r18"],
)
def test_small_networks_go_the_whole_way(name, model_args):
    whole_way(name, model_args, 12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14"])
def test_vision_transformers_go_the_whole_way(name):
    whole_way(f"open_clip:{name}/random", {}, 6)
