"""The reference of ZRF: a network of the same architecture that never learnt anything."""

import copy

import numpy as np

from ...errors import MismatchError
from ...features import extract_features
from ...readout import Readout


def incompetent(classifier, features, dataset, *, seed: int = 0) -> Readout:
    """What a network of the same architecture with random weights gives for the same images: the reference of ZRF.

    features: of `dataset` under the classifier, for their labels. Every module that can is initialised anew by `seed`;
    the head stays.
    """
    import torch

    blank = copy.deepcopy(classifier)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in blank.encoder.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(
                module, "_reset_parameters", None
            )
            if reset is not None:
                reset()
                continue
            for parameter in module.parameters(
                recurse=False
            ):  # embeddings and projections that no layer owns
                torch.nn.init.normal_(
                    parameter, std=float(parameter.detach().double().std(correction=0))
                )
    drawn = extract_features(blank, dataset, progress=False, cache=False)
    if not np.array_equal(drawn.y, features.y):
        raise MismatchError(
            "the data set and the features carry different labels: give the data that the features came from"
        )
    return Readout.of(blank, drawn)
