"""Files that are whole or absent, hashes, and where things live.

CLASSVEC_DATA moves `data/` (cache and downloads), CLASSVEC_FIGURES moves `figures/`. Installed
without its repository, the package keeps both under the current folder.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from .errors import ClassvecError, FileFormatError

_HEADER = "classvec_lab"
DPI, FIGURES = 120, (".png", ".pdf")
PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent


def _root() -> Path:
    return REPOSITORY if (REPOSITORY / "pyproject.toml").is_file() else Path.cwd()


def data_dir() -> Path:
    """The folder for caches and downloads."""
    return Path(os.environ.get("CLASSVEC_DATA") or _root() / "data")


def cache_dir(kind: str) -> Path:
    """The cache folder for one kind of thing ("features", "models")."""
    return data_dir() / "cache" / kind


def figures_dir() -> Path:
    """The folder under which figures and tables are filed."""
    return Path(os.environ.get("CLASSVEC_FIGURES") or _root() / "figures")


def notebooks_dir() -> Path:
    """The folder of the notebooks."""
    return _root() / "notebooks"


def builtin_dir(name: str) -> Path:
    """A built-in model or data set: `data/NAME` of the repository, or an installed copy."""
    inside = PACKAGE / "_builtin" / name
    return inside if inside.is_dir() else REPOSITORY / "data" / name


def hash_bytes(*parts: bytes) -> str:
    """Hex SHA-256 (first 32 digits) of the parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:32]


def file_name(text: str) -> str:
    """`text` as a name for a file on any system; what had to change bears a hash of the text."""
    plain = r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(\.|$))[\w-]+(\.[\w-]+)*"
    clean = re.sub(r"[^\w-]", "_", text).encode()[:100].decode(errors="ignore")
    if re.fullmatch(plain, text) and len(clean) == len(text):
        return text
    return f"{clean}-{hash_bytes(text.encode(errors='surrogatepass'))[:6]}"


def hash_json(value: object) -> str:
    """Hash of a JSON-able value, independent of the order of keys."""
    return hash_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of named arrays: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:32]


def _beside(path):
    """The path, whose folder is made, and a temporary name beside it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, for a file or a folder.

    It becomes `path`, in place of what was there, on success, and goes on any error.
    """
    path, temporary = _beside(path)
    aside = temporary.with_suffix(".old")
    try:
        yield temporary
        if temporary.is_dir() and path.exists():
            os.replace(path, aside)
        os.replace(temporary, path)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Keep other processes and threads that ask for the same `path` waiting.

    The lock is a file beside `path`, its name with ".lock" added. It is removed at the end, also
    after an error. A process that is killed gives its lock up, and the next one removes the file.
    """
    from filelock import FileLock

    path, _ = _beside(path)
    lock = path.with_name(f"{path.name}.lock")
    with FileLock(lock, poll_interval=0.01):
        try:
            yield
        finally:  # while it is held: who waits for a file that is gone asks for a new one
            with suppress(OSError):  # Windows keeps it until it is free, and filelock
                lock.unlink(missing_ok=True)


def read_or_make(kind: str, key: str | None, read: Callable, make: Callable, write: Callable):
    """What the cache holds, else what `make()` gives, which is then written.

    One process at a time: a second waits for the first instead of making it too. A cache that can't
    be locked, read or written costs a warning, never the value.

    Args:
        kind: folder in the cache, see `cache_dir`.
        key: name in this folder; None makes the value and writes nothing.
        read: `read(path)` gives the value; whatever it raises but FileNotFoundError is warned of.
        make: gives the value anew.
        write: `write(path, value)` stores it.
    """
    if key is None:
        return make()
    path = cache_dir(kind) / f"{key}.safetensors"
    with ExitStack() as stack:
        # where nothing can be written, or locked, there may be something to read
        with suppress(OSError, NotImplementedError):
            stack.enter_context(locked(path))
        try:
            return read(path)
        except FileNotFoundError:
            pass
        except Exception as error:
            message = f"a file in the cache is damaged and will be made again ({error})"
            warnings.warn(message, stacklevel=3)
        value = make()
        try:
            write(path, value)
        except Exception as error:  # a full disk comes as many kinds of error
            warnings.warn(
                f"this result can't be kept in the cache {path.parent} ({error}), so that the next "
                "call computes it again; set CLASSVEC_DATA to a folder with room to write",
                stacklevel=3,
            )
    return value


def write_json(path: str | Path, value: object) -> None:
    """Write indented JSON atomically."""
    with atomic(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def read_json(path: str | Path) -> dict:
    """Read a JSON object; raises FileFormatError naming the file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{path} should hold a JSON object, not a {type(value).__name__}")
    return value


def write_tensors(path: str | Path, arrays: Mapping[str, np.ndarray], card: dict) -> None:
    """Write named arrays and a JSON card as one safetensors file, atomically, with a checksum."""
    from safetensors.numpy import save_file

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    # one entry, because safetensors writes several in no fixed order
    header = json.dumps({"card": card, "sha256": hash_arrays(arrays)}, sort_keys=True)
    with atomic(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(arrays, temporary, metadata={_HEADER: header})
        temporary.chmod(mode)  # safetensors makes files that only their owner can read


def read_tensors(
    path: str | Path, *, kind: str | None = None
) -> tuple[dict[str, np.ndarray], dict]:
    """Read what `write_tensors` wrote: (arrays, card).

    Raises FileNotFoundError, or FileFormatError when the file is truncated, altered, or its card's
    "kind" is not `kind`.
    """
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with reading(path):
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header is None:
            raise FileFormatError(f"{path} was not written by classvec_lab: it has no card")
        card = header["card"]
        if hash_arrays(arrays) != header["sha256"]:
            raise FileFormatError(
                f"{path} is damaged: its contents don't match the checksum in its card"
            )
        if kind is not None and card.get("kind") != kind:
            raise FileFormatError(f"{path} holds {card.get('kind')!r}, not {kind!r}")
    return arrays, card


@contextmanager
def reading(path: object) -> Iterator[None]:
    """Turn what a damaged or foreign file makes other code raise into FileFormatError."""
    try:
        yield
    except (ClassvecError, FileNotFoundError):
        raise
    except Exception as error:  # of nearly every kind
        what = f"({type(error).__name__}: {error})"
        raise FileFormatError(f"{path} is damaged, or not what save writes {what:.300}") from error


def save_figure(fig, paths: Iterable[Path]) -> None:
    """Write a figure to each of `paths` (.png, .pdf), atomically, and leave it open.

    The same figure gives the same bytes.
    """
    # matplotlib stamps the time and its own version unless each key is set to None.
    blank = {
        ".png": {"Software": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    engine, dpi = fig.get_layout_engine(), fig.dpi
    if fig.axes and engine:
        engine.execute(fig)  # the room that square maps leave is known once they were laid out
        fig.dpi = DPI
        engine.execute(fig)
    fig.set_layout_engine("none")  # laid out and measured once, both are drawn in less time
    try:
        box = fig.get_tightbbox().padded(0.1)
        for path in paths:
            with atomic(path) as temporary:
                fig.savefig(temporary, dpi=DPI, bbox_inches=box, metadata=blank[path.suffix])
    finally:
        fig.dpi = dpi
        fig.set_layout_engine(engine)
