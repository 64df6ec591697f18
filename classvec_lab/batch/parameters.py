"""The parameters of a notebook: read from its `parameters` cell, and checked before anything
runs.
"""

import ast
import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..checks import nearest
from ..errors import FileFormatError, NotebookError
from ..files import read_json

RESERVED = {"out", "source"}
_WANTED = {
    "bool": "a bool (true or false)",
    "list": "a list such as [1, 2]",
    "dict": "a mapping such as {a: 1}",
    "int": "an int",
    "float": "a float",
    "str": "a str",
    "any": "a YAML or JSON value",
}
_SCALARS = (
    ("null", r"null|None|~"),
    ("bool", r"true|false|True|False"),
    ("int", r"-?(?:0|[1-9]\d*)"),
    ("float", r"-?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?"),
)


@dataclass(frozen=True)
class Parameter:
    """One parameter: `type` is "int", "float", "bool", "str", "list", "dict", or "any" when the
    default is None.
    """

    name: str
    default: object
    type: str
    help: str

    def __str__(self) -> str:
        return f"{self.name} ({self.type}, default {self.default!r})"


def load_cells(notebook: str | Path) -> list[tuple[str, str, Collection[str]]]:
    """The cells of a notebook as (type, source, tags); raises NotebookError naming the file."""
    path = Path(notebook)
    try:
        return [
            (cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", ()))
            for cell in read_json(path)["cells"]
        ]
    except FileNotFoundError as error:
        raise NotebookError(f"no such notebook: {path}") from error
    except (FileFormatError, OSError, KeyError, TypeError, AttributeError) as error:
        raise NotebookError(
            f"{path} is not a notebook of format 4 ({type(error).__name__}: {error})"
        ) from error


def title(notebook: str | Path) -> str:
    """The first markdown heading of a notebook, or "" if it has none."""
    for kind, source, _ in load_cells(notebook):
        if kind == "markdown" and (found := re.search(r"^#+\s+(.+?)\s*#*$", source, re.MULTILINE)):
            return found[1]
    return ""


def read_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook, in order: the assignments of the code cell tagged `parameters`.

    Each value is a flat literal; the comment that ends its line is its help. Raises NotebookError
    naming the notebook and the line when there is no such cell or it holds anything else.
    """
    name = Path(notebook).name
    cells = [s for kind, s, tags in load_cells(notebook) if kind == "code" and "parameters" in tags]
    if len(cells) != 1:
        found = "no cell" if not cells else f"{len(cells)} cells"
        raise NotebookError(
            f"{name} has {found} tagged 'parameters'; tag the one cell that sets its parameters"
        )
    try:
        statements = ast.parse(cells[0]).body
    except SyntaxError as error:
        raise NotebookError(
            f"the 'parameters' cell of {name} isn't plain Python: {error}"
        ) from error
    parameters, lines = {}, cells[0].split("\n")
    for statement in statements:
        line = ast.unparse(statement)
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=key)], value=value)
                | ast.AnnAssign(target=ast.Name(id=key), value=ast.expr() as value)
            ):
                pass
            case _:
                raise NotebookError(
                    f"the 'parameters' cell of {name} may only hold lines like `seed = 0`, "
                    f"not `{line}`"
                )
        try:
            default = _plain(ast.literal_eval(value))
        except ValueError:
            raise NotebookError(
                f"the 'parameters' cell of {name} sets `{line}`: a default must be a literal int, "
                "float, bool, str, list, dict or None (derive everything else in the next cell)"
            ) from None
        kind = "any" if default is None else type(default).__name__
        rest = lines[statement.end_lineno - 1].encode()[statement.end_col_offset :].decode()
        parameters[key] = Parameter(key, default, kind, rest.lstrip(" #").rstrip())
    return parameters


def check_parameters(notebook: str | Path, given: Mapping[str, object]) -> dict[str, object]:
    """The given values, converted to the types of the notebook's defaults.

    Text is converted (a list, mapping or None default reads YAML or JSON); other values must have
    the type already, except that an int serves as a float. Raises one NotebookError that lists
    every unknown name, with the nearest known one, and every value that doesn't convert.
    """
    known, name = read_parameters(notebook), Path(notebook).name
    values, problems = {}, []
    for key, value in given.items():
        if key in RESERVED:
            problems.append(
                f"{name}: parameter {key!r} is set by the run itself; name a folder with --out "
                "instead"
            )
        elif key not in known:
            problems.append(
                f"{name} has no parameter {key!r}{nearest(key, known)} It has: "
                f"{valid(known.values())}"
            )
        else:
            try:
                values[key] = convert(value, known[key].type)
            except ValueError:
                wanted = _WANTED[known[key].type]
                problems.append(
                    f"{name}: parameter {key!r} must be {wanted}, but {value!r} was given"
                )
    if problems:
        raise NotebookError("\n".join(problems))
    return values


def convert(value: object, kind: str) -> object:
    """A value as type `kind` (see `Parameter`); raises ValueError when it is something else."""
    if isinstance(value, str) and kind != "str":
        text = value.strip()
        if kind in ("int", "float"):
            return int(text) if kind == "int" else float(text)
        try:
            value = json.loads(text)
        except ValueError:
            value = read_yaml(text)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind != "any" and type(value).__name__ != kind:
        raise ValueError(value)
    return _plain(value)


def valid(parameters: Iterable[Parameter]) -> str:
    """The parameters that a user may set, as one line of text."""
    return ", ".join(str(p) for p in parameters if p.name not in RESERVED) or "none that can be set"


def _plain(value: object) -> object:
    """`value` itself, if JSON can hold it and give it back; raises ValueError otherwise."""
    with suppress(TypeError):
        if json.loads(json.dumps(value)) == value:
            return value
    raise ValueError(value)


def read_yaml(text: str) -> object:
    """Read YAML of which only JSON's scalars are special; raises ValueError.

    YAML 1.1 would read 1e-3 as text, 12:30 as 750, `no` as False and 2020-01-01 as a date.
    """
    import yaml

    class Plain(yaml.SafeLoader):
        yaml_implicit_resolvers = {}  # noqa: RUF012 (this is how yaml's loaders are configured)

    for tag, pattern in _SCALARS:
        Plain.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})$"), first=None
        )
    try:
        return yaml.load(text, Loader=Plain)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
