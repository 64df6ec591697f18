"""What the edit panel shows of a `LiveReadout` and its curves: charts, table, bars, thumbnails."""

import numpy as np
import pandas as pd

from ..editing import LiveReadout
from ..plots.live import most_changed
from ..words import percent, points
from .payload import chart, group, paragraphs, series, table
from .terms import EditTerm

MOST_BARS = 60
HEAD = (
    "class",
    "n",
    "before",
    "after [95 %]",
    "change [95 %]",
    "random direction",
    "mostly called now",
)


def gate_chart(curve: pd.DataFrame, term: EditTerm) -> dict:
    """Hits and false fires of a term's gate over γ, from `gate_curve`."""
    curve = curve.assign(hits=1 - curve["miss"])
    lines = [
        series(curve, ("threshold", "hits"), f"fires on {term.class_name}", "accent"),
        series(curve, ("threshold", "false_fire"), "false fires, all others", "contrast"),
        series(curve, ("threshold", "worst"), "worst other class", "contrast", (4, 3)),
    ]
    return chart(f"gate: {term.gate}", "threshold γ", lines, percent=True)


def strength_chart(curve: pd.DataFrame, term: EditTerm) -> dict:
    """ACC_f and ACC_r over a term's strength, from `LiveEdits.strengths`."""
    looks = {
        "acc_f": (f"ACC_f ({term.class_name})", "contrast"),
        "acc_r": ("ACC_r (not edited)", "accent"),
    }
    lines = [
        series(curve, ("factor", y, f"{y}_low", f"{y}_high"), *look) for y, look in looks.items()
    ]
    marks = [{"x": 1.0, "label": "λ = 1"}]
    return chart(
        f"{term.action} {term.class_name}", "strength |λ|", lines, percent=True, marks=marks
    )


def effect_table(readout: LiveReadout, *said: str) -> str:
    """What edits do as HTML: ACC_f of each edited class, ACC_r, where gates fire, and notes."""
    rows = []
    for row in readout.table().rename(columns={"class": "name"}).itertuples():
        kind = "ACC_r" if row.name == "all others" else "ACC_f"
        after = percent(row.after, row.low, row.high)
        change = points(row.change, row.change_low, row.change_high)
        random = "" if np.isnan(row.random) else percent(row.random)
        called = f"{row.called} ({row.called_share:.0%})" if row.called else ""
        first = f"{row.name} ({kind})", row.n, percent(row.before)
        rows.append((*first, after, change, random, called))
    notes = [
        f"gate for {row.target}: fires on {row.fires:.1%} of the class and {row.false_fires:.2%} "
        f"of the others (worst: {row.worst_class}, {row.worst_fires:.1%})"
        for row in readout.fires().itertuples()
    ]
    return table(HEAD, rows) + paragraphs([*notes, *said])


def class_bars(readout: LiveReadout) -> dict:
    """The state of `Bars`: of more than 60 classes those edited and those that changed most."""
    frame = most_changed(readout.per_class(), readout.targets, MOST_BARS)
    return {
        "names": frame["class"].tolist(),
        "counts": frame["n"].tolist(),
        "before": frame["before"],
        "after": frame["after"],
        "edited": np.flatnonzero(frame["class"].isin(readout.targets)).tolist(),
    }


def changed_images(readout: LiveReadout, said: str = "images whose prediction changed") -> dict:
    """A group of a `Gallery`: the first images whose prediction changed, as its title says."""

    def item(i):
        of = readout.y, readout.before, readout.after
        label, before, after = (readout.classes[classes[i]] for classes in of)
        move, tone = f"{before} → {after}", {after: "good", before: "bad"}.get(label, "")
        title = f"no. {i}, labelled {label}: {move}"
        return {"key": i, "caption": move, "title": title, "tone": tone}

    title = f"{len(readout.changed):,} {said} (red frame: it was right)"
    return group(title, readout.changed, item)
