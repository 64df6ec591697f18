"""The attribute panel: snow or a written word taken away, as deployed and with the class known."""

from functools import lru_cache, partial
from textwrap import dedent

import numpy as np
import pandas as pd
import traitlets as t
from ipywidgets import HTML, Box, FloatSlider, HBox, VBox

from .. import plots
from ..applications import judge, map_removal, route, valued
from ..editing import LiveReadout
from ..errors import PanelError
from ..readout import logits, predict, random_like
from ..statistics import ends
from ..words import percent, points
from .base import Panel, choice, in_range, new_paths, one_of
from .canvas import Bars, Charts, Gallery
from .edit_view import changed_images, class_bars
from .payload import chart, paragraphs, series, table

WAYS = ROUTER, MEAN, MAP = "router", "mean shift behind router", "linear map"
LAMBDAS = np.linspace(-2, 1, 7)  # where the curves are read
LOOKS = ("ink", (2, 3)), ("contrast",), ("accent",), ("muted", (6, 3))
SLIDERS = {
    "strength": ("strength λ", -2, 1, 0.05),
    "amount": ("shrinkage", 0, 1, 0.01),
    "false_fire": ("false fire", 0.01, 0.5, 0.01),
}


class AttributePanel(Panel):
    """An attribute taken away by what can be deployed, beside the same with the class known.

    Nothing passes through the encoder. "Class known" is given each sample's label and value, what
    is deployed its representation alone. Traits: condition, whose curves, classes and images are
    shown; way, "router" (the shift of the pair of value and class that it finds), "mean shift
    behind router" or "linear map" (in the weights, of every sample); strength λ, in [-2, 1], -1
    takes the shift back; amount, in [0, 1], by which shifts are pulled towards their mean over
    classes; false_fire, the router's rate, in [0.01, 0.5]. `results` is the frame of `judge`,
    `curves` the same over λ; `readouts` are
    the changes by what is deployed, by class known, and from this to that.

    Args:
        classifier: the one to edit.
        vectors: its `AttributeVectors`, of external samples.
        plain: its representations of held-out samples without the attribute, for the router's rate.
        conditions: a name to its representations of labelled images of a split to choose on, or to
            these and value indices (N,), -1 for none.
        datasets: a condition's name to its images.
        split: names the images.
        folder: where files go.
    Raises:
        MismatchError: where classes, dimensions or images don't agree.
        PanelError: without conditions, for images of another, and for values that can't be.
    """

    title = "Attribute: take it away, as deployed and with the class known"
    condition = t.Unicode()
    way = t.Unicode(ROUTER)
    strength = t.Float(-1.0)
    amount = t.Float()
    false_fire = t.Float(0.01)

    def __init__(
        self, classifier, vectors, plain, conditions, *, datasets=None, split="val", folder=""
    ):
        super().__init__(folder=folder)
        vectors.require(classifier)
        predict(classifier, plain)
        self.classifier, self.vectors, self.plain, self.split = classifier, vectors, plain, split
        self.classes, self.words = vectors.classes, vectors.values == vectors.classes
        self.conditions, self.galleries, images = {}, {}, datasets or {}
        for name, given in conditions.items():
            features, w = valued(given)
            predict(classifier, features)
            if np.shape(w) != features.y.shape or {*w} - {*range(-1, len(vectors.values))}:
                raise PanelError(
                    f"{name!r} needs, for each of its {len(features)} samples, the index of a "
                    f"value in {vectors.values}, or -1 for none; got {w}"
                )
            self.conditions[name] = features, w
            self.galleries[name] = Gallery(images.get(name), features, label="images that change")
        for name in images:
            one_of(name, conditions, "condition")
        self._edit, self._curves = map(lru_cache(8), (self._made, self._over_strength))
        self.amount = vectors.amount
        self.condition = next(iter(conditions), "")
        sliders = {
            name: FloatSlider(description=label, min=low, max=high, step=step)
            for name, (label, low, high, step) in SLIDERS.items()
        }
        controls = {
            "condition": choice("condition", list(conditions)),
            "way": choice("deployed by", WAYS),
        }
        self.charts = self.picks(
            Charts(label="accuracy over the strength; click to set it", columns=1),
            lambda _, x: setattr(self, "strength", round(x, 2) + 0.0),
        )
        self.bars, self.table = Bars(label="accuracy of each class before and after"), HTML()
        self.images, head = Box(), HTML("<b>each class, deployed: tick before, bar after</b>")
        self.lay_out(
            HBox([self.bind(name, control) for name, control in (controls | sliders).items()]),
            Box([self.charts, VBox([head, self.bars])]),
            self.table,
            self.images,
            buttons=[
                self.button(
                    "Keep", "write the linear map", self.keep, icon="save", button_style="primary"
                )
            ],
        )

    @t.validate("condition", "way", *SLIDERS)
    def _possible(self, proposal):
        name, value = proposal.trait.name, proposal.value
        if name in SLIDERS:
            return in_range(name, value, *SLIDERS[name][1:3])
        one_of(value, WAYS if name == "way" else self.conditions, name)
        if value == MAP:  # not every model takes it
            map_removal(self.classifier, self.vectors)
        return value

    def _made(self, way, amount, false_fire):
        """What is deployed, at λ = 1; any other λ scales its steps."""
        shrunk = self.vectors.pooled(1 if way == MEAN else amount)
        if way == MAP:
            return map_removal(self.classifier, shrunk, strength=1.0)
        return route(shrunk, self.plain, strength=1.0, false_fire=false_fire)

    def _ways(self, strength, way, amount, false_fire):
        """The methods of each setting, as `judge` takes them."""
        known, edit = self.vectors.pooled(amount), self._edit(way, amount, false_fire)

        def deployed(z):
            return z + strength * (edit.moved(z) - z)

        def random(z):
            return z + random_like(deployed(z) - z, np.random.default_rng(0))

        return {
            "class known": {"class known": partial(known.moved, strength=strength)},
            "deployed": {way: deployed},
            "control": {"random direction": random},
        }

    def _over_strength(self, *edit):
        """The frame of `judge` at each of LAMBDAS."""
        return pd.concat(
            judge(self.classifier, self._ways(x, *edit), self.conditions).assign(lambda_=x)
            for x in LAMBDAS
        )

    def show(self) -> None:
        """Put the state into the widgets."""
        edit = self.way, self.amount, self.false_fire
        self.curves, ways = self._curves(*edit), self._ways(self.strength, *edit)
        self.results = judge(self.classifier, ways, self.conditions, words=self.words)
        features, w = self.conditions[self.condition]
        (known,), (after,), (random,) = (methods.values() for methods in ways.values())
        z = features.z, known(features.z, features.y, w), after(features.z), random(features.z)
        before, known, after, random = (logits(self.classifier, x).argmax(axis=1) for x in z)
        pairs = {
            f"images that the {self.way} changes": (before, after),
            "images that class known changes": (before, known),
            f"images called differently, class known → {self.way}": (known, after),
        }
        rest = np.ones((0, len(w))), random[None], features.y, self.classes, ()
        self.readouts = [LiveReadout(*pair, *rest) for pair in pairs.values()]
        self.bars.put(**class_bars(self.readouts[0]))
        self.images.children = (gallery := self.galleries[self.condition],)
        gallery.groups = list(map(changed_images, self.readouts, pairs))
        rows = self.curves.query("condition == @self.condition").groupby("method", sort=False)
        columns = "lambda_", "accuracy", "accuracy_low", "accuracy_high"
        lines = [series(own, columns, m, *look) for (m, own), look in zip(rows, LOOKS, strict=True)]
        title = f"{self.condition}: accuracy, n = {len(w)}"
        drawn = chart(title, "strength λ", lines, percent=True, xlim=[-2, 1])
        self.charts.put(charts=[drawn], markers=[self.strength])
        self.table.value = self._told()

    def _told(self):
        """Every condition as HTML, and who reads labels."""
        rows = []
        for name, part in self.results.groupby("condition", sort=False):
            cells = [
                f"{percent(*ends(r, 'accuracy'))}{f' ({r.attack:.1%})' * (r.attack >= 0)}"
                for _, r in part.iterrows()
            ]
            rows.append((name, part["n"].iloc[0], *cells, points(*ends(part.iloc[2], "gain"))))
        said = (
            f"Accuracy [95 %] on {self.split}, what you choose on. Labels and values are given to "
            f"class known alone; what is deployed, the {self.way}, reads representations."
            f"{' In brackets: images of other classes called by their written word.' * self.words}"
        )
        head = "condition", "n", *part["method"], "change as deployed"
        return table(head, rows) + paragraphs([said])

    def keep(self):
        """Write the linear map as a `Delta`, a new file in `folder`, and return its path.

        Raises:
            PanelError: for a router, which holds a step for each pair of value and class.
        """
        if self.way != MAP:
            raise PanelError(
                "kept is a linear map, one change of the weights; a router has a step for each "
                "pair of value and class, and its code makes it again"
            )
        made = map_removal(
            self.classifier, self.vectors.pooled(self.amount), strength=self.strength
        )
        path = made.delta.save(*new_paths(self.folder, self.stem(), [".safetensors"]))
        self.say(f"kept {path}; put it on with Delta.load(path).apply_to(ft)")
        return path

    def draw(self):
        """Accuracy of each method over λ under every condition."""
        n = f"n = {' and '.join(map(str, self.results['n'].unique()))}"
        edit = f"{self.way}, shrinkage {self.amount:.2f}, at λ = {self.strength:g} in the panel"
        return plots.over_strength(self.curves, title=f"{self.split}, {n}: {edit}")[0].figure

    def stem(self) -> str:
        """Named by condition, way and strength."""
        return f"attribute_{self.condition}_{self.way}_{self.strength:g}"

    def write(self) -> str:
        """The library's calls that make the table."""
        mean = ".pooled(1)" * (self.way == MEAN)
        more = f"plain, strength=strength, false_fire={self.false_fire!r}"
        edit, on = f"route(shrunk{mean}, {more})", "on"
        if self.way == MAP:
            edit, on = "map_removal(ft, shrunk, strength=strength)", "apply_to"
        return dedent(f"""\
            from functools import partial

            import numpy as np

            from classvec_lab.applications import judge, map_removal, route
            from classvec_lab.readout import random_like

            # ft, vectors, plain and conditions are those that the panel was given
            strength = {self.strength!r}
            shrunk = vectors.pooled({self.amount!r})
            edit = {edit}
            def random(z):
                return z + random_like(edit.moved(z) - z, np.random.default_rng(0))

            ways = {{
                "class known": {{"class known": partial(shrunk.moved, strength=strength)}},
                "deployed": {{"{self.way}": edit.moved}},
                "control": {{"random direction": random}},
            }}
            table = judge(ft, ways, conditions, words={self.words})
            edited = edit.{on}(ft)
            """)
