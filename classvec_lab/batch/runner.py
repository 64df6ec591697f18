"""The run itself: needs first, several notebooks at a time, each filed when it is finished.

Each notebook runs in a process of its own and writes into a temporary folder beside its final one.
Only this process moves finished folders into place, so whatever is killed, a folder is the old one
or the new one, whole.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path

from ..errors import ClassvecError, NotebookError
from ..files import atomic, figures_dir
from ..progress import FILE
from .planning import Job, plan
from .results import check_out, complete, failed_copy, is_up_to_date, keep_failed, key_of, sweep

WIPE = "\r\x1b[K"  # clears a terminal's line
EVERY, LATEST = 60.0, 0.5  # seconds between lines on progress in a log, and on a terminal
MADE, UP_TO_DATE, FAILED, NOT_RUN = "made", "up to date", "failed", "not run"


@dataclass(frozen=True)
class Result:
    """What became of one notebook: `status` is "made", "up to date", "failed" or "not run"; `error`
    says why.
    """

    notebook: str
    status: str
    folder: Path
    seconds: float = 0.0
    key: str = ""
    error: str = ""


def run(
    names: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    *,
    jobs: int = 1,
    out: str | Path | None = None,
    full: bool = False,
    force: bool = False,
    quiet: bool = False,
    folder: Path | None = None,
) -> list[Result]:
    """Run notebooks, needs first and `jobs` at a time, and return one Result each, in the order of
    the plan.

    `names`, `parameters`, `full` and `folder` are those of `plan`. The results of NN_x go to
    `<out>/NN_x`; `out` is by default the figures folder with `full`, and `quick` inside it without.
    `force` runs the chosen notebooks even where they are up to date. A failing notebook doesn't
    stop those that don't need it: look at `status`. Raises NotebookError, before anything is run,
    when the request can't be met.
    """
    if jobs < 1:
        raise NotebookError(f"jobs must be at least 1, not {jobs}")
    todo = plan(names, parameters, full=full, folder=folder)
    out = Path(os.path.abspath(out or (figures_dir() if full else figures_dir() / "quick")))
    check_out(out, todo)
    return _Run(out, jobs, force, quiet).all(todo)


def table(results: Sequence[Result]) -> str:
    """The results as plain text: notebook, status, seconds, folder."""
    rows = [("notebook", "status", "seconds", "folder")]
    for r in results:
        folder = "-" if r.status in (FAILED, NOT_RUN) else os.path.relpath(r.folder)
        rows.append((r.notebook, r.status, f"{r.seconds:.1f}", folder))
    return "\n".join(aligned(rows))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Each row as a line, its cells padded to the width of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


@dataclass
class _Run:
    """One call of `run`: its settings, the workers that are alive, whether it is being stopped, and
    where each notebook is: its cell, and the file of its bars.
    """

    out: Path
    jobs: int
    force: bool
    quiet: bool
    workers: set[subprocess.Popen] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)
    reached: dict[str, tuple[str, Path]] = field(default_factory=dict)

    def all(self, todo: Sequence[Job]) -> list[Result]:
        """Run all jobs as their needs are finished; on any exception, Ctrl-C included, end the
        workers first.
        """
        jobs, results, running = {job.stem: job for job in todo}, {}, {}
        order = TopologicalSorter({job.stem: job.after for job in todo})
        order.prepare()
        pool, watcher = ThreadPoolExecutor(self.jobs), threading.Thread(target=self.watch)
        watcher.start()
        try:
            while order.is_active():
                for stem in order.get_ready():
                    running[pool.submit(self.one, jobs[stem], results)] = stem
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    stem = running.pop(future)
                    results[stem] = future.result()
                    order.done(stem)
        finally:
            self.stopping.set()
            watcher.join()
            for worker in list(self.workers):
                _hang_up(worker)
            pool.shutdown(cancel_futures=True)
        return [results[job.stem] for job in todo]

    def one(self, job: Job, done: Mapping[str, Result]) -> Result:
        """Bring one notebook up to date, alone among all runs that write to the same folder."""
        final, started = self.out / job.stem, time.monotonic()
        result = partial(Result, job.stem, folder=final)
        missing = [need for need in job.after if done[need].status in (FAILED, NOT_RUN)]
        if missing:
            error = f"{job.stem} was not run, because it needs {', '.join(missing)}"
            return result(status=NOT_RUN, error=error)
        try:
            with self.locked(job.stem):
                sweep(final)
                key = key_of(job, {need: done[need].key for need in job.needs}, self.out)
                status = UP_TO_DATE
                if (self.force and job.chosen) or not is_up_to_date(final, key):
                    status = MADE
                    self.say(f"{job.stem}: running")
                    with atomic(final) as temporary:
                        temporary.mkdir()
                        self.execute(job, temporary, final)
                        try:
                            complete(job, temporary, final, key)
                        except (ClassvecError, OSError) as error:
                            kept = keep_failed(temporary / job.notebook.name, temporary, final)
                            raise NotebookError(f"{error}{kept}") from error
                failed_copy(final).unlink(missing_ok=True)
                return result(status=status, seconds=time.monotonic() - started, key=key)
        except (ClassvecError, OSError) as error:
            if not self.stopping.is_set():
                self.say(f"{job.stem}: failed")
            return result(status=FAILED, seconds=time.monotonic() - started, error=str(error))

    @contextmanager
    def locked(self, stem: str) -> Iterator[None]:
        """Hold the lock of one notebook's folder; waits while another run holds it."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.out / f".{stem}.lock")
        for attempt in itertools.count():
            if self.stopping.is_set():
                raise NotebookError(f"{stem} was stopped")
            try:
                lock.acquire(timeout=0.5)
                break
            except Timeout:
                if attempt == 0:
                    self.say(f"{stem}: waiting for another run that is making it")
        try:
            yield
        finally:
            lock.release()

    def execute(self, job: Job, temporary: Path, final: Path) -> None:
        """Run the notebook in a worker; a NotebookError says which cell failed, how, and where the
        rest was kept.
        """
        executed = temporary / job.notebook.name
        parameters = job.parameters | {"out": str(temporary)}
        if job.gathers:
            parameters["source"] = os.path.relpath(self.out)
        request = {
            "notebook": str(job.notebook.resolve()),
            "executed": str(executed),
            "parameters": parameters,
        }
        with tempfile.TemporaryFile() as noise, tempfile.TemporaryDirectory() as folder:
            last, status = self.work(job.stem, request, noise, Path(folder, "progress"))
            if "done" in last:
                return
            noise.seek(0)
            said = noise.read().decode(errors="replace").splitlines()
        if self.stopping.is_set():
            raise NotebookError(f"{job.stem} was stopped")
        ending = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        said = [line for line in said if not line.startswith("[IPKernelApp]")]  # the kernel's own
        ended = {"ename": "its process ended", "evalue": "\n".join([ending, *said[-5:]])}
        error = last.get("error", last | ended)
        cell = f" in code cell {error['cell']} (`{error['line']}`)" if "cell" in error else ""
        kept = keep_failed(executed, temporary, final)
        raise NotebookError(
            f"{job.notebook.name} failed{cell}: {error['ename']}: "
            f"{error['evalue'].strip()[:1000]}{kept}"
        )

    def work(self, stem: str, request: dict, noise: object, bars: Path) -> tuple[dict, int]:
        """Start a worker and follow it to its end: its last report and its exit status.

        In a log each quarter of the notebook's cells is told; see `watch` for what is told besides.
        """
        # In a session of its own, Ctrl-C in a terminal reaches this process only, which then ends
        # its workers.
        worker = subprocess.Popen(
            [sys.executable, "-m", "classvec_lab.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            env=_environment(self.jobs) | {FILE: str(bars)},
            start_new_session=True,
        )
        self.workers.add(worker)
        last, quarter = {}, 0
        try:
            if self.stopping.is_set():
                _hang_up(worker)
            with suppress(
                OSError, ValueError
            ):  # it died at once, or was hung up on; its exit status will tell
                worker.stdin.write(json.dumps(request).encode() + b"\n")
                worker.stdin.flush()
            for line in worker.stdout:
                with suppress(ValueError):  # it was killed in the middle of a line
                    last = json.loads(line)
                if "of" not in last:
                    continue
                cell = f"{stem}: cell {last['cell']} of {last['of']}"
                self.reached[stem] = cell, bars
                if (now := (last["cell"] - 1) * 4 // last["of"]) > quarter:
                    quarter = now
                    if not sys.stderr.isatty():
                        self.say(cell)
            return last, worker.wait()
        finally:
            _hang_up(worker)
            worker.stdout.close()
            worker.wait()
            self.workers.discard(worker)
            self.reached.pop(stem, None)

    def watch(self) -> None:
        """Tell how far the notebooks are, with the time that their innermost bar has left.

        A terminal has one line, written anew; a log a line now and then for what has moved.
        """
        terminal, told = sys.stderr.isatty(), set()
        while not (self.quiet or self.stopping.wait(LATEST if terminal else EVERY)):
            lines = []
            for cell, bars in [*self.reached.values()]:
                with suppress(OSError):  # no bar yet, or the notebook has just ended
                    cell = ", ".join(filter(None, (cell, bars.read_text(encoding="utf-8"))))
                lines.append(cell)
            if terminal:
                width = shutil.get_terminal_size().columns - 1
                print(f"{WIPE}{' | '.join(lines)[:width]}", end="", file=sys.stderr, flush=True)
            else:
                for line in lines:
                    if line not in told:
                        self.say(line)
                told = {*lines}
        if terminal and not self.quiet:
            print(WIPE, end="", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        if not self.quiet:
            print(WIPE * sys.stderr.isatty() + line, file=sys.stderr)


def _hang_up(worker: subprocess.Popen) -> None:
    """Close the pipe that a worker lives by; it kills its kernel and ends, unless it has ended
    already.
    """
    with suppress(OSError, ValueError):
        worker.stdin.close()


def _environment(jobs: int) -> dict[str, str]:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    threads = str(max(1, cores // jobs))
    own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONHASHSEED": "0"}
    # without the backend: the kernel chooses the one that shows figures in the notebook
    return {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | own
