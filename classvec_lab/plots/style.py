"""One look for every figure: sizes, colours, a diverging map centred at 0 that the colour-blind
can read.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps

import numpy as np

DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
ACCENT, CONTRAST, MUTED = "#0b6e99", "#c8553d", "#8a8f98"
WIDE = 9.0  # inches, the widest figure: 7 on paper, where SMALL type is 6.6 points high
SMALL = 8.5
RC = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.hashsalt": "classvec_lab",
}


def use() -> None:
    """Set the look for the rest of the session (the first plotting cell of each notebook calls
    it).
    """
    import matplotlib as mpl

    mpl.rcParams.update(RC)


def context():
    """The look for the length of a with block."""
    import matplotlib as mpl

    return mpl.rc_context(RC)


def legible(draw: Callable) -> Callable:
    """A function that gives Axes or a figure, whose text then stands as it is, whatever its names.

    No text is read as mathematics. Letters that the default font lacks are drawn in one of this
    machine's that has them, or shown as escapes such as \\u732b where none has.
    """

    @wraps(draw)
    def drawn(*args, **options):
        import matplotlib as mpl
        from matplotlib.axis import Axis
        from matplotlib.text import Text

        with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # seaborn draws what is respelt below
            result = draw(*args, **options)
        figure = np.ravel(result)[0].figure
        texts = figure.findobj(Text)
        families, spelt = _spelling(frozenset("".join(text.get_text() for text in texts)))
        for axis in figure.findobj(Axis):  # which writes its own anew each time it is drawn
            names = [label.get_text() for label in axis.get_ticklabels()]
            if names != (new := [name.translate(spelt) for name in names]):
                axis.set_ticklabels(new)
        # where it draws all letters the default one stays alone: each family takes its time
        alone = ["sans-serif"] * (families == mpl.rcParams["font.sans-serif"][:1])
        for text in texts:
            new, own = text.get_text().translate(spelt), text.get_family()
            family = own if own == alone else own + families
            text.set(parse_math=False, family=family, text=new)
        return result

    return drawn


@cache
def _spelling(letters: frozenset[str]) -> tuple[list[str], dict]:
    """Families that draw letters, the default one first, and escapes of those that none draws."""
    from matplotlib.font_manager import fontManager, get_font

    families, left = [], letters - {"\n"}
    for font in sorted(fontManager.ttflist, key=lambda font: font.name != "DejaVu Sans"):
        if left and "Last Resort" not in font.name:  # which draws a box for everything
            with suppress(RuntimeError, OSError):  # a font of pictures, or a damaged one
                drawn = left & {*map(chr, get_font(font.fname).get_charmap())}
                families, left = families + [font.name] * bool(drawn), left - drawn
    return families, str.maketrans({letter: ascii(letter)[1:-1] for letter in left})


def class_colours(n: int) -> list:
    """n distinguishable colours: seaborn's colour-blind palette up to ten, evenly spaced hues
    beyond.
    """
    import seaborn as sns

    return sns.color_palette("colorblind", n) if n <= 10 else sns.husl_palette(n, l=0.55)
