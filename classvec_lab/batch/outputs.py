"""What a notebook leaves behind: tables and figures that repeat byte for byte, and a manifest
written last.
"""

import hashlib
import json
import os
import platform
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..checks import listed
from ..errors import FileFormatError, NotebookError
from ..files import FIGURES, atomic, figures_dir, read_json, save_figure, write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MANIFEST = "manifest.json"
FLOAT_FORMAT = "%.8g"
_PACKAGES = ("torch", "open_clip_torch", "timm", "numpy", "pandas", "matplotlib", "classvec_lab")
_PLAIN, _SHELL = (str, int, float, bool, list, dict, type(None)), ("In", "Out")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Outputs:
    """The folder of one notebook's results, which looks finished only after `close()`.

    `notebook` is the notebook's stem ("02_orthogonality"), `parameters` its JSON-able settings.
    Files go to `out`, or to `<figures>/quick/<notebook>` when `out` is empty. A manifest that lies
    there, and the files it lists, are removed at once, so that nothing old is taken for new. `out`
    itself is not recorded. Raises NotebookError when a name or a parameter can't be written.
    """

    def __init__(
        self, notebook: str, parameters: Mapping[str, object], *, out: str | Path = ""
    ) -> None:
        self.notebook = checked(notebook, "notebook")
        self.parameters = {
            name: _jsonable(name, value) for name, value in parameters.items() if name != "out"
        }
        self.folder = Path(out) if out else figures_dir() / "quick" / notebook
        self._facts, self._files, self._lost = {}, set(), set()
        self._started = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            made = read_manifest(self.folder).get("files", {})
            self._reopen()
            for stale in (self.folder / name for name in made):
                if stale.is_file() and stale.resolve().is_relative_to(self.folder.resolve()):
                    stale.unlink()
        except OSError as error:
            raise NotebookError(f"can't write to {self.folder} (out={out!r}): {error}") from error

    def table(self, frame: "pd.DataFrame", name: str) -> "pd.DataFrame":
        """Write `<name>.csv` and return the frame, so that a cell can end with this call.

        Floats have 8 significant digits. The index is written unless it is the unnamed default
        0..n-1.
        """
        import pandas as pd

        default = frame.index.identical(pd.RangeIndex(len(frame)))
        path = self._path(name, ".csv")
        with self._writing(path.name), atomic(path) as temporary:
            frame.to_csv(
                temporary,
                index=not default,
                float_format=FLOAT_FORMAT,
                lineterminator="\n",
            )
        return frame

    def figure(self, fig: "Figure", name: str) -> None:
        """Write `<name>.png` and `<name>.pdf`, the same bytes for the same figure; the figure stays
        open.
        """
        paths = [self._path(name, suffix) for suffix in FIGURES]
        with self._writing(*(path.name for path in paths)):
            save_figure(fig, paths)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Yield a path at which to write a file of any other kind; `name` has a suffix, as in
        "class_vectors.safetensors".
        """
        stem, dot, suffix = name.partition(".")
        path = self._path(stem, dot + checked(suffix, "file"))
        with self._writing(name), atomic(path) as temporary:
            yield temporary

    def about(self, *datasets: str) -> str:
        """Model and data set for a title, "tiny-clip on digits": of a folder its last part only.

        Args:
            datasets: by default that of the parameters.
        """
        sources = self.parameters["model"], *(datasets or [self.parameters["dataset"]])
        paths = {source: Path(source).expanduser().absolute() for source in sources}
        model, *named = (path.name if path.exists() else name for name, path in paths.items())
        return f"{model} on {' and '.join(named)}"

    def record(self, **facts: object) -> None:
        """Add facts to the manifest, such as the hashes of model and data and the seeds.

        Numpy scalars and arrays are converted; raises NotebookError for what JSON can't hold (NaN
        included).
        """
        self._reopen()
        self._facts.update({name: _jsonable(name, value) for name, value in facts.items()})

    def close(self) -> None:
        """Write `manifest.json`, which marks the folder as finished until something is added
        again.

        Raises NotebookError that names the files which couldn't be written, if any.
        """
        if self._lost:
            raise NotebookError(
                f"{listed(sorted(self._lost))} couldn't be written to {self.folder}: make room, "
                "then run those cells and this one again"
            )
        threads = os.environ.get("OMP_NUM_THREADS", "")
        manifest = {
            "notebook": self.notebook,
            "parameters": self.parameters,
            "facts": self._facts,
            "versions": {"python": platform.python_version(), **versions()},
            "threads": int(threads) if threads.isdigit() else os.cpu_count() or 1,
            "seconds": round(time.monotonic() - self._started, 3),
            "files": {name: sha256(self.folder / name) for name in sorted(self._files)},
        }
        write_json(self.folder / MANIFEST, manifest)

    @contextmanager
    def _writing(self, *names: str) -> Iterator[None]:
        """Enter these files; where they can't be written the notebook goes on, and shows them."""
        try:
            yield
        except OSError as error:
            self._lost |= {*names}
            warnings.warn(f"{listed(names)} couldn't be written: {error}", stacklevel=4)
        else:
            self._files |= {*names}
            self._lost -= {*names}

    def _path(self, name: str, suffix: str) -> Path:
        path = self.folder / f"{checked(name, 'file')}{suffix}"
        self._reopen()
        return path

    def _reopen(self) -> None:
        # In JupyterLab a cell is often run again after the last one was.
        (self.folder / MANIFEST).unlink(missing_ok=True)


