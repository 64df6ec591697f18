"""Accuracy with intervals, per class, and confusion, from features and a head: no forward pass through the encoder."""

import numpy as np
import pandas as pd


def over_seeds(frame: pd.DataFrame, *, by: str = "model") -> pd.DataFrame:
    """Mean accuracy over independent runs: one row a value of `by` with mean, its 95 % t-interval (NaN for one run), n runs.

    frame: one row a run with columns `by` and accuracy.
    """
    from scipy.stats import t

    groups = frame.groupby(by, sort=False)["accuracy"]
    table = groups.agg(["mean", "sem", "count"]).reset_index()
    half = t.ppf(0.975, (table["count"] - 1).clip(lower=1)) * table["sem"]
    return pd.DataFrame(
        {
            by: table[by],
            "accuracy": table["mean"],
            "low": table["mean"] - half,
            "high": table["mean"] + half,
            "n_runs": table["count"],
        }
    )


def confusion(predicted: np.ndarray, y: np.ndarray, classes) -> pd.DataFrame:
    """C × C frame: share of each true class (rows) that was predicted as each class (columns); NaN rows without samples."""
    size = len(classes)
    counts = np.bincount(
        np.asarray(y) * size + np.asarray(predicted), minlength=size * size
    ).reshape(size, size)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    return pd.DataFrame(shares, index=list(classes), columns=list(classes)).rename_axis(
        index="true", columns="predicted"
    )


def feature_map(features, *, dims: int = 2) -> pd.DataFrame:
    """Each sample on the first principal components of its data set: columns pc1, pc2, …, class.

    The frame's attrs["explained"] holds the components' shares of variance.
    """
    from sklearn.decomposition import PCA

    pca = PCA(dims, svd_solver="full")
    points = pca.fit_transform(np.asarray(features.z, np.float64))
    frame = pd.DataFrame(points, columns=[f"pc{i + 1}" for i in range(dims)])
    frame["class"] = pd.Categorical.from_codes(features.y, categories=list(features.classes))
    frame.attrs["explained"] = pca.explained_variance_ratio_.tolist()
    return frame
