"""What a run will do: which notebooks, with which parameters, in which order; all of it checked
beforehand.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from ..checks import listed, nearest
from ..errors import NotebookError
from ..files import atomic, notebooks_dir
from .outputs import checked
from .parameters import RESERVED, check_parameters, read_parameters, read_yaml, valid

SETTINGS, TEMPLATE = "settings.yaml", Path(__file__).with_name("template.ipynb")
ENTRY = {"needs": list, "full": dict, "cases": dict}


@dataclass(frozen=True)
class Job:
    """One notebook to run, or, with a `case`, that notebook on other data.

    `parameters` are all its settings but `out` and `source`; `needs` are declared in settings.yaml
    and `after` is everything that must be finished first; `gathers` tells that it reads the other
    notebooks' tables (it has a parameter `source`); `chosen` is False for one that comes in only as
    a need.
    """

    notebook: Path
    parameters: dict[str, object]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    gathers: bool = False
    chosen: bool = True
    case: str = ""

    @property
    def stem(self) -> str:
        return self.notebook.stem + (f"@{self.case}" if self.case else "")


@dataclass(frozen=True)
class Setting:
    """What settings.yaml says of one notebook.

    `needs` are stems, `full` the published values of its parameters, and `cases` changes of these,
    by name, with which it is run once more each.
    """

    needs: tuple[str, ...] = ()
    full: dict[str, object] = field(default_factory=dict)
    cases: dict[str, dict[str, object]] = field(default_factory=dict)


def numbered(folder: Path | None = None) -> list[Path]:
    """The notebooks that "all" means: those of `folder` (default: the repository's) named
    NN_topic.ipynb, in order.
    """
    return sorted((folder or notebooks_dir()).glob("[0-9][0-9]_*.ipynb"))


def find(name: str, folder: Path) -> Path:
    """The notebook that a path, a stem ("02_orthogonality") or a number ("02") means; raises
    NotebookError.
    """
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name)
    stem = name.removesuffix(".ipynb")
    paths = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if stem in paths:
        return paths[stem]
    pattern = f"0*{int(name)}_.*" if name.isdecimal() else ""
    matches = [known for known in paths if re.fullmatch(pattern, known)]
    if len(matches) == 1:
        return paths[matches[0]]
    if matches:
        raise NotebookError(f"{name!r} could mean any of {listed(matches)}: give the whole name")
    raise NotebookError(
        f"no notebook {name!r}{nearest(stem, paths)} Give a path, or one of those in {folder}: "
        f"{listed(paths, 99) or 'none'}"
    )


def begun(name: str, folder: Path | None = None) -> Path:
    """Write a notebook in the house's form, with its line in settings.yaml, and return its path.

    `name` is a topic, which gets the next number, or NN_topic. Raises NotebookError for a name that
    can't be, and where there is that notebook.
    """
    folder = folder or notebooks_dir()
    last = max((int(path.stem[:2]) for path in numbered(folder)), default=0)
    stem = checked(name if re.match(r"\d\d_.", name) else f"{last + 1:02}_{name}", "notebook")
    path, settings = folder / f"{stem}.ipynb", folder / SETTINGS
    if path.exists():
        raise NotebookError(f"{path} exists already: choose another name")
    known = settings.read_text("utf-8") if settings.is_file() else ""
    cells = TEMPLATE.read_text("utf-8").replace("NN_topic", stem)
    line = f"{known.rstrip()}\n{stem}: {{needs: []}}\n".lstrip()
    for file, text in ((path, cells), (settings, line)):
        with atomic(file) as temporary:
            temporary.write_text(text, "utf-8")
    return path


def read_settings(folder: Path) -> dict[str, Setting]:
    """`settings.yaml` of a notebooks folder, checked against the notebooks; empty if there is none.

    Raises one NotebookError with every unknown notebook, key, parameter and value of a wrong type,
    and cyclic needs.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        content = read_yaml(path.read_text(encoding="utf-8")) or {}
    except ValueError as error:
        raise NotebookError(f"{path} isn't valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise NotebookError(f"{path} should map notebook names to `needs` and `full`")
    settings, problems = {}, []
    known = {p.stem for p in folder.glob("*.ipynb")}
    for stem, entry in content.items():
        try:
            settings[stem] = _setting(folder, stem, entry or {}, known)
        except NotebookError as error:
            problems += [f"{SETTINGS}: {line}" for line in str(error).splitlines()]
    if problems:
        raise NotebookError("\n".join(problems))
    _in_order({stem: setting.needs for stem, setting in settings.items()})
    return settings


def plan(
    names: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    *,
    full: bool = False,
    folder: Path | None = None,
) -> list[Job]:
    """The jobs of a run, needs first. Nothing is run; every problem found is in the one
    NotebookError raised.

    `names` are paths, stems or numbers, and none means all. Each of `parameters` must exist in
    every named notebook; notebooks that come in as "all" or as a need take those that they have.
    `full` uses the published settings, which `parameters` override, and adds the cases none of
    whose settings they override.
    """
    given, folder, problems = dict(parameters or {}), folder or notebooks_dir(), []
    settings = read_settings(folder)
    chosen = {}
    for name in names:
        try:
            path = find(name, folder)
        except NotebookError as error:
            problems.append(str(error))
            continue
        if chosen.setdefault(path.stem, path).resolve() != path.resolve():
            problems.append(
                f"{chosen[path.stem]} and {path} would share one output folder: run them apart"
            )
    if not names:
        chosen = {path.stem: path for path in numbered(folder)}
        if not chosen:
            problems.append(f"no notebook named NN_topic.ipynb in {folder}")
    jobs, known, queue = {}, {}, list(chosen.items())
    for stem, path in queue:  # which grows by what they need
        # A notebook that lies elsewhere may share a stem with ours without sharing its settings.
        inside = path.resolve().parent == folder.resolve()
        setting = settings.get(stem, Setting()) if inside else Setting()
        there = dict(queue)
        queue += [(n, folder / f"{n}.ipynb") for n in setting.needs if n not in there]
        try:
            own = read_parameters(path)
            known |= own
            checked(stem, "folder of outputs")
            if "out" not in own:
                raise NotebookError(
                    f'{path.name} needs a parameter `out = ""`, the folder that its Outputs writes '
                    "to"
                )
            asked = names and stem in chosen
            wanted = {k: v for k, v in given.items() if asked or k in own}
            values = {k: p.default for k, p in own.items() if k not in RESERVED}
            wanted = check_parameters(path, wanted)
            for case, changes in {"": {}, **(setting.cases if full else {})}.items():
                if not case or changes.keys().isdisjoint(wanted):
                    job = Job(
                        path,
                        values | (setting.full if full else {}) | changes | wanted,
                        setting.needs,
                        gathers="source" in own,
                        chosen=stem in chosen,
                        case=case,
                    )
                    jobs[job.stem] = job
        except NotebookError as error:
            problems += str(error).splitlines()
    if not names:
        for key in given.keys() - known.keys():
            problems.append(
                f"no notebook has a parameter {key!r}{nearest(key, known)} They have: "
                f"{valid(known.values())}"
            )
    if problems:
        raise NotebookError("\n".join(dict.fromkeys(problems)))
    return _ordered(jobs)


def _ordered(jobs):
    makers = tuple(sorted(stem for stem, job in jobs.items() if not job.gathers))
    after = {s: job.needs + (makers if job.gathers else ()) for s, job in sorted(jobs.items())}
    return [
        replace(jobs[stem], after=tuple(dict.fromkeys(after[stem]))) for stem in _in_order(after)
    ]


def _setting(folder, stem, entry, known):
    """The `Setting` that an entry of settings.yaml says; raises NotebookError."""
    if not isinstance(entry, dict) or not entry.keys() <= ENTRY.keys():
        raise NotebookError(f"{stem} may hold `needs`, `full` and `cases` only, not {entry!r}")
    needs, full, cases = (entry.get(k) or kind() for k, kind in ENTRY.items())
    if not (isinstance(needs, list) and isinstance(full, dict) and isinstance(cases, dict)) or (
        not all(isinstance(changes, dict) for changes in cases.values())
    ):
        raise NotebookError(
            f"`needs` of {stem} must be a list of notebook names, `full` a mapping of parameters, "
            "and `cases` a mapping of names to such mappings"
        )
    for name in (stem, *needs):
        if name not in known:
            what = "entry" if name == stem else f"{stem} needs"
            raise NotebookError(
                f"{what} {name!r}: there is no such notebook{nearest(str(name), known)}"
            )
    path = folder / f"{stem}.ipynb"
    cases = {checked(str(c), "case"): check_parameters(path, some) for c, some in cases.items()}
    return Setting(tuple(needs), check_parameters(path, full), cases)


def _in_order(needs):
    """Each notebook after those that it needs; raises NotebookError for a circle."""
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        # The error lists each notebook before the one that needs it.
        circle = " needs ".join(reversed(error.args[1]))
        raise NotebookError(f"the needs of notebooks go in a circle: {circle}") from error
