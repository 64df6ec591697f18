"""Notebooks run cell by cell in the test's own process, where what they call can be patched."""

import ast

import nbformat
import pytest
from conftest import REPOSITORY

from classvec_lab.batch.outputs import Outputs

NOTEBOOKS = REPOSITORY / "notebooks"


def code_cells(number, folder=NOTEBOOKS):
    """The code cells of the notebook of that number, "05"."""
    (path,) = folder.glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    return [c for c in cells if c.cell_type == "code"]


def parameters(number):
    """Its parameters and their defaults."""
    (cell,) = [c for c in code_cells(number) if "parameters" in c.metadata.get("tags", [])]
    return {n.targets[0].id: ast.literal_eval(n.value) for n in ast.parse(cell.source).body}


def drawn(outputs, figure, name):
    """Instead of a file: all that drawing finds wrong is found, and nothing is rendered."""
    figure.draw_without_rendering()


def run(number, changes, folder=NOTEBOOKS, *, saved=False):
    """What its cells leave in `globals()`, run one after the other with other parameters.

    Where nobody reads the files of its figures they are drawn, and only `saved` ones are written:
    as PNG and PDF a figure takes most of a second.
    """
    names = {"__name__": "__main__", "display": print}
    with pytest.MonkeyPatch.context() as patch:
        if not saved:
            patch.setattr(Outputs, "figure", drawn)
        for cell in code_cells(number, folder):
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                assert changes.keys() <= names.keys()
                names |= changes
    return names
