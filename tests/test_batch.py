"""Running notebooks: checked first, in order, resumably, and never half done; with real kernels."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient
from papermill.exceptions import PapermillExecutionError
from tiny_notebooks import write

from classvec_lab.batch import results, run, runner
from classvec_lab.batch.parameters import check_parameters, convert, read_parameters, title
from classvec_lab.batch.planning import Job, plan
from classvec_lab.batch.runner import table
from classvec_lab.batch.worker import _guilty
from classvec_lab.errors import NotebookError
from classvec_lab.files import write_json

TEMPORARY = re.compile(r"[0-9a-f]{8}\.(tmp|old)")


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    """A current folder, and a package whose code nobody edits while the tests run."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("x = 1\n")
    monkeypatch.setattr(results, "PACKAGE", tmp_path / "package")
    monkeypatch.setenv("CLASSVEC_FIGURES", str(tmp_path / "figures"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(lab):
    return lab / "notebooks"


@pytest.fixture
def nothing_runs(monkeypatch):
    def fail(*_):
        raise AssertionError("a notebook was run")

    monkeypatch.setattr(runner._Run, "all", fail)


def statuses(results):
    return {result.notebook: result.status for result in results}


def settings(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "settings.yaml").write_text(text)


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.csv")
    }


def leftovers(folder):
    return [path.name for path in folder.iterdir() if TEMPORARY.search(path.name)]


# Parameters


def test_parameters_are_read_with_type_default_and_help(folder):
    lines = 'n = 3  # how many\nlr: float = -1e-3\nnames = ["a#b"]  # which\nflag = True\nopt = None\nmap_ = {\n  "a": 1}  # end'
    found = read_parameters(write(folder, "01_a", parameters=lines))
    assert [(p.name, p.type, p.default, p.help) for p in found.values()] == [
        ("out", "str", "", "where"),
        ("n", "int", 3, "how many"),
        ("lr", "float", -1e-3, ""),
        ("names", "list", ["a#b"], "which"),
        ("flag", "bool", True, ""),
        ("opt", "any", None, ""),
        ("map_", "dict", {"a": 1}, "end"),
    ]
    assert title(folder / "01_a.ipynb") == "About 01_a"


@pytest.mark.parametrize(
    "line",
    [
        "x = 1 + n",
        "x = f()",
        "import os",
        "a = b = 1",
        "x = (1, 2)",
        "x = {1}",
        "%magic",
        "x = {1: 2}",
    ],
)
def test_a_parameter_that_is_no_flat_literal_is_an_error_that_names_the_notebook(folder, line):
    with pytest.raises(NotebookError, match=r"'parameters' cell of 01_a\.ipynb"):
        read_parameters(write(folder, "01_a", parameters=line))


def test_a_notebook_without_a_parameters_cell_or_not_a_notebook_is_an_error(folder):
    path = write(folder, "01_a")
    path.write_text(path.read_text().replace('"parameters"\n', '"else"\n'))
    with pytest.raises(NotebookError, match=r"01_a\.ipynb has no cell tagged 'parameters'"):
        read_parameters(path)
    path.write_text("[]")
    with pytest.raises(NotebookError, match="not a notebook"):
        read_parameters(path)
    with pytest.raises(NotebookError, match="no such notebook"):
        read_parameters(folder / "none.ipynb")


def test_all_problems_of_a_request_are_reported_at_once(folder):
    path = write(folder, "01_a", parameters='seed = 0\nlr = 0.1\nflag = False\nnames = ["a"]')
    wrong = {"sed": "1", "seed": "1.5", "lr": "fast", "flag": "maybe", "names": "a", "out": "x"}
    with pytest.raises(NotebookError) as caught:
        check_parameters(path, wrong)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert (
        "no parameter 'sed'; did you mean 'seed'? It has: seed (int, default 0), lr (float, default 0.1)"
        in lines[0]
    )
    assert "'seed' must be an int, but '1.5' was given" in lines[1]
    assert "'lr' must be a float, but 'fast' was given" in lines[2]
    assert "'flag' must be a bool (true or false), but 'maybe' was given" in lines[3]
    assert "'names' must be a list such as [1, 2], but 'a' was given" in lines[4]
    assert "--out" in lines[5]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
typed = st.one_of(
    st.integers().map(lambda v: ("int", v, str(v))),
    st.floats(allow_nan=False).map(lambda v: ("float", v, repr(v))),
    st.integers(-(2**53), 2**53).map(lambda v: ("float", float(v), str(v))),
    st.text().map(lambda v: ("str", v, v)),
    st.sampled_from([(True, "true"), (True, "True"), (False, "False"), (False, "false")]).map(
        lambda pair: ("bool", *pair)
    ),
    st.lists(json_values).map(lambda v: ("list", v, json.dumps(v))),
    st.dictionaries(st.text(), json_values).map(lambda v: ("dict", v, json.dumps(v))),
    json_values.map(lambda v: ("any", v, json.dumps(v))),
)


@given(typed)
def test_text_converts_to_the_value_it_stands_for_and_values_pass_unchanged(case):
    kind, value, text = case
    for given_ in (text, value):
        if kind == "any" and isinstance(given_, str) and given_ is value:
            continue  # text for a parameter of any type is read as YAML
        converted = convert(given_, kind)
        assert converted == value
        assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[cat, dog]", ["cat", "dog"]),
        ("[1e-3, .5, 1., -2]", [1e-3, 0.5, 1.0, -2]),
        ("[no, 12:30, 2020-01-01, 010]", ["no", "12:30", "2020-01-01", "010"]),
        ("['1', null, true]", ["1", None, True]),
    ],
)
def test_lists_are_written_as_yaml_without_its_surprises(text, value):
    assert convert(text, "list") == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "int"),
        (True, "float"),
        (1, "bool"),
        (1.0, "int"),
        (1, "str"),
        (None, "str"),
        ("1e3", "int"),
        ("", "float"),
        ("{a: 1}", "list"),
        ("[", "list"),
        ("1", "bool"),
        ("yes", "bool"),
        ((1, 2), "list"),
        ([object()], "list"),
        ({1: 2}, "dict"),
        (object(), "any"),
    ],
)
def test_values_of_another_type_are_refused(value, kind):
    with pytest.raises(ValueError):  # noqa: PT011 (the message is made by check_parameters)
        convert(value, kind)


