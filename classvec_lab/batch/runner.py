"""The run itself: needs first, several notebooks at a time, each filed when it is finished.

Each notebook runs in a process of its own and writes into a temporary folder beside its final one.
Only this process moves finished folders into place, so whatever is killed, a folder is the old one
or the new one, whole.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import ClassvecError, NotebookError
from ..files import figures_dir
from .planning import Job, plan
from .results import (
    check_out,
    failed_copy,
    finish,
    is_up_to_date,
    keep_failed,
    key_of,
    n_files,
    remove,
    sweep,
    temporary_for,
)

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
    files: int = 0
    key: str = ""
    error: str = ""


def run(
    names: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    *,
    jobs: int = 1,
    out: str | os.PathLike | None = None,
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
    """The results as plain text: notebook, status, seconds, number of files, folder."""
    rows = [("notebook", "status", "seconds", "files", "folder")]
    for r in results:
        seconds = f"{r.seconds:.1f}" if r.seconds else "-"
        made = (
            (str(r.files), os.path.relpath(r.folder))
            if r.status in (MADE, UP_TO_DATE)
            else ("-", "-")
        )
        rows.append((r.notebook, r.status, seconds, *made))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


class _Run:
    """One call of `run`: its settings, the workers that are alive, and whether it is being
    stopped.
    """

    def __init__(self, out: Path, jobs: int, force: bool, quiet: bool) -> None:
        self.out, self.jobs, self.force, self.quiet = out, jobs, force, quiet
        self.workers: set[subprocess.Popen] = set()
        self.stopping = threading.Event()

    def all(self, todo: Sequence[Job]) -> list[Result]:
        """Run all jobs as their needs are finished; on any exception, Ctrl-C included, end the
        workers first.
        """
        results: dict[str, Result] = {}
        waiting, running = list(todo), {}
        pool = ThreadPoolExecutor(self.jobs)
        try:
            while waiting or running:
                for job in list(
                    waiting
                ):  # in the order of the plan, so what a failure rules out is settled in one pass
                    if not results.keys() >= set(job.after):
                        continue
                    waiting.remove(job)
                    if missing := [
                        need for need in job.after if results[need].status in (FAILED, NOT_RUN)
                    ]:
                        error = f"{job.stem} was not run, because it needs {', '.join(missing)}"
                        results[job.stem] = Result(
                            job.stem, NOT_RUN, self.out / job.stem, error=error
                        )
                    else:
                        running[
                            pool.submit(
                                self.one, job, {need: results[need].key for need in job.needs}
                            )
                        ] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    results[running.pop(future).stem] = future.result()
        finally:
            self.stopping.set()
            for worker in list(self.workers):
                _hang_up(worker)
            pool.shutdown(cancel_futures=True)
        return [results[job.stem] for job in todo]

    def one(self, job: Job, needs: Mapping[str, str]) -> Result:
        """Bring one notebook up to date, alone among all runs that write to the same folder."""
        final, started = self.out / job.stem, time.monotonic()
        result = partial(Result, job.stem, folder=final)
        try:
            with self.locked(job.stem):
                sweep(final)
                key = key_of(job, needs, self.out)
                if not (self.force and job.chosen) and is_up_to_date(final, key):
                    failed_copy(final).unlink(missing_ok=True)
                    return result(status=UP_TO_DATE, files=n_files(final), key=key)
                self.say(f"{job.stem}: running")
                temporary = temporary_for(final)
                try:
                    self.execute(job, temporary, final)
                    finish(job, temporary, final, key)
                finally:
                    remove(temporary)
                return result(
                    status=MADE, seconds=time.monotonic() - started, files=n_files(final), key=key
                )
        except (ClassvecError, OSError) as error:
            if not self.stopping.is_set():
                self.say(f"{job.stem}: failed")
            return result(status=FAILED, seconds=time.monotonic() - started, error=str(error))

    @contextmanager
    def locked(self, stem: str) -> Iterator[None]:
        """Hold the lock of one notebook's folder; waits while another run holds it."""
        from filelock import FileLock, Timeout

        lock, told = FileLock(self.out / f".{stem}.lock"), False
        while not lock.is_locked:
            if self.stopping.is_set():
                raise NotebookError(f"{stem} was stopped")
            try:
                lock.acquire(timeout=0.5)
            except Timeout:
                if not told:
                    self.say(f"{stem}: waiting for another run that is making it")
                told = True
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
        with tempfile.TemporaryFile() as noise, self.progress(job.stem) as tell:
            last, status = self.work(request, noise, tell)
            if "done" in last:
                return
            noise.seek(0)
            said = noise.read().decode(errors="replace").splitlines()
        if self.stopping.is_set():
            raise NotebookError(f"{job.stem} was stopped")
        ending = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        said = [
            line for line in said if not line.startswith("[IPKernelApp]")
        ]  # the kernel's own notices
        error = last.get(
            "error",
            {**last, "ename": "its process ended", "evalue": "\n".join([ending, *said[-5:]])},
        )
        cell = f" in code cell {error['cell']} (`{error['line']}`)" if "cell" in error else ""
        kept = keep_failed(executed, temporary, final)
        where = f"\nIts executed part is {os.path.relpath(kept)}" if kept else ""
        raise NotebookError(
            f"{job.notebook.name} failed{cell}: {error['ename']}: "
            f"{error['evalue'].strip()[:1000]}{where}"
        )

    def work(
        self, request: dict, noise: object, tell: Callable[[int, int], None]
    ) -> tuple[dict, int]:
        """Start a worker and follow it to its end: its last report and its exit status."""
        # In a session of its own, Ctrl-C in a terminal reaches this process only, which then ends
        # its workers.
        worker = subprocess.Popen(
            [sys.executable, "-m", "classvec_lab.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            env=_environment(self.jobs),
            start_new_session=True,
        )
        self.workers.add(worker)
        last: dict = {}
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
                if "of" in last:
                    tell(last["cell"], last["of"])
            return last, worker.wait()
        finally:
            _hang_up(worker)
            worker.stdout.close()
            worker.wait()
            self.workers.discard(worker)

    @contextmanager
    def progress(self, stem: str) -> Iterator[Callable[[int, int], None]]:
        """What to call with (cell, number of cells): a bar for one notebook at a time, else a line
        each quarter.
        """
        if self.quiet:
            yield lambda cell, of: None
        elif self.jobs > 1:
            quarter = 0

            def tell(cell: int, of: int) -> None:
                nonlocal quarter
                if (cell - 1) * 4 // of > quarter:
                    quarter = (cell - 1) * 4 // of
                    self.say(f"{stem}: cell {cell} of {of}")

            yield tell
        else:
            from tqdm.auto import tqdm

            with tqdm(
                desc=stem,
                bar_format="{desc} |{bar:20}| {n_fmt}/{total_fmt} cells, {elapsed}",
                leave=False,
            ) as bar:

                def tell(cell: int, of: int) -> None:
                    bar.total = of
                    bar.update(cell - 1 - bar.n)

                yield tell

    def say(self, line: str) -> None:
        if not self.quiet:
            from tqdm.auto import tqdm

            tqdm.write(line, file=sys.stderr)


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
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONHASHSEED": "0",
    }
    environment.pop(
        "MPLBACKEND", None
    )  # the kernel chooses the backend that shows figures in the notebook
    return environment
