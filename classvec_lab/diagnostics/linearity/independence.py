"""Does an edit along one class vector leave the other classes alone? Edits without a gate."""

import itertools

import numpy as np
import pandas as pd

from ...checks import in_range, record
from ...readout import Latent, check_labelled, random_like
from ...statistics import averaged, columns, ends, known_mean, per_class, share, shares, with_ends
from ...words import change, most, percent, points, several, side

VECTOR, RANDOM = "class vector", "random direction"
SCALES = np.arange(-8, 9) / 4
MOST_SIZES = 12  # values of k, from one class to all
DRAWS = 5  # of random directions, and of orders of the classes
EFFECTS = {
    "less": "costs the other classes accuracy",
    "more": "adds to the other classes' accuracy",
    "no change shown": "shows no effect on the other classes",
}


@record
class Scaling:
    """Accuracy of class c, and of all others, when z + alpha κ_c is read.

    table: direction (class vector, or random direction as control), class, alpha, n and accuracy of
    class c with its 95 % Wilson interval (low, high), n_others, others and its interval: the other
    classes under the same edit. For random directions the shares are means over n_draws.
    knows_label: class c is chosen by its label; nothing gates the others.
    """

    table: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Mean accuracies by direction and alpha, with 95 % t-intervals over the classes."""
        table = self.table.assign(n=self.table["n"] + self.table["n_others"])
        both = {"accuracy": "", "others": None}
        return averaged(table, ["direction", "alpha", "n"], "n_classes", both)

    def says(self) -> tuple[str, ...]:
        """The sentences: what the strongest edits, and alpha = -1, do to both."""
        table, sentences = self.summary().set_index(["direction", "alpha"]), []
        own = self.table[self.table["direction"] == VECTOR]
        others = own.pivot(index="class", columns="alpha", values="others")
        for alpha in (-2.0, -1.0, 2.0):
            row, control = table.loc[(VECTOR, alpha)], table.loc[(RANDOM, alpha)]
            lost = known_mean(others[alpha] - others[0.0])
            sentences.append(
                f"At alpha = {alpha:+g} a class keeps {percent(*ends(row, 'accuracy', ''))} and "
                f"the others {percent(row['others'])} (n = {row['n_classes']:.0f} classes); a "
                f"random direction leaves {percent(control['accuracy'])} and "
                f"{percent(control['others'])}. "
                f"The edit {EFFECTS[change(*lost[1:])]} ({points(*lost)})."
            )
        return tuple(sentences)


@record
class Additivity:
    """Accuracy inside and outside a growing set of classes whose vectors are added up.

    lambda_ · Σ κ_c is added to every sample.

    table: direction (class vector, or as control a random direction of the sum's length), k
    (classes in the set), lambda_, n (samples), n_orders, inside and outside with 95 % t-intervals
    over random orders of the classes, and beside, the class vectors' outside less the control's
    with its paired interval. Orders share the samples, so the intervals show the choice of classes,
    not of images.
    """

    table: pd.DataFrame
    lambda_: float

    def says(self) -> tuple[str, ...]:
        """The sentences: what one vector, half of the classes, and all but the last do."""
        table = self.table.dropna(subset="outside").set_index("k")
        vector, random = (table[table["direction"] == d] for d in (VECTOR, RANDOM))
        sentences = []
        for k in dict.fromkeys(vector.index[[0, len(vector) // 2, -1]]):
            row, outside = vector.loc[k], ends(vector.loc[k], "outside")
            told = side(*ends(row, "beside")[1:])
            sentences.append(
                f"{self.lambda_:+g} times the sum of {several(k, 'class vector')} leaves "
                f"{percent(row['inside'])} of the set and {percent(*outside)} of the others (n = "
                f"{row['n_orders']} orders), {told} a random direction's "
                f"{percent(random.loc[k, 'outside'])}."
            )
        return tuple(sentences)


@record
class CyclicShift:
    """Every class moved to the next at once: share of its samples predicted as that next class.

    table: class (each, and "all"), target, n, success with its 95 % Wilson interval (low, high),
    stayed (predicted as the class itself) and random, the success of random directions of the same
    length, as the mean of n_draws.
    """

    table: pd.DataFrame

    def says(self) -> tuple[str, ...]:
        """One sentence: overall and worst success."""
        every, classes = self.table.iloc[-1], self.table.iloc[:-1]
        worst = classes.loc[classes["success"].idxmin()]
        arrived = ends(every, "success", "")
        return (
            f"Shifting every class to the next at once brings {most(*arrived)} of the samples "
            f"there: {percent(*arrived)} of {every['n']}, worst {worst['class']} to "
            f"{worst['target']} with {percent(worst['success'])} (n = {worst['n']}); random "
            f"directions bring {percent(every['random'])} there.",
        )


def scaling(ft, features, vectors, *, seed: int = 0) -> Scaling:
    """Read z + alpha κ_c, alpha from -2 to 2, for every class c on all samples.

    Those of the class itself and, as nothing gates them, those of all others. Memory is one alpha's
    logits (N, C); time grows with C² N.

    Args:
        ft: the fine-tuned classifier.
        features: ft's, best of images that the vectors were not made from.
        vectors: class vectors of the same classes.
        seed: draws the 5 random directions of each class.
    Returns:
        A `Scaling`.
    Raises:
        MismatchError: for classes or dimensions that don't agree.
    Source: Kim and Do, NeurIPS 2025, the independence plots.
    """
    check_labelled(ft, features, vectors)
    rng, y, latent = np.random.default_rng(seed), features.y, Latent(ft, features.z)
    tables = []
    for c, kappa in enumerate(vectors.kappa):
        own = y == c
        steps = {VECTOR: kappa[None], RANDOM: random_like(np.tile(kappa, (DRAWS, 1)), rng)}
        for direction, draws in steps.items():
            hits = np.mean([latent.predict(step, SCALES) == y for step in draws], axis=0)
            table = {
                "direction": direction,
                "class": vectors.classes[c],
                "knows_label": True,
                "alpha": SCALES,
                "n": own.sum(),
                **columns("accuracy", shares(hits[:, own]), ""),
                "n_others": (~own).sum(),
                **columns("others", shares(hits[:, ~own])),
                "n_draws": len(draws),
            }
            tables.append(pd.DataFrame(table))
    return Scaling(pd.concat(tables, ignore_index=True))


def additivity(ft, features, vectors, *, lambda_: float = -1.5, seed: int = 0) -> Additivity:
    """Add lambda_ · Σ κ_c over the first k classes of random orders to every sample.

    Args:
        ft, features, vectors: as in `scaling`.
        lambda_: strength, a finite number.
        seed: draws 5 random orders of the classes.
    Returns:
        An `Additivity`.
    Raises:
        MismatchError: for a lambda_ that isn't finite, or classes or dimensions that don't agree.
    """
    check_labelled(ft, features, vectors)
    in_range("lambda_", lambda_, -np.inf, np.inf, open_low=True, open_high=True)
    n_classes, rng = len(vectors), np.random.default_rng(seed)
    sizes = np.unique(np.linspace(1, n_classes, MOST_SIZES).round().astype(int))
    y, latent, rows = features.y, Latent(ft, features.z), []
    for _ in range(DRAWS):
        order = rng.permutation(n_classes)
        sums = lambda_ * np.cumsum(vectors.kappa[order], axis=0)
        for direction, k in itertools.product((VECTOR, RANDOM), sizes):
            step, own = sums[k - 1], np.isin(y, order[:k])
            step = step if direction == VECTOR else random_like(step, rng)
            hit = latent.predict(step)[0] == y
            inside, outside = (share(hit[part]).value for part in (own, ~own))
            rows.append((direction, k, lambda_, False, len(y), inside, outside))
    keys, both = ["direction", "k", "lambda_", "knows_label", "n"], ["inside", "outside"]
    rows = pd.DataFrame(rows, columns=keys + both)
    table = averaged(rows, keys, "n_orders", dict.fromkeys(both))
    shape = DRAWS, 2, len(sizes)  # orders, directions, sizes
    vector, random = np.moveaxis(rows["outside"].to_numpy().reshape(shape), 1, 0)
    table[with_ends("beside")] = 2 * [known_mean(gap) for gap in (vector - random).T]
    return Additivity(table, lambda_)


def cyclic_shift(ft, features, vectors, *, seed: int = 0) -> CyclicShift:
    """Move each sample of class c by κ_{c+1} - κ_c, the last class to the first, and read the head.

    The class of a sample is known here. Arguments are as in `scaling`, and so is what it raises.
    """
    check_labelled(ft, features, vectors)
    y, rng, latent = features.y, np.random.default_rng(seed), Latent(ft, features.z)
    steps = np.roll(vectors.kappa, -1, axis=0) - vectors.kappa
    moves = [steps, *(random_like(steps, rng) for _ in range(DRAWS))]
    predicted = np.concatenate([latent.predict(move[y]) for move in moves])
    arrived = predicted == (y + 1) % len(vectors)

    def measure(success, stayed, random):
        means = {"stayed": share(stayed).value, "random": share(random).value}
        return columns("success", share(success), "") | means

    hits = arrived[0], predicted[0] == y, arrived[1:].mean(axis=0)
    table = per_class(measure, y, vectors.classes, *hits)
    table.insert(1, "target", [*np.roll(vectors.classes, -1), ""])
    table.insert(2, "knows_label", True)
    return CyclicShift(table.assign(n_draws=DRAWS))