# Plans


def test_needs_come_first_and_bring_their_own_with_the_parameters_that_they_have(folder):
    settings(folder, "01_a: {needs: [03_c]}\n03_c: {full: {seed: 7}}\n20_s: {full: {seed: 8}}\n")
    for stem, lines in {
        "01_a": "seed = 0\nn = 1",
        "02_b": "",
        "03_c": "seed = 0",
        "20_s": 'seed = 0\nsource = ""',
    }.items():
        write(folder, stem, parameters=lines)
    jobs = plan(["01"], {"seed": "5", "n": "2"}, folder=folder)
    assert [(job.stem, job.parameters, job.chosen) for job in jobs] == [
        ("03_c", {"seed": 5}, False),
        ("01_a", {"seed": 5, "n": 2}, True),
    ]
    jobs = plan(parameters={"n": 3}, full=True, folder=folder)
    assert [job.stem for job in jobs] == ["03_c", "02_b", "01_a", "20_s"]
    assert [job.parameters.get("seed") for job in jobs] == [7, None, 0, 8]
    assert set(jobs[-1].after) == {"01_a", "02_b", "03_c"}
    assert plan(["20"], {"seed": 1}, full=True, folder=folder)[0].parameters == {"seed": 1}


def test_a_case_is_one_more_run_of_the_full_settings(folder):
    write(folder, "01_a", parameters="seed = 0")
    write(folder, "20_s", parameters='source = ""')
    cases = "cases: {small: {seed: 3}, other: {seed: 4}}"
    settings(folder, f"01_a: {{full: {{seed: 8}}, {cases}}}\n20_s: {{needs: [01_a]}}\n")
    jobs = {job.stem: job for job in plan(full=True, folder=folder)}
    assert {s: jobs[s].parameters["seed"] for s in jobs if s.startswith("01_a")} == {
        "01_a": 8, "01_a@small": 3, "01_a@other": 4,
    }  # fmt: skip
    assert {"01_a@small", "01_a@other"} <= set(jobs["20_s"].after)  # what gathers waits for them
    assert not any("@" in job.stem for job in plan(folder=folder))
    given = plan(["01_a"], {"seed": 5}, full=True, folder=folder)
    assert [(job.stem, job.parameters["seed"]) for job in given] == [("01_a", 5)]
    settings(folder, "01_a: {cases: {small: {sed: 3}}}\n")
    with pytest.raises(NotebookError, match="no parameter 'sed'; did you mean 'seed'"):
        plan(folder=folder)


