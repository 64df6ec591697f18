"""The effect of the number of classes and of the length of training: one experiment repeated, and what the repeats say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..datasets import load_dataset
from ..diagnostics.collapse import neural_collapse
from ..diagnostics.orthogonality import orthogonality
from ..errors import MismatchError
from ..features import extract_features
from ..progress import progress_bar
from ..readout import predict
from ..statistics import accuracy, mean_interval
from ..vectors import ClassVectors
from .experiment import prepare

MEASURES = (
    "off_diagonal", "expected", "off_diagonal_centred", "entries_sd", "shift_ratio", "collapse_ratio", "explained", "nc1",
    "accuracy",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClassCountStudy:
    """Orthogonality over numbers of classes and epochs; `runs` holds one row a fine-tuning.

    Columns of runs: dataset, n_classes, epochs, draw, classes; off_diagonal (mean raw cos(kappa_c, z_ft^c')) with
    low and high over its images, expected (three scalars), the same centred (expected there: -1/(C-1)),
    entries_sd (standard deviation of the raw entries), shift_ratio, collapse_ratio, explained (R²), nc1, accuracy, n_samples.
    """

    runs: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """Mean over draws with its 95 % t-interval, one row a data set, number of classes, epochs and measure; with n."""
        rows = []
        for (dataset, n_classes, epochs), group in self.runs.groupby(
            ["dataset", "n_classes", "epochs"], sort=False
        ):
            for measure in MEASURES:
                mean, low, high = mean_interval(group[measure].to_numpy())
                rows.append(
                    (
                        dataset,
                        n_classes,
                        epochs,
                        measure,
                        mean,
                        low,
                        high,
                        len(group),
                        int(group["n_samples"].sum()),
                    )
                )
        columns = [
            "dataset",
            "n_classes",
            "epochs",
            "measure",
            "mean",
            "low",
            "high",
            "n_runs",
            "n_samples",
        ]
        return pd.DataFrame(rows, columns=columns)

    def says(self) -> tuple[str, ...]:
        """What the runs say, in sentences computed from them."""
        said = []
        for dataset, runs in self.runs.groupby("dataset", sort=False):
            gap = (runs["off_diagonal"] - runs["expected"]).abs()
            textbook = (runs["off_diagonal"] + 1 / (runs["n_classes"] - 1)).abs()
            better = "nearer to" if gap.mean() < textbook.mean() else "no nearer to"
            said.append(
                f"{dataset}: over {len(runs)} runs the mean off-diagonal cosine lies {gap.mean():.3f} from the three-scalar "
                f"expectation and {textbook.mean():.3f} from -1/(C-1): {better} the former."
            )
            said += _trend(dataset, runs, "n_classes", "classes") + _trend(
                dataset, runs, "epochs", "epochs"
            )
        return tuple(said)


def _trend(dataset: str, runs: pd.DataFrame, over: str, name: str) -> list[str]:
    """How the entries change from the smallest to the largest value of `over`, the other held at its largest."""
    other = "epochs" if over == "n_classes" else "n_classes"
    at = runs[runs[other] == runs[other].max()]
    first, last = at[over].min(), at[over].max()
    if first == last:
        return []
    means = at.groupby(over)[["off_diagonal", "entries_sd", "shift_ratio"]].mean()
    a, b = means.loc[first], means.loc[last]
    closer = "closer to" if abs(b["off_diagonal"]) < abs(a["off_diagonal"]) else "further from"
    return [
        f"{dataset}: from {first} to {last} {name} the mean moves from {a['off_diagonal']:+.3f} to "
        f"{b['off_diagonal']:+.3f}, {closer} 0; single entries spread by {a['entries_sd']:.2f} and {b['entries_sd']:.2f}; "
        f"shift ratio {a['shift_ratio']:.2f} and "
        f"{b['shift_ratio']:.2f}."
    ]


def class_count_study(
    setups: Mapping[str, Mapping],
    *,
    counts: Sequence[int],
    epochs: Sequence[int],
    n_draws: int = 3,
    seed: int = 0,
    split: str = "test",
    n_boot: int = 200,
    progress: bool = True,
) -> ClassCountStudy:
    """Fine-tune on random subsets of the classes and measure each run's orthogonality.

    setups: a name for each data set and the arguments of `prepare` for it. For each of counts (with the last of
    `epochs`) and each of epochs (with the last of counts), n_draws subsets of the classes are drawn from `seed`; the
    training seed changes with the draw. Means and accuracy come from `split`. Raises MismatchError where a data set has
    too few classes, before anything is trained.
    """
    if not counts or not epochs or n_draws < 1 or min(counts) < 2 or min(epochs) < 1:
        raise MismatchError(
            f"a study needs counts >= 2, epochs >= 1 and n_draws >= 1; got {counts}, {epochs} and {n_draws}"
        )
    names = {}
    for name, setup in setups.items():
        options = {
            "limit": setup.get("limit") or None,
            "group": setup.get("group") or None,
            **(setup.get("data_args") or {}),
        }
        names[name] = load_dataset(
            setup["dataset"], split="train", seed=setup.get("data_seed", 0), **options
        ).classes
        if max(counts) > len(names[name]):
            raise MismatchError(
                f"{name} has {len(names[name])} classes; the study asks for {max(counts)}"
            )
    cells = dict.fromkeys([*((c, epochs[-1]) for c in counts), *((counts[-1], e) for e in epochs)])
    plan = [(name, *cell, draw) for name in setups for cell in cells for draw in range(n_draws)]
    rows = []
    for name, count, length, draw in progress_bar(plan, desc="runs", disable=not progress):
        chosen = np.sort(
            np.random.default_rng([seed, count, draw]).permutation(len(names[name]))[:count]
        )
        classes = [names[name][i] for i in chosen]
        exp = prepare(**{**setups[name], "epochs": length}, classes=classes, seed=seed + draw)
        row = {
            "dataset": name,
            "n_classes": count,
            "epochs": length,
            "draw": draw,
            "classes": " ".join(classes),
        }
        rows.append(
            row
            | _measured(
                exp, {"train": exp.train, "val": exp.val, "test": exp.test}[split], n_boot, seed
            )
        )
    return ClassCountStudy(pd.DataFrame(rows))


def _measured(exp, data, n_boot: int, seed: int) -> dict:
    pre, ft = (extract_features(model, data, progress=False) for model in (exp.pre, exp.ft))
    report = orthogonality(
        ClassVectors.from_features(pre, ft), features=(pre, ft), n_boot=n_boot, seed=seed
    )
    summary = report.summary().query("between == 'kappa and z_ft'").set_index("version")
    entries = report.cosine.to_numpy()[~np.eye(len(report.cosine), dtype=bool)]
    return {
        "off_diagonal": summary.loc["raw", "off_diagonal"],
        "low": summary.loc["raw", "low"],
        "high": summary.loc["raw", "high"],
        "expected": report.expected,
        "off_diagonal_centred": summary.loc["centred", "off_diagonal"],
        "expected_centred": report.expected_centred,
        "entries_sd": float(np.std(entries)),
        "shift_ratio": report.shift_ratio,
        "collapse_ratio": report.collapse_ratio,
        "explained": report.explained,
        "nc1": neural_collapse(ft, exp.ft.head).nc1,
        "accuracy": accuracy(predict(exp.ft, ft), ft.y, ft.classes)["accuracy"].iloc[-1],
        "n_samples": len(data),
    }
