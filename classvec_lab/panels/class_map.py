"""`ClassMap`: which cosines a map of classes shows, in which order, and the blocks of very many."""

import re
from functools import cache, partial

import numpy as np
import pandas as pd
from traitlets import Float, HasTraits, Tuple, Unicode, validate

from ..diagnostics.orthogonality import ClassCosines
from ..diagnostics.orthogonality.geometry import scalars_of_means
from ..errors import PanelError
from ..plots import cluster_order
from ..plots.matrices import CHANCE
from ..readout import predict
from ..statistics import accuracy
from ..words import number
from .base import in_range, one_of

ORDERS = ("given", "name", "accuracy", "cluster")
MOST_LINKED = 1_000  # classes that are clustered hierarchically; more are grouped by k-means
MOST_SHOWN = 500  # classes shown one by one; more are summed up in blocks
HIGHLIGHTS = ("nothing", "differs from 0", "differs from an ETF")
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
    limit = Float(0.5)
    selected = Tuple(())
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
        self.vectors, self.classes = vectors, vectors.classes
        self.able = classifier is not None and features is not None
        self.intervals = report.intervals if report else {}
        self.blocks = len(vectors) > MOST_SHOWN
        self.starts = block_starts(len(vectors))  # of blocks, among the ordered classes
        self._cosines = ClassCosines(vectors)
        self._order = cache(partial(class_order, vectors, classifier, features, self._cosines))
        self._block_means = cache(
            lambda kind, share, order: self._cosines.block_means(
                kind, self._order(order), self.starts, share=share
            )
        )
        expected = scalars_of_means(vectors)["expected"]
        self._expected = expected if np.isfinite(expected) else None  # of raw cosines
        self._significant = report and cache(report.significant)
        self._interval = report and cache(report.interval)
        self._chance = report and cache(report.chance)

    @validate("kind", "centring", "order", "highlight", "limit", "selected", "hidden", "window")
    def _possible(self, proposal):
        name, value = proposal.trait.name, proposal.value
        n, n_blocks = len(self.classes), len(self.starts) * self.blocks
        match name:
            case "kind":
                one_of(value, KINDS, name)
            case "order":
                self._order(value)  # which says why it can't be
                self.window = ()  # its blocks are of another order
            case "centring" if self.blocks:
                one_of(value, (0, 1), "centring of blocks")
            case "centring":
                in_range(name, value, 0, 1)
            case "highlight":
                if one_of(value, HIGHLIGHTS, name) != "nothing" and not self.intervals:
                    raise PanelError("there are no intervals here: nothing to highlight")
            case "limit":
                in_range(name, value, 0, 1, open_low=True)
            case "selected":
                for one in value:
                    if one_of(one, self.classes, "class") in self.hidden:
                        raise PanelError(f"class {one!r} is hidden: take it out of hidden first")
                if len(value) not in (0, 2):
                    raise PanelError(f"a cell is two classes, (row, column), or (); got {value}")
            case "hidden":
                for one in value:
                    one_of(one, self.classes, "class")
                most = 0 if self.blocks else n - 2
                in_range("the number of hidden classes, 0 beside blocks,", len(value), 0, most)
                if set(value) & set(self.selected):
                    self.selected = ()
            case "window":
                if value and (len(value) != 2 or not set(value) <= set(range(n_blocks))):
                    raise PanelError(
                        f"a window is two of {n_blocks} blocks, counted from 0, or (); got {value}"
                    )
        return value

    def positions(self) -> np.ndarray:
        """Positions of the classes that are not hidden, in order."""
        found = self._order(self.order)
        return found[~np.isin(found, list(map(self.vectors.index, self.hidden)))]

    def block(self, k: int) -> np.ndarray:
        """Positions of the classes of a block."""
        return np.split(self.positions(), self.starts[1:])[k]

    def blocks_of(self, names) -> tuple[int, ...]:
        """The blocks that hold these classes."""
        place = np.argsort(self.positions())[list(map(self.vectors.index, names))]
        return tuple((np.digitize(place, self.starts) - 1).tolist())

    def overview(self) -> bool:
        """Whether blocks of classes are shown, not classes."""
        return self.blocks and not self.window

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions on rows and columns of the classes, or of the first class of each block."""
        if self.window:
            return tuple(map(self.block, self.window))
        shown = self.positions()
        return (shown[self.starts] if self.blocks else shown,) * 2

    def shown(self) -> pd.DataFrame:
        """The values of the map as it shows them; blocks are named by their first class."""
        rows, columns = self.axes()
        if self.overview():
            values = self._block_means(self.kind, self.centring, self.order)
        else:
            values = self._entries(rows, columns)
        names = np.array(self.classes, dtype=object)
        return pd.DataFrame(values, index=names[rows], columns=names[columns])

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
        """Every off-diagonal value of an exact simplex ETF, and the mean that centring forces.

        None where there is none.
        """
        if self.centring == 1:
            return -1 / (len(self.vectors) - 1)
        return self._expected if self.family == "cosine" else None

    @property
    def marks(self) -> list[float]:
        """What the colour bar shows: the ends of 95 % of random directions, else `expected`."""
        ends = self._chance(self.family) if self._chance and self.family else ()
        return list(ends) if ends or self.expected is None else [self.expected]

    def marked(self) -> pd.DataFrame | None:
        """Which entries are highlighted, C × C in the given order; None where none can be."""
        value = {HIGHLIGHTS[1]: 0.0, HIGHLIGHTS[2]: self.expected}.get(self.highlight)
        known = self.family in self.intervals and value is not None
        return self._significant(self.family, value=value) if known else None

    def interval(self) -> list[pd.DataFrame]:
        """[low, high], C × C in the given order of classes; [] where there are none."""
        return self._interval(self.family) if self.family in self.intervals else []

    def value(self, names: tuple[str, str]) -> str:
        """One entry in words: its value, the one free of noise with its interval, n, an ETF's."""
        a, b = map(self.vectors.index, names)
        ends = [end.loc[names] for end in self.interval()]
        value = f"{self._entries([a], [b]).item():+.3f}"
        if np.isnan(ends).any():
            value += f" (no interval: {self.intervals[self.family].unresolved[a, b]})"
        elif ends:
            free = self.intervals[self.family].cosine[a, b]
            value += f", free of noise {number(free, *ends, form='+.3f')}"
        etf = "" if self.expected is None or a == b else f"; an exact ETF's {self.expected:+.3f}"
        what = " and ".join(map("{}[{}]".format, KINDS[self.kind], names))
        n = f"n = {self.vectors.count[a]} and {self.vectors.count[b]}"
        return f"cosine of {what}: {value}; {n}{etf}"

    def remark(self) -> str:
        """What the map can't show, in words."""
        n, blocks, dots = f"{len(self.vectors):,} classes", "", ""
        if self.overview():
            blocks = (
                f"{n} in {len(self.starts)} blocks of neighbours: "
                "double click or Enter opens one, Escape closes it."
            )
        elif self.window:
            blocks = f"Two blocks of {n}; Escape or “All blocks” goes back."
        if self.highlight != "nothing" and self.marked() is None:
            dots = "An ETF fixes no value here: nothing is highlighted."
            if self.family is None:
                dots = "Intervals are of raw (0) and centred (1) cosines only: no dots between."
        return f"{blocks} {dots}".strip()

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
        places, marks = self.axes(), self.marks
        low, high = [end.iloc[places] for end in self.interval()] or (b"", b"")
        known = self.intervals.get(self.family)
        row, column = (
            "blocks, named by their first class: " * whole + AXES[side] for side in KINDS[self.kind]
        )
        rows, columns = ([] if whole else self.vectors.count[place].tolist() for place in places)
        return {
            "values": frame,
            "estimates": known.cosine[np.ix_(*places)] if known else b"",
            "low": low,
            "high": high,
            "marked": b"" if marked is None else marked.iloc[places].to_numpy("u1").tobytes(),
            "marked_label": f"{self.highlight}, over all entries at once",
            "marks": marks,
            "marks_label": CHANCE.format(*marks) if len(marks) > 1 else "forced mean",
            "opens": whole,
            "value_label": "mean cosine" if whole else "cosine",
            "row_names": list(frame.index),
            "column_names": list(frame.columns),
            "row_label": row,
            "column_label": f"{column}'",
            "row_counts": rows,
            "column_counts": columns,
        }


