"""Kernels that find torch and the like imported already, which takes each of them six seconds.

One process imports what all notebooks use, and a kernel is a fork of it. The package itself is left
to each notebook to import. Run as a program this is that process, or, given a
connection file besides, what Jupyter takes for the kernel: it asks for a fork and lives as long.
"""

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading

IMPORTED = (
    "ipykernel.kernelapp", "torch.export", "open_clip", "timm", "pandas", "scipy.linalg",
    "scipy.stats", "matplotlib.pyplot", "fontTools.subset", "seaborn", "concept_erasure", "safetensors.torch", "anywidget",
)  # fmt: skip
INLINE = "module://matplotlib_inline.backend_inline"  # what a kernel tells matplotlib to use
SOCKET = "CLASSVEC_TESTS_KERNELS"  # the environment variable with where kernels are asked for


def configure(config) -> None:
    """Have nbval start kernels without ports: between being chosen and bound, another may take one.

    On Linux they are forks. The process to fork from is one for pytest and its workers, and ends
    with pytest.
    """
    import nbval.kernel

    if os.name == "posix":
        nbval.kernel.KernelManager = manager
    if sys.platform != "linux" or SOCKET in os.environ:
        return
    folder = tempfile.TemporaryDirectory()
    os.environ[SOCKET] = path = f"{folder.name}/socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    process = subprocess.Popen(
        [sys.executable, __file__, path, str(listener.fileno())],
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
        env=os.environ | {"MPLBACKEND": INLINE},
    )
    listener.close()

    def end():
        del os.environ[SOCKET]
        process.stdin.close()
        process.wait()
        folder.cleanup()

    config.add_cleanup(end)


def manager(**given):
    """A kernel manager without ports."""
    from jupyter_client import KernelManager

    folder = tempfile.TemporaryDirectory()
    made = KernelManager(transport="ipc", connection_file=f"{folder.name}/kernel.json", **given)
    made.folder = folder  # which goes with it
    if SOCKET in os.environ:
        command = [sys.executable, "-IS", __file__, os.environ[SOCKET], "{connection_file}"]
        made.kernel_spec.argv = command
    return made


def serve(listener: socket.socket) -> None:
    """Fork a kernel for each that asks, until standard input closes."""
    del sys.path[0]  # the folder of the tests
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # which ipykernel reads when it is imported
    from classvec_lab.datasets.torchvision_repair import ensure_torchvision

    kept = ensure_torchvision()  # noqa: F841
    for name in IMPORTED:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "classvec_lab"]:
        del sys.modules[name]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while listener in (ready := select.select([listener, 0], [], [])[0]) and 0 not in ready:
        asking, _ = listener.accept()
        message, files, *_ = socket.recv_fds(asking, 1 << 20, 3)
        while not message.endswith(b"\n"):
            message += asking.recv(1 << 20)
        if os.fork() == 0:
            listener.close()
            become(asking, files, *json.loads(message))
        for each in (asking.detach(), *files):
            os.close(each)


def become(asking: socket.socket, files: list[int], connection: str, cwd: str, environ: dict):
    """Be the kernel of a connection file until it ends, or the one that asked does."""
    import numpy as np

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    np.random.seed()

    def follow():
        while asking.recv(1):
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    sys.argv = ["ipykernel_launcher.py", "-f", connection]
    from ipykernel.kernelapp import launch_new_instance
    from traitlets.config import Config

    # figures are drawn for the files alone: nobody looks at the cells
    launch_new_instance(config=Config({"InlineBackend": {"figure_formats": set()}}))
    os._exit(0)


def ask(path: str, connection: str) -> None:
    """Ask for a kernel and stay as long as it does, or as the parent; an interrupt is passed on."""
    parent = os.getppid()
    kernel = socket.socket(socket.AF_UNIX)
    kernel.connect(path)
    signal.signal(signal.SIGINT, lambda *_: kernel.send(b"i"))
    message = json.dumps([connection, os.getcwd(), dict(os.environ)]) + "\n"
    socket.send_fds(kernel, [message.encode()], [0, 1, 2])
    while os.getppid() == parent:
        if select.select([kernel], [], [], 1)[0]:
            return


if __name__ == "__main__":
    path, given = sys.argv[1:]
    if given.isdigit():
        serve(socket.socket(fileno=int(given)))
    else:
        ask(path, given)
