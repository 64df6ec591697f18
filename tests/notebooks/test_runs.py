"""The notebooks run from the command line, on other data too, and the same command gives the same tables."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from in_process import run
from PIL import Image

from classvec_lab import ClassVectors


def classvec(*arguments, data, cwd=None):
    environment = {**os.environ, "CLASSVEC_DATA": str(data)}
    command = [sys.executable, "-m", "classvec_lab.cli", "run", *map(str, arguments), "--quiet"]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def folder(tmp_path):
    """An ImageFolder with train and test, three colours, odd sizes, one class with a long name."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 24), ("test", 8)):
        for c, name in enumerate(("red", "green", "a_rather_long_name")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 120, (20 + c, 17, 3))
                pixels[..., c] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(
                    tmp_path / "images" / split / name / f"{i}.png"
                )
    return tmp_path / "images"


@pytest.mark.usefixtures("look")
@pytest.mark.filterwarnings("ignore")
def test_a_folder_by_a_relative_path_twice_gives_the_same_bytes(tmp_path, folder, monkeypatch):
    """Fresh caches each time: training, extraction, tables and figures all repeat.

    By the command in a kernel, and by the cells alone in this process, whose hashes differ.
    """
    chosen = {"dataset": "images", "model": "mlp", "epochs": 3, "order": "cluster"}
    options = [part for name, value in chosen.items() for part in ("-p", f"{name}={value}")]
    result = classvec("02", *options, "--out", "a", data=tmp_path / "data-a", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    monkeypatch.setenv("CLASSVEC_DATA", str(tmp_path / "data-b"))
    monkeypatch.chdir(tmp_path)
    run("02", chosen | {"out": "b/02_orthogonality"}, saved=True)
    made, again = (tmp_path / name / "02_orthogonality" for name in ("a", "b"))
    kinds = (".csv", ".png", ".pdf", ".safetensors")
    files = sorted(p.name for p in made.iterdir() if p.suffix in kinds)
    assert len(files) == 7 + 2 * 6 + 1
    for file in files:
        assert (made / file).read_bytes() == (again / file).read_bytes(), file
    assert {p.suffix for p in made.iterdir()} == {*kinds, ".json", ".ipynb"}
    pairs = pd.read_csv(made / "pairs.csv").set_index(["kappa", "z_ft"])
    assert list(pairs.index.unique("z_ft")) == ["a_rather_long_name", "green", "red"]
    vectors = ClassVectors.load(made / "class_vectors.safetensors")
    assert vectors.count.tolist() == [8, 8, 8]
    z, kappa = vectors.z_ft[1], vectors.kappa[0]
    expected = kappa @ z / np.linalg.norm(kappa) / np.linalg.norm(z)
    assert pairs.loc[("a_rather_long_name", "green"), "cosine"] == pytest.approx(expected, rel=1e-6)
    assert str(tmp_path) not in (made / "manifest.json").read_text()


def test_a_misspelled_parameter_costs_nothing(tmp_path):
    result = classvec(
        "02", "-p", "datset=digits", "--out", tmp_path / "out", data=tmp_path / "data"
    )
    assert result.returncode == 2
    assert "'datset'; did you mean 'dataset'?" in result.stderr
    assert not (tmp_path / "out").exists()