@pytest.mark.parametrize(
    "name",
    ["02_orthogonality", "02", "2", "02_orthogonality.ipynb", "notebooks/02_orthogonality.ipynb"],
)
def test_a_notebook_is_found_by_path_name_or_number(folder, name):
    path = write(folder, "02_orthogonality")
    write(folder, "03_linearity")
    assert [job.notebook.resolve() for job in plan([name], folder=folder)] == [path]


def test_every_problem_of_every_notebook_is_found_before_any_is_run(folder, nothing_runs):
    write(folder, "01_a", parameters="seed = 0")
    write(folder, "02_b", parameters="sample = 1.0\nseed = 0")
    with pytest.raises(NotebookError) as caught:
        run(["01", "02", "03_c", "01_b"], {"sample": "x", "sead": "1"}, folder=folder)
    message = str(caught.value)
    for part in ("no notebook '03_c'", "no notebook '01_b'; did you mean", "01_a.ipynb has no parameter 'sample'",
                 "01_a.ipynb has no parameter 'sead'; did you mean 'seed'?", "02_b.ipynb has no parameter 'sead'",
                 "02_b.ipynb: parameter 'sample' must be a float, but 'x' was given"):  # fmt: skip
        assert part in message
    with pytest.raises(
        NotebookError, match="no notebook has a parameter 'sead'; did you mean 'seed'"
    ):
        run([], {"sead": "1", "sample": "2"}, folder=folder)
    with pytest.raises(NotebookError, match="jobs must be at least 1"):
        run([], jobs=0, folder=folder)
    with pytest.raises(NotebookError, match="no notebook named"):
        run([], folder=folder / "empty")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("09_z: {needs: []}", "entry '09_z': there is no such notebook"),
        (
            "01_a: {needs: [02_bb]}",
            "01_a needs '02_bb': there is no such notebook; did you mean '02_b'?",
        ),
        ("01_a: {full: {sead: 1}}", "no parameter 'sead'; did you mean 'seed'?"),
        ("01_a: {full: {seed: fast}}", "'seed' must be an int, but 'fast' was given"),
        ("01_a: {need: []}", "`needs`, `full` and `cases` only"),
        ("01_a: {needs: 02_b}", "must be a list"),
        ("01_a: {cases: [2]}", "`cases` a mapping of names to such mappings"),
        ("01_a: {cases: {odd: 2}}", "`cases` a mapping of names to such mappings"),
        ("- 01_a", "should map"),
        ("a: [", "isn't valid YAML"),
        ("01_a: {needs: [02_b]}\n02_b: {needs: [01_a]}", "in a circle: 01_a needs 02_b needs 01_a"),
        ("01_a: {needs: [01_a]}", "in a circle: 01_a needs 01_a"),
    ],
)
def test_settings_are_checked(folder, nothing_runs, text, problem):
    write(folder, "01_a")
    write(folder, "02_b")
    settings(folder, text)
    with pytest.raises(NotebookError) as caught:
        run(["01"], folder=folder)
    assert problem in str(caught.value)


def test_a_notebook_must_be_able_to_take_its_folder(folder, nothing_runs):
    path = write(folder, "01_a")
    path.write_text(path.read_text().replace('out = \\"\\"', 'into = \\"\\"'))
    with pytest.raises(NotebookError, match=r'01_a\.ipynb needs a parameter `out = ""`'):
        run(["01"], folder=folder)
    with pytest.raises(NotebookError, match="can't name a folder"):
        run([str(write(folder, "my notebook"))], folder=folder)
    write(folder / "other", "01_a")
    with pytest.raises(NotebookError, match="share one output folder"):
        run(["01", "notebooks/other/01_a.ipynb"], folder=folder)


