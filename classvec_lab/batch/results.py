"""The files of a notebook run: whether they are up to date, and how new ones take the place of old
ones.

Everything here that writes is called with the lock of the notebook's folder held.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import FileFormatError, NotebookError
from ..files import PACKAGE, atomic, hash_bytes, hash_json, read_json, tiny_clip_dir, write_json
from .outputs import MANIFEST, sha256, versions
from .parameters import load_cells
from .planning import Job

_PACKAGES = ("torch", "numpy", "pandas", "matplotlib", "open_clip_torch", "timm")
_KINDS = (".csv", ".png", ".pdf", ".json", ".ipynb")


def key_of(job: Job, needs: Mapping[str, str], out: Path) -> str:
    """A hash of all that the results depend on: cells, parameters, files they name, code, built-in
    model, versions, the keys of `needs`, and for a notebook that gathers, the tables of all others
    under `out`.
    """
    code = {
        path.relative_to(PACKAGE).as_posix(): hash_bytes(path.read_bytes())
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    model = {
        path.name: sha256(path) for path in sorted(tiny_clip_dir().glob("*")) if path.is_file()
    }
    files = {
        name: listing for name, value in job.parameters.items() if (listing := _listing(value))
    }
    tables = {}
    if job.gathers:
        # Hidden folders are runs in progress.
        others = (path for path in sorted(out.glob("[!.]*/*.csv")) if path.parent.name != job.stem)
        tables = {path.relative_to(out).as_posix(): sha256(path) for path in others}
    cells = [(kind, source) for kind, source, _ in load_cells(job.notebook)]
    return hash_json(
        [cells, job.parameters, files, code, model, dict(needs), tables, versions(_PACKAGES)]
    )


def is_up_to_date(folder: Path, key: str) -> bool:
    """Whether the manifest of `folder` has this key, and each file it lists is there, unaltered."""
    try:
        manifest = read_json(folder / MANIFEST)
        return manifest.get("key") == key and all(
            sha256(folder / name) == digest for name, digest in manifest["files"].items()
        )
    except (FileFormatError, OSError, KeyError, AttributeError):
        return False


def n_files(folder: Path) -> int:
    """How many files the manifest of `folder` lists."""
    return len(read_json(folder / MANIFEST)["files"])


def check_out(out: Path, todo: Sequence[Job]) -> None:
    """Make `out`; raises NotebookError if that fails or a folder to be replaced holds files that no
    notebook made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotebookError(f"can't write to {out}: {error}") from error
    problems = []
    for job in todo:
        folder = out / job.stem
        try:
            listed = read_json(folder / MANIFEST)["files"].keys()
        except (FileFormatError, OSError, KeyError, AttributeError):
            listed = ()
        found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
        foreign = [
            path.as_posix()
            for path in found
            if path.as_posix() not in listed
            and path.suffix not in _KINDS
            and not any(p.startswith(".") for p in path.parts)
        ]
        if foreign or (folder.exists() and not folder.is_dir()):
            what = f"it holds {', '.join(foreign[:3])}" if foreign else "it is a file"
            problems.append(
                f"{folder} would be replaced, but {what}, not made by a notebook: move that, or "
                "choose another --out"
            )
    if problems:
        raise NotebookError("\n".join(problems))


def temporary_for(folder: Path) -> Path:
    """A new empty folder beside `folder`, which no other run uses."""
    temporary = _beside(folder, "tmp")
    temporary.mkdir()
    return temporary


def sweep(folder: Path) -> None:
    """Remove what killed runs left beside `folder`; a run killed between the two renames of a swap
    is undone.
    """
    leftover = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.(?:tmp|old\.tmp)")
    for path in sorted(folder.parent.iterdir()):
        if leftover.fullmatch(path.name):
            if path.name.endswith(".old.tmp") and not folder.exists():
                os.rename(path, folder)
            else:
                remove(path)


def finish(job: Job, temporary: Path, folder: Path, key: str) -> None:
    """Complete the manifest in `temporary` and swap that folder for `folder`; raises NotebookError
    without a manifest.
    """
    manifest = temporary / MANIFEST
    if not manifest.is_file():
        raise NotebookError(
            f"{job.notebook.name} ended without {MANIFEST}: it must make `Outputs(..., out=out)` "
            "and end with its `.close()`"
        )
    _clean(temporary / job.notebook.name, temporary, folder)
    content = _renamed(read_json(manifest), temporary, folder)
    made = (path for path in sorted(temporary.rglob("*")) if path.is_file() and path != manifest)
    content |= {
        "files": {path.relative_to(temporary).as_posix(): sha256(path) for path in made},
        "key": key,
    }
    write_json(manifest, content)

    old = _beside(folder, "old.tmp")
    if os.path.lexists(folder):
        os.rename(folder, old)
    os.rename(temporary, folder)
    remove(old)
    failed_copy(folder).unlink(missing_ok=True)


def failed_copy(folder: Path) -> Path:
    """Where the executed part of a failed notebook is kept."""
    return folder.with_name(f"{folder.name}.failed.ipynb")


def keep_failed(executed: Path, temporary: Path, folder: Path) -> Path | None:
    """Keep the executed part of a failed notebook; None if there is nothing readable to keep."""
    try:
        _clean(executed, temporary, folder)
    except (FileFormatError, FileNotFoundError):
        return None
    os.replace(executed, failed_copy(folder))
    return failed_copy(folder)


def remove(path: Path) -> None:
    """Remove a folder, or a link to one, as far as that is possible."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.{ending}")


def _listing(value: object) -> list:
    """Name, size and time of each file at or below a path; empty if `value` names no path."""
    if not isinstance(value, str) or not value:
        return []
    found = []
    with suppress(OSError, ValueError):  # not every text can be a path
        paths = (
            [Path(value)]
            if Path(value).is_file()
            else (Path(d, f) for d, _, files in os.walk(value) for f in files)
        )
        for path in paths:
            with suppress(FileNotFoundError):  # a dangling link, or removed meanwhile
                stat = path.stat()
                found.append((path.relative_to(value).as_posix(), stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def _clean(executed: Path, temporary: Path, folder: Path) -> None:
    """Take times, random names and the temporary path out of an executed notebook."""
    notebook = read_json(executed)
    notebook["metadata"].pop("papermill", None)
    for cell in notebook["cells"]:
        cell["metadata"].pop("papermill", None)
        if "injected-parameters" in cell["metadata"].get("tags", ()) and "id" in cell:
            cell["id"] = "injected-parameters"
    text = json.dumps(_renamed(notebook, temporary, folder), indent=1, ensure_ascii=False) + "\n"
    with atomic(executed) as path:
        path.write_text(text, encoding="utf-8")


def _renamed(value: object, temporary: Path, folder: Path) -> object:
    """`value` with the final folder's relative path in every text that names the temporary one."""
    if isinstance(value, dict):
        return {key: _renamed(item, temporary, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, temporary, folder) for item in value]
    if isinstance(value, str) and temporary.name in value:
        final = os.path.relpath(folder)
        for name in (str(temporary), str(temporary.resolve())):
            value = value.replace(name, final)
        return value.replace(temporary.name, folder.name)
    return value
