"""Is a forecast true? Edits run on labelled representations, and the forecast's errors beside those of its rivals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..editing.strength import BOUNDS, Bounds
from ..errors import MismatchError
from ..readout import Latent
from ..statistics import mean_interval
from .forecast import MomentModel, forecast_edits, require_targets, tidy, vector_and_gate, with_zero


@dataclass(frozen=True, eq=False)
class CollateralSurvey:
    """Forecast beside measured: what the class vector of each target does to every class, behind one gate.

    score: see `score_forecast`, with a column gate. measured, forecast: change of every class's accuracy (columns) under every
    target's edit (rows) at lambda_, in -1..1. curves: by kind (forecast, measured, replayed on val) and lambda, mean ACC_f and
    ACC_r over the n targets.
    """

    gate: str
    lambda_: float
    score: pd.DataFrame
    measured: pd.DataFrame
    forecast: pd.DataFrame
    curves: pd.DataFrame


def survey_collateral(
    exp, targets: Sequence[str], gate: str, lambda_: float = -1.5, bounds: Bounds = BOUNDS
) -> CollateralSurvey:
    """Forecast from training means and val's scatter, then run on test, and on val for comparison; gate may be "none"."""
    features = exp.features
    model = MomentModel.from_features(exp.ft, features["train"], features["val"], seed=exp.seed)
    edits = {
        t: exp.vectors[t] if gate == "none" else exp.vectors[t].gated(exp.gate(t, gate, bounds))
        for t in targets
    }
    lambdas = sorted({*bounds.lambdas, -1.0, lambda_}, reverse=True)
    frames = {
        "forecast": forecast_edits(model, edits, lambdas),
        "measured": replay_edits(exp.ft, edits, features["test"], lambdas),
        "replayed on val": replay_edits(exp.ft, edits, features["val"], lambdas),
    }
    score = score_forecast(*frames.values())
    score.insert(0, "gate", gate)
    changes = [_change(frames[kind], lambda_, exp.ft.classes) for kind in ("measured", "forecast")]
    return CollateralSurvey(gate, lambda_, score, *changes, _curves(frames, gate))


def replay_edits(
    classifier, edits: Mapping[str, object], features, lambdas: Sequence[float]
) -> pd.DataFrame:
    """What the edits really do to labelled `features`, as `forecast_edits` has it; NaN for classes without samples."""
    lambdas, found = with_zero(lambdas), {}
    classifier.require_classes(features.classes, "the features")
    require_targets(edits, classifier.classes)
    latent, count = (
        Latent(classifier, features.z),
        np.bincount(features.y, minlength=len(features.classes)),
    )
    for target, edit in edits.items():
        hits = latent.predict(_moves(edit, latent.z), lambdas) == features.y
        sums = np.stack(
            [np.bincount(features.y, weights=hit, minlength=len(count)) for hit in hits]
        )
        found[target] = np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0)
    return tidy(found, lambdas, classifier.classes)


