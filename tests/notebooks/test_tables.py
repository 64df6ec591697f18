"""In every table that a notebook makes, a value lies within its own interval; so it does in words.

All notebooks run in this process on ten images a class, where estimators differ most; figures are
left out. Those that take long are slow tests; of them, as of all, the gallery's tables are read.
Ends that belong to no value fail, so that a new table can't escape by its names.
"""

import re
from unittest.mock import MagicMock

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

from classvec_lab.batch.outputs import Outputs, read_manifest
from classvec_lab.batch.parameters import load_cells

NOTEBOOKS = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb"))
GALLERY = sorted(p.parent.name for p in (REPOSITORY / "figures").glob("[0-9]*/manifest.json"))
# Parameters that a notebook doesn't have are left out.
TINY = {
    "model": "mlp", "limit": 100, "epochs": 2, "n_seeds": 2, "targets": ["0", "1", "2"],
    "n_boot": 50, "beside": "", "other_limit": 100, "other_epochs": 1, "n_images": 60,
    "n_order": 20, "layernorms": [], "other_data": "", "error": ["4", "9"], "error_share": 0.9,
    "collapse_epochs": 1, "collapse_boot": 50, "in_turn": 2, "max_pairs": 30, "n_draws": 2,
    "counts": [3, 10],
}  # fmt: skip
OWN = {
    "05_unlearning": {"false_fire": 0.05},  # what ten images a class allow a gate
    "06_weight_mapping": {"limit": 110},  # the least for a gate that fires on 1 % of the others
    "07_environment": {"dataset": "digits", "retrained": 1, "copies": 2, "lambdas": [-1.0]},
    "08_typographic": {"dataset": "digits", "lambdas": [-1.0]},
    "09_trigger": {"steps": 3, "batch": 8},
    "13_subclasses": {  # five images of a cell in each split
        "limit": 250,
        "column": "size",
        "n_populations": 2,
        "most_clusters": 4,
        "lambdas": [-1.5, -5.0],
    },
    "14_in_the_field": {"dataset": "digits", "false_fire": 0.05},
    "15_how_many_classes": {"epochs": [1, 2]},
}
# Where a distribution lies, of nulls and of all entries: no interval of a value.
RANGES = {"null", "entries"}
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
SAID = re.compile(rf"({NUMBER})%? ?\[({NUMBER})%?, ({NUMBER})%?\]")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the code cells of a notebook: its tables by name, unrounded, and its sentences."""
    folder = tmp_path_factory.mktemp("tables")

    def run(stem):
        tables, said = {}, []

        def table(outputs, frame, name):
            tables[name] = frame
            return written(outputs, frame, name)

        def record(outputs, **facts):
            said.extend(facts.get("says", ()))

        written = Outputs.table
        space = {"__name__": "__main__", "display": lambda *shown: None}
        changes = TINY | OWN.get(stem, {}) | {"source": str(folder), "out": str(folder / stem)}
        with pytest.MonkeyPatch.context() as patch, mpl.rc_context():
            patch.setenv("CLASSVEC_DATA", str(folder / "data"))
            patch.setattr(Outputs, "table", table)
            patch.setattr(Outputs, "record", record)
            patch.setattr(Outputs, "figure", lambda outputs, figure, name: None)
            for kind, source, tags in load_cells(REPOSITORY / "notebooks" / f"{stem}.ipynb"):
                if kind == "code":
                    exec(source, space)
                if "plots" in space:
                    space["plots"] = MagicMock()
                if "parameters" in tags:
                    space |= {name: x for name, x in changes.items() if name in space}
        return tables, said

    return run


def found_intervals(table):
    """(value, low, high) of every pair of ends: names of columns, value None for a range.

    The value stands directly before its low end, as `statistics.columns` writes them, and where the
    ends say a name, it is in the value's.
    """
    names = list(table)
    for place, name in enumerate(names):
        words = str(name).split("_")
        side = {"low", "high"} & {*words}
        if not side:
            continue
        assert len(side) == 1, f"{name!r} is two ends"
        low, high = ("_".join(end if w in side else w for w in words) for end in ("low", "high"))
        stem = {*words} - side
        value = names[place - 1] if place else ""
        if side == {"high"} and low in names:
            assert names[place - 1] == low, f"{name!r} does not follow {low!r}"
            continue
        if stem & RANGES:
            yield None, low, high
            continue
        assert high in names or side == {"high"}, f"{low!r} has no high end"
        fits = value and pd.api.types.is_numeric_dtype(table[value])
        fits = fits and stem <= {*value.split("_")}
        assert fits, f"{name!r} belongs to no value: before it stands {value!r}"
        yield value, low, high


def misplaced(table):
    """Rows in which a value misses its own interval, in words."""
    found = []
    for value, low, high in found_intervals(table):
        lower = table[low].to_numpy(float) if low in table else np.full(len(table), -np.inf)
        upper = table[high].to_numpy(float)
        middle = table[value].to_numpy(float) if value else lower
        near = np.isclose(middle, lower, rtol=1e-9) | np.isclose(middle, upper, rtol=1e-9)
        bad = ((lower > middle) | (upper < middle)) & ~near
        bad |= np.isnan(middle) & (np.isfinite(lower) | np.isfinite(upper))
        found += [f"{value}: {row.to_dict()}" for _, row in table[bad].iterrows()]
    return found


@pytest.mark.parametrize("stem", GALLERY)
def test_a_value_of_the_gallery_lies_within_its_own_interval(stem):
    folder = REPOSITORY / "figures" / stem
    require(
        {path.name: pd.read_csv(path) for path in folder.glob("*.csv")},
        read_manifest(folder)["facts"].get("says", ()),
    )


LONG = ("03_linearity", "05_unlearning", "07_environment", "08_typographic", "13_subclasses")


@pytest.mark.parametrize(
    "stem", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in NOTEBOOKS]
)
def test_a_value_lies_within_its_own_interval(stem, run):
    require(*run(stem))


def require(tables, said):
    assert tables
    for name, table in tables.items():
        assert not misplaced(table), name
    for sentence in said:
        for numbers in SAID.findall(sentence):
            value, low, high = (float(x.replace(",", "")) for x in numbers)
            assert low <= value <= high, sentence


def test_intervals_are_found_by_where_they_stand_and_how_they_are_named():
    names = ["n", "share", "low", "high", "x", "x_low", "x_high", "y_rate", "y_low", "y_high"]
    names += ["corrected_centred", "low_centred", "high_centred", "null_low", "null_high"]
    table = pd.DataFrame([range(len(names))], columns=names)
    assert list(found_intervals(table)) == [
        ("share", "low", "high"),
        ("x", "x_low", "x_high"),
        ("y_rate", "y_low", "y_high"),
        ("corrected_centred", "low_centred", "high_centred"),
        (None, "null_low", "null_high"),
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["low", "high"], "'low' belongs to no value"),
        (["name", "low", "high"], "'low' belongs to no value"),
        (["x", "n", "x_low", "x_high"], "'x_low' belongs to no value: before it stands 'n'"),
        (["x", "x_low", "n"], "no high end"),
        (["x", "x_low", "n", "x_high"], "'x_high' does not follow 'x_low'"),
        (["n", "x_high"], "'x_high' belongs to no value"),
    ],
)
def test_ends_without_a_value_fail(names, message):
    table = pd.DataFrame([["a" if name == "name" else 1.0 for name in names]], columns=names)
    with pytest.raises(AssertionError, match=message):
        list(found_intervals(table))


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ((0.49, 0.54, 0.63), False),
        ((0.6, 0.54, 0.63), True),
        ((0.7, 0.54, 0.63), False),
        ((0.6, 0.54, np.nan), True),
        ((0.5, 0.54, np.nan), False),
        ((0.5, np.nan, np.nan), True),
        ((np.nan, 0.54, 0.63), False),
        ((np.nan, np.nan, np.nan), True),
    ],
)
def test_a_value_outside_is_told(row, right):
    table = pd.DataFrame([row], columns=["share", "low", "high"])
    assert bool(misplaced(table)) != right
