"""The orthogonality panel: every cosine between classes, and what lies behind the selected one."""

from functools import lru_cache, partial
from html import escape
from textwrap import dedent

import numpy as np
import traitlets as t
from ipywidgets import HTML, Box, Combobox, FloatSlider, HBox, ToggleButtons, VBox

from .. import plots
from ..checks import same_classes
from ..diagnostics.orthogonality import orthogonality
from ..errors import PanelError
from ..readout import check_labelled
from .base import Panel, choice, one_of
from .canvas import Charts, Gallery, Matrix
from .class_map import AXES, HIGHLIGHTS, KINDS, MOST_SHOWN, ORDERS, ClassMap
from .pairs import pair_view
from .payload import colour_table

MOST_MATCHES = 40  # names that a search lists


class OrthogonalityPanel(Panel, ClassMap):
    """Cosines between classes as a live heat map; a click on a cell shows the two classes.

    Above 500 classes the map shows blocks of classes; a double click or Enter opens one. Traits:
    kind, "cosine" (κ, z_ft), "kappa_cosine" or "mean_cosine"; centring, the share of the mean over
    classes taken off both sides, 0 raw, 1 centred; order, "given", "name", "accuracy" or "cluster";
    highlight, "nothing", "differs from 0" or "differs from an ETF"; limit, the end of the colours,
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
    search = t.Unicode("")

    def __init__(self, vectors, *, report=None, features=None, classifier=None, dataset=None,
                 order="given", folder=""):  # fmt: skip
        super().__init__(folder=folder)
        if report:
            same_classes(report.cosine.index, vectors.classes, "the report", "these class vectors")
        elif len(vectors) <= MOST_SHOWN:
            report = orthogonality(vectors, features=features)
        own = features and features[1]
        self.begin(vectors, report, classifier, own)
        self.order = order
        self.highlight = HIGHLIGHTS[bool(self.intervals)]
        if self.blocks:  # means of blocks are small
            self.limit = float(np.ceil(20 * self.shown().abs().max(axis=None)) / 20)
        self.map = Matrix(
            label="heat map of cosines; arrow keys move the selected cell, + and - zoom, "
            "Shift with arrows pans, 0 shows all",
            palette=colour_table(plots.style.DIVERGING),
        )
        self.headline, self.table = HTML(), HTML()
        self.gallery = Gallery(dataset, own, label="nearest images of both classes")
        self.charts = Charts(label="mean logits along the class vector", height=205)
        parts = [self.headline]
        if self.able:
            check_labelled(classifier, own, vectors)
            self._pair = lru_cache(1)(partial(pair_view, classifier, own, vectors))
            parts += [self.gallery, self.charts, self.table]
        self.bind("window", self.map, read=tuple, show=list, at="opened")
        self.lay_out(HBox(self._controls()), Box([self.map, VBox(parts)]))
        self.bind("selected", self.map, read=self._clicked, show=self._place, at="selected")
        self.observe(self._search, "search")
        if not self.blocks:
            self.selected = self.largest(*self.axes())

    # what is shown

    def show(self) -> None:
        """Put the state into the widgets."""
        self.map.put(limit=self.limit, **self.payload())
        self.map.selected = self._place(self.selected)
        words = self.value(self.selected) if self.selected else "Select a cell to see its classes."
        self.headline.value = f"<b role='status'>{escape(words)}</b>"
        if self.able:
            self.gallery.groups, self.charts.charts, self.table.value = self._pair(self.selected)
        self.say(self.remark())

    # what is selected

    def _place(self, pair):
        """The cell of a pair, [] where it isn't shown."""
        if pair and self.overview():
            return list(self.blocks_of(pair))
        sides = zip((self.map.row_names, self.map.column_names), pair, strict=False)
        place = [side.index(name) for side, name in sides if name in side]
        return place if len(place) == 2 else []

    def _clicked(self, place):
        """The pair of a cell."""
        if self.overview():
            return self.largest(*map(self.block, place))
        if max(place) >= len(self.map.row_names):  # it was there when it was clicked
            return self.selected
        row, column = place
        return self.map.row_names[row], self.map.column_names[column]

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
        self.found.options = self.matches()
        if self.search.strip() and not self.found.options:
            self.say(f"no class {self.search!r} among {len(self.classes):,}", problem=True)

    def _controls(self):
        named = {f"{side} against {other}": kind for kind, (side, other) in KINDS.items()}
        orders = [order for order in ORDERS if self.able or order != "accuracy"]
        versions = ToggleButtons(options={"raw": 0.0, "centred": 1.0})
        self.found = Combobox(description="search", placeholder="class name")
        tooltip = "select this class and the one of largest cosine to it"
        controls = [
            self.bind("kind", choice("cosine of", named)),
            self.bind("centring", versions, show=lambda share: share if share in (0, 1) else None),
            self.bind("order", choice("order", orders)),
            self.bind("highlight", choice("dots", HIGHLIGHTS if self.intervals else ["nothing"])),
            self.bind("limit", FloatSlider(description="colours to ±", max=1, step=0.05)),
            self.bind("search", self.found),
            self.button("Go", tooltip, lambda: self.go_to((self.matches() or [self.search])[0])),
        ]
        if self.blocks:
            tooltip, close = "close the open block (Escape)", lambda: setattr(self, "window", ())
            return [*controls, self.button("All blocks", tooltip, close)]
        tooltip = "share of the mean over classes taken off both sides: 0 raw, 1 centred"
        share = FloatSlider(description="centring", max=1, step=0.02, tooltip=tooltip)
        return [*controls, self.bind("centring", share), self.tags("hidden", self.classes, "hide")]

    # what is left behind

    def draw(self):
        """The map as `plots.heatmap` draws it."""
        return plots.heatmap(
            self.shown(),
            limit=self.limit,
            mark=self.marks,
            marked=None if self.blocks else self.marked(),
            label=self.map.value_label,
            title="cos({}, {}'), {}".format(*map(AXES.get, KINDS[self.kind]), self.version),
        ).figure

    def stem(self) -> str:
        """Named by family and share of centring."""
        return f"orthogonality_{self.kind}_{self.version}"

    def write(self) -> str:
        """The calls that draw this map, and look at the selected pair."""
        frame = dedent(f"""\
            cosines = diagnostics.orthogonality.ClassCosines(vectors)
            frame = cosines.frame({self.kind!r}, share={self.centring!r})
            """)
        if self.blocks:
            given = ", features=features, classifier=ft"
            frame = dedent(f"""\
                panel = panels.OrthogonalityPanel(vectors{given * (self.order == "accuracy")})
                panel.kind, panel.centring = {self.kind!r}, {self.centring!r}
                panel.order, panel.window = {self.order!r}, {self.window!r}
                frame = panel.shown()
                """)
        marked, order = None, self.map.row_names
        if self.marked() is not None:
            value = 0.0 if self.highlight == HIGHLIGHTS[1] else self.expected
            report = "orthogonality(vectors, features=features)"
            marked = f"{report}.significant({self.family!r}, value={value!r})"
        code = dedent("""\
            from classvec_lab import ClassVectors, diagnostics, orthogonality, panels, plots

            features = pre_features, ft_features
            vectors = ClassVectors.from_features(*features)
            """)
        look = f"limit={self.limit:g}, mark={self.marks!r}, marked={marked}"
        if order != list(self.classes) and not self.blocks:
            look += f", order={order!r}"
        code += f"{frame}plots.heatmap(frame, {look})"
        if len(set(self.selected)) == 2 and self.able:
            pair = f"diagnostics.linearity.class_pair(ft, ft_features, vectors, *{self.selected!r})"
            code += f"\npair = {pair}"
        return code
