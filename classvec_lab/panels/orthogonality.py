"""The orthogonality panel: every cosine between classes, and what lies behind the selected one."""

from functools import lru_cache, partial
from html import escape

import numpy as np
import traitlets as t
from ipywidgets import HTML, Box, Combobox, Dropdown, FloatSlider, HBox, ToggleButtons, VBox

from .. import plots
from ..checks import same_classes
from ..diagnostics.orthogonality import orthogonality
from ..errors import PanelError
from ..readout import check_labelled
from .base import Panel, in_range, one_of
from .canvas import Charts, Gallery, Matrix
from .class_map import AXES, HIGHLIGHTS, KINDS, MOST_SHOWN, ClassMap
from .ordering import ORDERS
from .pairs import pair_view
from .payload import colour_table

MOST_MATCHES = 40  # names that a search lists


class OrthogonalityPanel(Panel, ClassMap):
    """Cosines between classes as a live heat map; a click on a cell shows the two classes.

    Above 500 classes the map shows blocks of classes; a double click or Enter opens one. Traits:
    kind, "cosine" (κ, z_ft), "kappa_cosine" or "mean_cosine"; centring, the share of the mean over
    classes taken off both sides, 0 raw, 1 centred; order, "given", "name", "accuracy" or "cluster";
    highlight, "nothing", "differs from 0" or "differs from theory"; limit, the end of the colours,
    in (0, 1]; selected, the names (row, column), or (); hidden, names of classes left out; search,
    part of a name; window, the two blocks that are open, or ().

    Args:
        vectors: the class vectors.
        report: their `Orthogonality`, which brings intervals; made here where it isn't given and
            there are at most 500 classes.
        features: the pair (pre, ft) of `Features` behind the vectors. What isn't given isn't shown.
        classifier: the fine-tuned one.
        dataset: the images of the features.
        order: see above.
        folder: where files go.
    Raises:
        MismatchError: for fewer than two classes, a report of other classes, or a classifier and
            features that don't fit the vectors.
    """

    title = "Orthogonality: is each class vector orthogonal to the other classes?"
    limit = t.Float(0.5)
    selected = t.Tuple(())
    search = t.Unicode("")

    def __init__(self, vectors, *, report=None, features=None, classifier=None, dataset=None,
                 order="given", folder=""):  # fmt: skip
        super().__init__(folder=folder)
        if report:
            same_classes(report.cosine.index, vectors.classes, "the report", "these class vectors")
        elif len(vectors) <= MOST_SHOWN:
            report = orthogonality(vectors, features=features)
        self.begin(vectors, report, classifier, features and features[1])
        self.order = order
        self.highlight = HIGHLIGHTS[bool(self.intervals)]
        if self.blocks:  # means of blocks are small
            self.limit = float(np.clip(np.ceil(20 * np.nanmax(np.abs(self.shown()))) / 20, 0.05, 1))
        self.map = Matrix(
            label="heat map of cosines; arrow keys move the selected cell, + and - zoom, "
            "Shift with arrows pans, 0 shows all",
            palette=colour_table(plots.style.DIVERGING),
        )
        self.headline, self.table = HTML(), HTML()
        self.gallery = Gallery(dataset, label="nearest images of both classes")
        self.charts = Charts(label="mean logits along the class vector", columns=2, height=205)
        parts = [self.headline]
        if self.able:
            check_labelled(classifier, self.features, vectors)
            self._pair = lru_cache(1)(partial(pair_view, classifier, self.features, vectors))
            parts += [self.gallery, self.charts, self.table]
        self.lay_out(HBox(self._controls()), Box([self.map, VBox(parts)]))
        self.tie(self.map, self._place, self._click, *self.state, at="selected")
        self.bind("window", self.map, read=tuple, show=list, at="opened")
        self.observe(self._search, "search")
        if not self.blocks:
            self.selected = self.largest(*self.axes())

    @t.validate("limit", "selected")
    def _possible(self, proposal):
        value = proposal["value"]
        if proposal["trait"].name == "limit":
            return in_range("limit", value, 0, 1, open_low=True)
        if len(value) not in (0, 2):
            raise PanelError(f"a cell is two classes, (row, column), or () for none; got {value}")
        for name in value:
            if one_of(name, self.classes, "class") in self.hidden:
                raise PanelError(f"class {name!r} is hidden: take it out of hidden to select it")
        return tuple(value)

    # what is shown

    def show(self, change=None) -> None:
        """Put the state into the widgets."""
        if change and change["name"] == "order" and self.window:
            self.window = ()  # its blocks are of another order; this shows the state
            return
        if set(self.selected) & set(self.hidden):
            self.selected = ()
            return
        self.map.put(limit=self.limit, **self.payload())
        words = self.value(self.selected) if self.selected else "Select a cell to see its classes."
        self.headline.value = f"<b role='status'>{escape(words)}</b>"
        if self.able:
            self.gallery.groups, self.charts.charts, self.table.value = self._pair(self.selected)
        self.say(self.remark())
        self.code = self._code()

    # what is selected

    def _place(self):
        """The cell of the selected pair, [] where it isn't shown."""
        if self.selected and self.overview():
            return list(self.blocks_of(self.selected))
        sides = zip((self.map.row_names, self.map.column_names), self.selected, strict=False)
        place = [side.index(name) for side, name in sides if name in side]
        return place if len(place) == 2 else []

    def _click(self, place):
        if self.overview():
            self.selected = self.largest(*map(self.block, place))
        elif max(place) < len(self.map.row_names):
            r, c = place
            self.selected = self.map.row_names[r], self.map.column_names[c]

    def back(self) -> None:
        """From an open block to all blocks."""
        self.window = ()

    # search

    def matches(self) -> list[str]:
        """At most 40 class names that the search finds, those that begin with it first."""
        text = self.search.casefold().strip()
        names = [n for n in self.classes if text in n.casefold() and n not in self.hidden]
        names.sort(key=lambda name: (name.casefold().find(text), len(name)))
        return names[:MOST_MATCHES] if text else []

    def go_to(self, name: str) -> None:
        """Select a class and the class of largest |cosine| to it; among blocks, open theirs."""
        place = self.classes.index(one_of(name, self.classes, "class"))
        pair = self.largest(np.array([place]), self.positions())
        if not pair:
            raise PanelError(f"class {name!r} has no direction: its vector has length zero")
        if self.blocks:
            self.window = self.blocks_of(pair)
        self.selected = pair

    def _search(self, _):
        self.found.options = found = self.matches()
        if self.search.strip() and not found:
            self.say(f"no class {self.search!r} among {len(self.classes):,}", problem=True)

    def _controls(self):
        named = {f"{side} against {other}": kind for kind, (side, other) in KINDS.items()}
        orders = [order for order in ORDERS if self.able or order != "accuracy"]
        dots = HIGHLIGHTS if self.intervals else HIGHLIGHTS[:1]
        tooltip = "share of the mean over classes taken off both sides: 0 raw, 1 centred"
        share = FloatSlider(description="centring", max=1, step=0.02, tooltip=tooltip)
        versions = ToggleButtons(options={"raw": 0.0, "centred": 1.0})
        self.found = Combobox(description="search", placeholder="class name")
        tooltip = "select this class and the one of largest cosine to it"
        go = self.button("Go", tooltip, lambda: self.go_to((self.matches() or [self.search])[0]))
        if self.blocks:
            more = [self.button("All blocks", "close the open block (Escape)", self.back)]
        else:
            hide = self.tags("hidden", self.classes, "hide")
            more = [self.bind("centring", share), hide]
        return [
            self.bind("kind", Dropdown(description="cosine of", options=named)),
            self.bind("centring", versions, show=lambda share: share if share in (0, 1) else None),
            self.bind("order", Dropdown(description="order", options=orders)),
            self.bind("highlight", Dropdown(description="dots", options=dots)),
            self.bind("limit", FloatSlider(description="colours to ±", max=1, step=0.05)),
            self.bind("search", self.found),
            go,
            *more,
        ]

    # what is left behind

    def draw(self):
        """The map as `plots.heatmap` draws it."""
        row, column = (AXES[side] for side in KINDS[self.kind])
        return plots.heatmap(
            self.shown(),
            limit=self.limit,
            mark=self.expected,
            marked=None if self.blocks else self.marked(),
            label=self.map.value_label,
            title=f"cos({row}, {column}'), {self.version}",
        ).figure

    def stem(self) -> str:
        """Named by family and share of centring."""
        return f"orthogonality_{self.kind}_{self.version}"

    def describe(self) -> str:
        """Classes and dimensions."""
        n = f"{len(self.vectors):,} classes"
        return f"orthogonality panel of {n} in {self.vectors.dim} dimensions"

    def _code(self):
        needs, look, order = "diagnostics", [f"limit={self.limit:g}"], self.map.row_names
        if self.blocks:
            needs, given = "panels", ", features=(pre_features, ft_features), classifier=ft"
            lines = [
                f"panel = panels.OrthogonalityPanel(vectors{given * (self.order == 'accuracy')})",
                f"panel.kind, panel.centring = {self.kind!r}, {self.centring!r}",
                f"panel.order, panel.window = {self.order!r}, {self.window!r}",
                "frame = panel.shown()",
            ]
        else:
            lines = [
                "cosines = diagnostics.orthogonality.ClassCosines(vectors)",
                f"frame = cosines.frame({self.kind!r}, share={self.centring!r})",
            ]
            if self.expected is not None:
                look.append(f"mark={self.expected!r}")
            if self.marked() is not None:
                needs += ", orthogonality"
                value = 0.0 if self.highlight == HIGHLIGHTS[1] else self.expected
                lines += [
                    "report = orthogonality(vectors, features=(pre_features, ft_features))",
                    f"marked = report.significant({self.family!r}, value={value!r})",
                ]
                look.append("marked=marked")
            if order != list(self.classes):
                lines.append(f"order = {order!r}")
                look.append("order=order")
        lines = [
            f"from classvec_lab import ClassVectors, {needs}, plots",
            "",
            "vectors = ClassVectors.from_features(pre_features, ft_features)",
            *lines,
            f"plots.heatmap(frame, {', '.join(look)})",
        ]
        if len(set(self.selected)) == 2 and self.able:
            lines.insert(0, "from classvec_lab.diagnostics.linearity import class_pair")
            names = "{!r}, {!r}".format(*self.selected)
            lines.append(f"pair = class_pair(ft, ft_features, vectors, {names})")
        return "\n".join(lines)
