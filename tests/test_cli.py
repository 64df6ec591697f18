"""The `classvec` command: messages instead of tracebacks, exit codes, and a quick start."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from tiny_notebooks import write

from classvec_lab.batch.parameters import load_cells, read_parameters, title
from classvec_lab.batch.planning import read_settings
from classvec_lab.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "notebooks"


def refused(capsys, *arguments):
    """The message of a command that ends with code 2, whether argparse or the package refuses it."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in captured.err
    return captured.err


def test_importing_is_cheap():
    heavy = {"torch", "pandas", "matplotlib", "papermill", "nbformat", "IPython", "tqdm"}
    code = "import sys, classvec_lab.cli, classvec_lab.batch, classvec_lab.batch.outputs; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert heavy.isdisjoint(loaded)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"classvec_lab {metadata.version('classvec_lab')}\n"


def test_list_shows_titles_and_parameters_and_what_cannot_be_run(folder, capsys):
    write(
        folder,
        "01_models",
        parameters='seed = 0  # which draw\nmodel = "tiny-clip"  # source of the model',
    )
    write(folder, "02_plain", parameters="")
    (folder / "03_broken.ipynb").write_text("{}")
    (folder / "Untitled.ipynb").write_text("{}")
    assert main(["list", "--notebooks", str(folder)]) == 0
    lines = [re.sub(" +", " ", line).strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [
        "01_models: About 01_models",
        "seed int 0 which draw",
        "model str 'tiny-clip' source of the model",
        "",
    ]
    assert lines[4:6] == ["02_plain: About 02_plain", ""]
    assert lines[6].startswith("03_broken: can't be run: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["03"], "no notebook '03'"),
        (["01", "-p", "sead=1"], "01_a.ipynb has no parameter 'sead'; did you mean 'seed'?"),
        (["-p", "seed=x"], "parameter 'seed' must be an int, but 'x' was given"),
        (["-p", "seed"], "-p seed: write -p NAME=VALUE"),
        (["-p", "seed=1", "-p", "seed=2"], "-p seed=2: seed was already set to '1'"),
        (["-p", "out=x"], "--out"),
        (["--jobs", "0"], "jobs must be at least 1"),
        (["--jobs", "many"], "invalid int value"),
        (["--out", "file/x"], "can't write to"),
    ],
)
def test_a_bad_request_is_one_message_and_exit_code_2(folder, capsys, arguments, message):
    write(folder, "01_a")
    (folder.parent / "file").write_text("")
    assert message in refused(capsys, "run", "--notebooks", str(folder), *arguments)
    assert not (folder.parent / "figures").exists()


def test_new_begins_a_notebook_with_its_line_of_settings(tmp_path, capsys):
    folder = tmp_path / "notebooks"
    write(folder, "05_a")
    (folder / "settings.yaml").write_text("# ours\n05_a: {needs: []}")
    for name, stem in (("my_topic", "06_my_topic"), ("03_before", "03_before"), ("x", "07_x")):
        assert main(["new", name, "--notebooks", str(folder)]) == 0
        assert capsys.readouterr().out.endswith(f"{stem}.ipynb\n")
        assert read_parameters(folder / f"{stem}.ipynb")["finetuned"].default == ""
        assert title(folder / f"{stem}.ipynb").startswith(stem)
        assert f'begin("{stem}", globals())' in "".join(
            c for _, c, _ in load_cells(folder / f"{stem}.ipynb")
        )
    assert read_settings(folder).keys() == {"05_a", "06_my_topic", "03_before", "07_x"}
    assert (folder / "settings.yaml").read_text().startswith("# ours\n")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for name, told in (
        ("06_my_topic", "06_my_topic.ipynb exists already"),
        ("a b", "can't name a notebook"),
        ("../x", "can't name a notebook"),
        ("größe", "can't name a notebook"),
    ):
        assert told in refused(capsys, "new", name, "--notebooks", str(folder))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert main(["new", "01_first", "--notebooks", str(tmp_path / "empty")]) == 0
    assert sorted(p.name for p in (tmp_path / "empty").iterdir()) == [
        "01_first.ipynb",
        "settings.yaml",
    ]


def test_commands_are_required(capsys):
    assert "required" in refused(capsys)


def test_run_files_results_and_says_what_failed(folder, tmp_path):
    write(folder, "01_a", "Path(out, 't.csv').write_text(str(seed))\nassert seed != 3, 'three'")
    environment = os.environ | {"CLASSVEC_FIGURES": str(tmp_path / "figures")}

    def command(*arguments):
        line = [sys.executable, "-m", "classvec_lab.cli", "run", *arguments]
        return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)

    done = command("notebooks/01_a.ipynb", "-p", "seed=2", "--full")
    assert done.returncode == 0, done.stderr
    assert re.search(r"01_a +made +\d+\.\d +figures/01_a\n", done.stdout)
    assert "01_a: running" in done.stderr
    assert (tmp_path / "figures" / "01_a" / "t.csv").read_text() == "2"
    assert "key" in json.loads((tmp_path / "figures" / "01_a" / "manifest.json").read_text())
    done = command("notebooks/01_a.ipynb", "-p", "seed=3", "--quiet")
    assert done.returncode == 1
    assert re.search(r"01_a +failed +\d+\.\d +-\n", done.stdout)
    message = "classvec: 01_a.ipynb failed in code cell 3 (`assert seed != 3, 'three'`): AssertionError: three\n"
    assert done.stderr == message + "Its executed part is figures/quick/01_a.failed.ipynb\n"
