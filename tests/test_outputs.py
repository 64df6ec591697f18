"""A notebook's folder: repeatable bytes, a manifest written last, nothing stale."""

import ast
import inspect
import json
import os
import subprocess
import sys

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from matplotlib.figure import Figure
from threadpoolctl import threadpool_info, threadpool_limits

from classvec_lab import prepare
from classvec_lab.batch import begin
from classvec_lab.batch.outputs import Outputs, sha256, versions
from classvec_lab.batch.rules import ASKED
from classvec_lab.errors import NotebookError
from classvec_lab.files import figures_dir
from classvec_lab.plots import style

matplotlib.use("Agg")
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


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
        f"import sys\nfrom matplotlib.figure import Figure\n{inspect.getsource(figure)}\n"
        "from classvec_lab.batch.outputs import Outputs\n"
        "outputs = Outputs('02_x', {}, out=sys.argv[1]); fig = figure()\n"
        "outputs.figure(fig, 'f'); outputs.figure(fig, 'g')"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed + "00000000"}
        command = [sys.executable, "-c", code, str(tmp_path / seed)]
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


def test_what_cannot_be_written_is_warned_of_and_the_notebook_goes_on(tmp_path, monkeypatch):
    outputs, frame = Outputs("02_x", {}, out=tmp_path), pd.DataFrame({"a": [1]})
    outputs.table(frame, "before")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.warns(UserWarning, match=r"t\.csv couldn't be written: .*No space left"):
            assert outputs.table(frame, "t") is frame
        with pytest.warns(UserWarning, match=r"f\.png, f\.pdf couldn't be written"):
            outputs.figure(figure(), "f")
        with pytest.warns(UserWarning, match=r"v\.bin couldn't"), outputs.file("v.bin") as path:
            path.write_bytes(b"abc")
        with pytest.raises(
            NotebookError, match=r"f\.pdf, f\.png, t\.csv, v\.bin couldn't be .*room"
        ):
            outputs.close()
    assert [p.name for p in tmp_path.iterdir()] == ["before.csv"]
    outputs.table(frame, "t")  # its cell again, once there is room
    with pytest.raises(NotebookError, match=r"^f\.pdf, f\.png, v\.bin couldn't"):
        outputs.close()
    outputs.figure(figure(), "f")
    with outputs.file("v.bin") as path:
        path.write_bytes(b"abc")
    outputs.close()
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert sorted(files) == ["before.csv", "f.pdf", "f.png", "t.csv", "v.bin"]


def full(*args):
    raise OSError(28, "No space left on device")


def test_a_folder_that_cannot_be_made_is_named_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper", "/proc/nowhere"):
        with pytest.raises(NotebookError, match=f"can't write to .*{out}"):
            Outputs("02_x", {}, out=out)


@pytest.mark.usefixtures("look")
def test_tables_are_not_read_as_mathematics(tmp_path):
    begin("02_x", session(PARAMETERS.replace('""', repr(str(tmp_path / "here")))))
    assert "mathjax_ignore" in pd.DataFrame({"bill_$1_to_$5": [1]})._repr_html_()


@pytest.mark.usefixtures("look")
def test_linear_algebra_does_not_compete_with_torch_for_the_cores(tmp_path):
    """NumPy's and SciPy's threads, spinning beside torch's, made a study of 48 classes twice as long."""
    with threadpool_limits():  # as it was before, afterwards
        threadpool_limits(2, user_api="blas")
        found = threadpool_info()
        begin("02_x", session(PARAMETERS.replace('""', repr(str(tmp_path / "here")))))
        for before, after in zip(found, threadpool_info(), strict=False):
            blas = before["user_api"] == "blas"
            assert after["num_threads"] == (1 if blas else before["num_threads"])
        assert sum(each["user_api"] == "blas" for each in found) >= 1


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


def test_versions_of_absent_packages_are_none(monkeypatch):
    monkeypatch.setattr("classvec_lab.batch.outputs._PACKAGES", ("numpy", "no-such-package-here"))
    assert versions() == {"numpy": np.__version__, "no-such-package-here": None}


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


PARAMETERS = """
dataset = "digits"
data_args = {}
lr = 0.0
limit = 0
flag = True
seed = 3
targets = ["a", "b"]
out = ""
"""


