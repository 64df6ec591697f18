"""One look for every figure: sizes, colours, a diverging map centred at 0 that the colour-blind
can read.
"""

from contextlib import contextmanager

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


@contextmanager
def context():
    """The look for the length of a with block."""
    import matplotlib as mpl

    with mpl.rc_context(RC):
        yield


def class_colours(n: int) -> list:
    """n distinguishable colours: seaborn's colour-blind palette up to ten, evenly spaced hues
    beyond.
    """
    import seaborn as sns

    return sns.color_palette("colorblind", n) if n <= 10 else sns.husl_palette(n, l=0.55)
