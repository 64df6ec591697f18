"""Notebooks are thin, stripped, parameterised, and settings.yaml knows each of them."""

import ast
import re

import nbformat
import pytest
import yaml
from conftest import FEWER, REPOSITORY
from in_process import run

from classvec_lab import load_classifier, load_dataset
from classvec_lab.batch.parameters import read_parameters
from classvec_lab.batch.planning import begun, plan

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def only_imports(source):
    return all(isinstance(x, ast.Import | ast.ImportFrom) for x in ast.parse(source).body)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_thin(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    lines = [
        [x for x in c.source.splitlines() if x.strip() and not x.strip().startswith("#")]
        for c in cells
    ]
    tagged = [i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = {i: len(x) for i, x in enumerate(lines) if i not in tagged}
    assert sum(lines.values()) <= 120
    long = [i for i, n in lines.items() if n > 12]
    assert [i for i in long if not only_imports(cells[i].source)] == []
    assert len(long) <= 1
    for cell in cells:
        assert not cell.outputs
        assert cell.execution_count is None
        assert not re.search(r"^\s*(def|class)\s", cell.source, re.M)
        assert not cell.source.rstrip().endswith(";")
    assert notebook.cells[0].cell_type == "markdown"
    assert re.match(r"# .+\?|# Summary", notebook.cells[0].source)
    code = "".join(c.source for c in cells)
    assert f'Outputs("{path.stem}"' in code or f'begin("{path.stem}", globals())' in code


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_parameters_are_flat_and_explained(path):
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign)
        ast.literal_eval(node.value)
    assert re.search(r'^out = ""', cell.source, re.M)


@pytest.mark.parametrize("stem", FEWER)
def test_what_tests_set_is_a_parameter(stem):
    (path,) = (p for p in NOTEBOOKS if p.stem == stem)
    assert FEWER[stem].keys() <= read_parameters(path).keys()


def test_settings_know_every_notebook():
    settings = yaml.safe_load((REPOSITORY / "notebooks" / "settings.yaml").read_text())
    assert sorted(settings) == [p.stem for p in NOTEBOOKS]


def test_the_readme_and_the_gallery_show_what_is_there():
    for page in (REPOSITORY / "README.md", REPOSITORY / "figures" / "README.md"):
        text = page.read_text()
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
        assert any(link.endswith(".png") for link in links)
        assert [link for link in links if not (page.parent / link).exists()] == []


SMALL = {"model": "mlp", "model_args": {"size": 8, "hidden": [8], "dim": 12}, "limit": 60}


@pytest.mark.usefixtures("look")
def test_a_new_notebook_has_the_form_of_the_house_and_runs_at_once(tmp_path, capsys):
    folder = tmp_path / "notebooks"
    path = begun("of_mine", folder)
    test_a_notebook_is_thin(path)
    test_parameters_are_flat_and_explained(path)
    (job,) = plan(["01"], folder=folder)
    assert job.parameters["dataset"] == "digits"
    names = run("01", SMALL | {"epochs": 1, "out": str(tmp_path / "out")}, folder, saved=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "cosine.pdf",
        "cosine.png",
        "lengths.csv",
        "manifest.json",
    ]
    said = capsys.readouterr().out
    assert said.startswith("Accuracy on val (n = 60): pre-trained ")
    assert names["says"][0] in said


@pytest.mark.usefixtures("look")
def test_neural_collapse_of_a_pair_that_is_given(tmp_path, capsys):
    """Notebook 04 trains nothing, and leaves out what only epochs have."""
    data = load_dataset("digits", split="train", limit=60)
    mlp = load_classifier("mlp", classes=data.classes, model_args=SMALL["model_args"])
    mlp.save(tmp_path / "mine")
    out = tmp_path / "out"
    changes = {"finetuned": str(tmp_path / "mine"), "heads": ["linear"], "n_boot": 2}
    names = run("04", SMALL | changes | {"out": str(out)}, saved=True)
    assert not names["histories"]
    assert list(names["reports"]) == ["the pair given, pre-trained", "the pair given, fine-tuned"]
    made = {p.name for p in out.iterdir()}
    assert made >= {"collapse.csv", "per_class.csv", "per_class.png", "manifest.json"}
    assert not [name for name in made if name.startswith(("over_epochs", "map_"))]
    assert capsys.readouterr().out.startswith("Accuracy on val")
