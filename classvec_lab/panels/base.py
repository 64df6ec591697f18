"""`Panel`: what all panels share. Traits are the state, widgets show it, something can be kept."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import matplotlib.pyplot as plt
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
from ..errors import ClassvecError, PanelError
from ..files import FIGURES, figures_dir, file_name, save_figure
from .canvas import Charts, Frame

MOST_LISTED = 200  # names in a dropdown
one_of = partial(checks.one_of, error=PanelError)
in_range = partial(checks.in_range, error=PanelError)


def same(value):
    """The value itself."""
    return value


class Panel(VBox):
    """A panel: its traits are its state, and may be set from Python as well as by its controls.

    A value that can't be is refused with a PanelError and leaves everything as it was; from a
    control the same words appear in the panel's last line. Each kind of panel adds traits; `show`,
    which puts them into its widgets; `write`, the code, and `draw`, the matplotlib figure of what
    it shows; `stem`, the beginning of the names of its files; and `classes`, their names.

    Args:
        folder: where files go, by default `kept` in the figures folder.
    """

    code = t.Unicode("", help="Python that reproduces what the panel shows")

    def __init__(self, *, folder: str | Path = ""):
        super().__init__()
        self.folder = Path(folder or figures_dir() / "kept")
        self.frame = Frame()
        self.add_class("cv-panel")

    def lay_out(self, *rows: Widget, buttons: Sequence[Widget] = ()) -> None:
        """Put the panel together and let it follow its state.

        Args:
            rows: an `HBox` is a line of controls, a `Box` has columns that share the width.
            buttons: beside Figure and Code, which all panels have.
        """
        code = Textarea(rows=5)
        code.add_class("cv-code")
        toggle = ToggleButton(
            description="Code", icon="code", tooltip="the call that reproduces what is shown"
        )
        t.dlink((toggle, "value"), (code.layout, "display"), lambda on: "flex" if on else "none")
        t.dlink((self, "code"), (code, "value"))
        figure = self.button(
            "Figure", "save PNG and PDF of what is shown", self.figure, icon="picture-o"
        )
        head, actions = HTML(f"<b>{self.title}</b>"), HBox([*buttons, figure, toggle])
        self.children = [head, *rows, actions, code, self.frame]

        def refresh(_=None):
            self.show()
            self.code = self.write()

        self.observe(refresh, list(set(self.trait_names()) - set(Panel.class_trait_names())))
        refresh()

    def say(self, message: str, *, problem: bool = False) -> None:
        """Show a message in the panel's last line."""
        self.frame.put(message=message, problem=problem)

    def guarded(self, action: Callable) -> None:
        """Call `action`; an error of ours or of the disk becomes a message, until the next call."""
        if self.frame.problem:
            self.say("")
        try:
            action()
        except (ClassvecError, OSError) as error:
            self.say(str(error), problem=True)

    def bind(
        self,
        name: str,
        control: Widget,
        *,
        read: Callable = same,
        show: Callable = same,
        at="value",
    ) -> Widget:
        """Let a control show one trait of the panel, and change it.

        Args:
            name: of the trait.
            control: any widget; it is returned.
            read: `read(value)` is what the trait becomes when a user sets the control to a value; a
                refused one puts the control back and is said.
            show: `show(trait)` is what the control shows.
            at: the attribute of the control that it is about.
        """

        def shown():
            return show(getattr(self, name))

        def restore(_=None):
            setattr(control, at, shown())

        def heard(change):
            if change.new != shown():  # else it was put back: what was said about that stands
                self.guarded(lambda: setattr(self, name, read(change.new)))
                restore()

        restore()
        control.observe(heard, at)
        self.observe(restore, name)
        return control

    def picks(self, charts: Charts, act: Callable) -> Charts:
        """Let a click at x of chart k call `act(k, x)`, guarded."""

        def heard(change):
            if change.new:
                self.guarded(lambda: act(*change.new))
                charts.picked = []  # the same place can be clicked again

        charts.observe(heard, "picked")
        return charts

    def tags(self, name: str, known: Collection[str], label: str) -> Widget:
        """A box of names out of `known`, bound to the trait `name`."""
        box = TagsInput(allowed_tags=known, allow_duplicates=False)
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
        name = type(self).__name__
        return f"<{name} of {len(self.classes):,} classes; live in JupyterLab once its cell is run>"


def new_paths(folder: Path, stem: str, suffixes: Sequence[str]) -> list[Path]:
    """Names in `folder` that no file has yet: the stem, or it with -2, -3, …, with each suffix."""
    clean = file_name(stem)
    for k in count(1):
        name = f"{clean}-{k}" if k > 1 else clean
        paths = [folder / f"{name}{suffix}" for suffix in suffixes]
        if not any(map(Path.exists, paths)):
            return paths


def some_of(names, known: Collection[str], what: str) -> tuple[str, ...]:
    """`names` in the order of `known`; raises PanelError for an unknown one, and for none."""
    for name in names:
        one_of(name, known, what)
    if not names:
        raise PanelError(f"no {what} would be left: draw at least one of {checks.listed(known)}")
    return tuple(name for name in known if name in names)


def choice(label: str, options: Collection) -> Widget:
    """A control whose value is one of `options`: a dropdown of up to 200, or a field to type in.

    Args:
        label: before the control.
        options: values, (name, value) pairs, or a mapping of names to values.
    """
    if len(options) <= MOST_LISTED:
        return Dropdown(description=label, options=options)
    return Text(description=label, continuous_update=False)