def session(*cells):
    """`globals()` of a notebook in which these cells ran, with what a shell leaves in it."""
    names = {"__name__": "__main__", "_": "", "_i1": "import numpy", "_dh": ["."]}
    names |= {"In": ["", "import numpy"], "Out": {1: 2}}
    for cell in cells:
        exec(cell, names)
    return names


@pytest.mark.usefixtures("look")
def test_begin_records_the_parameters_and_gives_the_setup_of_prepare(tmp_path):
    code = PARAMETERS.replace('""', repr(str(tmp_path / "here")))
    later = "limit = 7\nepochs = 9\nnames = ['x']"  # what an injected cell and a later one define
    outputs, setup = begin("02_x", session("import numpy as np", code, later))
    assert outputs.folder == tmp_path / "here"
    given = {"dataset": "digits", "data_args": {}, "lr": 0.0, "limit": 7}
    # the seed is given beside it
    assert setup == given | {"asked": {"targets": ["a", "b"]}}
    assert outputs.parameters == given | {"flag": True, "seed": 3, "targets": ["a", "b"]}
    outputs.close()
    manifest = json.loads((tmp_path / "here" / "manifest.json").read_text())
    assert (manifest["notebook"], manifest["parameters"]) == ("02_x", outputs.parameters)


@pytest.mark.usefixtures("look")
def test_begin_lists_all_values_that_cannot_be():
    wrong = PARAMETERS.replace("limit = 0", "limit = -1").replace("lr = 0.0", "lr = 'fast'")
    with pytest.raises(NotebookError) as caught:
        begin("02_x", session(wrong))
    assert str(caught.value) == (
        "lr must be a number from 0 on; got lr='fast'\n"
        "limit must be a whole number from 0 on; got limit=-1"
    )
    assert not (figures_dir() / "quick" / "02_x").exists()


def test_begin_sets_the_look_and_clears_what_lay_in_the_folder(tmp_path):
    old = Outputs("02_x", {}, out=tmp_path)
    old.table(pd.DataFrame({"a": [1]}), "old")
    old.close()
    with matplotlib.rc_context({"axes.spines.top": True, "svg.hashsalt": None}):
        begin("02_x", session(PARAMETERS) | {"out": str(tmp_path)})
        assert {name: matplotlib.rcParams[name] for name in style.RC} == style.RC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("look")
def test_titles_bear_the_last_part_of_a_path(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    given = {"model": "open_clip:ViT-B-16/openai", "dataset": f"{photos}/"}
    outputs = Outputs("02_x", given, out=tmp_path / "out")
    assert outputs.about() == "open_clip:ViT-B-16/openai on photos"
    assert outputs.about("digits", str(photos)).endswith("openai on digits and photos")
    (photos / "labels.csv").touch()
    assert outputs.about(str(photos / "labels.csv")).endswith("openai on labels.csv")
    tuned = Outputs("02_x", {"model": str(photos)}, out=tmp_path / "out")
    assert tuned.about("torchvision:CIFAR10") == "photos on torchvision:CIFAR10"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_title_of_a_notebook_holds_a_whole_path(path):
    code = [c["source"] for c in nbformat.read(path, 4)["cells"] if c["cell_type"] == "code"]
    assert not [
        c for c in code if any(x in c for x in ("{dataset", "{model}", "{beside", "{rival"))
    ]


def test_begin_names_what_is_missing():
    with pytest.raises(NotebookError, match='begin needs the parameter `out = ""`, the last of'):
        begin("02_x", session(PARAMETERS.replace('out = ""', "")))
    assert not (figures_dir() / "quick" / "02_x").exists()
    _, setup = begin("02_x", session(PARAMETERS))
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'model'"):
        prepare(**setup, seed=3)


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_begin_takes_exactly_the_parameters_cell_of_each_notebook(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    if not any("begin(" in c.source for c in cells):
        pytest.skip("it has no model and no data, and lists its parameters itself")
    first = next(i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", []))
    expected = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(cells[first].source).body
    }
    assert expected.pop("out") == ""
    names = session(*(c.source for c in cells[: first + 1]))
    outputs, setup = begin(path.stem, names)
    assert outputs.parameters == expected
    taken = inspect.signature(prepare).parameters.keys() - {"seed"}
    assert setup.pop("asked") == {n: expected[n] for n in ASKED if n in expected}
    assert setup == {name: value for name, value in expected.items() if name in taken}
    assert outputs.folder == figures_dir() / "quick" / path.stem
