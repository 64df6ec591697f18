"""The controls above a map of classes."""

import ipywidgets as w

from .class_map import HIGHLIGHTS
from .ordering import ORDERS

KIND_NAMES = {
    "κ against z_ft": "cosine",
    "κ against κ": "kappa_cosine",
    "z_ft against z_ft": "mean_cosine",
}


def map_controls(panel) -> w.HBox:
    """Kind, centring, order, dots, colours, search, and what to hide, all tied to an `OrthogonalityPanel`."""
    orders = [
        o
        for o in ORDERS
        if o != "accuracy" or (panel.classifier is not None and panel.features is not None)
    ]
    dots = HIGHLIGHTS if panel.report is not None else HIGHLIGHTS[:1]
    controls = [
        _bound(panel, "kind", w.Dropdown, "215px", "cosine of", options=KIND_NAMES),
        _versions(panel),
        _bound(panel, "order", w.Dropdown, "150px", "order", options=orders),
        _bound(panel, "highlight", w.Dropdown, "200px", "dots", options=dots),
        _bound(
            panel,
            "limit",
            w.FloatSlider,
            "250px",
            "colours to ±",
            min=0.05,
            max=1,
            step=0.05,
            readout_format=".2f",
        ),
        _bound(
            panel,
            "search",
            w.Text,
            "215px",
            "search",
            placeholder="class name",
            continuous_update=True,
        ),
        panel.found,
        _button("Go", "select this class and the one of largest cosine to it", lambda: _go(panel)),
    ]
    if panel.blocks:
        controls.append(_button("All blocks", "close the open block (Escape)", panel.back))
    else:
        controls.insert(2, _centring(panel))
        controls.append(_hidden(panel))
    return w.HBox(controls, layout=w.Layout(flex_flow="row wrap", align_items="center"))


def _bound(panel, trait: str, kind, width: str, description: str, **options):
    style = {"description_width": "initial"}
    return panel.bind(
        kind(description=description, layout=w.Layout(width=width), style=style, **options), trait
    )


def _versions(panel):
    """Raw or centred; neither is pressed in between."""
    buttons = w.ToggleButtons(
        options={"raw": 0.0, "centred": 1.0},
        style={"button_width": "auto"},
        layout=w.Layout(width="auto"),
    )

    def to_panel(change):
        if change["new"] is not None:
            panel.centring = change["new"]

    def to_buttons(_):
        buttons.value = panel.centring if panel.centring in (0, 1) else None

    buttons.observe(to_panel, "value")
    panel.observe(to_buttons, "centring")
    return buttons


def _centring(panel):
    tooltip = "share of the mean over classes that is taken off both sides: 0 raw, 1 centred"
    return _bound(
        panel,
        "centring",
        w.FloatSlider,
        "250px",
        "centring",
        min=0,
        max=1,
        step=0.02,
        readout_format=".2f",
        tooltip=tooltip,
    )


def _hidden(panel):
    tags = w.TagsInput(allowed_tags=list(panel.vectors.classes), allow_duplicates=False, placeholder="hide a class",
                       layout=w.Layout(width="auto", min_width="120px"))  # fmt: skip
    return panel.bind(tags, "hidden", read=tuple, show=list)


def _go(panel) -> None:
    panel.guarded(panel.go_to, panel.found.value or panel.search.strip())


def _button(text: str, tooltip: str, action):
    button = w.Button(description=text, tooltip=tooltip, layout=w.Layout(width="auto"))
    button.on_click(lambda _: action())
    return button
