"""A linear probe: is a class still found in the representation that the head reads?"""

from dataclasses import dataclass

import numpy as np

from ...readout import Readout
from ...statistics import Estimate, share


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear probe on held-out representations.

    recall: of the target class. others: accuracy on all other classes. hits: whether each target
    sample of the test split was found (n,), for paired comparisons.
    """

    recall: Estimate
    others: Estimate
    hits: np.ndarray


def probe_recovery(train: Readout, test: Readout, target: str) -> Probe:
    """Recall of a class by a linear probe over all C classes.

    A multinomial logistic regression (L2, sklearn's C = 1) on representations that are centred and
    divided by one number, the root mean square of the training split's standard deviations. So the
    probe does not change under rotation, shift or scale, which carry nothing, and does not blow up
    directions that an encoder hardly uses, as a scale for each dimension or whitening would. Hence
    a direction that an edit shrank a thousandfold may pass for erased. Deterministic.

    Args:
        train: the probe learns its true labels.
        test: the probe is measured on it.
        target: name of the class.
    """
    from sklearn.linear_model import LogisticRegression

    z = np.asarray(train.z, float)
    mean = z.mean(axis=0)
    scale = np.sqrt(z.var(axis=0).mean()) or 1.0
    probe = LogisticRegression(max_iter=1000).fit((z - mean) / scale, train.y)
    hits = probe.predict((np.asarray(test.z, float) - mean) / scale) == test.y
    own = test.y == test.index(target)
    return Probe(share(hits[own]), share(hits[~own]), hits[own])
