"""The built-in model keeps what its card promises, and its recipe makes it again."""

import hashlib
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY

from classvec_lab import extract_features, load_classifier, load_dataset
from classvec_lab.datasets import shapes
from classvec_lab.errors import FileFormatError
from classvec_lab.files import builtin_dir
from classvec_lab.models import tiny_clip
from classvec_lab.readout import predict

SCRIPT = REPOSITORY / "benchmarks" / "pretrain.py"
spec = importlib.util.spec_from_file_location("pretrain", SCRIPT)
pretrain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pretrain)
CARD = json.loads((builtin_dir("tiny-clip") / "card.json").read_text())


@pytest.fixture(scope="module")
def clip():
    return tiny_clip.load(builtin_dir("tiny-clip"))


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("tiny-clip")


def test_it_is_a_real_open_clip_of_at_most_5_mb(clip):
    from open_clip.model import CLIP

    assert type(clip) is CLIP
    assert sum(p.stat().st_size for p in builtin_dir("tiny-clip").iterdir()) <= 5_000_000
    assert CARD["parameters"] == sum(p.numel() for p in clip.parameters())
    assert CARD["recipe"] == {**pretrain.RECIPE, "steps": CARD["recipe"]["steps"]}


def test_every_token_has_an_embedding_of_its_own(clip):
    rows = clip.token_embedding.weight.detach().numpy()
    assert rows.shape == (49408, 96)
    assert len({hashlib.sha1(row.tobytes()).digest() for row in rows}) == 49408
    assert np.abs(rows).sum(axis=1).min() > 0


def test_prompts_of_unseen_words_differ():
    for classes in (
        "0123456789",
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    ):
        weight = load_classifier("tiny-clip", classes=list(classes)).head.weight
        assert (weight @ weight.T - torch.eye(10)).max() < 1 - 1e-4


@pytest.mark.parametrize("n", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_zero_shot_on_unseen_drawings(classifier, n):
    """The promise: at least 96 % on 2,000 clean images, and a conflicting written word wins at least 90 %."""
    clean = load_dataset("shapes", split="test", limit=n)
    assert (
        predict(classifier, extract_features(classifier, clean, progress=False)) == clean.targets
    ).mean() >= 0.96
    attacked = load_dataset("shapes", split="test", limit=n, word="conflict")
    predicted = predict(classifier, extract_features(classifier, attacked, progress=False))
    written = np.array([shapes.CLASSES.index(word) for word in attacked.metadata["word"]])
    assert len(written) == len(clean) == n
    assert (predicted == written).mean() >= 0.90


def test_the_card_s_accuracy_is_that_of_the_file(clip):
    found = pretrain.zero_shot(clip, n=200)
    promised = CARD["zero_shot"]
    assert promised["clean"] >= 0.96
    assert promised["word_wins"] >= 0.90
    assert found["clean"] == pytest.approx(promised["clean"], abs=0.05)


def test_the_preprocessing_is_that_of_training(classifier):
    image = shapes.draw(0, "test", 3)
    expected = pretrain.to_tensor(np.asarray(image)[None].copy())[0]
    torch.testing.assert_close(classifier.preprocess(image), expected, rtol=0, atol=1e-6)


def test_captions_name_the_written_word_four_times_in_five():
    rng = np.random.default_rng(0)
    row = {
        "shape": "disc",
        "colour": "red",
        "size": "big",
        "tone": "dark",
        "word": "star",
        "snow": 0.0,
    }
    captions = [pretrain.caption(row, rng) for _ in range(4000)]
    share = np.mean(["star" in c for c in captions])
    assert share == pytest.approx(pretrain.RECIPE["word_in_caption"], abs=0.03)
    assert not any("star" in c and "disc" in c for c in captions)
    assert all("disc" in pretrain.caption({**row, "word": ""}, rng) for _ in range(50))


def test_the_recipe_repeats_and_its_files_load(tmp_path):
    cards = [
        pretrain.pretrain(
            tmp_path / name, seed=3, steps=2, progress=False, batch_size=8, evaluate=20
        )
        for name in "ab"
    ]
    for card in cards:
        card.pop("minutes")
    assert cards[0] == cards[1]
    assert (tmp_path / "a" / "weights.safetensors").stat().st_size < 5_000_000
    assert tiny_clip.load(tmp_path / "a").logit_scale.ndim == 0
    (tmp_path / "a" / "card.json").write_text(json.dumps({**cards[0], "seed": 4}))
    with pytest.raises(FileFormatError, match="not written with this"):
        tiny_clip.load(tmp_path / "a")


def test_unstored_rows_are_as_before_training(clip):
    redrawn = tiny_clip.embedding_rows(CARD["embedding"]["seed"])
    same = (clip.token_embedding.weight.detach() == redrawn).all(dim=1)
    assert (~same).sum() <= CARD["embedding"]["rows"] < 200


def test_the_script_says_what_it_takes():
    told = subprocess.run(
        [sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True
    )
    assert all(f"--{name}" in told.stdout for name in ("out", "seed", "steps"))
    assert "pretrain.py" in (REPOSITORY / "Makefile").read_text()
