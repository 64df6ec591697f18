"""Canvases that the browser draws: raw float32 goes in, clicks and keys come back. They compute nothing."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import anywidget
import numpy as np
import traitlets as t

from ..errors import ClassvecError

STATIC = Path(__file__).with_name("static")


@cache
def _script(name: str) -> str:
    """The ES module of one canvas: what all share, and its own part."""
    return "\n".join(
        (STATIC / f"{part}.js").read_text(encoding="utf-8") for part in ("shared", name)
    )


_CSS = (STATIC / "panels.css").read_text(encoding="utf-8")


def packed(array: np.ndarray) -> bytes:
    """An array as raw little-endian float32, rows first."""
    return np.ascontiguousarray(array, dtype="<f4").tobytes()


def plain(value):
    """Numbers, lists and mappings as JSON has them: NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def colour_table(name: str, n: int = 256) -> bytes:
    """n colours of a matplotlib map as bytes, red, green and blue in turn."""
    import matplotlib as mpl

    return (
        (mpl.colormaps[name](np.linspace(0, 1, n))[:, :3] * 255).round().astype(np.uint8).tobytes()
    )


class Canvas(anywidget.AnyWidget):
    """What every canvas has: a label for screen readers."""

    _css = _CSS
    label = t.Unicode().tag(sync=True)


class Matrix(Canvas):
    """A heat map of values (R, C): hover, select a cell, zoom, pan. `opened` and `backed` are called with what the user opens.

    values, low, high: float32 as `packed`; low and high may be empty. marked: one byte a cell, 1 for those with a dot.
    selected: [row, column] or []. mark: a value marked on the colour bar, None for none.
    """

    _esm = _script("matrix")
    values = t.Bytes().tag(sync=True)
    low = t.Bytes().tag(sync=True)
    high = t.Bytes().tag(sync=True)
    marked = t.Bytes().tag(sync=True)
    row_names = t.List(t.Unicode()).tag(sync=True)
    column_names = t.List(t.Unicode()).tag(sync=True)
    row_counts = t.List(t.Int()).tag(sync=True)
    column_counts = t.List(t.Int()).tag(sync=True)
    row_label = t.Unicode().tag(sync=True)
    column_label = t.Unicode().tag(sync=True)
    value_label = t.Unicode("value").tag(sync=True)
    marked_label = t.Unicode().tag(sync=True)
    no_interval = t.Unicode().tag(sync=True)
    limit = t.Float(1.0).tag(sync=True)
    centred = t.Bool(True).tag(sync=True)
    mark = t.Float(None, allow_none=True).tag(sync=True)
    mark_label = t.Unicode("theory").tag(sync=True)
    palette = t.Bytes().tag(sync=True)
    selected = t.List(t.Int()).tag(sync=True)
    opens = t.Bool(False).tag(sync=True)

    def __init__(self, **given):
        super().__init__(**given)
        self.opened = self.backed = lambda *_: None
        self.on_msg(self._heard)

    def _heard(self, _, content, __) -> None:
        if content.get("type") == "open":
            self.opened(*(int(i) for i in content["cell"]))
        elif content.get("type") == "back":
            self.backed()


class Charts(Canvas):
    """Line charts in a grid of up to `columns`; each of `charts` is a mapping made by `chart`.

    markers: for each chart the x of its moving marker, or None. picked: [chart, x] that the user clicked, where `picks`.
    key: series (name, colour, dash) named once under all charts, beside those that a chart names itself.
    """

    _esm = _script("charts")
    charts = t.List().tag(sync=True)
    markers = t.List().tag(sync=True)
    columns = t.Int(1).tag(sync=True)
    height = t.Int(220).tag(sync=True)
    picks = t.Bool(False).tag(sync=True)
    picked = t.List().tag(sync=True)
    key = t.List().tag(sync=True)


class Bars(Canvas):
    """Shares (K,) before and after, a row for each name; `edited` are the rows whose names stand out."""

    _esm = _script("bars")
    names = t.List(t.Unicode()).tag(sync=True)
    counts = t.List(t.Int()).tag(sync=True)
    before = t.Bytes().tag(sync=True)
    after = t.Bytes().tag(sync=True)
    edited = t.List(t.Int()).tag(sync=True)


class Scatter(Canvas):
    """A film on a plane: points (E, n, 2) and means (E, K, 2) as `packed`, labels (n,) likewise; `step` says which frame."""

    _esm = _script("scatter")
    points = t.Bytes().tag(sync=True)
    means = t.Bytes().tag(sync=True)
    labels = t.Bytes().tag(sync=True)
    colours = t.Bytes().tag(sync=True)
    names = t.List(t.Unicode()).tag(sync=True)
    box = t.List(t.Float()).tag(sync=True)
    step = t.Float(0.0).tag(sync=True)
    focus = t.Int(-1).tag(sync=True)
    caption = t.Unicode().tag(sync=True)


class Gallery(Canvas):
    """Thumbnails in titled groups, drawn from a data set when the browser first needs them.

    groups: mappings with title, items (key: position in the data set, caption, and perhaps title and tone "good" or
    "bad") and `empty`, the word for no items. Without a data set the captions stand alone.
    """

    _esm = _script("gallery")
    groups = t.List().tag(sync=True)
    has_images = t.Bool(False).tag(sync=True)

    def __init__(self, dataset=None, **given):
        super().__init__(has_images=dataset is not None, **given)
        self._dataset = dataset
        self.on_msg(self._asked)

    def _asked(self, _, content, __) -> None:
        if content.get("type") != "images" or self._dataset is None:
            return
        keys = [int(k) for k in content["keys"] if 0 <= int(k) < len(self._dataset)]
        self.send({"type": "images", "keys": keys}, [self._picture(k) for k in keys])

    def _picture(self, position: int) -> bytes:
        """The thumbnail of an image; empty for one that can't be read any more."""
        try:
            return thumbnail(self._dataset[position][0])
        except (ClassvecError, OSError):
            return b""


class Frame(Canvas):
    """The line in which a panel speaks; it also says when the kernel is gone."""

    _esm = _script("frame")
    message = t.Unicode().tag(sync=True)
    problem = t.Bool(False).tag(sync=True)


def thumbnail(image, side: int = 96) -> bytes:
    """A PIL image as PNG, at most `side` pixels each way; small ones keep their pixels."""
    import io

    picture = image.convert("RGB")
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def series(
    name: str,
    x,
    y,
    colour: str,
    *,
    low=None,
    high=None,
    dash=(),
    dots: bool = False,
    width: float = 2.0,
) -> dict:
    """One line of a chart: x and y (n,), a band from low to high, a colour of the theme ("accent", "muted", …) or any."""
    line = {
        "name": name,
        "x": x,
        "y": y,
        "colour": colour,
        "dash": list(dash),
        "dots": dots,
        "width": width,
    }
    if low is not None:
        line |= {"low": low, "high": high}
    return plain(line)


def chart(lines: Sequence[Mapping], *, title: str = "", xlabel: str = "", **more) -> dict:
    """A chart of `series`; more: xlim, ylim, log, percent, whole (ticks of x), marks (x, label, high: at the top) and spans.

    A span has from, to, label and colour; a series with legend False is named by its tooltip alone.
    """
    return plain({"series": list(lines), "title": title, "xlabel": xlabel, **more})
