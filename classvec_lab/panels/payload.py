"""What goes to the browser: JSON without NaN, raw float32, colours, thumbnails, charts, tables."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
from matplotlib import colormaps


def packed(array) -> bytes:
    """An array as raw little-endian float32, rows first."""
    return np.ascontiguousarray(array, dtype="<f4").tobytes()


def plain(value):
    """Numbers, arrays, lists and mappings as JSON has them; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic | pd.Series):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def colour_bytes(colours) -> bytes:
    """Colours (n, 3 or more) in [0, 1] as bytes, red, green and blue in turn."""
    return (np.asarray(colours)[:, :3] * 255).round().astype(np.uint8).tobytes()


def colour_table(name: str) -> bytes:
    """256 colours of a matplotlib map, as `colour_bytes`."""
    return colour_bytes(colormaps[name](np.linspace(0, 1, 256)))


def thumbnail(image) -> bytes:
    """A PIL image as PNG, at most 96 pixels each way; small ones keep their pixels."""
    picture = image.convert("RGB")
    picture.thumbnail((96, 96))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def series(name: str, rows: Mapping, columns: Sequence[str], colour: str, dash=(), **look) -> dict:
    """One line of a chart.

    Args:
        name: what the legend and the tooltip call it.
        rows: a frame or mapping of columns.
        columns: x, y and, for a band, its low and high ends.
        colour: of the theme ("accent", "contrast", "muted", "green", "violet", "ink"), or of CSS.
        dash: lengths of dashes and gaps, () for a solid line.
        look: dots, whether each point has one; width, of the line in pixels; legend, False leaves
            the name to the tooltip.
    """
    line = {"name": name, "colour": colour, "dash": dash, **look}
    for key, column in zip(("x", "y", "low", "high"), columns, strict=False):
        line[key] = rows[column]
    return line


def chart(lines: Iterable[dict], *, title: str, xlabel: str, percent: bool = False, **more) -> dict:
    """A chart of `series`, as `Charts` takes it.

    Args:
        lines: what `series` made.
        title: above the chart.
        xlabel: below the x axis.
        percent: whether y is a share; the axis then runs from 0 to 100 %.
        more: xlim, ylim, log (y), whole (ticks of x), marks (x, label, and high: at the top), spans
            (from, to, label, colour).
    """
    shares = {"percent": True, "ylim": [-0.02, 1.02]} if percent else {}
    return plain({"series": list(lines), "title": title, "xlabel": xlabel, **shares, **more})


def paragraphs(texts: Iterable[str]) -> str:
    """Lines of text as HTML, escaped."""
    return f"<div class='cv-notes'>{'<br>'.join(map(escape, texts))}</div>"


def table(head: Iterable[str], rows: Iterable[Sequence], *, caption: str = "") -> str:
    """An HTML table, "" without rows; the first cell of each row names it. All text is escaped."""
    rows = list(rows)
    if not rows:
        return ""
    above = f"<div style='font-weight:600;line-height:1.5'>{escape(caption)}</div>"
    names = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    body = ""
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(str(value))}</td>" for value in rest)
        body += f"<tr><th scope='row'>{escape(str(first))}</th>{cells}</tr>"
    whole = f"<table class='cv-table'><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
    return above * bool(caption) + whole
