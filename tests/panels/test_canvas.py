"""What goes to the browser: JSON without NaN, raw bytes and thumbnails.

Where no widget can be shown a readable line stands in its place.
"""

import json
import re

import ipywidgets as w
import numpy as np
import pytest
from PIL import Image
from small_world import World, widgets
from worlds_of_panels import collapse_history

from classvec_lab import ClassVectors, Features
from classvec_lab.diagnostics.linearity import class_interpolations, latent_paths
from classvec_lab.panels import CollapsePanel, EditPanel, LinearityPanel, OrthogonalityPanel, Panel
from classvec_lab.panels.base import new_paths
from classvec_lab.panels.canvas import STATIC, Floats
from classvec_lab.panels.payload import chart, colour_table, plain, series, thumbnail

WORLD = World()


def panels():
    """One of each, on data with gaps: a class without samples, a class that didn't move."""
    ft, pre = WORLD.ft["test"], WORLD.pre["test"]
    z_ft = WORLD.vectors.z_ft.copy()
    z_ft[4] = WORLD.vectors.z_pre[4]
    still = ClassVectors(WORLD.vectors.z_pre, z_ft, WORLD.vectors.count, WORLD.classes)
    few = Features(ft.z[ft.y != 2], ft.y[ft.y != 2], WORLD.classes)
    with pytest.warns(UserWarning, match="1 of 5 classes have a kappa of zero"):
        yield OrthogonalityPanel(still, features=None, classifier=WORLD.classifier)
    yield EditPanel(WORLD.classifier, WORLD.vectors, few, held_out=ft)
    paths = latent_paths(pre, WORLD.vectors, WORLD.classifier)
    pairs = class_interpolations(WORLD.classifier, few, WORLD.vectors, max_pairs=5)
    yield LinearityPanel(WORLD.classifier, few, WORLD.vectors, paths=paths, pairs=pairs)
    yield CollapsePanel(collapse_history())


def test_every_message_is_json_without_nan():
    seen = 0
    z = WORLD.vectors.z_ft
    with pytest.warns(UserWarning, match="5 of 5 classes have a kappa of zero"):
        unmoved = OrthogonalityPanel(ClassVectors(z, z, WORLD.vectors.count, WORLD.classes))
    assert unmoved.selected == ()
    for panel in (*panels(), unmoved):
        assert isinstance(panel, Panel)
        for widget in widgets(panel):
            state = {k: v for k, v in widget.get_state().items() if not isinstance(v, bytes)}
            json.dumps(state, allow_nan=False, default=lambda v: v if v is None else str(v))
            seen += 1
    assert seen > 60


def test_plain_is_json():
    value = {
        "a": np.float64("nan"),
        "b": [np.int64(3), float("inf")],
        "c": np.array([[1.0, np.nan]]),
        "d": ("x", None, True),
    }
    assert plain(value) == {"a": None, "b": [3, None], "c": [[1.0, None]], "d": ["x", None, True]}
    rows = {"a": np.arange(2.0), "b": [np.nan, 1.0], "c": [0, 0], "d": [1, 1]}
    line = series(rows, ("a", "b", "c", "d"), "s", "accent")
    made = chart("t", "x", [line], xlim=[0, 1])
    (line,) = made["series"]
    assert (line["x"], line["y"], line["low"], line["high"]) == ([0, 1], [None, 1], [0, 0], [1, 1])
    json.dumps(made, allow_nan=False)


def test_floats_are_little_endian_rows_first():
    sent = Floats().validate(None, np.arange(6.0).reshape(2, 3).T)
    assert np.frombuffer(sent, "<f4").tolist() == [0, 3, 1, 4, 2, 5]
    assert Floats().validate(None, sent) == sent


def test_colours_are_those_of_the_static_figures():
    import matplotlib as mpl

    table = np.frombuffer(colour_table("RdBu_r"), np.uint8).reshape(256, 3)
    for k in (0, 100, 255):
        assert table[k].tolist() == [round(255 * c) for c in mpl.colormaps["RdBu_r"](k / 255)[:3]]


def luminance(rgb):
    """Relative luminance (WCAG) of a colour in 0..255."""
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in np.asarray(rgb) / 255
    ]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(a, b):
    """Contrast of two colours, 1 to 21."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def inks():
    """The colours of both themes, as the canvases have them."""
    script = (STATIC / "shared.js").read_text()
    for theme in ("light", "dark"):
        line = re.search(rf"^  {theme}: {{(.*)}},$", script, re.M)[1]
        yield (
            theme,
            {
                name: tuple(bytes.fromhex(value))
                for name, value in re.findall(r'(\w+): "#(\w{6})"', line)
            },
        )


def test_what_canvases_write_and_draw_can_be_seen_in_both_themes():
    """Text at 4.5 to 1, lines and bars at 3 to 1, against the paper of JupyterLab's themes."""
    for _, ink in inks():
        assert contrast(ink["ink"], ink["paper"]) >= 4.5
        for name in ("accent", "contrast", "muted", "green", "violet"):
            assert contrast(ink[name], ink["paper"]) >= 3, name


def test_numbers_in_cells_can_be_read_on_every_colour():
    """By the rule of matrix.js: black where the luminance is above .179, else white."""
    assert "> 0.179" in (STATIC / "matrix.js").read_text()
    colours = [
        c
        for name in ("RdBu_r", "viridis")
        for c in np.frombuffer(colour_table(name), np.uint8).reshape(-1, 3)
    ]
    for colour in (*colours, *(ink["void"] for _, ink in inks())):
        assert contrast(colour, (0, 0, 0) if luminance(colour) > 0.179 else (255, 255, 255)) >= 4.5


@pytest.mark.parametrize("size", [(8, 8), (300, 200), (1, 500)])
def test_thumbnails_are_small_and_keep_small_images_as_they_are(size):
    import io

    picture = Image.open(io.BytesIO(thumbnail(Image.new("L", size, 7))))
    assert max(picture.size) <= 96
    assert picture.mode == "RGB"
    if max(size) <= 96:
        assert picture.size == size
        assert picture.getpixel((0, 0)) == (7, 7, 7)


def test_without_a_front_end_a_line_tells_what_stands_here():
    panel = CollapsePanel(collapse_history())
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == repr(panel)
    assert repr(panel) == "<CollapsePanel of 4 classes; live in JupyterLab once its cell is run>"
    assert isinstance(panel, w.VBox)


def test_new_names_are_new_and_safe(tmp_path):
    first = new_paths(tmp_path, "a/b c?", (".png", ".pdf"))
    stem = first[0].stem
    assert re.fullmatch(r"a_b_c_-[0-9a-f]{6}", stem)  # distinct from that of another text
    assert [p.name for p in first] == [f"{stem}.png", f"{stem}.pdf"]
    first[1].touch()
    assert [p.name for p in new_paths(tmp_path, "a/b c?", (".png", ".pdf"))] == [
        f"{stem}-2.png",
        f"{stem}-2.pdf",
    ]
    assert new_paths(tmp_path, "../..", (".png",))[0].parent == tmp_path
