"""Is a forecast true? Edits run on labelled representations, and the forecast's errors beside those of its rivals."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..diagnostics.intervals import mean_interval
from ..diagnostics.latent import Latent
from ..errors import MismatchError
from .forecast import require_targets, tidy, vector_and_gate, with_zero


def replay_edits(classifier, edits: Mapping[str, object], features, lambdas: Sequence[float]) -> pd.DataFrame:
    """What the edits really do to labelled `features`, as `forecast_edits` has it; NaN for classes without samples."""
    lambdas, found = with_zero(lambdas), {}
    classifier.require_classes(features.classes, "the features")
    require_targets(edits, classifier.classes)
    latent, count = Latent(classifier, features.z), np.bincount(features.y, minlength=len(features.classes))
    for target, edit in edits.items():
        hits = latent.predict(_moves(edit, latent.z), lambdas) == features.y
        sums = np.stack([np.bincount(features.y, weights=hit, minlength=len(count)) for hit in hits])
        found[target] = np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0)
    return tidy(found, lambdas, classifier.classes)


def score_forecast(forecast: pd.DataFrame, measured: pd.DataFrame, replay: pd.DataFrame) -> pd.DataFrame:
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
            raise MismatchError(f"the frame {name!r} covers other edits, lambdas or classes than 'forecast'")
    table = pd.concat(cells, axis=1).dropna().reset_index()
    start = table[table["lambda_"] == 0].drop(columns="lambda_").set_index(["edited", "class"]).add_suffix("_0")
    table = table[table["lambda_"] != 0].join(start, on=["edited", "class"])
    if not len(table) or table["forecast_0"].isna().any():
        raise MismatchError("scoring a forecast needs lambda 0 and at least one other in each frame")
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
        row["correlation"] = _correlation(change["forecast"][at & ~own], change["measured"][at & ~own])
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
