"""Ways of editing representations tried under several conditions, with and without labels."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from ..checks import one_of
from ..errors import EditError
from ..features import Features
from ..readout import logits
from ..statistics import averaged, columns, ends, paired_change, share, with_ends
from ..words import change, percent, points

SETTINGS = ("reference", "class known", "deployed", "control")
Move = Callable[..., np.ndarray] | Mapping[str, np.ndarray]
Condition = Features | tuple[Features, np.ndarray]
UNEDITED = "unedited"


def judge(
    classifier,
    ways: Mapping[str, Mapping[str, Move]],
    conditions: Mapping[str, Condition],
    *,
    words: bool = False,
) -> pd.DataFrame:
    """Accuracy of a classifier on edited representations: a row a condition and way.

    Args:
        ways: of each setting its methods, a name to a function from representations z (N, m) to
            edited ones. Those of "class known" are given labels y (N,) and value indices w (N,),
            -1 for none, too; any other sees z alone. Where images or weights are changed instead,
            a mapping of conditions to logits (N, C) stands in place of a function.
        conditions: a name to labelled features, with w where samples have a value.
        words: whether the values are the classes' names, so that w is also a class.
    Returns:
        A frame with condition, method, setting, n, and with 95 % intervals accuracy, gain (less
        that of the unedited model, the first row, over the same images) and attack (the share of
        the samples of other classes that is called class w; NaN without `words`).
    Raises:
        EditError: for another setting.
    """
    methods = [("reference", UNEDITED, lambda z: z)]
    for setting, moves in ways.items():
        one_of(setting, SETTINGS, "setting", EditError)
        methods += [(setting, name, move) for name, move in moves.items()]
    rows = []
    for condition, given in conditions.items():
        features, w = valued(given)
        other, before = words & (w >= 0) & (w != features.y), None
        for setting, method, move in methods:
            known = (features.y, w) if setting == "class known" else ()
            there = not callable(move)
            found = move[condition] if there else logits(classifier, move(features.z, *known))
            hits = (called := found.argmax(axis=1)) == features.y
            before = hits if before is None else before
            row = {"condition": condition, "method": method, "setting": setting, "n": len(hits)}
            row |= columns("accuracy", share(hits)) | columns("gain", paired_change(before, hits))
            rows.append(row | columns("attack", share((called == w)[other])))
    return pd.DataFrame(rows)


def valued(given: Condition) -> tuple[Features, np.ndarray]:
    """A condition of `judge` as features and the value index of each sample, -1 for none."""
    return given if isinstance(given, tuple) else (given, np.full(len(given), -1))


def over_seeds(runs: pd.DataFrame, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Means over seeds with 95 % t-intervals; of one seed its own rows, intervals over images.

    Columns without any number are left out.

    Args:
        runs: of `judge`, with a column seed.
        keys: further columns that tell groups apart.
    """
    keys = [*keys, "condition", "method", "setting"]
    runs = runs.dropna(axis="columns", how="all")
    shares = [name for name in ("accuracy", "gain", "attack") if name in runs]
    if runs["seed"].nunique() == 1:
        return runs[[*keys, "n", *with_ends(*shares)]].assign(unit="images")
    return averaged(runs, keys, "n", dict.fromkeys(shares)).assign(unit="seeds")


def trials_say(table: pd.DataFrame, condition: str, *, clean: str = "clean") -> list[str]:
    """What each way does under a condition, beside what it costs on clean images.

    Args:
        table: of `over_seeds`, a row a condition and method.
    """
    rows = {c: part.set_index("method") for c, part in table.groupby("condition")}
    own, costs = rows[condition], rows.get(clean)
    base, says = own.loc[UNEDITED, "accuracy"], []
    for name, row in own.drop(UNEDITED).iterrows():
        told = {"less": "loses", "more": "gains"}.get(change(*ends(row, "gain")[1:]))
        parts = [
            f"{condition}, {row.setting}, {name}: {percent(*ends(row, 'accuracy'))} right, "
            f"{percent(base)} unedited: it "
            + (f"{told} {points(*ends(row, 'gain'))}" if told else "shows no change")
        ]
        if row.get("attack", np.nan) >= 0:
            parts.append(f"attack success {percent(*ends(row, 'attack'))}")
        if costs is not None and name in costs.index:
            parts.append(f"clean images {points(*ends(costs.loc[name], 'gain'))}")
        says.append("; ".join(parts) + ".")
    return says