def score_forecast(
    forecast: pd.DataFrame, measured: pd.DataFrame, replay: pd.DataFrame
) -> pd.DataFrame:
    """How far forecast changes are from measured ones, beside "nothing changes" and running the edits on validation data.

    Three frames of `forecast_edits` or `replay_edits` over the same edits and lambdas, lambda 0 included; each side's change
    is against its own lambda 0. One row a lambda, and a last row (lambda_ NaN) over all of them:
    forecast, no_change, replay: the mean absolute error per cell (class edited × class affected), and gain, no_change less
    forecast, each with its 95 % t-interval (_low, _high) over the n edited classes, which share the model;
    acc_f_forecast, acc_f_measured, acc_f_replay: accuracy of the edited class itself, mean over classes; acc_f_error and
    acc_f_replay_error: the first and the last less the measured one, in the last row the largest in size;
    correlation: of forecast and measured changes of the other classes, NaN where either never varies.
    Raises MismatchError where the frames don't cover the same cells.
    """
    keys = ["edited", "lambda_", "class"]
    sides = {"forecast": forecast, "measured": measured, "replay": replay}
    cells = [f.set_index(keys)["accuracy"].rename(name) for name, f in sides.items()]
    for name, cell in zip(sides, cells, strict=True):
        if not cell.index.is_unique or set(cell.index) != set(cells[0].index):
            raise MismatchError(
                f"the frame {name!r} covers other edits, lambdas or classes than 'forecast'"
            )
    table = pd.concat(cells, axis=1).dropna().reset_index()
    start = (
        table[table["lambda_"] == 0]
        .drop(columns="lambda_")
        .set_index(["edited", "class"])
        .add_suffix("_0")
    )
    table = table[table["lambda_"] != 0].join(start, on=["edited", "class"])
    if not len(table) or table["forecast_0"].isna().any():
        raise MismatchError(
            "scoring a forecast needs lambda 0 and at least one other in each frame"
        )
    change = {name: table[name] - table[f"{name}_0"] for name in sides}
    errors = pd.DataFrame(
        {
            "forecast": (change["forecast"] - change["measured"]).abs(),
            "no_change": change["measured"].abs(),
            "replay": (change["replay"] - change["measured"]).abs(),
        }
    )
    errors["gain"] = errors["no_change"] - errors["forecast"]
    own, rows = table["edited"] == table["class"], []
    for lambda_ in (*sorted(table["lambda_"].unique(), reverse=True), np.nan):
        at = table["lambda_"] == lambda_ if np.isfinite(lambda_) else table["lambda_"].notna()
        by_class = errors[at].groupby(table.loc[at, "edited"]).mean()
        row = {"lambda_": lambda_, "n": len(by_class)}
        for name, values in by_class.items():
            row[name], row[f"{name}_low"], row[f"{name}_high"] = mean_interval(values.to_numpy())
        for side in ("forecast", "measured", "replay"):
            row[f"acc_f_{side}"] = table.loc[at & own, side].mean()
        for name, side in (("acc_f_error", "forecast"), ("acc_f_replay_error", "replay")):
            error = row[f"acc_f_{side}"] - row["acc_f_measured"]
            row[name] = error if np.isfinite(lambda_) else max((r[name] for r in rows), key=abs)
        row["correlation"] = _correlation(
            change["forecast"][at & ~own], change["measured"][at & ~own]
        )
        rows.append(row)
    return pd.DataFrame(rows)


def _moves(edit, z: np.ndarray) -> np.ndarray:
    """By what the edit moves each of z (N, m) at lambda 1."""
    if hasattr(edit, "offsets"):
        return (z @ np.asarray(edit.keys).T + edit.offsets) @ edit.steps
    vector, gate = vector_and_gate(edit)
    return vector if gate is None else gate.weights(z)[:, None] * vector


def _correlation(a: pd.Series, b: pd.Series) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() > 0 and b.std() > 0 else np.nan


def _change(frame: pd.DataFrame, lambda_: float, classes) -> pd.DataFrame:
    wide = frame.pivot(index=["lambda_", "edited"], columns="class", values="accuracy")
    edited = list(dict.fromkeys(frame["edited"]))
    change = wide.loc[lambda_].loc[edited, list(classes)] - wide.loc[0.0].loc[edited, list(classes)]
    return change.rename_axis(index="edited", columns="class")


def _curves(frames: dict[str, pd.DataFrame], gate: str) -> pd.DataFrame:
    rows = []
    for kind, frame in frames.items():
        own = frame["edited"] == frame["class"]
        acc_f = frame[own].groupby("lambda_")["accuracy"].mean()
        acc_r = frame[~own].groupby("lambda_")["accuracy"].mean()
        for lambda_ in sorted(acc_f.index, reverse=True):
            row = {
                "gate": gate,
                "kind": kind,
                "lambda_": lambda_,
                "acc_f": acc_f[lambda_],
                "acc_r": acc_r[lambda_],
            }
            rows.append(row | {"n": frame["edited"].nunique()})
    return pd.DataFrame(rows)
