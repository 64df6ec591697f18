"""JupyterLab, or Voila, in a real Chromium: started, driven and ended under limits."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

FLAGS = [
    f"--{flag}"
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "force-device-scale-factor=1",
    )
]  # fmt: skip
# What a page without a network says of things that no panel needs: news, updates, fonts of Voila's page.
_HARMLESS = re.compile(
    r"favicon|cdn\.jsdelivr|ERR_INTERNET_DISCONNECTED|jupyterlab/api/(news|update)|net::ERR_ABORTED"
)


STEP = 180  # seconds for any one step: beside other work on the machine all take their time


def browser_path() -> str | None:
    """The Chromium of this machine, or the one that Playwright installed, or None."""
    if found := next(
        (
            p
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (p := shutil.which(name))
        ),
        None,
    ):
        return found
    cache = Path(
        os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright"
    )
    return next((str(p) for p in sorted(cache.glob("chromium-*/chrome-*/chrome"))), None)


@contextmanager
def served(root: Path, *command: str, environment=None, limit: float = STEP):
    """Run a Jupyter server in `root` and yield its address, with the token; it is killed at the end, kernels included."""
    log = open(root / "server.log", "w+")  # noqa: SIM115 (closed below)
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--KernelManager.shutdown_wait_time=0.5"],
        cwd=root, env={**os.environ, **(environment or {})}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + limit
        while True:
            text = (root / "server.log").read_text()
            if found := re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/\S*", text):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server did not start: {text[-2000:]}")
            time.sleep(0.1)
        yield found[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


@contextmanager
def voila(root: Path, notebook: str, **more):
    """Voila with one notebook, on a port that was free a moment ago (it can't name one that it chose itself)."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "voila",
        notebook,
        "--no-browser",
        f"--port={port}",
        "--strip_sources=True",
        "--Voila.ip=127.0.0.1",
    ]
    with served(root, *command, **more) as address:
        yield address


@contextmanager
def jupyterlab(root: Path, **more):
    """JupyterLab on a free port, its settings in `root`."""
    home = {
        name: str(root / ".jupyter" / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    news = {"fetchNews": "false", "checkForUpdates": False}
    folder = root / ".jupyter" / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notification.jupyterlab-settings").write_text(json.dumps(news))
    command = [
        "jupyterlab",
        "--no-browser",
        "--port=0",
        "--ip=127.0.0.1",
        "--allow-root",
        "--LabApp.expose_app_in_browser=True",
        f"--ServerApp.root_dir={root}",
    ]
    with served(
        root, *command, environment={**home, **more.pop("environment", {})}, **more
    ) as address:
        yield address


@contextmanager
def chromium():
    """A fresh Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path(), args=FLAGS, headless=True)
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser, size=(1280, 900)):
    """A page whose `problems` gathers the errors of its console."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(1000 * STEP)
    page.problems = []

    def heard(message):
        if message.type == "error" and not _HARMLESS.search(
            message.text + message.location.get("url", "")
        ):
            page.problems.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    return page


@contextmanager
def time_limit(seconds: float):
    """End all that this process has started, browser and servers included, when the time is up.

    So nothing can hang. It is for one step; what many steps may cost is for `Work`.
    """
    timer = threading.Timer(seconds, end_all)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def end_all() -> None:
    """Kill all processes that this one has started."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


class Work:
    """Seconds of processor time that the processes started here take, which other load leaves alone.

    As a context: when they have taken `limit` seconds, all of them are ended.
    """

    def __init__(self, limit: float):
        self.limit, self._taken, self._over = limit, {}, threading.Event()

    def seconds(self) -> float:
        """What they have taken since the first look, those included that have ended by now."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                taken = process.cpu_times()
                key = process.pid, process.create_time()
                self._taken[key] = taken.user + taken.system
        return sum(tuple(self._taken.values()))

    def _watch(self) -> None:
        while not self._over.wait(1):
            if self.seconds() > self.limit:
                end_all()

    def __enter__(self) -> "Work":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()


def until(page, true, what: str = "it", limit: float = STEP) -> None:
    """Wait until `true()` is."""
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"{what} was not so after {limit} s")
        page.wait_for_timeout(50)


def open_notebook(page, address: str, name: str, *, dark: bool = False) -> None:
    """Open a notebook in JupyterLab's single-document mode without its side bars, in a light or dark theme."""
    base, _, token = address.partition("/lab")
    page.goto(f"{base}/doc/tree/{name}{token}")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("document.querySelector('.jp-NotebookPanel-toolbar') !== null")
    if dark:
        theme(page, dark=True)


def theme(page, *, dark: bool) -> None:
    """Switch JupyterLab's theme."""
    name = f"JupyterLab {'Dark' if dark else 'Light'}"
    page.evaluate(
        "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name
    )
    page.wait_for_function("dark => document.body.dataset.jpThemeLight === String(!dark)", arg=dark)


def run_all(page) -> None:
    """Start all cells; their end is not awaited, since JupyterLab's promise may never come."""
    page.wait_for_function(
        """() => {
            const notebook = window.jupyterapp?.shell.currentWidget;
            return notebook?.context?.isReady && notebook.sessionContext.isReady && notebook.sessionContext.session?.kernel;
        }"""
    )
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")


def appears(page, selector: str, limit: float = STEP) -> None:
    """Wait for something to be there; a cell that failed ends the waiting with what it printed."""
    end = time.monotonic() + limit
    while not page.query_selector(selector):
        if error := page.query_selector(
            '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
        ):
            raise AssertionError(f"a cell failed: {error.inner_text()[-1500:]}")
        if time.monotonic() > end:
            raise AssertionError(f"no {selector} after {limit} s")
        page.wait_for_timeout(100)
