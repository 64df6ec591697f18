"""Accuracy over runs, confusion, and a map of the representation, from features and a head."""

import numpy as np
import pandas as pd

from ..statistics import averaged, tally


def mean_over_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over independent runs of each model.

    Args:
        runs: one row a run, with columns model and accuracy.
    Returns:
        One row a model: model, accuracy, its 95 % t-interval (low, high; NaN for one run).
    """
    table = averaged(runs, ["model"], "n_runs", {"accuracy": ""})
    return table[["model", "accuracy", "low", "high", "n_runs"]]


def confusion(predicted: np.ndarray, y: np.ndarray, classes) -> pd.DataFrame:
    """Share of each true class (rows) that was predicted as each class (columns).

    Args:
        predicted, y: class indices (N,).
        classes: names, in the order of the indices.
    Returns:
        A C × C frame; rows of classes without samples are NaN.
    """
    rows = {
        name: tally(predicted[y == i], classes).set_index("class")["share"]
        for i, name in enumerate(classes)
    }
    return pd.DataFrame(rows).T.rename_axis(index="true", columns="predicted")


def feature_map(features) -> pd.DataFrame:
    """Each sample on the first two principal components of its data set: columns pc1, pc2, class.

    The frame's attrs["explained"] holds the components' shares of variance.
    """
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full")
    points = pca.fit_transform(np.asarray(features.z, np.float64))
    frame = pd.DataFrame(points, columns=["pc1", "pc2"])
    frame["class"] = pd.Categorical.from_codes(features.y, categories=list(features.classes))
    frame.attrs["explained"] = pca.explained_variance_ratio_.tolist()
    return frame
