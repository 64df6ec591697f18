"""Intervals and resampling that the diagnostics share, in float64, seeded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .errors import MismatchError

Interval = tuple[float, float, float]  # a value and the ends of its 95 % interval


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval (NaN ends where none is known).

    Iterating gives (value, low, high), as the functions here that return an interval do.

    Args:
        n: what is behind it, samples unless `name` says otherwise.
        name: the class it is of, or what n counts.
    """

    value: float
    low: float
    high: float
    n: int
    name: str = ""

    def __iter__(self):
        return iter((self.value, self.low, self.high))


def resampling_counts(n: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """How often each sample is drawn in each bootstrap resample of size n, (n_boot, n) float64."""
    drawn = rng.integers(n, size=(n_boot, n)) + n * np.arange(n_boot)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_boot * n).reshape(n_boot, n).astype(float)


def zero_divisions():
    """A context, or a decorator, in which 0/0 gives NaN and x/0 infinity, without a warning."""
    return np.errstate(divide="ignore", invalid="ignore")


def rates(hits, n) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hits / n, low, high) with Wilson's 95 % interval, elementwise; NaN where n is 0.

    `hits` may be fractional.
    """
    from scipy.special import ndtri  # norm.ppf without its checks, which cost ten times as much

    hits, n = np.asarray(hits, float), np.asarray(n, float)
    z = ndtri(0.975)
    with zero_divisions():
        p, more = hits / n, z**2 / n
        centre = (p + more / 2) / (1 + more)
        half = z / (1 + more) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # rounding must not leave a share of 0 or 1 outside
    return p, np.clip(centre - half, 0, p), np.clip(centre + half, p, 1)


def t_interval(mean, standard_error, df, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """mean ± t(df) · standard error, (low, high), elementwise; NaN where df < 1."""
    from scipy.special import stdtrit  # t.ppf without its checks

    half = np.where(np.greater_equal(df, 1), stdtrit(df, 0.5 + level / 2), np.nan) * standard_error
    return mean - half, mean + half


def mean_interval(values: np.ndarray) -> Interval:
    """(mean, low, high) of independent values (…, n) over the last axis, by Student's t.

    The ends of the 95 % interval are NaN for fewer than two values.
    """
    values = np.asarray(values, float)
    n = values.shape[-1]
    mean = values.mean(axis=-1) if n else np.nan
    error = values.std(axis=-1, ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return mean, *t_interval(mean, error, n - 1)


def ratio_interval(numerator: np.ndarray, denominator: np.ndarray) -> Interval:
    """(ratio, low, high) of mean(numerator) / mean(denominator) over paired samples (n,).

    By linearisation and Student's t; NaN without samples or where the denominator is 0 throughout.
    """
    ratio, residual = _linearised(numerator, denominator)
    _, low, high = mean_interval(residual)
    return ratio, ratio + low, ratio + high


def ratio_difference(first, second) -> Interval:
    """(difference, low, high) of two ratios of means over the same samples.

    Args:
        first, second: (numerator, denominator), each (n,), as `ratio_interval` takes them.
    """
    (one, own), (other, rest) = (_linearised(*pair) for pair in (first, second))
    _, low, high = mean_interval(own - rest)
    return one - other, one - other + low, one - other + high


def _linearised(numerator, denominator):
    """The ratio of the means, and what each sample adds to its error."""
    numerator, denominator = (np.asarray(x, float) for x in (numerator, denominator))
    if not denominator.any():
        return np.nan, np.full(len(numerator), np.nan)
    ratio = float(numerator.mean() / denominator.mean())
    return ratio, (numerator - ratio * denominator) / denominator.mean()


def per_class(function, y: np.ndarray, classes, *values: np.ndarray) -> pd.DataFrame:
    """One row a class and a last row "all": n and the columns of `function(*values of it)`."""
    chosen = [*(y == i for i in range(len(classes))), np.ones(len(y), bool)]
    return pd.DataFrame(
        {"class": name, "n": int(own.sum()), **function(*(v[own] for v in values))}
        for name, own in zip([*classes, "all"], chosen, strict=True)
    )


def shares(hits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(share, low, high) of hits (…, n) over the last axis with Wilson's interval; NaN for none.

    Hits may be fractional, as means over draws.
    """
    hits = np.asarray(hits, float)
    return rates(hits.sum(axis=-1), hits.shape[-1])


def share(hits) -> Estimate:
    """`shares` of hits (n,) as an `Estimate`."""
    return Estimate(*map(float, shares(hits)), len(hits))


