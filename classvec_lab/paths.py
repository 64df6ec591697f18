"""Where things live: the repository's `data/` and `figures/`, or places named by the environment.

CLASSVEC_DATA moves `data/` (cache and downloads), CLASSVEC_FIGURES moves `figures/`. Installed
without its repository, the package keeps both under the current folder.
"""

import os
from pathlib import Path

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


def tiny_clip_dir() -> Path:
    """The built-in model: `data/tiny-clip` of the repository, or the copy inside an installed package."""
    inside = PACKAGE / "_builtin" / "tiny-clip"
    return inside if inside.is_dir() else REPOSITORY / "data" / "tiny-clip"
