"""The notebooks of the applications on real images, with a real ImageNet network, by parameters."""

import pandas as pd
import pytest
from conftest import MOBILENET
from in_process import parameters, run

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("look")]


@pytest.fixture
def given(shared, tmp_path):
    """Parameters of a notebook for a folder of real images."""

    def given(number, folder, **changes):
        weights = shared / "weights" / "mobilenetv2_100_imagenet.safetensors"
        common = {
            "dataset": str(folder),
            "model": "timm:mobilenetv2_100",
            "model_args": MOBILENET,
            "weights": str(weights),
            "head": "probe",
            "limit": 36,
            "epochs": 1,
            "layernorms": [],
            "matched": [],
            "retrained": 0,
            "n_external": [3],
            "external": 3,
            "n_retrained": 0,
            "lambdas": [-1.0],
            "out": str(tmp_path / number),
        }
        known = parameters(number)
        return {k: v for k, v in common.items() if k in known} | changes

    return given


def test_snow_on_photographs(given, photographs):
    own = {"false_fire": 0.05, "matched": ["encoder"], "copies": 2}
    names = run("07", given("07", photographs, **own))
    table = names["accuracy"].set_index(["condition", "method"])["accuracy"]
    assert table["clean", "unedited"] > 0.6
    assert table["snow", "κ"] > table["snow", "unedited"]  # which knows the class
    assert set(names["headroom"]["method"]) == {"unedited", "new head"}


def test_words_on_photographs_do_nothing_to_a_network_that_does_not_read(given, photographs):
    names = run("08", given("08", photographs, n_unseen=1))
    table = names["accuracy"].set_index(["condition", "method"])
    assert table.loc[("conflict", "unedited"), "attack"] < 0.4
    change = table.loc[("conflict", "linear map in the weights"), "gain"]
    assert abs(change) < 0.2


@pytest.mark.parametrize(("folder", "n_classes"), [("pneumonia", 2), ("steel_defects", 6)])
def test_a_worked_example_in_medicine_and_in_manufacturing(
    given, shared, folder, n_classes, tmp_path
):
    names = run("14", given("14", shared / "data" / folder, false_fire=0.1))
    assert len(names["classes"]) == n_classes
    said = " ".join(names["says"])
    assert ("There are two classes" in said) == (n_classes == 2)
    taken = pd.read_csv(tmp_path / "14" / "taken_out.csv").set_index("method")
    assert taken.loc["relocated in the weights", "acc_f"] < 0.5 < taken.loc["unedited", "acc_f"]
    assert taken.loc["logit mask", "acc_f"] == 0