def median(values) -> Estimate:
    """Median of independent values (n,), NaN left out; the interval joins two order statistics.

    It is the range that bounds the median with 95 % confidence; below 6 values there is none.
    """
    from scipy.stats import quantile_test

    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    ends = quantile_test(values).confidence_interval(0.95)
    return Estimate(float(np.median(values)), *map(float, ends), len(values))


def split_accuracy(hit: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """ACC_f over the samples of the classes to forget and ACC_r over all others.

    hit, own (N,) bool: answered rightly, and of a class to forget. Gives n_f, acc_f, its 95 %
    Wilson interval (acc_f_low, acc_f_high), and the same for r.
    """
    row = {}
    for name, chosen in (("f", own), ("r", ~own)):
        row |= {f"n_{name}": chosen.sum(), **columns(f"acc_{name}", share(hit[chosen]))}
    return row


def paired_change(before, after) -> Estimate:
    """Share of `after` less share of `before`, hits (n,) of the same samples, in [-1, 1].

    The interval joins the Wilson intervals of the gains and of the losses (Newcombe 1998's
    square-and-add), so that it has a width where nothing changed.
    """
    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    gain, loss = share(after & ~before), share(before & ~after)
    value = gain.value - loss.value
    low = value - np.hypot(gain.value - gain.low, loss.high - loss.value)
    high = value + np.hypot(gain.high - gain.value, loss.value - loss.low)
    return Estimate(value, *map(float, np.clip((low, high), -1, 1)), len(before))


def accuracy(predicted: np.ndarray, y: np.ndarray, classes=()) -> pd.DataFrame:
    """One row a class and a last row "all": n, accuracy, and its 95 % Wilson interval (low, high).

    NaN without samples. Raises MismatchError for anything but labels (N,).
    """
    if np.ndim(predicted) != 1:
        raise MismatchError(
            "this compares labels: write accuracy(predicted, y, classes), and for a model and its "
            f"data classvec_lab.readout.accuracy(model, dataset); got {type(predicted).__name__}"
        )
    hits = np.equal(predicted, y)
    return per_class(lambda hit: columns("accuracy", share(hit), ""), y, classes, hits)


def known_mean(values) -> Interval:
    """`mean_interval` of the finite ones among `values` (n,)."""
    values = np.asarray(values, float)
    return mean_interval(values[np.isfinite(values)])


def tally(predicted, classes) -> pd.DataFrame:
    """What samples are taken for: one row a class with hits, n, share and its interval.

    Args:
        predicted: class indices (n,); without any, shares and intervals are NaN.
        classes: names, in the order of the indices.
    """
    hits, n = np.bincount(predicted, minlength=len(classes)), len(predicted)
    found = columns("share", rates(hits, n), "")
    return pd.DataFrame({"class": list(classes), "hits": hits, "n": n, **found})


def columns(name: str, found, prefix: str | None = None) -> dict[str, float]:
    """A value and its interval as columns of a table: `name`, `name_low`, `name_high`.

    Args:
        name: of the value's column.
        found: an `Estimate`, or (value, low, high).
        prefix: what the columns of the ends begin with, in place of "name_"; "" gives low and high.
    """
    return dict(zip(_names(name, prefix), found, strict=True))


def ends(row, name: str, prefix: str | None = None) -> Interval:
    """(value, low, high) from a row of a table whose columns `columns` named."""
    return tuple(row[column] for column in _names(name, prefix))


def _names(name, prefix=None):
    prefix = f"{name}_" if prefix is None else prefix
    return name, f"{prefix}low", f"{prefix}high"


def averaged(
    table: pd.DataFrame, keys: list[str], count: str, shares: dict[str, str | None]
) -> pd.DataFrame:
    """Means of shares over the rows of a table that agree in `keys`, with 95 % t-intervals.

    Args:
        table: rows in which a share may be NaN, which is left out.
        keys: columns; groups come in the order in which they appear.
        count: the column that says of how many rows the first share is known.
        shares: the columns to average, each with the prefix of its interval (see `columns`).
    Returns:
        One row a group: keys, count, and the shares with their intervals, which stay in [0, 1], or
        [-1, 1] where the name is that of a change.
    """
    rows = []
    for values, part in table.groupby(keys, sort=False):
        row = {**dict(zip(keys, values, strict=True)), count: part[next(iter(shares))].count()}
        for name, prefix in shares.items():
            row |= columns(name, np.clip(known_mean(part[name]), _least(name), 1), prefix)
        rows.append(row)
    return pd.DataFrame(rows)


def _least(name: str) -> float:
    """Where a share begins: at 0, or at -1 for what an edit changes of one."""
    return -1.0 if name.startswith(("change", "gain")) else 0.0


def auc(positive: np.ndarray, negative: np.ndarray) -> Estimate:
    """Area under the ROC curve of two groups' scores, (m,) and (n,).

    The interval is DeLong's (1988).
    """
    from scipy.special import ndtri

    m, n = len(positive), len(negative)
    both = pd.Series(np.concatenate([positive, negative]))
    ranks = both.rank()
    above = (ranks[:m] - both[:m].rank()) / n  # share of negatives below each positive
    below = 1 - (ranks[m:] - both[m:].rank()) / m
    half = ndtri(0.975) * np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    value = above.mean()
    return Estimate(*map(float, np.clip((value, value - half, value + half), 0, 1)), m + n)


def crossed_mean(values: pd.Series, classes: pd.Series, trainings: pd.Series) -> Estimate:
    """Mean over classes crossed with trainings; its 95 % interval is for new ones of both.

    Cells of one class go together, and so do those of one training: V = V_classes + V_trainings -
    V_cells, at least the larger of the first two, and Student's t with Satterthwaite's degrees of
    freedom. With one training it is the spread over classes, which says nothing about another
    training, and the other way round. All share one split of the images. `n` counts the classes
    and `name` what they are crossed with: "classes × 3 trainings".

    Args:
        values: one a class, training and perhaps draw; NaN is left out, draws are averaged first.
        classes, trainings: which ones each value is of.
    Source: Cameron, Gelbach and Miller 2011; Satterthwaite 1946.
    """
    cells = values.groupby([classes.to_numpy(), trainings.to_numpy()], sort=False).mean().dropna()
    n, mean, codes = len(cells), cells.mean(), cells.index.remove_unused_levels().codes
    spread = cells.to_numpy() - mean
    sides = [np.bincount(code, weights=spread) for code in codes]

    def variance(sums) -> float:
        """Of the mean, from the sums over what goes together."""
        return np.square(sums).sum() / n**2 * len(sums) / (len(sums) - 1)

    several = [x for x in sides if len(x) > 1]
    v, df = np.array([variance(x) for x in several]), np.array([len(x) - 1 for x in several])
    low = high = np.nan
    if several:
        total = max(v.sum() - (variance(spread) if len(v) > 1 else 0), *v)
        with np.errstate(invalid="ignore"):
            df = np.fmax(total**2 / (v**2 / df).sum(), df.min())
        low, high = t_interval(mean, np.sqrt(total), df)
    n_classes, n_trainings = map(len, sides)
    unit = "class" if n_classes == 1 else "classes"
    unit += f" × {n_trainings} trainings" if n_trainings > 1 else ""
    return Estimate(float(mean), float(low), float(high), n_classes, unit)


def with_ends(*names: str) -> list[str]:
    """Each name with those of its interval's ends: "x", "x_low", "x_high"."""
    return [column for name in names for column in _names(name)]


def summarise(
    table: pd.DataFrame, keys: Sequence[str], wanted: Sequence[str], *, of: str = "acc_f"
) -> pd.DataFrame:
    """One row a group of a table that has a row a target, a seed and perhaps a draw.

    Means and intervals are those of `crossed_mean`, over targets and seeds.

    Args:
        table: columns target, seed, the keys, and those to summarise.
        keys: the columns that make a group.
        wanted: what to give of each group, in this order. For a column x: "x", its mean, "x_low"
            and "x_high", the interval, cut off where a share ends (at -1 for a change), "worst_x",
            the largest once draws are averaged, "lowest_x", the smallest of single draws, and
            "n_x", over how many targets it is known. Of `of`: "n" and "unit", what its mean is
            over, and "worst_target", where it is largest.
    """
    known = [x for x in table if x != "target" and not x.endswith(("_low", "_high"))]
    read = [x for x in known if {x, f"worst_{x}"} & {*wanted}]
    rows = []
    for key, part in table.groupby(list(keys), sort=False, dropna=False):
        row = dict(zip(keys, key, strict=True))
        draws = part.groupby(["target", "seed"], sort=False)
        for name in read:
            x, cells = part[name], draws[name].mean()
            found = crossed_mean(x, part["target"], part["seed"])
            least = _least(name)
            share = x.dropna().between(least, 1).all()
            row |= columns(name, np.clip(tuple(found), least, 1) if share else found)
            row |= {f"worst_{name}": cells.max(), f"lowest_{name}": x.min(), f"n_{name}": found.n}
            if name == of:
                row |= {"n": found.n, "unit": found.name, "worst_target": cells.idxmax()[0]}
        rows.append(row)
    return pd.DataFrame(rows, columns=[*keys, *wanted])
