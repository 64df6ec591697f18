"""The `classvec` command: run notebooks, list them, and show what they made."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from .errors import ClassvecError, NotebookError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, 1 (a notebook failed), 2 (a request that can't be met) or
    130 (interrupted).
    """
    options = vars(_parser().parse_args(argv))
    try:
        return options.pop("command")(**options) or 0
    except ClassvecError as error:
        print(f"classvec: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `| head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("classvec: interrupted; what was finished is kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "classvec", description="Class vectors of image classifiers: run the notebooks."
    )
    parser.add_argument(
        "--version", action="version", version=f"classvec_lab {metadata.version('classvec_lab')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument(
        "--notebooks",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="folder of the notebooks (default: the repository's)",
    )

    run = commands.add_parser("run", parents=[folder], help="run notebooks and file what they make")
    run.add_argument(
        "names",
        nargs="*",
        metavar="NOTEBOOK",
        help="a path, a name (02_orthogonality) or a number; default: all",
    )
    run.add_argument(
        "-p",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="parameters",
        help="set a parameter",
    )
    run.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="how many notebooks run at a time (default: 1)",
    )
    run.add_argument(
        "--out",
        metavar="DIR",
        help="where the results go (default: figures/quick, or figures with --full)",
    )
    for switch, help_ in {
        "--full": "use the published settings of settings.yaml",
        "--force": "run the notebooks even where their results are up to date",
        "--quiet": "show only the table at the end",
    }.items():
        run.add_argument(switch, action="store_true", help=help_)
    run.set_defaults(command=_run)

    commands.add_parser(
        "list", parents=[folder], help="show the notebooks and their parameters"
    ).set_defaults(command=_list)

    new = commands.add_parser("new", parents=[folder], help="begin a notebook of your own")
    new.add_argument("name", metavar="NAME", help="effective_rank, or 17_effective_rank")
    new.set_defaults(command=_new)

    gallery = commands.add_parser(
        "gallery", help="write the page that shows the figures of finished runs"
    )
    gallery.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="where they are (default: figures)"
    )
    gallery.set_defaults(command=_gallery)
    return parser


def _run(parameters: Sequence[str], **options) -> int:
    from .batch.runner import FAILED, NOT_RUN, run, table

    pairs = {}
    for text in parameters:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise NotebookError(f"-p {text}: write -p NAME=VALUE")
        if name in pairs:
            raise NotebookError(f"-p {text}: {name} was already set to {pairs[name]!r}")
        pairs[name] = value
    # As Ctrl-C does: an exception in the main thread, so that the workers are ended before this
    # process is.
    previous = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        results = run(parameters=pairs, **options)
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(table(results))
    bad = [result for result in results if result.status in (FAILED, NOT_RUN)]
    for result in bad:
        print(f"classvec: {result.error}", file=sys.stderr)
    return 1 if bad else 0


def _list(folder: Path | None) -> None:
    from .batch.parameters import RESERVED, read_parameters, title
    from .batch.planning import numbered
    from .batch.runner import aligned

    for path in numbered(folder):
        try:
            heading, parameters = title(path), read_parameters(path).values()
        except NotebookError as error:
            print(f"{path.stem}: can't be run: {error}\n")
            continue
        print(f"{path.stem}: {heading}" if heading else path.stem)
        rows = [
            (p.name, p.type, repr(p.default), p.help) for p in parameters if p.name not in RESERVED
        ]
        print(*(f"    {line}" for line in aligned(rows)), "", sep="\n")


def _new(name: str, folder: Path | None) -> None:
    from .batch.planning import begun

    print(os.path.relpath(begun(name, folder)))


def _gallery(folder: Path | None) -> None:
    from .batch.gallery import finished, write_gallery
    from .files import figures_dir

    folder = folder or figures_dir()
    if not finished(folder):
        raise NotebookError(f"no finished runs in {folder}; make them with `classvec run --full`")
    print(os.path.relpath(write_gallery(folder)))


if __name__ == "__main__":
    sys.exit(main())