def read_manifest(folder: Path) -> dict:
    """The manifest of a run's folder; empty where there is none, or a damaged one."""
    try:
        return read_json(folder / MANIFEST)
    except (FileFormatError, OSError):
        return {}


def begin(notebook: str, namespace: Mapping[str, object]) -> tuple[Outputs, dict[str, object]]:
    """What every notebook does with its parameters: the look of its figures, its outputs, its
    setup.

    Args:
        notebook: the stem, "02_orthogonality".
        namespace: `globals()`, right after the parameters cell. Parameters are the plain values
            down to `out`, the last of that cell, whatever later cells define.
    Returns:
        The outputs, which record all parameters, and of these the arguments of `prepare` but the
        seed: `prepare(**setup, seed=seed)`. Those that only data or model can answer are `asked`.
    Raises:
        NotebookError: where there is no `out`, or for values that can't be, naming them all.
    """
    from inspect import signature

    import pandas as pd
    import scipy.linalg  # noqa: F401  it has a BLAS of its own, and only loaded ones are limited
    from threadpoolctl import threadpool_limits

    from ..experiments import prepare
    from ..plots import style
    from .rules import ASKED, check_values

    style.use()
    # torch's threads stay; beside them NumPy's and SciPy's wait for a core more than they compute
    threadpool_limits(1, user_api="blas")
    pd.set_option("display.html.use_mathjax", False)  # a class may be called $5 to $10
    names = list(namespace)
    if "out" not in names:
        raise NotebookError('begin needs the parameter `out = ""`, the last of the parameters cell')
    given = {
        name: namespace[name]
        for name in names[: names.index("out")]
        if type(namespace[name]) in _PLAIN and not name.startswith("_") and name not in _SHELL
    }
    check_values(given)
    taken = signature(prepare).parameters.keys() - {"seed"}
    setup = {name: value for name, value in given.items() if name in taken}
    setup["asked"] = {name: given[name] for name in ASKED if name in given}
    return Outputs(notebook, given, out=namespace["out"]), setup


def versions() -> dict[str, str | None]:
    """The versions of what results depend on, without importing it; None if it isn't installed."""
    found = dict.fromkeys(_PACKAGES)
    for package in found:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's contents."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(name: str, what: str) -> str:
    """`name`, if it can name a file or folder; else raises NotebookError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NotebookError(
            f"{name!r} can't name a {what}: use letters, digits, _ and - only (and no suffix)"
        )
    return name


def _jsonable(name: str, value: object) -> object:
    try:
        text = json.dumps(value, default=lambda item: item.tolist(), allow_nan=False)
        return json.loads(text)
    except (AttributeError, TypeError, ValueError) as error:
        raise NotebookError(
            f"the manifest can't hold {name}={value!r}: it isn't plain JSON ({error})"
        ) from error
