"""From a value and its interval to words: every sentence of a report is put together from these."""

from math import isfinite, nan

MAJORITY = 0.5  # the share from which "most" is said, where its interval allows it


def number(value: float, low: float = nan, high: float = nan, form: str = "+.2f") -> str:
    """A number with its interval, where that is known: "+0.12 [+0.08, +0.16]"."""
    ends = f" [{low:{form}}, {high:{form}}]" if isfinite(low) and isfinite(high) else ""
    return f"{value:{form}}{ends}"


def percent(value: float, low: float = nan, high: float = nan, digits: int = 1) -> str:
    """A share with its interval, where that is known: "3.1% [2.0%, 4.5%]"."""
    return number(value, low, high, f".{digits}%")


def points(value: float, low: float = nan, high: float = nan) -> str:
    """A change of a share, signed: "-1.2 points" or "-1.2 [-2.0, -0.4] points"."""
    return f"{number(100 * value, 100 * low, 100 * high, '+z.1f')} points"


def change(low: float, high: float) -> str:
    """What the interval of a change shows: "more", "less", or "no change shown"."""
    return "more" if low > 0 else "less" if high < 0 else "no change shown"


def side(low: float, high: float) -> str:
    """Where the interval of a difference lies beside 0: "below", "above", or "not told from"."""
    said = {"less": "below", "more": "above", "no change shown": "not told from"}
    return said[change(low, high)]


def bound(value: float, low: float, high: float, limit: float) -> str:
    """Where an interval lies beside a limit: "below", "above", or "not told from"."""
    if isfinite(low) and isfinite(high):
        return "below" if high <= limit else "above" if low > limit else "not told from"
    return "below" if value <= limit else "above"


def most(value: float, low: float, high: float) -> str:
    """A share beside a half: "most", "less than half", or "perhaps half" where its interval
    can't tell.
    """
    said = {"above": "most", "below": "less than half", "not told from": "perhaps half"}
    return said[bound(value, low, high, MAJORITY)]


def several(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: "1 class", "3 classes" (many: by default `one` and an s)."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
