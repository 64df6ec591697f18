"""What goes to the browser: JSON without NaN, colours, thumbnails, charts, tables."""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

import numpy as np
from matplotlib import colormaps

MOST_IMAGES = 24  # of a group


def plain(value):
    """Numbers, arrays, lists and dicts as JSON has them; NaN and infinities become None."""
    text = json.dumps(value, default=lambda array: array.tolist())
    return json.loads(text, parse_constant=lambda _: None)


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


def series(rows: Mapping, columns: Sequence[str], name: str, colour: str, dash=(), **look) -> dict:
    """One line of a chart.

    Args:
        rows: a frame or mapping of columns.
        columns: x, y and, for a band, its low and high ends.
        name: what the legend and the tooltip call it.
        colour: of the theme ("accent", "contrast", "muted", "green", "violet", "ink"), or of CSS.
        dash: lengths of dashes and gaps, () for a solid line.
        look: dots, whether each point has one; width, of the line in pixels; legend, False leaves
            the name to the tooltip.
    """
    values = zip(("x", "y", "low", "high"), (rows[c] for c in columns), strict=False)
    return {"name": name, "colour": colour, "dash": dash, **look, **dict(values)}


def chart(title: str, xlabel: str, lines: list[dict], *, percent: bool = False, **more) -> dict:
    """A chart of `series`, as `Charts` takes it.

    Args:
        title: above the chart.
        xlabel: below the x axis.
        lines: what `series` made.
        percent: whether y is a share; the axis then runs from 0 to 100 %.
        more: xlim, ylim, log (y), whole (ticks of x), marks (x, label, and high: at the top), spans
            (from, to, label, colour).
    """
    shares = {"percent": True, "ylim": [-0.02, 1.02]} if percent else {}
    return plain({"series": lines, "title": title, "xlabel": xlabel, **shares, **more})


def group(title: str, rows: np.ndarray, item: Callable) -> dict:
    """A group of a `Gallery`: `item(row)` for the first 24 of some rows."""
    more = f", the first {MOST_IMAGES}" * (len(rows) > MOST_IMAGES)
    items = list(map(item, rows[:MOST_IMAGES].tolist()))
    return {"title": f"{title}{more}", "items": items}


def paragraphs(texts: Iterable[str]) -> str:
    """Lines of text as HTML, escaped."""
    return f"<div class='cv-notes'>{'<br>'.join(map(escape, texts))}</div>"


def table(head: Iterable[str], rows: list[Iterable], *, caption: str = "") -> str:
    """An HTML table, "" without rows; the first cell of each row names it. All text is escaped."""
    if not rows:
        return ""
    names = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    body = ""
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(str(value))}</td>" for value in rest)
        body += f"<tr><th scope='row'>{escape(str(first))}</th>{cells}</tr>"
    whole = f"<table class='cv-table'><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
    above = f"<div style='font-weight:600;line-height:1.5'>{escape(caption)}</div>"
    return above * bool(caption) + whole
