"""The package as a whole: quick to import, environment files that agree, a tidy public surface."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import REPOSITORY

import classvec_lab

CONDA = {"pytorch": "torch", "open-clip-torch": "open_clip_torch"}
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def bounds(requirements):
    """Package name to its lower bound ("" where there is none)."""
    parsed = {}
    for line in requirements:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(>=[0-9.]+)?", line)
        assert match, f"write {line!r} as name>=version"
        parsed[match[1]] = match[2] or ""
    return parsed


def test_importing_is_light():
    code = "import sys, classvec_lab; print(*sorted(m for m in ('torch', 'pandas', 'matplotlib', 'open_clip') if m in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_every_public_name_loads():
    for name in classvec_lab.__all__:
        assert getattr(classvec_lab, name) is not None
    assert set(classvec_lab.__all__) < set(dir(classvec_lab))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = classvec_lab.nonsense


def test_versions_agree():
    assert PROJECT["version"] == classvec_lab.__version__
    assert (
        yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"]
        == classvec_lab.__version__
    )
    assert f"## [{classvec_lab.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_conda_environment_matches_pyproject():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    listed = environment["dependencies"]
    *by_pip, itself = listed[-1]["pip"]
    assert itself == "-e ."
    conda = {CONDA.get(k, k): v for k, v in bounds([*listed[:-1], *by_pip]).items()}
    assert conda.pop("python") == PROJECT["requires-python"]
    assert "pip" in conda
    conda.pop("pip")
    assert conda == bounds([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])


def test_constraints_cover_what_is_installed_directly():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if line and not line.startswith("#")}
    direct = bounds([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
    assert set(direct) <= pinned


PACKAGE = REPOSITORY / "classvec_lab"
MODULES = sorted(PACKAGE.rglob("*.py"))
BASE = {"errors", "checks", "files", "progress", "statistics", "words"}
PRIMITIVES = {"features", "moments", "vectors", "edits", "gates", "readout"}
ARRAYS = BASE | {"moments", "edits", "gates"}  # what knows no network
BELOW = BASE | PRIMITIVES | {"datasets", "models"}
ROOMS = {  # a room to what it may know, itself aside
    **dict.fromkeys(BASE, BASE),
    "datasets": BASE,
    "models": BASE | {"datasets"},
    "moments": BASE,
    "gates": BASE,
    "edits": ARRAYS,
    "vectors": ARRAYS,
    "features": BELOW - {"readout"},
    "readout": ARRAYS | {"models", "features"},
    "weightspace": BASE | {"models", "datasets"},
    "diagnostics": BELOW | {"weightspace"},
    "editing": BELOW,
    "experiments": BELOW | {"weightspace", "diagnostics", "editing"},
    "applications": BELOW | {"weightspace", "editing"},
    "plots": BELOW | {"weightspace", "diagnostics", "editing", "experiments"},
    "panels": (BELOW | {"weightspace", "diagnostics", "editing", "applications", "plots"})
    - {"datasets", "models"},
    "batch": BASE | {"experiments", "plots"},  # for `begin`, which notebooks call
    "cli": BASE | {"batch"},
    "__init__": set(),
}


def imports(path):
    """(module, names) of each import of ours in a file, the module as a tuple below the package."""
    inside = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = inside[: len(inside) - node.level + 1]
            yield (*above, *(node.module or "").split(".")), [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("classvec_lab"):
            yield tuple(node.module.split(".")[1:]), [a.name for a in node.names]


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_data_flows_one_way(path):
    known = ROOMS[room_of(path)] | {room_of(path)}
    for module, names in imports(path):
        rooms = {module[0]} if module[0] else set(names)  # `from .. import plots` names the room
        assert rooms <= known, f"{path} knows {rooms - known}"


def test_every_room_is_in_the_plan():
    assert {room_of(path) for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_is_small_documented_and_open(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 400, "two modules"
    assert max(map(len, text.splitlines())) <= 100
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
            assert node.name != path.stem, "a function with the name of its module"
    for module, names in imports(path):
        assert not [n for n in names if n.startswith("_")], f"a private name of {module}"


def test_folders_and_the_root_stay_small():
    for folder in {path.parent for path in MODULES}:
        assert len(list(folder.glob("*.py"))) <= 14, folder
    assert len(classvec_lab.__all__) <= 40


def test_torchvision_without_its_operators_is_mended():
    """In a fresh process: importing through the package works whichever build of torchvision is there."""
    code = (
        "from classvec_lab.datasets.torchvision_repair import ensure_torchvision as e; e(); e(); import torchvision, timm, open_clip;"
        "from torchvision.transforms import CenterCrop"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)
