"""Notebooks small enough to run in a test: no torch, no pandas, one or two seconds each."""

from pathlib import Path

import nbformat
from nbformat import v4

OPEN = "import os\nfrom pathlib import Path\nfrom classvec_lab.batch.outputs import Outputs\n"


def write(
    folder: Path,
    stem: str,
    *cells: str,
    parameters: str = "seed = 0  # the seed",
    closes: bool = True,
) -> Path:
    """Write `folder/stem.ipynb`: a title, the parameters (with `out`), Outputs, the given cells, and close()."""
    outputs = f'outputs = Outputs("{stem}", {{"out": out}}, out=out)'
    notebook = v4.new_notebook()
    notebook.cells = [
        v4.new_markdown_cell(f"# About {stem}\nWords.", id="title"),
        v4.new_code_cell(
            f'out = ""  # where\n{parameters}', id="parameters", metadata={"tags": ["parameters"]}
        ),
        *(
            v4.new_code_cell(source, id=f"cell-{k}")
            for k, source in enumerate([OPEN + outputs, *cells])
        ),
    ]
    if closes:
        notebook.cells.append(v4.new_code_cell("outputs.close()", id="close"))
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{stem}.ipynb")
    return folder / f"{stem}.ipynb"
