"""The process that runs one notebook with papermill for `batch`, and ends, kernel and all, when
`batch` does.

It reads one JSON line from standard input and reports JSON lines on standard output. Standard input
stays open for as long as the notebook is wanted: when it closes, because `batch` closed it or was
killed, the worker kills the kernel at once. It only writes inside the folder given to it; moving
results into place is left to `batch`.
"""

import json
import os
import re
import sys
import tempfile
import threading


def main() -> None:
    """Run the notebook of the request {"notebook", "executed", "parameters"}; reports cells, then
    an error or "done".
    """
    request = json.loads(sys.stdin.buffer.readline())
    report = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # the kernel inherits 1 and 2: what it prints there must not mix with the report
    threading.Thread(target=_end_with_parent, daemon=True).start()

    # nbformat brings in jsonschema, which for a check of web addresses that no notebook needs
    # builds a grammar for
    # 2 seconds; jsonschema does without it where it is not installed.
    sys.modules["rfc3987_syntax"] = None

    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from papermill.execute import execute_notebook

    class ThisInterpreter(AsyncKernelManager):
        """A kernel of the running Python, whichever kernels are registered for this user.

        Where there are Unix sockets it has no ports, which another kernel that starts at the same
        time could take from it.
        """

        def __init__(self, **more):
            self.folder = tempfile.TemporaryDirectory()
            if os.name == "posix" and len(self.folder.name) < 80:  # a socket's name has its limit
                more |= {"transport": "ipc", "connection_file": f"{self.folder.name}/kernel.json"}
            super().__init__(**more)

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(**get_kernel_dict())

    cells, current = {}, {}

    def started(notebook: dict) -> None:
        # Cells are numbered as the user's own notebook has them, without the one that papermill
        # adds.
        code = [
            i
            for i, cell in enumerate(notebook.cells)
            if cell.cell_type == "code"
            and cell.source.strip()
            and "injected-parameters" not in cell.metadata.get("tags", ())
        ]
        for k, i in enumerate(code, 1):
            cells[i] = {"cell": k, "of": len(code), "line": _first_line(notebook.cells[i].source)}

    def entered(cell: dict, cell_index: int) -> None:
        if cell_index in cells:
            current.update(cells[cell_index])
            report.write(json.dumps(current) + "\n")

    def escaped(path: str) -> str:
        return path.replace("{", "{{").replace("}", "}}")  # papermill formats the paths it is given

    outcome = {"done": True}
    try:
        execute_notebook(
            escaped(request["notebook"]),
            escaped(request["executed"]),
            request["parameters"],
            kernel_name="python3",
            language="python",
            progress_bar=False,
            start_timeout=120,
            kernel_manager_class=ThisInterpreter,
            record_timing=False,
            shutdown_kernel="immediate",  # its files are written; a tidy end takes 2 seconds
            on_notebook_start=started,
            on_cell_execute=entered,
        )
    except Exception as error:
        # Papermill's own error knows the cell and what it raised. A dead kernel, a kernel that
        # won't start and the like have no common base: all are reported.
        where = cells.get(getattr(error, "cell_index", None), current) | _guilty(error)
        ename = getattr(error, "ename", type(error).__name__)
        evalue = getattr(error, "evalue", str(error))
        outcome = {"error": {**where, "ename": ename, "evalue": evalue}}
    report.write(json.dumps(outcome) + "\n")
    report.flush()


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(1)


def _guilty(error: Exception) -> dict:
    """The line of its cell that an error came from, where its traceback tells."""
    frames = str(error).rpartition("above exception")[2]  # those of its causes come before
    found = re.search(rf"Cell In\[{getattr(error, 'exec_count', '')}\], line (\d+)", frames)
    return {"line": error.source.splitlines()[int(found[1]) - 1].strip()} if found else {}


def _first_line(source: str) -> str:
    lines = map(str.strip, source.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")


if __name__ == "__main__":
    main()