def test_files_that_no_notebook_made_are_not_replaced(folder, lab, nothing_runs):
    write(folder, "01_a")
    (lab / "out" / "01_a").mkdir(parents=True)
    (lab / "out" / "01_a" / "thesis.docx").write_text("years of work")
    with pytest.raises(NotebookError, match=r"it holds thesis\.docx"):
        run(["01"], out="out", folder=folder)
    (lab / "file").write_text("")
    with pytest.raises(NotebookError, match="can't write"):
        run(["01"], out="file/x", folder=folder)


# What is up to date


def test_the_key_follows_everything_that_results_depend_on(folder, lab):
    def key(parameters=(), needs=(), gathers=False, stem="01_a"):
        path = folder / f"{stem}.ipynb"
        return results.key_of(
            Job(path, dict(parameters), gathers=gathers), dict(needs), lab / "out"
        )

    write(folder, "01_a")
    (lab / "data").mkdir()
    keys = [
        key(),
        key({"seed": 1}),
        key({"data": "data"}),
        key(needs={"02_b": "1"}),
        key(needs={"02_b": "2"}),
    ]
    (lab / "data" / "x.txt").write_text("1")
    keys.append(key({"data": "data"}))
    (lab / "data" / "x.txt").write_text("12")
    keys += [key({"data": "data"}), key({"data": "data/x.txt"})]
    for stem, text in (("02_b", "1"), ("02_b", "2")):
        (lab / "out" / stem).mkdir(parents=True, exist_ok=True)
        (lab / "out" / stem / "t.csv").write_text(text)
        keys.append(key(gathers=True))
    assert key(gathers=True) == keys[-1]
    for ignored in ("01_a", ".02_b.01234567.tmp"):
        (lab / "out" / ignored).mkdir()
        (lab / "out" / ignored / "t.csv").write_text(text)
    assert key(gathers=True) == keys[-1]
    (lab / "package" / "code.py").write_text("x = 2\n")
    keys.append(key())
    write(folder, "01_a", "x = 1")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key({"seed": "no such path", "text": "a" * 5000, "nul": "\0"}) == key(
        {"text": "a" * 5000, "nul": "\0", "seed": "no such path"}
    )


def test_a_folder_is_up_to_date_only_if_whole_and_unaltered(tmp_path):
    folder = tmp_path / "01_a"
    (folder / "sub").mkdir(parents=True)
    (folder / "t.csv").write_text("a\n")
    (folder / "sub" / "m.bin").write_text("b\n")
    manifest = {
        "files": {name: results.sha256(folder / name) for name in ("t.csv", "sub/m.bin")},
        "key": "k",
    }
    write_json(folder / "manifest.json", manifest)
    assert results.is_up_to_date(folder, "k")
    assert not results.is_up_to_date(folder, "other")
    (folder / "t.csv").write_text("A\n")
    assert not results.is_up_to_date(folder, "k")
    (folder / "t.csv").write_text("a\n")
    assert results.is_up_to_date(folder, "k")
    (folder / "sub" / "m.bin").unlink()
    assert not results.is_up_to_date(folder, "k")
    for text in ("{", "[]", '{"key": "k"}', '{"key": "k", "files": []}'):
        (folder / "manifest.json").write_text(text)
        assert not results.is_up_to_date(folder, "k")
    shutil.rmtree(folder)
    assert not results.is_up_to_date(folder, "k")


def test_a_run_killed_between_the_renames_is_undone_and_other_notebooks_are_left_alone(tmp_path):
    (tmp_path / ".01_a.01234567.old").mkdir()
    (tmp_path / ".01_a.01234567.old" / "t.csv").write_text("good")
    for name in (".01_a.89abcdef.tmp", ".01_a_b.89abcdef.tmp", ".01_a.notes.tmp"):
        (tmp_path / name).mkdir()
    results.sweep(tmp_path / "01_a")
    assert sorted(p.name for p in tmp_path.iterdir() if "01_a" in p.name) == [
        ".01_a.notes.tmp",
        ".01_a_b.89abcdef.tmp",
        "01_a",
    ]
    assert (tmp_path / "01_a" / "t.csv").read_text() == "good"


# Runs with real kernels


