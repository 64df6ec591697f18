"""`ClassMap`: which cosines a map of classes shows, in which order, and how very many classes are summed up in blocks."""

from functools import cached_property

import numpy as np
import pandas as pd
import traitlets as t

from ..diagnostics.orthogonality import ClassCosines
from ..diagnostics.orthogonality.cosines import KINDS
from ..errors import MismatchError, PanelError
from .base import require_choice
from .canvas import packed
from .ordering import ORDERS, block_starts, class_order

MOST_SHOWN = 500  # classes shown one by one; more are summed up in blocks
HIGHLIGHTS = ("nothing", "differs from 0", "differs from theory")
SYMBOLS = {"cosine": ("κ", "z_ft"), "kappa_cosine": ("κ", "κ"), "mean_cosine": ("z_ft", "z_ft")}
AXES = {
    "cosine": ("κ_c", "z_ft^c'"),
    "kappa_cosine": ("κ_c", "κ_c'"),
    "mean_cosine": ("z_ft^c", "z_ft^c'"),
}


class ClassMap(t.HasTraits):
    """The state of a map: kind, centring, order, highlight, hidden and window, see `OrthogonalityPanel`; and what follows.

    `begin` gives it its vectors, and what else is known: a report with intervals, a classifier and the fine-tuned features.
    """

    kind = t.Unicode("cosine")
    centring = t.Float(0.0)
    order = t.Unicode("given")
    highlight = t.Unicode("nothing")
    hidden = t.Tuple(())
    window = t.Tuple(())

    def begin(self, vectors, report, classifier, features) -> None:
        """Set what the map is of; once, before any trait is set."""
        self.vectors, self.report, self.classifier, self.features = (
            vectors,
            report,
            classifier,
            features,
        )
        self.cosines = ClassCosines(vectors)
        self.blocks = len(vectors) > MOST_SHOWN
        self._orders: dict[str, np.ndarray] = {}
        self._means: dict[tuple, np.ndarray] = {}
        self._ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._significant: dict[tuple, np.ndarray] = {}

    @t.validate("kind", "order", "highlight")
    def _known(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        require_choice(
            name, value, {"kind": tuple(KINDS), "order": ORDERS, "highlight": HIGHLIGHTS}[name]
        )
        if (
            name == "order"
            and value == "accuracy"
            and (self.classifier is None or self.features is None)
        ):
            raise PanelError(
                "ordering by accuracy needs a classifier and its features: give the panel classifier= and features="
            )
        if name == "highlight" and value != "nothing" and self.report is None:
            raise PanelError(
                f"{len(self.vectors):,} classes are shown without intervals: there is nothing to highlight"
            )
        return value

    @t.validate("centring")
    def _in_range(self, proposal):
        value = proposal["value"]
        if not 0 <= value <= 1:
            raise PanelError(f"centring lies between 0 (raw) and 1 (centred); got {value:g}")
        if self.blocks and value not in (0, 1):
            raise PanelError(f"blocks of classes are raw (0) or centred (1); got {value:g}")
        return value

    @t.validate("hidden")
    def _some_left(self, proposal):
        names = tuple(dict.fromkeys(proposal["value"]))
        for name in names:
            self.require_class(name)
        if names and self.blocks:
            raise PanelError(
                f"{len(self.vectors):,} classes are shown by blocks: single ones can't be hidden"
            )
        if len(self.vectors) - len(names) < 2:
            raise PanelError(
                f"hiding {len(names)} of {len(self.vectors)} classes leaves no pair to compare"
            )
        return names

    @t.validate("window")
    def _a_window(self, proposal):
        value = tuple(proposal["value"])
        n = len(self.starts)
        if value and not self.blocks:
            raise PanelError(
                f"{len(self.vectors)} classes are shown one by one: there are no blocks to open"
            )
        if value and (len(value) != 2 or not all(isinstance(b, int) and 0 <= b < n for b in value)):
            raise PanelError(f"a window is two blocks of 0 to {n - 1}, or () for all; got {value}")
        return value

    def require_class(self, name: str) -> None:
        """Raise PanelError, listing what there is, for a class that isn't known."""
        try:
            self.vectors.index(name)
        except MismatchError as error:
            raise PanelError(str(error)) from None

    @cached_property
    def starts(self) -> np.ndarray:
        """Where blocks begin among the ordered classes."""
        return block_starts(len(self.vectors))

    def positions(self) -> np.ndarray:
        """Positions of the classes that are not hidden, in order."""
        if self.order not in self._orders:
            given = {"classifier": self.classifier, "features": self.features}
            self._orders[self.order] = class_order(self.order, self.vectors, self.cosines, **given)
        found = self._orders[self.order]
        gone = {self.vectors.index(name) for name in self.hidden}
        return np.array([i for i in found if i not in gone]) if gone else found

    def block(self, k: int) -> np.ndarray:
        """Positions of the classes of a block."""
        ends = np.append(self.starts, len(self.vectors))
        return self.positions()[ends[k] : ends[k + 1]]

    def blocks_of(self, names) -> tuple[int, ...]:
        """The blocks that hold these classes."""
        place = np.empty(len(self.vectors), dtype=int)
        place[self.positions()] = np.arange(len(self.vectors))
        return tuple(
            int(np.searchsorted(self.starts, place[self.vectors.index(n)], side="right")) - 1
            for n in names
        )

    def overview(self) -> bool:
        """Whether blocks of classes are shown, not classes."""
        return self.blocks and not self.window

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the classes on rows and on columns, where single classes are shown."""
        return tuple(self.block(b) for b in self.window) if self.window else (self.positions(),) * 2

    def shown(self) -> pd.DataFrame:
        """The values of the map, rows and columns in the order shown; blocks are named by their first class."""
        names = np.asarray(self.vectors.classes, dtype=object)
        if self.overview():
            key = (self.kind, self.centring, self.order)
            if key not in self._means:
                self._means[key] = self.cosines.block_means(
                    self.kind, self.positions(), self.starts, share=self.centring
                )
            first = names[self.positions()[self.starts]]
            return pd.DataFrame(self._means[key], index=first, columns=first)
        rows, columns = self.axes()
        return pd.DataFrame(self._entries(rows, columns), index=names[rows], columns=names[columns])

    @property
    def family(self) -> str | None:
        """The report's name for what is shown ("cosine_centred", …), or None between raw and centred."""
        return {0.0: self.kind, 1.0: f"{self.kind}_centred"}.get(self.centring)

    @property
    def expected(self) -> float | None:
        """The theoretical off-diagonal value of what is shown, None where theory gives none."""
        if self.centring == 1:
            return -1 / (len(self.vectors) - 1)
        known = self.kind == "cosine" and self.centring == 0 and np.isfinite(self._expected_raw)
        return self._expected_raw if known else None

    @cached_property
    def _expected_raw(self) -> float:
        from ..diagnostics.orthogonality.geometry import scalars_of_means

        return float(
            self.report.expected
            if self.report is not None
            else scalars_of_means(self.vectors)["expected"]
        )

    def marked(self) -> pd.DataFrame | None:
        """Which entries are highlighted, C × C in the given order of classes; None where nothing can be said."""
        if self.report is None or self.highlight == "nothing" or self.family is None:
            return None
        value = 0.0 if self.highlight == "differs from 0" else self.expected
        if value is None:
            return None
        key = self.family, value
        if key not in self._significant:
            self._significant[key] = self.report.significant(self.family, value=value)
        return self._significant[key]

    def interval(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(low, high), C × C in the given order of classes; None where there are none."""
        if self.report is None or self.family not in self.report.intervals:
            return None
        if self.family not in self._ends:
            self._ends[self.family] = tuple(
                end.to_numpy() for end in self.report.interval(self.family)
            )
        return self._ends[self.family]

    def value(self, names: tuple[str, str]) -> str:
        """One entry in words: its value, interval, n, and what theory expects."""
        a, b = (self.vectors.index(name) for name in names)
        row, column = SYMBOLS[self.kind]
        value = self._entries(np.array([a]), np.array([b]))[0, 0]
        text = f"cosine of {row}[{names[0]}] and {column}[{names[1]}]: {value:+.3f}"
        if (ends := self.interval()) is not None:
            low, high = ends[0][a, b], ends[1][a, b]
            reason = self.report.intervals[self.family].unresolved[a, b]
            text += (
                f" [{low:+.3f}, {high:+.3f}]" if np.isfinite(low) else f" (no interval: {reason})"
            )
        text += f"; n = {self.vectors.count[a]} and {self.vectors.count[b]}"
        return text + (
            f"; theory {self.expected:+.3f}" if self.expected is not None and a != b else ""
        )

    def largest(self, rows: np.ndarray, columns: np.ndarray) -> tuple:
        """Names of the pair of different classes of largest |cosine| among those at these positions; () for none."""
        values = np.abs(self._entries(rows, columns))
        values[rows[:, None] == columns[None, :]] = np.nan
        if not np.isfinite(values).any():
            return ()
        r, c = np.unravel_index(np.nanargmax(values), values.shape)
        return self.vectors.classes[rows[r]], self.vectors.classes[columns[c]]

    def _entries(self, rows, columns) -> np.ndarray:
        return self.cosines.entries(self.kind, rows, columns, share=self.centring)

    def fill(self, canvas) -> None:
        """Put the map into a `Matrix`, in one message."""
        frame = self.shown()
        rows, columns = ((), ()) if self.overview() else self.axes()
        grid, ends, marked = np.ix_(rows, columns), self.interval(), self.marked()
        blocks = "blocks, named by their first class: " if self.overview() else ""
        with canvas.hold_sync():
            canvas.row_names, canvas.column_names = (
                [str(i) for i in frame.index],
                [str(c) for c in frame.columns],
            )
            canvas.values = packed(frame.to_numpy())
            canvas.low, canvas.high = (
                (b"", b"") if ends is None else (packed(end[grid]) for end in ends)
            )
            canvas.marked = (
                b"" if marked is None else marked.to_numpy()[grid].astype(np.uint8).tobytes()
            )
            canvas.marked_label = f"{self.highlight}, over all entries at once"
            canvas.no_interval = (
                "no interval" if self.report is not None and self.report.intervals else ""
            )
            canvas.row_counts, canvas.column_counts = (
                [int(self.vectors.count[i]) for i in side] for side in (rows, columns)
            )
            canvas.mark = self.expected
            canvas.row_label, canvas.column_label = (blocks + name for name in AXES[self.kind])
            canvas.value_label = "mean cosine" if self.overview() else "cosine"
            canvas.opens = self.overview()
