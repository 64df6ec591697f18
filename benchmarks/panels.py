"""How soon a panel answers: slider to repaint in a real Chromium, beside seaborn in an Output widget, and kernel time of edits.

Run: python benchmarks/panels.py (needs a Chromium, see `make setup-browser`; about 3 minutes).
"""

import json
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "panels"))
from lab import (
    appears,
    browser_path,
    chromium,
    jupyterlab,
    new_page,
    open_notebook,
    run_all,
    time_limit,
)

MOVES = 20
BEGIN = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import panel_cells"
# How to find the centring slider's handle.
HANDLE = """[...box.querySelectorAll('.widget-inline-hbox')].find((e) => e.textContent.includes('centring'))
    .querySelector('.noUi-handle')"""
# From the key press to the first frame after the repaint.
MEASURE = """async ([root, kind, moves]) => {
  const box = document.querySelector(root);
  const handle = HANDLE;
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const canvas = box.querySelector('canvas');
  const sign = () => kind === 'canvas' ? canvas.dataset.painted : (box.querySelector('img') || {}).src;
  const times = [];
  for (let i = 0; i < moves; i++) {
    const before = sign();
    const start = performance.now();
    handle.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true, cancelable: true }));
    while (true) {
      const now = sign();
      if (now && now !== before && (kind === 'canvas' || box.querySelector('img').complete)) break;
      if (performance.now() - start > 8000) throw new Error('no repaint');
      await new Promise((done) => setTimeout(done, 1));
    }
    await frame();
    times.push(performance.now() - start);
    await new Promise((done) => setTimeout(done, 250));
  }
  return times;
}"""
RUSH = """async ([root, moves]) => {
  const box = document.querySelector(root);
  const handle = HANDLE;
  const canvas = box.querySelector('canvas');
  const first = Number(canvas.dataset.painted);
  for (let i = 0; i < moves; i++) {
    const key = i % 100 < 50 ? 'ArrowRight' : 'ArrowLeft';
    handle.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
    if (i % 10 === 0) await new Promise((done) => setTimeout(done, 1));
  }
  const end = performance.now();
  let last = canvas.dataset.painted, at = end;
  while (performance.now() - at < 1500) {
    if (canvas.dataset.painted !== last) { last = canvas.dataset.painted; at = performance.now(); }
    await new Promise((done) => setTimeout(done, 5));
  }
  return [at - end, Number(last) - first];
}"""


def notebook(root: Path, name: str, *cells: str) -> None:
    """Write a notebook of these code cells."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, root / name)


def measured(
    page, address: str, root: Path, name: str, selector: str, kind: str, cell: str
) -> list[float]:
    """Milliseconds of each move of the centring slider; also says what 500 rapid ones do."""
    notebook(root, name, BEGIN, cell)
    open_notebook(page, address, name)
    run_all(page)
    appears(page, f"{selector} {'canvas[data-painted]' if kind == 'canvas' else 'img'}")
    page.wait_for_timeout(2500)
    times = page.evaluate(MEASURE.replace("HANDLE", HANDLE), [selector, kind, MOVES])
    if kind == "canvas":
        after, painted = page.evaluate(RUSH.replace("HANDLE", HANDLE), [selector, 500])
        print(
            f"  {name}: 500 rapid moves: still {after:.0f} ms after the last, {painted} repaints",
            flush=True,
        )
    return times


def main() -> None:
    """Print all tables."""
    if browser_path() is None:
        sys.exit("no Chromium on this machine: run `make setup-browser`, or install one")
    with tempfile.TemporaryDirectory() as folder, time_limit(900):
        root = Path(folder)
        rows = []
        with jupyterlab(root) as address, chromium() as browser:
            page = new_page(browser)
            for n_classes in (43, 397):
                for name, selector, kind, cell in (
                    (
                        f"panel_{n_classes}.ipynb",
                        ".cv-panel",
                        "canvas",
                        f"panel_cells.panel({n_classes})",
                    ),
                    (
                        f"plain_{n_classes}.ipynb",
                        ".plain-way",
                        "img",
                        f"panel_cells.plain_way({n_classes})",
                    ),
                ):
                    times = measured(page, address, root, name, selector, kind, cell)
                    rows.append(
                        (n_classes, "panel" if kind == "canvas" else "seaborn in Output", times)
                    )
            path = root / "kernel.json"
            notebook(root, "kernel.ipynb", BEGIN, f"panel_cells.kernel_times({str(path)!r})")
            open_notebook(page, address, "kernel.ipynb")
            run_all(page)
            for _ in range(240):
                page.wait_for_timeout(500)
                if path.exists() and path.read_text():
                    break
            problems = page.problems
        print(f"\nslider to repaint in Chromium, ms, {MOVES} moves")
        for n_classes, what, times in rows:
            ends = f"90 % {np.quantile(times, 0.9):6.1f}   max {max(times):6.1f}"
            print(
                f"  {n_classes:>3} × {n_classes:<3}  {what:<18} median {np.median(times):6.1f}   {ends}"
            )
        for n_classes in (43, 397):
            a, b = (
                np.median(next(t for n, w, t in rows if n == n_classes and w == what))
                for what in ("panel", "seaborn in Output")
            )
            print(f"  {n_classes:>3} × {n_classes:<3}  ratio {b / a:.1f}")
        print("\nkernel time of a change, ms; edit panel with N = 10,000, C = 43, m = 512")
        for name, taken in json.loads(path.read_text()).items():
            print(
                f"  {name:<36} median {np.median(taken):7.1f}   max {max(taken):7.1f}   n = {len(taken)}"
            )
        print(f"\nerrors in the browser's console: {problems or 'none'}")


if __name__ == "__main__":
    main()
