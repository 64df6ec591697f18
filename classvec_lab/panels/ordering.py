"""The order in which a matrix shows its classes, and the blocks that sum up very many."""

import re

import numpy as np

from ..diagnostics.orthogonality import ClassCosines
from ..errors import PanelError
from ..plots import cluster_order
from ..readout import predict
from ..statistics import accuracy
from .base import one_of

ORDERS = ("given", "name", "accuracy", "cluster")
MOST_LINKED = 1_000  # classes that are clustered hierarchically; more are grouped by k-means


def class_order(vectors, classifier, features, cosines: ClassCosines, how: str) -> np.ndarray:
    """Positions (C,) of the classes in the order asked for.

    Args:
        vectors: the class vectors.
        classifier: the fine-tuned one, or None; "accuracy" needs it.
        features: its representations, or None; "accuracy" needs them.
        cosines: of the vectors.
        how: "given"; "name", alphabetical, numbers by value; "accuracy", lowest first, classes
            without samples last; "cluster", neighbours have like rows of cosines (hierarchically up
            to 1,000 classes, else by k-means of the fine-tuned means).
    Raises:
        PanelError: for another order, or accuracy without a classifier and features.
    """
    if one_of(how, ORDERS, "order") == "name":
        split = [re.split(r"(\d+)", name.casefold()) for name in vectors.classes]
        keys = [[int(p) if k % 2 else p for k, p in enumerate(parts)] for parts in split]
        return np.array(sorted(range(len(keys)), key=keys.__getitem__))
    if how == "accuracy":
        if classifier is None or features is None:
            raise PanelError(
                "ordering by accuracy needs a classifier and its features: "
                "give the panel classifier= and features="
            )
        table = accuracy(predict(classifier, features), features.y, features.classes)
        return np.argsort(table["accuracy"].to_numpy()[:-1], kind="stable")
    if how == "given":
        return np.arange(len(vectors))
    if len(vectors) <= MOST_LINKED:
        frame = cosines.frame()
        return frame.index.get_indexer(cluster_order(frame))
    from sklearn.cluster import BisectingKMeans
    from sklearn.preprocessing import normalize

    # groups are split in two again and again, so that neighbours share most of the splits
    groups = BisectingKMeans(len(block_starts(len(vectors))), max_iter=20, random_state=0)
    return np.argsort(groups.fit_predict(normalize(vectors.z_ft.astype("f4"))), kind="stable")


def block_starts(n: int) -> np.ndarray:
    """Where the blocks of n classes begin: about √n blocks of about √n neighbours each."""
    n_blocks = int(np.ceil(np.sqrt(n)))
    return np.arange(n_blocks) * n // n_blocks
