"""What finished runs left behind: `collect` reads their tables, `write_gallery` makes a page of
their figures.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..files import atomic, figures_dir
from .outputs import MANIFEST, read_manifest

PAGE = "README.md"


@dataclass(frozen=True, eq=False)
class Collection:
    """`runs`: one row a notebook; `index`: one row a table; `tables`: frames keyed by (notebook,
    table).
    """

    runs: pd.DataFrame
    index: pd.DataFrame
    tables: dict[tuple[str, str], pd.DataFrame]


def finished(folder: Path) -> dict[str, dict]:
    """Manifests of the finished runs directly under `folder`, by the name of their sub-folder;
    damaged ones are left out.
    """
    found = {path.name: read_manifest(path) for path in sorted(Path(folder).glob("[!.]*"))}
    return {name: manifest for name, manifest in found.items() if manifest}


def collect(source: str | Path = "", *, without: str = "") -> Collection:
    """Every table of the finished runs under `source` (default figures/quick), with what each was
    made for.

    `without` names a run to leave out: a notebook that collects must not find its own last result.
    """
    folder = Path(source) if source else figures_dir() / "quick"
    runs, index, tables = [], [], {}
    for name, manifest in finished(folder).items():
        if name == without:
            continue
        files = sorted(manifest.get("files", {}))
        parameters = manifest.get("parameters", {})
        csv = [f for f in files if f.endswith(".csv") and (folder / name / f).is_file()]
        made_for = (parameters.get(key) for key in ("dataset", "model", "seed"))
        runs.append((name, *made_for, len(csv), sum(f.endswith(".png") for f in files)))
        for file in csv:
            table = pd.read_csv(folder / name / file)
            tables[name, Path(file).stem] = table
            index.append((name, Path(file).stem, len(table), ", ".join(table.columns)))
    return Collection(
        pd.DataFrame(runs, columns=["notebook", "dataset", "model", "seed", "tables", "figures"]),
        pd.DataFrame(index, columns=["notebook", "table", "rows", "columns"]),
        tables,
    )


def write_gallery(folder: str | Path) -> Path:
    """Write `<folder>/README.md`: per notebook its settings, what its results say, figures, links
    to tables.
    """
    folder = Path(folder)
    lines = [
        "# Gallery",
        "",
        "Made by `make figures-full`; each folder holds the figures, the tables behind them and "
        "the manifest of one notebook.",
        "",
    ]
    for name, manifest in finished(folder).items():
        parameters = manifest.get("parameters", {}).items()
        lines += [f"## {name}", "", ", ".join(f"{k} = `{v}`" for k, v in parameters if v), ""]
        if says := manifest.get("facts", {}).get("says"):
            says = (re.sub(r"[$<`\\]", r"\\\g<0>", sentence) for sentence in says)
            lines += [*(f"- {sentence}" for sentence in says), ""]
        files = sorted(manifest.get("files", {}))
        lines += [f"![{Path(f).stem}]({name}/{f})\n" for f in files if f.endswith(".png")]
        links = [f"[{f}]({name}/{f})" for f in files if f.endswith(".csv")]
        lines += [f"Tables: {', '.join(links)}; [{MANIFEST}]({name}/{MANIFEST})", ""]
    path = folder / PAGE
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    return path
