"""What can't be is refused before anything is trained, by the name of the parameter to blame."""

import numpy as np
import pytest
from in_process import parameters, run

from classvec_lab.batch.rules import ASKED, RULES
from classvec_lab.errors import ClassvecError, EditError
from classvec_lab.models import finetuning

SMALL = {"model": "mlp", "model_args": {"size": 8, "hidden": [8], "dim": 4}, "limit": 60}
COMMON = {  # of every notebook with one data set
    "dataset": "digitz", "data_args": {"snow": 1.0}, "limit": 5, "model": "tiny-clop",
    "model_args": {"width": 3}, "weights": "nowhere.safetensors", "head": "cosin",
    "templates": ["no braces"], "epochs": 0, "lr": -0.1, "batch_size": 0, "seed": -1,
    "finetuned": "nowhere", "group": "site", "n_seeds": 0,
}  # fmt: skip
OWN = {
    "00": {
        "targets": ["tree"], "n_retrained": -2, "deploy": "sure", "lambda_": 0.5, "threshold": 2.0,
        "tolerance": -0.1, "false_fire": 0.0, "audited": "tree", "beside": "shapez",
        "beside_epochs": 0, "beside_limit": -1, "floor": -1.0,
    },
    "02": {"split": "tset", "order": "x", "n_boot": 1, "delta": -0.1},
    "03": {
        "split": "tset", "vectors_split": "vall", "alphas": [], "layers": "blocs", "n_images": 0,
        "other_dataset": "shapez", "other_args": {"rain": 1}, "other_limit": 2, "other_epochs": 0,
        "other_lr": -1.0, "n_order": 0, "source_class": "tree", "target_class": "tree",
        "max_pairs": -1, "lambda_": 0.0,
    },
    "04": {"split": "tset", "heads": [], "samples": 0, "n_boot": 1},
    "05": {
        "targets": ["tree"], "lambdas": [0.5], "gate": "margins", "false_fire": 1.0,
        "guarantee": "marginally", "threshold": 1.5, "tolerance": 1.5, "n_retrained": -2,
        "trained": ["negrad"], "n_audited": 0, "in_turn": 0, "relearn_steps": -1,
        "error": ["4", "x"], "error_share": 0.0, "floor": -0.5,
    },
    "06": {
        "targets": ["3", "3"], "lambda_": 1.5, "shrinkage": 1.5, "n_references": 0,
        "layernorms": ["ln_2"], "n_trained": -2, "other_data": "shapez",
    },
    "07": {
        "epochs": -1, "corruption": "snwo", "corruption_args": 3, "strengths": [2.0],
        "n_external": [0], "lambdas": ["a"], "matched": ["ln_9"], "copies": 3, "retrained": -1,
        "false_fire": 1.0,
    },
    "08": {
        "epochs": -1, "n_external": [0], "n_unseen": -1, "lambdas": [], "false_fire": 0.0,
    },
    "09": {
        "source_class": "tree", "target_class": "tree", "n_candidates": 0, "n_pairs": 0,
        "strength": 0.0, "area": 1.5, "eps": 0.0, "steps": 0, "batch": 0,
    },
    "14": {
        "shifts": [], "shift_strength": 1.6, "external": 0, "targets": ["tree"],
        "n_retrained": -2, "false_fire": 0.0,
    },
    "13": {
        "column": "radius", "target": "tree", "n_populations": 0, "most_clusters": 1,
        "false_fire": 1.0, "lambdas": [0.5], "threshold": 1.5, "tolerance": 1.5, "floor": -0.5,
        "n_retrained": -2,
    },
    "12": {
        "attribute": "snov", "attribute_strength": 1.6, "external": 0, "collapse_epochs": 0,
        "order": "x", "lambda_": 0.5,
    },
    "15": {
        "datasets": ["digitz"], "counts": [2, 11], "epochs": [], "n_draws": 0, "n_boot": 0,
        "split": "tset", "limit": 5,
    },
}  # fmt: skip
DRAWN = {"dataset": "shapes", "column": "colour", "limit": 400}
MORE = [  # other ways in which a parameter can't be
    ("00", {"targets": ["3"], "audited": "4"}, "audited must be one of targets"),
    ("01", {"limit": "60"}, "limit must be a whole number from 0 on; got limit='60'"),
    ("02", {"seed": True}, "seed must be a whole number from 0 on; got seed=True"),
    ("02", {"n_boot": 0}, "n_boot must be a whole number from 2 on"),
    ("03", {"source_class": "3", "target_class": "3"}, "source_class and target_class are both"),
    ("03", {"alphas": [0.5, 3]}, r"alphas must be a list, each item a number from -1 to 2"),
    ("05", {"lambdas": "-1"}, "lambdas must be a list"),
    ("12", {"target": "tree"}, "no class 'tree'"),
    ("12", {"external": 99}, "train has fewer than 99 images of 0, 1"),
    ("12", {"attribute": "torchvision:Blur"}, "torchvision.transforms.v2.Blur"),
    ("12", {"attribute": "torchvision:GaussianBlur", "attribute_strength": 1.2}, "the share of"),
    ("05", {"error": ["4"]}, r"error must be \[\] or two classes; got error=\['4'\]"),
    ("05", {"in_turn": 0, "gate": "x"}, r"(?s)gate must be one of 'none'.*\n.*in_turn must be"),
    ("13", DRAWN | {"column": "hue"}, "no column of the metadata 'hue'; there are shape, colour"),
    ("13", DRAWN | {"column": "radius"}, "column='radius' has 400 distinct values.*pandas.cut"),
    ("13", DRAWN | {"value": "crimson"}, "value='crimson': no sub-population.*arch·blue"),
    ("13", DRAWN | {"limit": 60}, "no sub-population has 5 images.*arch·blue 1, arch·cyan 0"),
    ("06", {"layernorms": ["ln_9"]}, r"layernorms=\['ln_9'\]: no choice of LayerNorms 'ln_9'"),
]
MORE += [
    ("07", {"corruption": "folder:nowhere", "strengths": [1.0]}, "nowhere"),
    ("08", {"n_external": [9]}, "train has fewer than 9 images of 0"),
    ("14", {"external": 9}, "train has fewer than 9 images of 0"),
    ("14", {"shifts": ["marker", "rain"]}, "no corruption 'rain'"),
]
NAMED = {  # parameters that an error names otherwise
    "dataset": "unknown data set 'digitz'", "datasets": "unknown data set 'digitz'", "data_args": "option snow", "other_args": "option rain",
    "model": "tiny-clop", "model_args": "width", "weights": "nowhere.safetensors",
    "finetuned": "nowhere", "beside": "unknown data set 'shapez'",
    "other_dataset": "unknown data set 'shapez'", "other_data": "unknown data set 'shapez'",
    "attribute": "no corruption 'snov'; did you mean 'snow'?",
    "other_limit": "limit=2 leaves some", "group": "digits has no option group",
}  # fmt: skip


