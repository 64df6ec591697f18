"""The package as a whole: quick to import, environment files that agree, a tidy public surface."""

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


def test_modules_stay_small_and_public_names_are_documented():
    import ast

    for path in (REPOSITORY / "classvec_lab").rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 400, f"{path} is two rooms"
        tree = ast.parse(text)
        assert ast.get_docstring(tree) or path.stat().st_size == 0, f"{path} says nothing of itself"
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef)
                and node in tree.body
                and not node.name.startswith("_")
            ):
                assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


MUST_NOT_KNOW = {
    "datasets": [
        "models",
        "weightspace",
        "features",
        "vectors",
        "diagnostics",
        "editing",
        "plots",
        "panels",
    ],
    "models": ["features", "vectors", "weightspace", "diagnostics", "editing", "plots", "panels"],
    "weightspace": ["features", "vectors", "diagnostics", "editing", "plots", "panels"],
    "features": ["diagnostics", "editing", "plots", "panels"],
    "vectors": ["models", "features", "datasets", "diagnostics", "editing", "plots", "panels"],
    "edits": [
        "models",
        "features",
        "datasets",
        "vectors",
        "diagnostics",
        "editing",
        "plots",
        "panels",
    ],
    "gates": [
        "models",
        "features",
        "datasets",
        "vectors",
        "diagnostics",
        "editing",
        "plots",
        "panels",
    ],
    "diagnostics": ["editing", "plots", "panels"],
    "editing": ["plots", "panels"],
    "plots": ["panels"],
    "panels": ["batch", "experiment", "gallery", "datasets", "models"],
}


@pytest.mark.parametrize(("room", "later"), MUST_NOT_KNOW.items())
def test_data_flows_one_way(room, later):
    package = REPOSITORY / "classvec_lab"
    files = (
        [package / f"{room}.py"]
        if (package / f"{room}.py").exists()
        else list((package / room).glob("*.py"))
    )
    pattern = re.compile(rf"^\s*from (?:\.|\.\.|classvec_lab\.)({'|'.join(later)})\b", re.M)
    for path in files:
        dots = "." if path.parent == package else ".."
        text = path.read_text()
        found = [
            m
            for m in pattern.findall(text)
            if f"from {dots}{m}" in text or f"from classvec_lab.{m}" in text
        ]
        assert not found, f"{path} knows {found}"


def test_torchvision_without_its_operators_is_mended():
    """In a fresh process: importing through the package works whichever build of torchvision is there."""
    code = (
        "from classvec_lab.datasets.torchvision_repair import ensure_torchvision as e; e(); e(); import torchvision, timm, open_clip;"
        "from torchvision.transforms import CenterCrop"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)
