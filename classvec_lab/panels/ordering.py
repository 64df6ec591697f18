"""The order in which a matrix shows its classes, and the blocks that very many of them are summed up in."""

import numpy as np

from ..diagnostics.orthogonality import ClassCosines
from ..errors import PanelError
from ..plots import cluster_order
from ..readout import predict
from ..statistics import accuracy

ORDERS = ("given", "name", "accuracy", "cluster")
MOST_LINKED = 1_000  # classes that are clustered hierarchically; more are grouped by k-means


def class_order(
    how: str, vectors, cosines: ClassCosines, *, classifier=None, features=None
) -> np.ndarray:
    """Positions (C,) of the classes in the order asked for.

    name: alphabetical, numbers by value; accuracy: lowest first, which needs the classifier and its features; cluster:
    neighbours have like rows of cosines (hierarchically up to 1,000 classes, else by k-means of the fine-tuned means).
    """
    if how == "given":
        return np.arange(len(vectors))
    if how == "name":
        return np.array(sorted(range(len(vectors)), key=lambda i: _by_name(vectors.classes[i])))
    if how == "accuracy":
        if classifier is None or features is None:
            raise PanelError(
                "ordering by accuracy needs a classifier and its features: give the panel classifier= and features="
            )
        table = accuracy(predict(classifier, features), features.y, features.classes)
        return np.argsort(
            table["accuracy"].to_numpy()[:-1], kind="stable"
        )  # classes without samples last
    if len(vectors) <= MOST_LINKED:
        frame = cosines.frame("cosine")
        return np.array([vectors.index(name) for name in cluster_order(frame)])
    return _by_means(vectors)


def block_starts(n: int) -> np.ndarray:
    """Where the blocks of n classes begin: about √n blocks of about √n neighbours each."""
    n_blocks = int(np.ceil(np.sqrt(n)))
    return np.unique(np.arange(n_blocks) * n // n_blocks)


def _by_name(name: str) -> tuple:
    import re

    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part.casefold())
        for part in re.split(r"(\d+)", name)
        if part
    )


def _by_means(vectors) -> np.ndarray:
    from scipy.cluster.hierarchy import leaves_list, linkage
    from sklearn.cluster import MiniBatchKMeans

    unit = (
        vectors.z_ft / np.maximum(np.linalg.norm(vectors.z_ft, axis=1, keepdims=True), 1e-12)
    ).astype(np.float32)
    k = len(block_starts(len(vectors)))
    groups = MiniBatchKMeans(k, random_state=0, n_init=1, batch_size=4096, max_iter=20).fit(unit)
    rank = np.empty(k, dtype=int)
    rank[leaves_list(linkage(groups.cluster_centers_, method="average"))] = np.arange(k)
    return np.lexsort((np.arange(len(vectors)), rank[groups.labels_]))
