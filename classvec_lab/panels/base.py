"""`Panel`: what all panels share. Traits are the state, widgets show it, something can be kept."""

import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import traitlets as t
from ipywidgets import (
    HTML,
    Button,
    Dropdown,
    HBox,
    Label,
    TagsInput,
    Text,
    Textarea,
    ToggleButton,
    VBox,
    Widget,
)

from .. import checks, plots
from ..errors import ClassvecError, MismatchError, PanelError
from ..files import FIGURES, figures_dir, save_figure
from .canvas import Frame

MOST_LISTED = 200  # names in a dropdown
one_of = partial(checks.one_of, error=PanelError)
in_range = partial(checks.in_range, error=PanelError)


def same(value):
    """The value itself."""
    return value


class Panel(VBox):
    """A panel: its traits are its state, and may be set from Python as well as by its controls.

    A value that can't be is refused with a PanelError and leaves everything as it was; from a
    control the same words appear in the panel's last line. Each kind of panel adds traits, whose
    names are `state`; `show`, which puts them into its widgets; `draw`, the matplotlib figure of
    what it shows; `stem`, the beginning of the names of its files; and `describe`, one line that
    stands where no widget can be shown.

    Args:
        folder: where files go, by default `kept` in the figures folder.
    """

    code = t.Unicode("", help="Python that reproduces what the panel shows")
    title = "Panel"

    def __init__(self, *, folder: str | Path = ""):
        super().__init__()
        self.folder = Path(folder or figures_dir() / "kept")
        self.frame = Frame(label=f"{self.title}: messages")
        self.add_class("cv-panel")
        common = Panel.class_trait_names()
        self.state = [name for name in self.trait_names() if name not in common]

    def lay_out(self, *rows: Widget, buttons: Sequence[Widget] = ()) -> None:
        """Put the panel together and let it follow its state.

        Args:
            rows: an `HBox` is a line of controls, a `Box` has columns that share the width.
            buttons: beside Figure and Code, which all panels have.
        """
        tooltip = "the call that reproduces what is shown"
        code = Textarea(rows=5, tooltip=tooltip)
        code.add_class("cv-code")
        toggle = ToggleButton(description="Code", icon="code", tooltip=tooltip)
        t.dlink((toggle, "value"), (code.layout, "display"), lambda on: "flex" if on else "none")
        t.dlink((self, "code"), (code, "value"))
        tooltip = "save PNG and PDF of what is shown"
        figure = self.button("Figure", tooltip, self.figure, icon="picture-o")
        head = HTML(f"<b>{self.title}</b>")
        self.children = [head, *rows, HBox([*buttons, figure, toggle]), code, self.frame]
        self.observe(self.show, self.state)
        self.show()

    def say(self, message: str, *, problem: bool = False) -> None:
        """Show a message in the panel's last line."""
        self.frame.put(message=message, problem=problem)

    def guarded(self, action: Callable, *arguments) -> None:
        """Call `action`; an error of ours becomes a message of the panel, until the next call."""
        if self.frame.problem:
            self.say("")
        try:
            action(*arguments)
        except ClassvecError as error:
            self.say(str(error), problem=True)

    def tie(
        self, control: Widget, show: Callable, act: Callable, *names: str, at: str = "value"
    ) -> Widget:
        """Let a control show the panel's state, and change it.

        Args:
            control: any widget; it is returned.
            show: `show()` is what the control shows, read after each change of the traits `names`.
            act: `act(value)` is called with what a user sets; a refused value puts the control back
                and is said.
            names: of the panel's traits.
            at: the attribute of the control that it is about.
        """

        def restore(_=None):
            setattr(control, at, show())

        def heard(change):
            if change["new"] != show():  # else it was put back: what was said about that stands
                self.guarded(act, change["new"])
                restore()

        restore()
        control.observe(heard, at)
        self.observe(restore, names)
        return control

    def bind(
        self, name: str, control: Widget, *, read: Callable = same, show: Callable = same, **at
    ) -> Widget:
        """`tie` a control to one trait, of which it shows `show(trait)` and sets `read(value)`."""
        return self.tie(
            control,
            lambda: show(getattr(self, name)),
            lambda value: setattr(self, name, read(value)),
            name,
            **at,
        )

    def tags(self, name: str, known: Collection[str], label: str) -> Widget:
        """A box of names out of `known`, bound to the trait `name`."""
        box = TagsInput(allowed_tags=list(known), allow_duplicates=False)
        return HBox([Label(label), self.bind(name, box, read=tuple, show=list)])

    def button(self, label: str, tooltip: str, action: Callable, **look) -> Button:
        """A button that calls `action()`, guarded."""
        made = Button(description=label, tooltip=tooltip, **look)
        made.on_click(lambda _: self.guarded(action))
        return made

    def figure(self) -> list[Path]:
        """Save what is shown as PNG and PDF under a new name in `folder`; returns the two paths."""
        with plots.style.context(), plt.ioff():
            fig = self.draw()
            paths = new_paths(self.folder, self.stem(), FIGURES)
            save_figure(fig, paths)
            plt.close(fig)
        self.say(f"saved {paths[0]} and .pdf")
        return paths

    def __repr__(self) -> str:
        return f"<{self.describe()}; live in JupyterLab once its cell is run>"

    def _repr_mimebundle_(self, **more):
        return super()._repr_mimebundle_(**more) | {"text/plain": repr(self)}


def new_paths(folder: Path, stem: str, suffixes: Sequence[str]) -> list[Path]:
    """Names in `folder` that no file has yet: the stem, or it with -2, -3, …, with each suffix."""
    clean = re.sub(r"[^\w.-]", "_", stem).strip("._") or "panel"
    for k in count(1):
        name = f"{clean}-{k}" if k > 1 else clean
        paths = [Path(folder) / f"{name}{suffix}" for suffix in suffixes]
        if not any(path.exists() for path in paths):
            return paths


def some_of(names, known: Collection[str], what: str) -> tuple[str, ...]:
    """`names` in the order of `known`; raises PanelError for an unknown one, and for none."""
    for name in names:
        one_of(name, known, what)
    if not names:
        raise PanelError(f"no {what} would be left: draw at least one of {checks.listed(known)}")
    return tuple(name for name in known if name in names)


def same_images(dataset, features) -> None:
    """Raise MismatchError unless `dataset`, where there is one, has the images of the features."""
    if dataset is not None and not np.array_equal(dataset.targets, features.y):
        raise MismatchError(
            f"the images are not those of the features: "
            f"{len(dataset)} images, {len(features)} features"
        )


def class_choice(names: Sequence, label: str) -> Widget:
    """A control whose value is a class: a dropdown of up to 200 names, or a field to type in.

    Args:
        names: of the classes, or (label, name) pairs.
        label: before the control.
    """
    if len(names) <= MOST_LISTED:
        return Dropdown(description=label, options=list(names))
    return Text(description=label, continuous_update=False)
