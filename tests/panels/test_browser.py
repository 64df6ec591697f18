"""The panels in JupyterLab and in Voila, in a real Chromium: what appears, what answers, what is left behind.

Skipped where there is no browser (`make setup-browser` installs one). Screenshots are kept in
build/screenshots. Every step has a generous limit of time, and all together one of the processor
time that they take: what else the machine does changes neither.
"""

import base64
import io
import itertools
import json
import os
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import REPOSITORY, with_fewer
from PIL import Image

pytest.importorskip("playwright", reason="playwright isn't installed: no browser tests")

import lab

from classvec_lab import Delta, Edit
from classvec_lab.statistics import ends
from classvec_lab.words import percent

pytestmark = pytest.mark.skipif(
    lab.browser_path() is None,
    reason="no Chromium on this machine: run `make setup-browser` to test the panels in one",
)
TRAINED = 1200  # seconds until the models are there, where no other test has trained them
WORK = 600  # seconds of processor time for all of this file
PANELS = ("Orthogonality", "Edit", "Attribute", "Linearity", "Neural collapse")
SCREENSHOTS = Path(os.environ.get("CLASSVEC_SCREENSHOTS") or REPOSITORY / "build" / "screenshots")


@pytest.fixture(autouse=True)
def each_in_time():
    """No test takes longer than a few generous steps: what hangs is ended."""
    with lab.time_limit(3 * lab.STEP):
        yield


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The caches at hand, so that models are trained once; figures and edit cards in a folder of the test."""
    figures = tmp_path_factory.mktemp("figures")
    data = os.environ.get("CLASSVEC_DATA") or str(REPOSITORY / "data")
    return {"CLASSVEC_DATA": data, "CLASSVEC_FIGURES": str(figures)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with the notebook, which takes as few images as under nbval."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.read(REPOSITORY / "notebooks" / "12_explore.ipynb", as_version=4)
    for cell in notebook.cells:
        with_fewer(cell, "12_explore")
    nbformat.write(notebook, folder / "12_explore.ipynb")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def work(root):
    """The processor time of all that follows, and its limit."""
    with lab.Work(WORK) as work:
        yield work


@pytest.fixture(scope="module")
def browser(work):
    """One Chromium for all pages."""
    with lab.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(root, environment, browser):
    """12_explore in JupyterLab, all cells run, all panels drawn."""
    with lab.jupyterlab(root, environment=environment) as address:
        page = lab.new_page(browser)
        page.address = address
        lab.open_notebook(page, address, "12_explore.ipynb")
        lab.run_all(page)
        for k in range(len(PANELS)):
            limit = TRAINED if k == 0 else lab.STEP
            lab.appears(page, f":nth-match(.cv-panel[data-ready], {k + 1})", limit)
        page.wait_for_function(
            "[...document.querySelectorAll('.cv-panel canvas')].every((c) => c.dataset.painted)"
        )
        yield page


def panel(page, name):
    """The panel whose title begins with `name`, in view."""
    found = page.locator(".cv-panel", has=page.locator("b", has_text=re.compile(f"^{name}")))
    found.scroll_into_view_if_needed()
    return found


def slider(box, description):
    """The handle of a slider."""
    return (
        box.locator(".widget-inline-hbox", has_text=re.compile(f"^{description}"))
        .locator(".noUi-handle")
        .first
    )


def settled(page, canvas):
    """Wait until a canvas has stopped painting, and give its pixels, whatever lies over them."""
    count = -1
    while count != (now := canvas.get_attribute("data-painted")):
        count = now
        page.wait_for_timeout(250)
    data = canvas.evaluate("canvas => canvas.toDataURL()")
    return Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))


def columns(page, box, label, n):
    """The pixels of a canvas, found by how its label begins, in n columns."""
    picture = settled(page, box.locator(f'canvas[aria-label^="{label}"]'))
    ends = [k * picture.width // n for k in range(n + 1)]
    return [
        picture.crop((left, 0, right, picture.height)).tobytes()
        for left, right in itertools.pairwise(ends)
    ]


def cells(box):
    """Where the heat map has its cells: left, top, cell (their size), and x, y (the first shown)."""
    return json.loads(box.locator(".cv-matrix canvas").first.get_attribute("data-cells"))


def click_cell(page, box, row, column):
    """Click a cell of the heat map by its position."""
    canvas, at = box.locator(".cv-matrix canvas").first, cells(box)
    x = at["left"] + (column - at["x"] + 0.5) * at["cell"]
    canvas.click(position={"x": x, "y": at["top"] + (row - at["y"] + 0.5) * at["cell"]})


def choose(box, description, option):
    """Choose in a dropdown."""
    box.locator(".widget-dropdown", has_text=re.compile(f"^{description}")).locator(
        "select"
    ).first.select_option(option)


def test_every_panel_stands_after_its_static_figure(page):
    for name in PANELS:
        panel(page, name)
    cells = page.locator(".jp-CodeCell")
    kinds = []
    for k in range(cells.count()):
        output = cells.nth(k)
        kinds.append(
            "panel"
            if output.locator(".cv-panel").count()
            else "figure"
            if output.locator(".jp-RenderedImage img").count()
            else ""
        )
    shown = [k for k in kinds if k]
    assert shown == ["figure", "panel"] * len(PANELS)


def test_clicking_a_cell_selects_its_pair(page):
    box = panel(page, "Orthogonality")
    choose(box, "order", "given")
    box.locator(".widget-html", has_text="cosine of").first.wait_for()
    settled(page, box.locator(".cv-matrix canvas").first)
    click_cell(page, box, 3, 5)
    box.get_by_text("cosine of κ[3] and z_ft[5]").wait_for()
    box.get_by_text("3: nearest to 5").wait_for()
    page.wait_for_function(
        "[...document.querySelectorAll('.cv-gallery img')].filter((i) => i.naturalWidth > 0).length >= 16"
    )
    page.keyboard.press("ArrowRight")  # the map has the focus
    box.get_by_text("cosine of κ[3] and z_ft[6]").wait_for()
    page.keyboard.press("ArrowDown")
    box.get_by_text("cosine of κ[4] and z_ft[6]").wait_for()


def test_hovering_tells_value_interval_and_n(page):
    box = panel(page, "Orthogonality")
    canvas, at = box.locator(".cv-matrix canvas").first, cells(box)
    canvas.hover(position={"x": at["left"] + 2.5 * at["cell"], "y": at["top"] + 1.5 * at["cell"]})
    text = box.locator(".cv-matrix .cv-tip").inner_text()
    assert text.startswith("1 → 2\n")
    number = r"[+−]0\.\d{3}"
    told = rf"cosine {number}\nfree of noise {number} \[{number}, {number}\]"
    assert re.search(told, text)
    assert "n = " in text


def test_zoom_and_pan_by_keys_and_back(page):
    box = panel(page, "Orthogonality")
    box.locator(".cv-matrix").first.focus()
    before = cells(box)
    page.keyboard.press("+")
    page.keyboard.press("+")
    lab.until(page, lambda: cells(box)["cell"] > 1.5 * before["cell"], "the zoom")
    settled(page, box.locator(".cv-matrix canvas").first)
    here = cells(box)["x"]
    page.keyboard.press("Shift+ArrowRight")
    lab.until(page, lambda: cells(box)["x"] > here, "the pan")
    page.keyboard.press("0")
    lab.until(page, lambda: cells(box) == before, "the way back")


def test_the_centring_slider_changes_pixels_and_numbers(page):
    box = panel(page, "Orthogonality")
    canvas = box.locator(".cv-matrix canvas").first
    before, said = settled(page, canvas), box.get_by_text("cosine of κ").inner_text()
    slider(box, "centring").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    lab.until(page, lambda: settled(page, canvas) != before, "another picture")
    lab.until(page, lambda: box.get_by_text("cosine of κ").inner_text() != said, "another number")
    box.get_by_role("button", name="centred").click()
    box.get_by_text("an exact ETF's -0.111").wait_for()


def test_a_search_goes_to_a_class(page):
    box = panel(page, "Orthogonality")
    box.get_by_placeholder("class name").fill("7")
    box.get_by_role("button", name="Go").click()
    box.get_by_text("cosine of κ[7]").wait_for()
    box.get_by_placeholder("class name").fill("seven")
    box.get_by_text("no class 'seven' among 10").wait_for()
    box.get_by_placeholder("class name").fill("")


def test_sliders_of_the_edit_panel_take_arrows_and_typed_values(page):
    box = panel(page, "Edit")
    bars = box.locator(".cv-scroll canvas")
    before, table = settled(page, bars), box.locator(".cv-table").first.inner_text()
    slider(box, "strength").focus()
    for _ in range(24):
        page.keyboard.press("ArrowLeft")
    lab.until(page, lambda: settled(page, bars) != before, "other bars")
    lab.until(page, lambda: box.locator(".cv-table").first.inner_text() != table, "another table")
    typed = box.locator(".widget-inline-hbox", has_text=re.compile("^strength")).locator(
        ".widget-readout"
    )
    typed.fill("2.5")
    typed.press("Enter")
    box.locator("option", has_text="strength 2.50").first.wait_for(state="attached")
    choose(box, "gate", "cosine")
    box.locator("option", has_text="cosine gate").first.wait_for(state="attached")
    box.get_by_text("images whose prediction changed").wait_for()


def test_keep_code_and_figure_leave_something_behind(page, environment):
    kept = Path(environment["CLASSVEC_FIGURES"]) / "kept"
    box = panel(page, "Edit")
    box.get_by_role("button", name="Keep").click()
    box.locator(".cv-status", has_text="kept ").wait_for()
    box.get_by_role("columnheader", name="ACC_f, test").wait_for()
    (card,) = kept.glob("edit_*.safetensors")
    edit = Edit.load(card)
    assert edit.target == "0"
    assert edit.expression == "-2.5·κ[0]"
    assert edit.gate.score == "cosine"
    box.get_by_role("button", name="Code").click()
    assert "inject(ft, edits)" in box.locator(".cv-code textarea").input_value()
    box.get_by_role("button", name="Code").click()
    for name in PANELS:
        panel(page, name).get_by_role("button", name="Figure").click()
        panel(page, name).locator(".cv-status", has_text="saved ").wait_for()
    assert len(list(kept.glob("*.png"))) == len(list(kept.glob("*.pdf"))) == len(PANELS)


def test_the_attribute_panel_shows_the_numbers_of_python_and_answers(page, environment):
    box, figures = panel(page, "Attribute"), Path(environment["CLASSVEC_FIGURES"])
    shown = box.locator(".cv-table").first
    shown.scroll_into_view_if_needed()
    lab.until(page, lambda: "clean\t" in shown.inner_text(), "the whole table")
    (made,) = figures.rglob("12_explore/attribute.csv")
    rows = pd.read_csv(made)
    lines = {line.split("\t")[0]: line.split("\t") for line in shown.inner_text().splitlines()}
    for condition, part in rows.groupby("condition"):
        cells = [percent(*ends(row, "accuracy")) for _, row in part.iterrows()]
        assert lines[condition][1:6] == [str(part["n"].iloc[0]), *cells]
    page.wait_for_function(
        "box => [...box.querySelectorAll('.cv-gallery img')].some((i) => i.naturalWidth > 0)",
        arg=box.element_handle(),
    )
    before, bars = shown.inner_text(), settled(page, box.locator(".cv-scroll canvas"))
    slider(box, "strength").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    lab.until(page, lambda: shown.inner_text() != before, "another table")
    lab.until(page, lambda: settled(page, box.locator(".cv-scroll canvas")) != bars, "other bars")
    chart = box.locator('canvas[aria-label^="accuracy over the strength"]')
    width = chart.bounding_box()["width"]
    chart.click(position={"x": 44 + (width - 54) * 2 / 3, "y": 80})  # of -2 to 1: λ = 0
    number = box.locator(".widget-inline-hbox", has_text=re.compile("^strength"))
    read = number.locator(".widget-readout")
    near = ("0.00", "0.01", "−0.01")
    lab.until(page, lambda: read.inner_text() in near, "the strength that was clicked")
    read.fill("-1.0")
    read.press("Enter")
    lab.until(page, lambda: shown.inner_text() == before, "the first table again")
    box.get_by_role("button", name="Keep").click()
    box.locator(".cv-status.cv-problem", has_text="kept is a linear map").wait_for()
    choose(box, "deployed by", "linear map")
    box.get_by_role("columnheader", name="linear map").wait_for()
    box.get_by_role("button", name="Keep").click()
    box.locator(".cv-status", has_text="kept /").wait_for()
    (kept,) = (figures / "kept").glob("attribute_*.safetensors")
    assert Delta.load(kept).name == "removal of snow"
    box.get_by_role("button", name="Code").click()
    assert "map_removal(ft" in box.locator(".cv-code textarea").input_value()
    box.get_by_role("button", name="Code").click()


# What moves in a panel: its control, a key, and canvases with the columns of charts in each.
MOVES = {
    "Linearity": ("α", "ArrowRight", {"accuracy from pre-trained": 2}),
    "Neural collapse": ("epoch", "ArrowLeft", {"neural collapse over": 3, "held-out samples": 1}),
}


@pytest.mark.parametrize("name", MOVES)
def test_alpha_and_the_epoch_move_their_markers(page, name):
    description, key, canvases = MOVES[name]
    box = panel(page, name)

    def pictures():
        return [part for label, n in canvases.items() for part in columns(page, box, label, n)]

    before, table = pictures(), box.locator(".cv-table").last
    said = table.inner_text()
    slider(box, description).focus()
    for _ in range(3):
        page.keyboard.press(key)
    lab.until(page, lambda: table.inner_text() != said, "another table")

    def moved():
        return all(now != then for now, then in zip(pictures(), before, strict=True))

    lab.until(page, moved, "another picture of every chart")


def test_five_hundred_rapid_moves_leave_no_backlog(page, work):
    box = panel(page, "Orthogonality")
    canvas = box.locator(".cv-matrix canvas").first
    handle, before = slider(box, "centring").element_handle(), work.seconds()
    page.evaluate(
        """(handle) => { for (let i = 0; i < 500; i++) {
            const key = i < 450 && i % 2 ? 'ArrowRight' : 'ArrowLeft';
            handle.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })); } }""",
        handle,
    )
    settled(page, canvas)
    assert work.seconds() - before < 20  # of several processes
    number = box.locator(".widget-inline-hbox", has_text=re.compile("^centring"))
    readout = number.locator(".widget-readout").inner_text()
    assert float(readout) == pytest.approx(0.0, abs=0.021)  # the last fifty went left
    box.get_by_role("button", name="raw").click()


def _luminance(colour):
    channels = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


TEXTS = """() => {
  const seen = (el) => { for (let a = el; a; a = a.parentElement) { const c = getComputedStyle(a).backgroundColor;
    const v = c.match(/[\\d.]+/g); if (v && (v.length < 4 || Number(v[3]) > 0.5)) return c; } return 'rgb(255,255,255)'; };
  const found = [];
  for (const el of document.querySelectorAll('.cv-panel *')) {
    const own = [...el.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !el.offsetParent || el.closest('.cv-tip') || el.disabled || el.closest('[disabled]')) continue;
    found.push([el.textContent.trim().slice(0, 40), getComputedStyle(el).color, seen(el)]);
  }
  return found;
}"""


TOO_WIDE = """(panel) => [panel, ...panel.querySelectorAll('.widget-html-content, .widget-hbox, .widget-vbox, .cv-host')]
  .filter((el) => el.scrollWidth > el.clientWidth + 1 && el.clientWidth > 0)
  .map((el) => `${el.className}: ${el.textContent.slice(0, 60)}`)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_in_both_themes(page, dark):
    lab.theme(page, dark=dark)
    page.wait_for_timeout(600)
    texts = page.evaluate(TEXTS)
    assert len(texts) > 60
    faint = []
    for text, colour, ground in texts:
        a, b = sorted((_luminance(colour), _luminance(ground)))
        if (b + 0.05) / (a + 0.05) < 4.5:
            faint.append((text, colour, ground))
    assert not faint
    page.set_viewport_size({"width": 1280, "height": 1700})  # a panel as a whole in one picture
    for name in PANELS:
        box = panel(page, name)
        page.wait_for_timeout(300)
        assert box.bounding_box()["width"] <= 1280
        box.screenshot(
            path=SCREENSHOTS / f"{name.split()[0].lower()}_{'dark' if dark else 'light'}.png"
        )
        assert box.evaluate(TOO_WIDE) == [], f"cut off at the right in {name}"
    page.set_viewport_size(
        {"width": 1030, "height": 1700}
    )  # as wide as 1280 px leave beside JupyterLab's file browser
    for name in PANELS:
        assert panel(page, name).evaluate(TOO_WIDE) == [], (
            f"cut off at the right in {name}, beside the file browser"
        )
    page.set_viewport_size({"width": 1280, "height": 900})


