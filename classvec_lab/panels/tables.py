"""Small HTML tables beside the canvases."""

import math
from collections.abc import Iterable, Sequence
from html import escape


def table(head: Sequence[str], rows: Iterable[Sequence], *, caption: str = "") -> str:
    """An HTML table; the first cell of each row names it. All text is escaped."""
    above = (
        f"<div style='font-weight:600;line-height:1.5'>{escape(caption)}</div>" if caption else ""
    )
    names = "".join(f"<th scope='col'>{escape(h)}</th>" for h in head)
    body = "".join(
        f"<tr><th scope='row'>{escape(str(first))}</th>{''.join(f'<td>{escape(str(v))}</td>' for v in rest)}</tr>"
        for first, *rest in rows
    )
    return f"{above}<table class='cv-table'><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def interval(low: float, high: float, form: str) -> str:
    """The interval in brackets, or a word where there is none."""
    return (
        f"[{low:{form}}, {high:{form}}]" if math.isfinite(low) and math.isfinite(high) else "none"
    )
