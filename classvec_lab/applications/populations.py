"""Where sub-populations come from: a column of what is known of each image, or clusters."""

from itertools import product

import numpy as np
import pandas as pd

from ..checks import in_range, index_of, listed, one_of
from ..errors import DatasetError, EditError
from ..statistics import columns
from .subclasses import MARK, cell_names, owner

MOST, FEWEST = 20, 5  # values of a column; images of a cell and of its siblings in each split
HALVINGS, MIDDLE = 10, (0.5, 0.025, 0.975)


def column_cells(dataset, column: str) -> np.ndarray:
    """The cell of each image, (N,): its class, and its value in a column of the metadata.

    Raises DatasetError for a column that isn't there, has gaps, or more than 20 distinct values, as
    measured numbers have.
    """
    table = pd.DataFrame() if dataset.metadata is None else dataset.metadata
    found = table[one_of(column, list(table), "column of the metadata", DatasetError)]
    n, gaps = found.nunique(), found.isna().sum()
    if gaps or n > MOST:
        raise DatasetError(
            f"column={column!r} has {n} distinct values in {dataset.split}, and none for {gaps} "
            f"images: give each image one of at most {MOST}, as pandas.cut makes them of numbers"
        )
    return cell_names(dataset.classes, dataset.targets, found)


def choose_cells(names, *, target: str, value: str, n: int, seed: int) -> list[str]:
    """Cells with five images, and five siblings, in every split.

    Args:
        names: of the images' cells, (N,) by split.
        target, value: the class and the value; "" stands for any.
        n: at most this many, drawn by `seed`.
    Raises:
        EditError: where there is none, saying how many images there are.
    """
    sizes = []
    for found in names.values():
        own = pd.Series(found).value_counts()
        sizes.append(np.minimum(own, own.groupby(owner).transform("sum") - own))
    least = pd.concat(sizes, axis=1).min(axis=1, skipna=False).fillna(0).sort_index()
    pairs = least.index.str.rpartition(MARK)
    asked = least[[target in ("", c) and value in ("", v) for c, _, v in pairs]]
    good = asked[asked >= FEWEST]
    if good.empty:
        have = listed(
            f"{cell} {size:.0f}" for cell, size in (least if asked.empty else asked).items()
        )
        raise EditError(
            f"target={target!r}, value={value!r}: no sub-population has {FEWEST} images, and as "
            f"many siblings in its class, in every split; the smaller of both: {have}"
        )
    return list(good.sample(min(n, len(good)), random_state=seed).index)


def find_clusters(features, target: str, *, most: int, seed: int) -> tuple[dict, pd.DataFrame]:
    """Clusters inside a class by k-means, as many as are the most stable.

    Stability is the adjusted Rand index, on the class's val images, of the clusters of two random
    halves of its training images. Beside it stands that of samples from one Gaussian with their
    covariance. Taken is the k with the largest difference of the medians. Representations are
    clustered as they are: whitened they were less stable.

    Args:
        features: `Features` by split.
        most: clusters at most.
    Returns:
        The samples' cells by split, "star·cluster 1" and so on, "box·all" in other classes; and for
        every k and of (images or one Gaussian) the stability, median and middle 95 % over ten
        halvings, with n, the val images, and whether k is chosen.
    Raises:
        EditError: for an unknown class, or one with fewer than 8 images in train or val.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    rng, c = np.random.default_rng(seed), index_of(target, features["val"].classes, EditError)
    z, held = (features[s].z[features[s].y == c].astype(float) for s in ("train", "val"))
    least = min(len(z), len(held))
    in_range(f"the images of {target} in train and in val", least, 8, np.inf, error=EditError)
    half, rows = len(z) // 2, []

    def fit(x, k):
        return KMeans(k, n_init=3, random_state=seed).fit(x)

    for k, of in product(range(2, min(most, half // 2) + 1), ("images", "one Gaussian")):
        found = []
        for _ in range(HALVINGS):
            x = np.concatenate([rng.permutation(z)[: 2 * half], held])
            if of != "images":
                # larger by the root of n, which changes no cluster
                x = rng.standard_normal((len(x), len(z))) @ (z - z.mean(axis=0))
            sides = (fit(x[i : i + half], k).predict(x[2 * half :]) for i in (0, half))
            found.append(adjusted_rand_score(*sides))
        middle = columns("stability", np.quantile(found, MIDDLE))
        rows.append({"k": k, "of": of, **middle, "n": len(held)})
    table = pd.DataFrame(rows)
    median = table.pivot(index="k", columns="of", values="stability")
    k = (median["images"] - median["one Gaussian"]).idxmax()
    model, names = fit(z, k), {}
    for split, f in features.items():
        own = [f"cluster {i + 1}" for i in model.predict(f.z.astype(float))]
        names[split] = cell_names(f.classes, f.y, np.where(f.y == c, own, "all"))
    return names, table.assign(chosen=table["k"] == k)
