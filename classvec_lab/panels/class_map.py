"""`ClassMap`: which cosines a map of classes shows, in which order, and the blocks of very many."""

from functools import cache, cached_property, partial

import numpy as np
import pandas as pd
from traitlets import Float, HasTraits, Tuple, Unicode, validate

from ..diagnostics.orthogonality import ClassCosines
from ..diagnostics.orthogonality.geometry import scalars_of_means
from ..errors import PanelError
from ..words import number
from .base import in_range, one_of
from .ordering import block_starts, class_order

MOST_SHOWN = 500  # classes shown one by one; more are summed up in blocks
HIGHLIGHTS = ("nothing", "differs from 0", "differs from theory")
KINDS = {"cosine": ("κ", "z_ft"), "kappa_cosine": ("κ", "κ"), "mean_cosine": ("z_ft", "z_ft")}
AXES = {"κ": "κ_c", "z_ft": "z_ft^c"}


class ClassMap(HasTraits):
    """The state of a map, see `OrthogonalityPanel`, and what follows from it.

    `begin` gives it its vectors, and what else is known.
    """

    kind = Unicode("cosine")
    centring = Float(0.0)
    order = Unicode("given")
    highlight = Unicode("nothing")
    hidden = Tuple(())
    window = Tuple(())

    def begin(self, vectors, report, classifier, features) -> None:
        """Set what the map is of; once, before any trait is set.

        Args:
            vectors: the class vectors.
            report: their `Orthogonality` with intervals, or None.
            classifier: the fine-tuned one, or None.
            features: its representations, or None.
        """
        self.vectors, self.report, self.features = vectors, report, features
        self.classes = vectors.classes
        self.able = classifier is not None and features is not None
        self.intervals = {} if report is None else report.intervals
        self.blocks = len(vectors) > MOST_SHOWN
        self.starts = block_starts(len(vectors))  # of blocks, among the ordered classes
        self._cosines = ClassCosines(vectors)
        self._order = cache(partial(class_order, vectors, classifier, features, self._cosines))
        self._block_means = cache(self._means_of_blocks)
        self._significant = report and cache(report.significant)
        self._interval = report and cache(report.interval)

    @validate("kind", "centring", "order", "highlight", "hidden", "window")
    def _possible_map(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        n, n_blocks = len(self.classes), len(self.starts)
        if name == "kind":
            return one_of(value, KINDS, name)
        if name == "order":
            self._order(value)  # which says why it can't be
        elif name == "centring":
            in_range(name, value, 0, 1)
            return one_of(value, (0, 1), "centring of blocks") if self.blocks else value
        elif name == "highlight":
            if one_of(value, HIGHLIGHTS, name) != "nothing" and not self.intervals:
                raise PanelError(f"{n:,} classes are shown without intervals: nothing to highlight")
        elif name == "hidden":
            value = tuple(dict.fromkeys(value))
            for one in value:
                one_of(one, self.classes, "class")
            if value and self.blocks:
                raise PanelError(f"{n:,} classes are shown by blocks: single ones can't be hidden")
            if n - len(value) < 2:
                raise PanelError(f"hiding {len(value)} of {n} classes leaves no pair to compare")
        elif value and not self.blocks:
            raise PanelError(f"{n} classes are shown one by one: there are no blocks to open")
        elif value and (len(value) != 2 or not set(value) <= set(range(n_blocks))):
            raise PanelError(f"a window is two blocks of 0 to {n_blocks - 1}, or (); got {value}")
        return value

    def positions(self) -> np.ndarray:
        """Positions of the classes that are not hidden, in order."""
        gone = list(map(self.vectors.index, self.hidden))
        found = self._order(self.order)
        return found[~np.isin(found, gone)]

    def block(self, k: int) -> np.ndarray:
        """Positions of the classes of a block."""
        return np.split(self.positions(), self.starts[1:])[k]

    def blocks_of(self, names) -> tuple[int, ...]:
        """The blocks that hold these classes."""
        place = np.argsort(self.positions())[list(map(self.vectors.index, names))]
        return tuple((np.searchsorted(self.starts, place, side="right") - 1).tolist())

    def overview(self) -> bool:
        """Whether blocks of classes are shown, not classes."""
        return self.blocks and not self.window

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the classes on rows and on columns, where single classes are shown."""
        return tuple(map(self.block, self.window)) if self.window else (self.positions(),) * 2

    def shown(self) -> pd.DataFrame:
        """The values of the map as it shows them; blocks are named by their first class."""
        if self.overview():
            values = self._block_means(self.kind, self.centring, self.order)
            rows = columns = self.positions()[self.starts]
        else:
            rows, columns = self.axes()
            values = self._entries(rows, columns)
        names = np.array(self.classes, dtype=object)
        return pd.DataFrame(values, index=names[rows], columns=names[columns])

    def _means_of_blocks(self, kind, share, order):
        return self._cosines.block_means(kind, self._order(order), self.starts, share=share)

    @property
    def version(self) -> str:
        """The share of centring in words."""
        return {0.0: "raw", 1.0: "centred"}.get(self.centring, f"centred by {self.centring:g}")

    @property
    def family(self) -> str | None:
        """The report's name for what is shown, or None between raw and centred."""
        return {0.0: self.kind, 1.0: f"{self.kind}_centred"}.get(self.centring)

    @property
    def expected(self) -> float | None:
        """The theoretical off-diagonal value of what is shown, None where theory gives none."""
        if self.centring == 1:
            return -1 / (len(self.vectors) - 1)
        known = self.family == "cosine" and np.isfinite(self._expected_raw)
        return self._expected_raw if known else None

    @cached_property
    def _expected_raw(self):
        return scalars_of_means(self.vectors)["expected"]

    def marked(self) -> pd.DataFrame | None:
        """Which entries are highlighted, C × C in the given order; None where none can be."""
        value = {"differs from 0": 0.0, "differs from theory": self.expected}.get(self.highlight)
        known = self.family in self.intervals and value is not None
        return self._significant(self.family, value=value) if known else None

    def interval(self) -> tuple[pd.DataFrame, ...]:
        """(low, high), C × C in the given order of classes; () where there are none."""
        return self._interval(self.family) if self.family in self.intervals else ()

    def value(self, names: tuple[str, str]) -> str:
        """One entry in words: its value, interval, n, and what theory expects."""
        a, b = map(self.vectors.index, names)
        row, column = KINDS[self.kind]
        ends = [end.loc[names] for end in self.interval()]
        value = number(self._entries([a], [b]).item(), *ends, form="+.3f")
        if np.isnan(ends).any():
            value += f" (no interval: {self.intervals[self.family].unresolved[a, b]})"
        theory = "" if self.expected is None or a == b else f"; theory {self.expected:+.3f}"
        n = self.vectors.count
        what = f"cosine of {row}[{names[0]}] and {column}[{names[1]}]"
        return f"{what}: {value}; n = {n[a]} and {n[b]}{theory}"

    def remark(self) -> str:
        """What the map can't show, in words."""
        n, parts = f"{len(self.vectors):,} classes", []
        if self.overview():
            parts.append(
                f"{n} in {len(self.starts)} blocks of neighbours: "
                "double click or Enter opens one, Escape closes it."
            )
        elif self.window:
            parts.append(f"Two blocks of {n}; Escape or “All blocks” goes back.")
        if self.highlight != "nothing" and self.family is None:
            parts.append("Intervals are of raw (0) and centred (1) cosines only: no dots between.")
        elif self.highlight != "nothing" and self.marked() is None:
            parts.append("Theory names no value here: nothing is highlighted.")
        return " ".join(parts)

    def largest(self, rows: np.ndarray, columns: np.ndarray) -> tuple:
        """The two different classes of largest |cosine| among those at these positions, or ()."""
        values = np.abs(self._entries(rows, columns))
        values[np.equal.outer(rows, columns)] = np.nan
        if np.isnan(values).all():
            return ()
        r, c = np.unravel_index(np.nanargmax(values), values.shape)
        return self.classes[rows[r]], self.classes[columns[c]]

    def _entries(self, rows, columns):
        return self._cosines.entries(self.kind, rows, columns, share=self.centring)

    def payload(self) -> dict:
        """The state of a `Matrix`."""
        frame, whole, marked = self.shown(), self.overview(), self.marked()
        row, column = (AXES[side] for side in KINDS[self.kind])
        blocks = "blocks, named by their first class: " * whole
        state = {
            "values": frame,
            "low": b"",
            "high": b"",
            "marked": b"",
            "marked_label": f"{self.highlight}, over all entries at once",
            "mark": self.expected,
            "opens": whole,
            "value_label": "mean cosine" if whole else "cosine",
            "row_names": list(frame.index),
            "column_names": list(frame.columns),
            "row_label": f"{blocks}{row}",
            "column_label": f"{blocks}{column}'",
        }
        if whole:
            return state | {"row_counts": [], "column_counts": []}
        rows, columns = self.axes()
        for name, end in zip(("low", "high"), self.interval(), strict=False):
            state[name] = end.iloc[rows, columns]
        if marked is not None:
            state["marked"] = marked.iloc[rows, columns].to_numpy().astype("u1").tobytes()
        for side, chosen in (("row", rows), ("column", columns)):
            state[f"{side}_counts"] = self.vectors.count[chosen].tolist()
        return state
