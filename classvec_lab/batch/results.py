"""The files of a notebook run: whether they are up to date, and how new ones take the place of old
ones.

Everything here that writes is called with the lock of the notebook's folder held.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import FileFormatError, NotebookError
from ..files import PACKAGE, builtin_dir, hash_json, read_json, write_json
from .outputs import MANIFEST, read_manifest, sha256, versions
from .parameters import load_cells
from .planning import Job

_KINDS = (".csv", ".png", ".pdf", ".json", ".ipynb")


def key_of(job: Job, needs: Mapping[str, str], out: Path) -> str:
    """A hash of all that the results depend on: cells, parameters, files they name, code, built-in
    model, versions, the keys of `needs`, and for a notebook that gathers, the tables of all others
    under `out`.
    """
    own = sorted(PACKAGE.rglob("*.py"))
    for name in ("tiny-clip", "photographs"):
        own += sorted(builtin_dir(name).glob("[!.]*"))
    code = [(path.name, sha256(path)) for path in own]
    files = [_listing(value) for value in job.parameters.values()]
    tables = {}
    if job.gathers:
        # Hidden folders are runs in progress.
        others = (path for path in sorted(out.glob("[!.]*/*.csv")) if path.parent.name != job.stem)
        tables = {path.relative_to(out).as_posix(): sha256(path) for path in others}
    cells = load_cells(job.notebook)
    return hash_json([cells, job.parameters, files, code, dict(needs), tables, versions()])


def is_up_to_date(folder: Path, key: str) -> bool:
    """Whether the manifest of `folder` has this key, and each file it lists is there, unaltered."""
    manifest = read_manifest(folder)
    files = manifest.get("files")
    return (
        bool(files)
        and manifest.get("key") == key
        and all(
            (folder / name).is_file() and sha256(folder / name) == files[name] for name in files
        )
    )


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
        made = read_manifest(folder).get("files", {})
        foreign = [
            name
            for name in _files(folder)
            if name not in made and not name.endswith(_KINDS) and "/." not in f"/{name}"
        ]
        if foreign or (folder.exists() and not folder.is_dir()):
            what = f"it holds {', '.join(foreign[:3])}" if foreign else "it is a file"
            problems.append(
                f"{folder} would be replaced, but {what}, not made by a notebook: move that, or "
                "choose another --out"
            )
    if problems:
        raise NotebookError("\n".join(problems))


def sweep(folder: Path) -> None:
    """Remove what killed runs left beside `folder`; a run killed between the two renames of a swap
    is undone.
    """
    for path in sorted(folder.parent.glob(f".{folder.name}.{'[0-9a-f]' * 8}.*")):
        if path.suffix == ".old" and not folder.exists():
            os.rename(path, folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def complete(job: Job, temporary: Path, folder: Path, key: str) -> None:
    """Complete the manifest in `temporary`, which is to become `folder`; raises NotebookError
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
    made = _files(temporary).items()
    content["files"] = {name: sha256(path) for name, path in made if path != manifest}
    write_json(manifest, content | {"key": key})


def _files(folder: Path) -> dict[str, Path]:
    """All files below a folder by their relative posix paths."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found}


def failed_copy(folder: Path) -> Path:
    """Where the executed part of a failed notebook is kept."""
    return folder.with_name(f"{folder.name}.failed.ipynb")


def keep_failed(executed: Path, temporary: Path, folder: Path) -> str:
    """Keep the executed part of a failed notebook; says where, "" if nothing readable is there."""
    try:
        with suppress(OSError):  # a full disk: it is kept as it is
            _clean(executed, temporary, folder)
        os.replace(executed, failed_copy(folder))
    except (FileFormatError, FileNotFoundError):
        return ""
    return f"\nIts executed part is {os.path.relpath(failed_copy(folder))}"


def _listing(value: object) -> list:
    """Name, size and time of each file at or below a path; empty if `value` names no path."""
    if not isinstance(value, str) or not value:
        return []
    found = []
    with suppress(OSError, ValueError):  # not every text can be a path
        root = Path(value)
        for path in [root] if root.is_file() else root.rglob("*"):
            with suppress(FileNotFoundError):  # a dangling link, or removed meanwhile
                stat = path.stat()
                found.append((path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def _clean(executed: Path, temporary: Path, folder: Path) -> None:
    """Take times, random names and the temporary path out of an executed notebook."""
    notebook = read_json(executed)
    notebook["metadata"].pop("papermill", None)
    for cell in notebook["cells"]:
        cell["metadata"].pop("papermill", None)
        if "injected-parameters" in cell["metadata"].get("tags", ()) and "id" in cell:
            cell["id"] = "injected-parameters"
    write_json(executed, _renamed(notebook, temporary, folder))


def _renamed(content: dict, temporary: Path, folder: Path) -> dict:
    """`content` with the final folder's relative path in each text that names the temporary one."""
    text = json.dumps(content, ensure_ascii=False)
    final = Path(os.path.relpath(folder)).as_posix()
    for name in (str(temporary), str(temporary.resolve())):
        text = text.replace(name, final)
    return json.loads(text.replace(temporary.name, folder.name))