def test_a_run_is_repeatable_resumable_and_leaves_no_trace_of_its_temporary_folder(folder, lab):
    settings(folder, "02_b: {needs: [01_a]}\n")
    copy = 'Path(out, "t.csv").write_text(f"{Path(data).read_text()},{seed}\\n")\nprint(out, os.environ["OMP_NUM_THREADS"])'
    write(folder, "01_a", copy, "outputs.record(where=out)", parameters='seed = 0\ndata = "in.txt"')
    write(folder, "02_b", 'Path(out, "b.csv").write_text("b\\n")')
    gather = 'Path(out, "names.csv").write_text("\\n".join(sorted(p.parent.name for p in Path(source).glob("[!.]*/*.csv"))))'
    write(folder, "20_s", gather, parameters='source = ""')
    (lab / "in.txt").write_text("1")
    (lab / "out").mkdir()
    (lab / "out" / ".01_a.01234567.tmp").mkdir()

    def again(*names, **options):
        return statuses(run(names, folder=folder, out="out", quiet=True, **options))

    first = run(folder=folder, out="out", jobs=2)
    assert statuses(first) == {"01_a": "made", "02_b": "made", "20_s": "made"}, first
    assert (lab / "out" / "20_s" / "names.csv").read_text() == "01_a\n02_b"
    assert (lab / "out" / "01_a" / "t.csv").read_text() == "1,0\n"
    assert leftovers(lab / "out") == []
    for path in (lab / "out").rglob("*"):
        assert path.is_dir() or not (
            TEMPORARY.search(text := path.read_text()) or str(lab) in text
        ), path
    executed = (lab / "out" / "01_a" / "01_a.ipynb").read_bytes()
    assert b'out = \\"out/01_a\\"' in executed
    manifest = json.loads((lab / "out" / "01_a" / "manifest.json").read_text())
    assert manifest["facts"] == {"where": "out/01_a"}
    assert manifest["files"].keys() == {"t.csv", "01_a.ipynb"}
    assert manifest["key"] == first[0].key
    assert manifest["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)
    rows = [line.split() for line in table(first).splitlines()]
    assert rows[0] == ["notebook", "status", "seconds", "folder"]
    assert rows[1][:2] + rows[1][3:] == ["01_a", "made", "out/01_a"]

    before = snapshot(lab / "out")
    (lab / "out" / "01_a.failed.ipynb").write_text("{}")
    assert set(again().values()) == {"up to date"}
    assert not (lab / "out" / "01_a.failed.ipynb").exists()
    assert again("20") == {"20_s": "up to date"}
    assert again("02", force=True, jobs=2) == {"01_a": "up to date", "02_b": "made"}
    (lab / "out" / "01_a" / "t.csv").write_text("damaged")
    assert again(jobs=2) == {"01_a": "made", "02_b": "up to date", "20_s": "up to date"}
    assert snapshot(lab / "out") == before
    assert (lab / "out" / "01_a" / "01_a.ipynb").read_bytes() == executed
    assert again("01", parameters={"seed": "4"}) == {"01_a": "made"}
    assert (lab / "out" / "01_a" / "t.csv").read_text() == "1,4\n"


def test_a_failing_cell_keeps_the_old_results_and_stops_only_those_that_need_it(folder, lab):
    settings(folder, "03_c: {needs: [02_b]}\n04_d: {needs: [03_c]}\n")
    write(folder, "01_a", closes=False)
    write(
        folder,
        "02_b",
        "# a comment\nPath(out, 'b.csv').write_text('b')",
        "x = 1\nassert not bad, f'no good in {out}'",
        parameters="bad = False",
    )
    write(folder, "03_c")
    write(folder, "04_d")
    assert statuses(run(["02"], folder=folder, quiet=True)) == {"02_b": "made"}
    out = lab / "figures" / "quick"
    before = snapshot(out)
    results = run(parameters={"bad": True}, folder=folder, quiet=True, jobs=2)
    assert statuses(results) == {
        "01_a": "failed",
        "02_b": "failed",
        "03_c": "not run",
        "04_d": "not run",
    }
    errors = [result.error for result in results]
    assert errors[0].startswith("01_a.ipynb ended without manifest.json")
    assert errors[0].endswith("figures/quick/01_a.failed.ipynb")
    kept = "figures/quick/02_b.failed.ipynb"
    assert errors[1].startswith(
        "02_b.ipynb failed in code cell 4 (`assert not bad, f'no good in {out}'`): AssertionError: no good in "
    )
    assert errors[1].endswith(kept)
    assert errors[2:] == [
        "03_c was not run, because it needs 02_b",
        "04_d was not run, because it needs 03_c",
    ]
    assert snapshot(out) == before
    assert leftovers(out) == []
    text = (lab / kept).read_text()
    assert "AssertionError" in text
    assert not TEMPORARY.search(text)
    assert statuses(run(["02"], folder=folder, quiet=True)) == {"02_b": "up to date"}
    assert not (lab / kept).exists()


def test_jobs_run_side_by_side_each_with_its_share_of_threads(folder, lab, capfd):
    meet = (
        "import time\nPath(stem).touch()\nend = time.time() + 60\n"
        "while not (Path('01_a').exists() and Path('02_b').exists()):\n    assert time.time() < end\n    time.sleep(0.05)"
    )
    for stem in ("01_a", "02_b"):
        write(
            folder,
            stem,
            f"stem = {stem!r}",
            meet,
            "os.write(2, b'noise from below')",
            "assert Path.cwd() == Path(home)",
            parameters='home = ""',
        )
    assert set(statuses(run(parameters={"home": str(lab)}, folder=folder, jobs=2)).values()) == {
        "made"
    }
    lines = capfd.readouterr().err.splitlines()
    assert {"01_a: running", "02_b: running"} <= set(lines)
    assert any(re.fullmatch(r"01_a: cell \d of 7", line) for line in lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_innermost_bar_of_a_notebook_is_told(folder, capfd, monkeypatch, terminal):
    monkeypatch.setattr("classvec_lab.batch.runner.EVERY", 0.1)
    monkeypatch.setattr("classvec_lab.batch.runner.LATEST", 0.1)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    loop = (
        "import time\nfrom classvec_lab.progress import progress_bar\n"
        "for _ in progress_bar(range(2), desc='outer'):\n"
        "    for _ in progress_bar(range(3), desc='inner', mininterval=0):\n        time.sleep(0.4)"
    )
    write(folder, "01_a", loop)
    (result,) = run(["01"], folder=folder)
    text = capfd.readouterr().err
    assert re.search(r"01_a: cell 3 of 4, inner: [12] of 3, 00:0\d left", text)
    if terminal:  # one line, written anew, and wiped before any other
        assert text.count("\n") == 1
        assert text.endswith("\r\x1b[K")
    else:
        lines = text.splitlines()
        assert not any("\r" in line for line in lines)
        assert len(lines) < 20
    cells = json.loads((result.folder / "01_a.ipynb").read_text())["cells"]
    assert [cell.get("outputs", []) for cell in cells] == [[] for _ in cells]


# Whole processes, killed for real


# A shell that starts something in the background makes it ignore Ctrl-C, and that is inherited:
# the command answers to it whatever started the tests.
START = """import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from classvec_lab.cli import main
sys.exit(main())"""


def command(*arguments, **options):
    where = ["--notebooks", "notebooks", "--out", "out", "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", START, "run", *where, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def in_the_background():
    """What is started meanwhile inherits that Ctrl-C is ignored, as a background job of a shell does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("in_the_background")
def test_a_killed_run_leaves_finished_notebooks_no_kernel_and_nothing_half_done(
    folder, lab, number
):
    write(folder, "01_a", "Path(out, 'a.csv').write_text('a')")
    hang = (
        "import time\nPath(out, 'b.csv').write_text('b')\nPath('pids').write_text(f'{os.getpid()} {os.getppid()}')\n"
        "while not Path('go').exists():\n    time.sleep(0.05)"
    )
    write(folder, "02_b", hang)
    hard = number == signal.SIGKILL
    process = command(*([] if hard else ["02"]))
    wait_until(lambda: (lab / "pids").exists() and (lab / "pids").read_text())
    pids = [int(pid) for pid in (lab / "pids").read_text().split()]
    process.send_signal(number)
    assert process.wait(20) == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert "Traceback" not in process.stderr.read()
    process.communicate()
    wait_until(lambda: not any(map(alive, pids)), 5)
    (lab / "go").touch()
    assert not (lab / "out" / "02_b").exists()
    assert bool(leftovers(lab / "out")) == hard
    if hard:
        made = (lab / "out" / "01_a" / "manifest.json").stat().st_mtime_ns
        process = command()
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert re.search(r"01_a +up to date.*\n02_b +made", output)
        assert (lab / "out" / "01_a" / "manifest.json").stat().st_mtime_ns == made
        assert (lab / "out" / "02_b" / "b.csv").read_text() == "b"
        assert leftovers(lab / "out") == []


def test_two_runs_at_once_share_the_work(folder, lab):
    write(folder, "01_a", "Path('count').open('a').write('x')", "import time\ntime.sleep(0.5)")
    processes = [command(), command()]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(re.search(r"01_a +(made|up to date)", output)[1] for output in outputs) == [
        "made",
        "up to date",
    ]
    assert (lab / "count").read_text() == "x"


GUILTY = {  # cells that fail, and the line that they fail in
    "for i in range(2):\n    x = [\n        1 / i for i in range(2)]": "x = [",
    "x = 1\ny = = 2": "y = = 2",
    "def f():\n    return 1 / 0\n\nx = 1\nf()": "f()",
    "# first\nimport json\n\njson.loads('{')\nx = 2": "json.loads('{')",
    "try:\n    {}['a']\nexcept KeyError:\n    {}['b']": "{}['b']",
    "x = 1\nraise SystemError('Cell In[1], line 1')": "raise SystemError('Cell In[1], line 1')",
}


def test_an_error_quotes_the_line_that_raised_it(folder):
    write(folder, "01_a", *GUILTY)
    notebook = nbformat.read(folder / "01_a.ipynb", as_version=4)
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute(cwd=folder)
    for cell, line in zip(notebook.cells[3:], GUILTY.values(), strict=False):
        (output,) = (o for o in cell.outputs if o.output_type == "error")
        given = cell.execution_count, cell.source, output.ename, output.evalue, output.traceback
        assert _guilty(PapermillExecutionError(0, *given)) == {"line": line}
    assert _guilty(RuntimeError("Kernel died")) == {}


@pytest.mark.parametrize("lost", ["a table", "the manifest", "its completion", "everything"])
def test_files_that_cannot_be_written_never_cost_the_executed_notebook(
    folder, lab, monkeypatch, lost
):
    """A table, a figure or the manifest: what the notebook shows is kept, and the run has failed."""
    refuse = "def refuse(*args, **more):\n    raise OSError(28, 'No space left on device')"
    at = "classvec_lab.batch.outputs"
    what = {"a table": "atomic", "the manifest": "write_json", "everything": "atomic"}.get(lost)
    cells = [f"{refuse}\nimport {at}\n{at}.{what} = refuse"] if what else []
    table = "import warnings\nwarnings.simplefilter('ignore')\nimport pandas\n"
    table += "outputs.table(pandas.DataFrame({'a': [1]}), 't')\nprint('all was', 'computed')"
    write(folder, "01_a", *cells, table)
    if lost in ("its completion", "everything"):

        def full(path, value):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(results, "write_json", full)
    (result,) = run(["01"], folder=folder, quiet=True)
    assert result.status == "failed"
    kept = "figures/quick/01_a.failed.ipynb"
    assert result.error.endswith(f"\nIts executed part is {kept}")
    assert "t.csv couldn't be written" in result.error or "No space left" in result.error
    assert "all was computed" in (lab / kept).read_text()
    assert not (lab / "figures" / "quick" / "01_a").exists()


def test_a_dead_kernel_is_a_failed_notebook(folder, lab):
    write(folder, "01_a", "print('alive')", "os.kill(os.getpid(), 9)")
    (result,) = run(["01"], folder=folder, quiet=True)
    assert result.status == "failed"
    assert (
        "01_a.ipynb failed in code cell 4 (`os.kill(os.getpid(), 9)`): DeadKernelError"
        in result.error
    )
    assert "alive" in (lab / "figures" / "quick" / "01_a.failed.ipynb").read_text()
