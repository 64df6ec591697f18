"""A set of four images a class is enough for every page, which says what it could not keep to."""

import numpy as np
import pytest
from conftest import coloured
from in_process import parameters, run

from classvec_lab.editing.calibration import RelaxedRate

QUICK = {
    "model": "mlp", "model_args": {"size": 8, "hidden": [8], "dim": 6}, "epochs": 2, "lr": 0.01,
    "layernorms": [], "other_data": "", "beside": "",
}  # fmt: skip


@pytest.fixture
def tiny(tmp_path):
    data = coloured(12, noise=20.0)
    for i, (image, label) in enumerate(data):
        path = tmp_path / "tiny" / data.classes[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return str(tmp_path / "tiny")


@pytest.mark.usefixtures("look")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.filterwarnings("error::classvec_lab.editing.calibration.RelaxedRate")
@pytest.mark.parametrize("number", ["00", "05", "06"])
def test_four_images_a_class(tiny, number):
    assert issubclass(RelaxedRate, UserWarning)  # of which the page tells once, in a sentence
    given = {k: v for k, v in QUICK.items() if k in parameters(number)}
    names = run(number, given | {"dataset": tiny})
    assert np.bincount(names["exp"].val.targets).tolist() == [1, 1, 1]
    told = [s for s in names["says"] if "Gates are calibrated" in s]
    assert told == [
        "Gates are calibrated for 33.3%, the least that 2 validation samples of other classes "
        "allow; 1% was asked for."
    ]
