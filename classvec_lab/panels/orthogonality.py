"""The orthogonality panel: every cosine between classes, and what lies behind the one that is selected."""

import ipywidgets as w
import numpy as np
import traitlets as t

from ..diagnostics.orthogonality import orthogonality
from ..errors import MismatchError, PanelError
from ..plots.style import DIVERGING
from .base import Panel
from .canvas import Matrix, colour_table
from .class_map import AXES, MOST_SHOWN, ClassMap
from .map_controls import map_controls
from .pair_view import PairView

MOST_MATCHES = 40  # names that a search lists


class OrthogonalityPanel(Panel, ClassMap):
    """Cosines between classes as a live heat map; a click on a cell shows the two classes side by side.

    vectors: the class vectors; report: their `Orthogonality` (made here where it isn't given and there are at
    most 500 classes; it brings intervals); features: the pair (pre, ft) behind the vectors; classifier: the
    fine-tuned one; dataset: the images of the features. What isn't given isn't shown. Above 500 classes the map shows
    blocks of classes; a double click or Enter opens one.

    Traits. kind: "cosine" (κ, z_ft), "kappa_cosine" or "mean_cosine"; centring: share of the mean over classes taken off both
    sides, 0 raw, 1 centred; order: "given", "name", "accuracy", "cluster"; highlight: "nothing", "differs from 0",
    "differs from theory"; limit: end of the colours, in (0, 1]; selected: the names (row, column), or (); hidden: names of
    classes left out; search: part of a name; window: the two blocks that are open, or ().
    """

    title = "Orthogonality: is each class vector orthogonal to the other classes?"
    limit = t.Float(0.5)
    selected = t.Tuple(())
    search = t.Unicode("")

    def __init__(
        self,
        vectors,
        *,
        report=None,
        features=None,
        classifier=None,
        dataset=None,
        order="given",
        folder="",
    ):
        super().__init__(folder=folder)
        if len(vectors) < 2:
            raise PanelError(
                f"the orthogonality panel compares classes; these class vectors hold {len(vectors)}"
            )
        if report is not None and tuple(report.cosine.index) != vectors.classes:
            raise MismatchError(
                "the report and the class vectors name different classes: make the report from these vectors"
            )
        if report is None and len(vectors) <= MOST_SHOWN:
            report = orthogonality(vectors, features=features)
        self.begin(vectors, report, classifier, None if features is None else features[1])
        self.order = order
        self.highlight = "differs from 0" if report is not None and report.intervals else "nothing"
        self.map = Matrix(
            label="heat map of cosines; arrow keys move the selected cell, + and - zoom, Shift with arrows pans, 0 shows all",
            palette=colour_table(DIVERGING),
            layout=w.Layout(flex="1 1 430px", min_width="320px", max_width="680px"),
        )
        self.map.opened, self.map.backed = self._open, self.back
        self.map.observe(self._clicked, "selected")
        self.pair = PairView(vectors, self.features, classifier, dataset)
        self.found = w.Dropdown(options=[], layout=w.Layout(width="170px", display="none"))
        body = w.HBox(
            [self.map, self.pair.view],
            layout=w.Layout(flex_flow="row wrap", align_items="flex-start"),
        )
        self.lay_out(map_controls(self), body)
        t.dlink((self, "limit"), (self.map, "limit"))
        self.observe(self._refresh, ["kind", "centring", "order", "highlight", "hidden", "window"])
        self.observe(self._show_selected, "selected")
        self.observe(self._search, "search")
        self.observe(lambda _: self._write_code(), "limit")
        if self.blocks:  # means of blocks are small
            self.limit = float(np.clip(np.ceil(20 * np.nanmax(np.abs(self.shown()))) / 20, 0.05, 1))
        self._refresh()
        if not self.blocks:
            self.selected = self.largest(*self.axes())

    @t.validate("limit")
    def _a_limit(self, proposal):
        if not 0 < proposal["value"] <= 1:
            raise PanelError(f"limit lies between 0 and 1 and is not 0; got {proposal['value']:g}")
        return proposal["value"]

    @t.validate("selected")
    def _a_pair(self, proposal):
        names = tuple(proposal["value"])
        if names and len(names) != 2:
            raise PanelError(f"a cell is two classes, (row, column), or () for none; got {names}")
        for name in names:
            self.require_class(name)
            if name in self.hidden:
                raise PanelError(f"class {name!r} is hidden: take it out of hidden to select it")
        return names

    # what is shown

    def _refresh(self, change=None) -> None:
        if change is not None and change["name"] == "order" and self.window:
            self.window = ()  # its blocks are of another order; this refreshes
            return
        if set(self.selected) & set(self.hidden):
            self.selected = ()
        self.fill(self.map)
        self._place_selection()
        self.pair.say(self._headline())
        self._say_state()
        self._write_code()

    def _place_selection(self) -> None:
        place = []
        if self.selected and self.overview():
            place = list(self.blocks_of(self.selected))
        elif self.selected:
            where = [
                np.flatnonzero(side == self.vectors.index(n))
                for side, n in zip(self.axes(), self.selected, strict=True)
            ]
            place = [int(found[0]) for found in where] if all(map(len, where)) else []
        if self.map.selected != place:
            self.map.selected = place

    def _say_state(self) -> None:
        n, parts = len(self.vectors), []
        if self.overview():
            parts.append(
                f"{n:,} classes in {len(self.starts)} blocks of neighbours: double click or Enter opens one, Escape closes it."
            )
        elif self.window:
            parts.append(f"Two blocks of {n:,} classes; Escape or “All blocks” goes back.")
        if self.highlight != "nothing" and self.family is None:
            parts.append(
                "Intervals are of raw (0) and centred (1) cosines only: no dots in between."
            )
        elif self.highlight != "nothing" and self.marked() is None:
            parts.append("Theory names no value here: nothing is highlighted.")
        self.say(" ".join(parts))

    def _headline(self) -> str:
        return (
            self.value(self.selected) if self.selected else "Select a cell to see its two classes."
        )

    # what is selected

    def _clicked(self, change) -> None:
        place = change["new"]
        if len(place) != 2:
            return
        if self.overview():
            if not self.selected or list(self.blocks_of(self.selected)) != list(place):
                self.selected = self.largest(self.block(place[0]), self.block(place[1]))
            return
        rows, columns = self.axes()
        if place[0] < len(rows) and place[1] < len(columns):
            self.selected = (
                self.vectors.classes[rows[place[0]]],
                self.vectors.classes[columns[place[1]]],
            )

    def _show_selected(self, _=None) -> None:
        self._place_selection()
        self.pair.say(self._headline())
        self.guarded(self.pair.show, self.selected)
        self._write_code()

    def _open(self, row: int, column: int) -> None:
        if self.overview():
            self.window = (row, column)

    def back(self) -> None:
        """From an open block to all blocks."""
        if self.window:
            self.window = ()

    # search

    def matches(self) -> list[str]:
        """At most 40 class names that the search finds: those that begin with it, shortest first, then those that hold it."""
        text = self.search.casefold().strip()
        if not text:
            return []
        names = [(n.casefold(), n) for n in self.vectors.classes if n not in self.hidden]
        begin = sorted((n for low, n in names if low.startswith(text)), key=len)[:MOST_MATCHES]
        return (
            begin
            + [n for low, n in names if text in low and not low.startswith(text)][
                : MOST_MATCHES - len(begin)
            ]
        )

    def go_to(self, name: str) -> None:
        """Select a class together with the class of largest |cosine| to it; among blocks, open those where the two meet."""
        self.require_class(name)
        pair = self.largest(np.array([self.vectors.index(name)]), self.positions())
        if not pair:
            raise PanelError(f"class {name!r} has no direction: its vector has length zero")
        if self.blocks:
            self.window = self.blocks_of(pair)
        self.selected = pair

    def _search(self, _=None) -> None:
        found = self.matches()
        self.found.options = found
        self.found.value = found[0] if found else None
        self.found.layout.display = "flex" if found else "none"
        if self.search.strip() and not found:
            self.say(f"no class {self.search!r} among {len(self.vectors):,}", problem=True)

    # what is left behind

    def draw(self):
        """The map as `plots.heatmap` draws it."""
        import matplotlib.pyplot as plt

        from .. import plots

        frame = self.shown()
        marked = None if self.blocks else self.marked()
        side = float(np.clip(1.8 + 0.42 * min(*frame.shape), 4.2, 11))
        ax = plt.subplots(figsize=(side + 1, side))[1]
        version = {0.0: "raw", 1.0: "centred"}.get(
            self.centring, f"{self.centring:.0%} of the mean taken off"
        )
        row, column = AXES[self.kind]
        title = f"cos({row}, {column}), {version}"
        plots.heatmap(
            frame,
            ax=ax,
            limit=self.limit,
            mark=self.expected,
            marked=marked,
            label=self.map.value_label,
            title=title,
        )
        return ax.figure

    def stem(self) -> str:
        """Named by family and share of centring."""
        version = {0.0: "raw", 1.0: "centred"}.get(self.centring, f"centred_{self.centring:g}")
        return f"orthogonality_{self.kind}_{version}"

    def _write_code(self) -> None:
        lines = ["vectors = ClassVectors.from_features(pre_features, ft_features)"]
        made = self.blocks or self.family is None
        needs = ["from classvec_lab import ClassVectors, orthogonality, plots"]
        needs += ["from classvec_lab.diagnostics.orthogonality import ClassCosines"] if made else []
        if self.blocks:
            more = self._code_of_blocks()
        else:
            more = self._code_between() if made else self._code_of_report()
        if len(set(self.selected)) == 2 and self.pair.able:
            needs.append("from classvec_lab.diagnostics.linearity import class_pair")
            more.append(
                f"pair = class_pair(ft, ft_features, vectors, {self.selected[0]!r}, {self.selected[1]!r})"
            )
        self.code = "\n".join([*needs, "", *lines, *more])

    def _named(self) -> str:
        """The order of the classes shown as an argument, where it isn't the given one."""
        order = list(self.map.row_names)
        return "" if order == list(self.vectors.classes) else f", order={order!r}"

    def _code_of_report(self) -> list[str]:
        mark = "" if self.expected is None else f", mark={self.expected!r}"
        value = "" if self.highlight != "differs from theory" else f", value={self.expected!r}"
        marked = (
            "" if self.marked() is None else f", marked=report.significant({self.family!r}{value})"
        )
        return [
            "report = orthogonality(vectors, features=(pre_features, ft_features))",
            f"frame = report.{self.family}",
            f"plots.heatmap(frame, limit={self.limit:g}{mark}{marked}{self._named()})",
        ]

    def _code_between(self) -> list[str]:
        return [
            f"frame = ClassCosines(vectors).frame({self.kind!r}, share={self.centring!r})",
            f"plots.heatmap(frame, limit={self.limit:g}{self._named()})",
        ]

    def _code_of_blocks(self) -> list[str]:
        more = ", classifier=ft, features=ft_features" if self.order == "accuracy" else ""
        lines = [
            "import pandas as pd",
            "from classvec_lab.panels.ordering import block_starts, class_order",
            "",
            "cosines, names = ClassCosines(vectors), list(vectors.classes)",
            f"order, starts = class_order({self.order!r}, vectors, cosines{more}), block_starts(len(vectors))",
        ]
        share = f"share={self.centring!r}"
        if self.window:
            lines += [
                "blocks = [[*order[a:b]] for a, b in zip(starts, [*starts[1:], len(order)])]",
                f"rows, columns = blocks[{self.window[0]}], blocks[{self.window[1]}]",
                f"values = cosines.entries({self.kind!r}, rows, columns, {share})",
                "frame = pd.DataFrame(values, index=[names[i] for i in rows], columns=[names[i] for i in columns])",
            ]
        else:
            lines += [
                f"values, first = cosines.block_means({self.kind!r}, order, starts, {share}), [names[i] for i in order[starts]]",
                "frame = pd.DataFrame(values, index=first, columns=first)",
            ]
        return [*lines, f"plots.heatmap(frame, limit={self.limit:g})"]

    def describe(self) -> str:
        """Classes and dimensions."""
        return (
            f"orthogonality panel of {len(self.vectors):,} classes in {self.vectors.dim} dimensions"
        )
