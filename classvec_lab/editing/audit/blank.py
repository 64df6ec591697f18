"""The reference of ZRF: a network of the same architecture that never learnt anything."""

import copy

from ...checks import same_images
from ...features import extract_features
from ...readout import Readout


def incompetent(classifier, features, dataset, *, seed: int = 0) -> Readout:
    """What a network of the same architecture with random weights gives for the same images.

    Every module that can is initialised anew; the head stays.

    Args:
        classifier: it stays as it is.
        features: of `dataset` under the classifier, for their labels.
        dataset: labelled images.
        seed: draws the weights.
    Raises:
        MismatchError: where data set and features carry different classes or labels.
    """
    import torch

    blank = copy.deepcopy(classifier)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in blank.encoder.modules():
            reset = getattr(module, "_reset_parameters", None)
            if reset := getattr(module, "reset_parameters", reset):
                reset()
                continue
            for own in module.parameters(recurse=False):  # embeddings that no layer owns
                std = own.detach().double().std(correction=0)
                torch.nn.init.normal_(own, std=float(std))
    drawn = extract_features(blank, dataset, progress=False, cache=False)
    same_images(drawn, features, "the data set", "the features")
    return Readout.of(blank, drawn)
