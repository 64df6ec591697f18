"""Every figure can be printed: 7 inches wide, legible, with nothing over anything else."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.legend import Legend
from printed import NAMES, figures

pytestmark = [
    pytest.mark.usefixtures("look"),
    pytest.mark.filterwarnings("ignore"),
]
PAPER, LEAST = 7.0, 6.5  # inches of width, and points of the smallest type there
CLASS_KEYS = ("scatter_map", "collapse_map")  # their legends have an entry a class, up to 20


def corners(text, renderer):
    """The four corners of a text's own box, turned as it is, in pixels."""
    angle, anchor = text.get_rotation(), text.get_transform().transform(text.get_position())
    box = text.get_window_extent(renderer)
    if angle % 90 == 0:
        return np.array([[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]])
    turned = np.deg2rad(angle)
    text.set_rotation(0)
    flat = text.get_window_extent(renderer)
    text.set_rotation(angle)
    x, y = np.array([flat.x0, flat.x1]), np.array([flat.y0, flat.y1])
    square = np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]]) - anchor
    turn = np.array([[np.cos(turned), np.sin(turned)], [-np.sin(turned), np.cos(turned)]])
    return square @ turn + anchor


def apart(one, other, slack=1.5):
    """Whether two boxes have a line between them, up to so many pixels."""
    for box in (one, other):
        for edge in (box[1] - box[0], box[3] - box[0]):
            axis = edge / np.linalg.norm(edge)
            a, b = one @ axis, other @ axis
            if min(a.max(), b.max()) - max(a.min(), b.min()) <= slack:
                return True
    return False


def overlapping(ones, others, boxes, slack=1.5):
    """Those pairs of texts that have no line between them; most are told apart at once."""
    a, b = (np.array([boxes[id(t)] for t in texts]).reshape(-1, 4, 2) for texts in (ones, others))
    near = (a.min(axis=1)[:, None] <= b.max(axis=1)) & (b.min(axis=1) <= a.max(axis=1)[:, None])
    for i, j in np.argwhere(near.all(axis=2)):
        if not apart(a[i], b[j], slack):
            yield ones[i], others[j]


def visible(fig):
    return [t for t in fig.findobj(plt.Text) if t.get_text().strip() and shown(t)]


def shown(artist):
    axes = getattr(artist, "axes", None)
    return artist.get_visible() and (axes is None or axes.axison or artist in axes.texts)


def tick_labels(axis):
    low, high = sorted(axis.get_view_interval())
    ticks = axis.get_major_ticks()
    inside = [t for t in ticks if low - 1e-9 <= t.get_loc() <= high + 1e-9]
    return [t.label1 for t in inside if t.label1.get_visible() and t.label1.get_text().strip()]


def faults(fig, key=False):
    """What is wrong with a figure, in words."""
    fig.draw_without_rendering()
    renderer, found = fig.canvas.get_renderer(), []
    wide = fig.get_tightbbox(renderer).width
    axes = [ax for ax in fig.axes if ax.axison]
    ticks = {ax: [tick_labels(axis) for axis in (ax.xaxis, ax.yaxis)] for ax in axes}
    texts = [t for ax in axes for labels in ticks[ax] for t in labels]
    owned = {
        id(t) for ax in fig.axes for axis in (ax.xaxis, ax.yaxis) for t in axis.get_ticklabels()
    }
    loose = [t for t in visible(fig) if id(t) not in owned]
    small = {round(t.get_fontsize() * min(1, PAPER / wide), 1): t.get_text() for t in texts + loose}
    if min(small) < LEAST:
        found.append(f"{min(small)} points on paper: {small[min(small)]!r}")
    if wide > 9.2:
        found.append(f"{wide:.1f} inches wide")
    boxes = {id(t): corners(t, renderer) for t in texts + loose}
    over = [(a, b) for a, b in overlapping(texts, texts, boxes) if texts.index(a) < texts.index(b)]
    # values in cells and bars have a test of their own
    alone = [t for t in loose if t.get_bbox_patch() or t.axes is None or t not in t.axes.texts]
    over += overlapping(alone, texts, boxes, 3)
    found += [f"{a.get_text()!r} over {b.get_text()!r}" for a, b in over]
    legends = fig.findobj(Legend)
    if not key:
        found += [f"a legend of {n}" for x in legends if (n := len(x.get_texts())) > 8]
    return found


MANY = pytest.param(max(NAMES), marks=pytest.mark.slow)  # half a minute for the same 41 figures


@pytest.fixture(scope="module", params=[min(NAMES), MANY], ids="{} classes".format)
def made(request):
    return figures(NAMES[request.param])


def test_every_figure_is_legible_on_paper(made):
    found = {}
    for name, draw in made.items():
        if wrong := faults(draw(), key=name in CLASS_KEYS):
            found[name] = wrong
        plt.close("all")
    assert found == {}


def test_what_lies_over_a_label_is_found():
    fig, ax = plt.subplots()
    ax.set(xticks=[0, 0.01, 1], xticklabels=["first", "second", "third"])
    at = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "top"}
    note = ax.text(1, -0.03, "a note", bbox={"pad": 1}, **at)
    assert sorted(faults(fig)) == ["'a note' over 'third'", "'first' over 'second'"]
    ax.set_xticks([0, 0.5, 1], ["first", "second", "third"])
    note.remove()
    assert faults(fig) == []