def class_order(vectors, classifier, features, cosines: ClassCosines, how: str) -> np.ndarray:
    """Positions (C,) of the classes in the order asked for.

    Args:
        vectors: the class vectors.
        classifier: the fine-tuned one, or None; "accuracy" needs it.
        features: its representations, or None; "accuracy" needs them.
        cosines: of the vectors.
        how: "given"; "name", alphabetical, numbers by value; "accuracy", lowest first, classes
            without samples last; "cluster", neighbours have like rows of cosines (hierarchically up
            to 1,000 classes, else by k-means of the fine-tuned means).
    Raises:
        PanelError: for another order, or accuracy without a classifier and features.
    """
    if one_of(how, ORDERS, "order") == "name":
        split = [re.split(r"(\d+)", name.casefold()) for name in vectors.classes]
        keys = [[int(p) if k % 2 else p for k, p in enumerate(parts)] for parts in split]
        return np.array(sorted(range(len(keys)), key=keys.__getitem__))
    if how == "accuracy":
        if classifier is None or features is None:
            raise PanelError(
                "ordering by accuracy needs a classifier and its features: "
                "give the panel classifier= and features="
            )
        table = accuracy(predict(classifier, features), features.y, features.classes)
        return np.argsort(table["accuracy"].to_numpy()[:-1], kind="stable")
    if how == "given":
        return np.arange(len(vectors))
    if len(vectors) <= MOST_LINKED:
        frame = cosines.frame()
        return frame.index.get_indexer(cluster_order(frame))
    from sklearn.cluster import BisectingKMeans
    from sklearn.preprocessing import normalize

    # groups are split in two again and again, so that neighbours share most of the splits
    groups = BisectingKMeans(len(block_starts(len(vectors))), max_iter=20, random_state=0)
    return np.argsort(groups.fit_predict(normalize(vectors.z_ft.astype("f4"))), kind="stable")


def block_starts(n: int) -> np.ndarray:
    """Where the blocks of n classes begin: about √n blocks of about √n neighbours each."""
    n_blocks = int(np.ceil(np.sqrt(n)))
    return np.arange(n_blocks) * n // n_blocks
