"""The guide for contributors holds: its example is three files, short, and runs as it stands."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pandas as pd
from conftest import REPOSITORY


def test_a_diagnostic_is_added_as_the_guide_says(tmp_path):
    guide = (REPOSITORY / "docs" / "contributing.md").read_text()
    module, cells = re.findall(r"```python\n(.*?)```", guide, re.S)[:2]
    (setting,) = re.findall(r"```yaml\n(.*?)```", guide, re.S)
    code = [line for text in (module, cells, setting) for line in text.splitlines()]
    assert len([x for x in code if x.strip() and not x.startswith("# %%")]) < 30
    for part in ("classvec_lab", "data/digits"):
        shutil.copytree(REPOSITORY / part, tmp_path / part)
    (tmp_path / "classvec_lab" / "diagnostics" / "rank.py").write_text(module)
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    (notebooks / "settings.yaml").write_text(setting)
    notebook = nbformat.v4.new_notebook()
    for cell in cells.split("# %%")[1:]:
        kind, _, source = cell.partition("\n")
        if "markdown" in kind:
            notebook.cells.append(nbformat.v4.new_markdown_cell(source.removeprefix("# ").strip()))
            continue
        metadata = {"tags": ["parameters"]} if "parameters" in kind else {}
        notebook.cells.append(nbformat.v4.new_code_cell(source.strip(), metadata=metadata))
    nbformat.write(notebook, notebooks / "17_effective_rank.ipynb")
    quick = ["-p", "model=mlp", "-p", "epochs=1", "-p", "limit=100"]
    command = ["run", "17", "--notebooks", str(notebooks), "--out", str(tmp_path / "out"), *quick]
    line = [sys.executable, "-m", "classvec_lab.cli", *command]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "17_effective_rank" / "effective_rank.csv")
    assert list(table["model"]) == ["pre-trained", "fine-tuned"]
    assert table["rank"].between(1, 9).all()
