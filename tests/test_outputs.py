"""A notebook's folder: repeatable bytes, a manifest written last, nothing stale."""

import json
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from classvec_lab.batch.outputs import Outputs, sha256, versions
from classvec_lab.errors import NotebookError

matplotlib.use("Agg")


def figure():
    fig = Figure(figsize=(2, 2))
    fig.subplots().plot([1, 2, 3], label="κ")
    return fig


def test_the_folder_is_out_or_quick_under_the_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSVEC_FIGURES", str(tmp_path / "figures"))
    assert Outputs("02_x", {}).folder == tmp_path / "figures" / "quick" / "02_x"
    assert Outputs("02_x", {}, out=tmp_path / "here").folder == tmp_path / "here"


def test_manifest_lists_each_file_with_its_hash_and_leaves_out_out(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    out = tmp_path / "secret"
    outputs = Outputs("02_x", {"seed": 1, "out": str(out), "alphas": [0.5]}, out=out)
    outputs.table(pd.DataFrame({"a": [1]}), "t")
    outputs.figure(figure(), "f")
    outputs.record(model_hash="abc", seeds=np.arange(2), n=np.int64(3))
    assert not (out / "manifest.json").exists()
    outputs.close()
    text = (out / "manifest.json").read_text()
    manifest = json.loads(text)
    assert "secret" not in text
    assert manifest["parameters"] == {"seed": 1, "alphas": [0.5]}
    assert manifest["facts"] == {"model_hash": "abc", "seeds": [0, 1], "n": 3}
    assert manifest["files"] == {name: sha256(out / name) for name in ("f.pdf", "f.png", "t.csv")}
    assert manifest["threads"] == 3
    assert manifest["seconds"] >= 0
    assert manifest["versions"]["numpy"] == np.__version__
    assert sorted(path.name for path in out.iterdir()) == [
        "f.pdf",
        "f.png",
        "manifest.json",
        "t.csv",
    ]


def test_tables_are_returned_and_have_a_fixed_format(tmp_path):
    outputs = Outputs("02_x", {}, out=tmp_path)
    frame = pd.DataFrame({"a": [1 / 3, 1e-12], "b": ["x", "y\nz"]})
    assert outputs.table(frame, "t") is frame
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n0.33333333,x\n1e-12,"y\nz"\n'


@pytest.mark.parametrize(
    ("index", "written"),
    [
        (None, False),
        (["p", "q"], True),
        (pd.RangeIndex(1, 3), True),
        (pd.RangeIndex(2, name="step"), True),
        ([0, 1], True),
    ],
)
def test_an_index_is_written_unless_it_is_the_default(tmp_path, index, written):
    Outputs("02_x", {}, out=tmp_path).table(pd.DataFrame({"a": [1, 2]}, index=index), "t")
    header = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert header.endswith(",a" if written else "a")
    assert ("," in header) == written


def test_the_same_figure_gives_the_same_bytes_in_another_process_at_another_time(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_outputs import *\n"
        "outputs = Outputs('02_x', {}, out=sys.argv[2]); fig = figure(); outputs.figure(fig, 'f'); outputs.figure(fig, 'g')"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed + "00000000"}
        command = [sys.executable, "-c", code, os.path.dirname(__file__), str(tmp_path / seed)]
        subprocess.run(command, check=True, env=environment)
    for suffix in ("png", "pdf"):
        contents = {
            (tmp_path / seed / f"{name}.{suffix}").read_bytes() for seed in "12" for name in "fg"
        }
        assert len(contents) == 1
        (content,) = contents
        assert not any(mark in content for mark in (b"CreationDate", b"Software", b"Matplotlib v"))


def test_a_new_start_removes_the_manifest_and_what_it_listed_but_nothing_else(tmp_path):
    out, outside = tmp_path / "out", tmp_path / "outside.txt"
    outside.write_text("keep")
    first = Outputs("02_x", {}, out=out)
    first.table(pd.DataFrame({"a": [1]}), "old")
    first.close()
    (out / "mine.txt").write_text("keep")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["files"] |= {"../outside.txt": "0", str(outside): "0", "gone.csv": "0"}
    (out / "manifest.json").write_text(json.dumps(manifest))
    Outputs("02_x", {}, out=out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert outside.exists()


def test_a_damaged_manifest_is_removed_too(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    Outputs("02_x", {}, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a.csv", "a/b", "../a", "a b", "é", 3])
def test_names_are_checked(tmp_path, name):
    outputs = Outputs("02_x", {}, out=tmp_path)
    with pytest.raises(NotebookError, match="letters, digits"):
        outputs.table(pd.DataFrame(), name)
    with pytest.raises(NotebookError, match="letters, digits"):
        outputs.figure(figure(), name)
    with pytest.raises(NotebookError, match="letters, digits"):
        Outputs(name, {}, out=tmp_path)


def test_a_failed_write_leaves_no_file(tmp_path):
    class Broken(Figure):
        def savefig(self, path, **_):
            path.write_bytes(b"half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        Outputs("02_x", {}, out=tmp_path).figure(Broken(), "f")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_facts_and_parameters_must_be_json(tmp_path, value):
    with pytest.raises(NotebookError, match="thing="):
        Outputs("02_x", {}, out=tmp_path).record(thing=value)
    with pytest.raises(NotebookError, match="thing="):
        Outputs("02_x", {"thing": value}, out=tmp_path)


def test_adding_after_close_unfinishes_the_folder_until_it_is_closed_again(tmp_path):
    outputs = Outputs("02_x", {}, out=tmp_path)
    for add in (
        lambda: outputs.table(pd.DataFrame(), "t"),
        lambda: outputs.figure(figure(), "f"),
        lambda: outputs.record(a=1),
    ):
        outputs.close()
        add()
        assert not (tmp_path / "manifest.json").exists()
    outputs.close()
    outputs.close()
    assert json.loads((tmp_path / "manifest.json").read_text())["files"].keys() == {
        "t.csv",
        "f.png",
        "f.pdf",
    }


def test_versions_of_absent_packages_are_none():
    assert versions(["numpy", "no-such-package-here"]) == {
        "numpy": np.__version__,
        "no-such-package-here": None,
    }


def test_a_file_of_another_kind_is_listed_and_whole_or_absent(tmp_path):
    outputs = Outputs("01_a", {}, out=str(tmp_path / "o"))
    with outputs.file("vectors.safetensors") as path:
        path.write_bytes(b"abc")
    assert (outputs.folder / "vectors.safetensors").read_bytes() == b"abc"

    def fail():
        with outputs.file("half.bin") as path:
            path.write_bytes(b"h")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    outputs.close()
    assert list(json.loads((outputs.folder / "manifest.json").read_text())["files"]) == [
        "vectors.safetensors"
    ]
    with pytest.raises(NotebookError):
        outputs.file("../x.bin").__enter__()