def test_the_console_holds_no_error(page):
    assert page.problems == []


MANY = """
import numpy as np
from classvec_lab import ClassVectors, panels
z = np.random.default_rng(0).normal(size=(2, 21_843, 32))
panels.OrthogonalityPanel(ClassVectors(*z, np.full(21_843, 5), [f"synset {i}" for i in range(21_843)]))
"""


def test_very_many_classes_are_blocks_with_a_search(root, page, browser, work):
    """In a notebook of its own, beside the others: 21,843 classes open, are found by name, and close again."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(MANY)])
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, root / "many.ipynb")
    second = lab.new_page(browser)
    lab.open_notebook(second, page.address, "many.ipynb")
    lab.run_all(second)
    lab.appears(second, ".cv-panel[data-ready] canvas[data-painted]")
    second.get_by_text("21,843 classes in 148 blocks of neighbours").wait_for()
    before = work.seconds()
    second.get_by_placeholder("class name").fill("synset 12345")
    second.get_by_role("button", name="Go").click()
    second.get_by_text("cosine of κ[synset 12345]").wait_for()
    second.locator(".cv-matrix").focus()
    second.keyboard.press("Escape")
    second.get_by_text("21,843 classes in 148 blocks of neighbours").wait_for()
    click_cell(second, second.locator(".cv-panel"), 3, 7)
    second.keyboard.press("Enter")
    second.get_by_text("Two blocks of 21,843 classes").wait_for()
    assert work.seconds() - before < 20
    second.screenshot(path=SCREENSHOTS / "many.png")
    assert second.problems == []
    second.close()


def test_a_restarted_kernel_is_said_in_words(page):
    page.evaluate(
        "void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    for name in PANELS:
        panel(page, name).get_by_text(
            "The kernel behind this panel has stopped or was restarted"
        ).wait_for()
    page.screenshot(path=SCREENSHOTS / "restarted.png")


@pytest.mark.slow  # the panels are those of the tests above, in another frame
def test_voila_serves_the_same_panels(root, environment, browser):
    with lab.voila(root, "12_explore.ipynb", environment=environment) as address:
        page = lab.new_page(browser)
        page.goto(address)
        lab.appears(page, f":nth-match(.cv-panel[data-ready], {len(PANELS)})")
        page.wait_for_function(
            "[...document.querySelectorAll('.cv-panel canvas')].every((c) => c.dataset.painted)"
        )
        box = panel(page, "Edit")
        table = box.locator(".cv-table").first.inner_text()
        slider(box, "strength").focus()
        for _ in range(24):
            page.keyboard.press("ArrowLeft")
        lab.until(page, lambda: box.locator(".cv-table").first.inner_text() != table, "a table")
        page.screenshot(path=SCREENSHOTS / "voila.png")
        page.wait_for_function("!document.body.innerText.includes('Loading widget')")
        assert "model not found" not in page.locator("body").inner_text()
        assert page.problems == []


def test_all_of_it_took_no_more_work_than_it_should(work):
    print(f"{work.seconds():.0f} s of processor time")
    assert work.seconds() < WORK