class Trained(Exception):
    """Training was called."""


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch, look):
    def train(*args, **kwargs):
        raise Trained

    monkeypatch.setattr(finetuning, "train_or_load", train)


def small(number, changes):
    """The changes, on top of what makes a notebook quick as far as training."""
    own = {"layernorms": []} if number == "06" else {}
    own |= {"matched": []} if number == "07" else {}
    own |= {"epochs": 1} if number in ("07", "08") else {}
    own |= {"dataset": "digits"} if number in ("07", "08", "14") else {}
    own |= {"dataset": "digits", "column": ""} if number == "13" else {}
    return {**{k: v for k, v in SMALL.items() if k in parameters(number)}, **own, **changes}


BAD = [(n, {k: v}) for n, own in OWN.items() for k, v in own.items()]
BAD += [
    (n, {k: v})
    for n in ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "13", "14")
    for k, v in COMMON.items()
    if k in parameters(n) and k not in OWN.get(n, {})
]


@pytest.mark.parametrize(("number", "changes"), BAD, ids=str)
def test_it_is_refused_by_name_before_training(number, changes):
    ((name, value),) = changes.items()
    given = {"model": "tiny-clip", "model_args": {}} if name in ("weights", "model_args") else {}
    with pytest.raises((ClassvecError, FileNotFoundError)) as caught:
        run(number, small(number, given | changes))
    text = NAMED.get(name, name)
    assert text in str(caught.value)
    if isinstance(value, str | int | float) and name != "group":
        assert str(value) in str(caught.value)


@pytest.mark.parametrize(("number", "changes", "message"), MORE, ids=str)
def test_other_ways(number, changes, message):
    with pytest.raises(ClassvecError, match=message):
        run(number, small(number, changes))


@pytest.mark.filterwarnings("ignore:lacking.npz. test has no image of 2")
@pytest.mark.parametrize("number", ["00", "02", "03", "04", "05", "06", "09", "12", "14"])
def test_a_class_that_test_lacks_is_named_before_training(number, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (36, 8, 8), dtype=np.uint8)
    train, test = np.arange(24) % 3, np.arange(12) % 2
    arrays = {"x_train": images[:24], "y_train": train, "x_test": images[24:], "y_test": test}
    np.savez(tmp_path / "lacking.npz", **arrays)
    with pytest.raises(EditError, match="class '2' has no image in test: add some"):
        run(number, small(number, {"dataset": str(tmp_path / "lacking.npz")}))


@pytest.mark.parametrize(
    "number", ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "12", "13", "14", "15"]
)
def test_what_can_be_is_trained(number):
    with pytest.raises(Trained):
        run(number, small(number, {}))


@pytest.mark.parametrize(
    "number", ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "12", "13", "14", "15"]
)
def test_every_parameter_has_a_rule(number):
    """One that has neither a rule nor a question to data and model is listed here."""
    free = {"out", "kept", "collapse_boot"}
    assert parameters(number).keys() - RULES.keys() - set(ASKED) <= free
