"""Mappings compared: every way of writing an edit into weights on every target, and how two that agree on a class differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..editing.directions import retirement
from ..editing.injection import inject
from ..editing.weights.delta import apply_deltas
from ..editing.weights.layernorm import map_layernorms
from ..editing.weights.mapping import MappedEdit, map_edit
from ..features import Features, extract_features
from ..readout import Readout
from ..statistics import mean_interval, ratio_interval, split_accuracy
from .experiment import Experiment

COUNTS = (1, 2, 5, 20)


@dataclass(frozen=True, eq=False)
class MappingStudy:
    """What each mapping left of each target on the test split.

    table: one row a mapping and target with n_parameters, n_f, acc_f, n_r, acc_r, change_r (less the unedited
    model's) and agreement (share of test images answered as gated latent injection of the same strength answers them).
    seconds: to each mapping, and, where there is one, of the prefix that is computed once; wall times stand in no table.
    """

    table: pd.DataFrame
    seconds: pd.DataFrame


def mapping_study(
    exp: Experiment,
    targets: Sequence[str],
    *,
    lambda_: float = -1.5,
    shrinkage: float = 0.5,
    n_references: int = 5,
    layernorms: Sequence[str] = (),
    trained: Sequence[str] = (),
) -> MappingStudy:
    """Map lambda_ κ_c of every target by each method and read the test split.

    Closed forms: the null space from moments, along the class vector and retired to the mean, and the ridge from
    n_references a class. On the targets in `trained`, LayerNorms too: trained with n_references a class for each choice in
    `layernorms` and, for the first of them, the published one with a single reference and nothing retained.
    Raises EditError for unknown targets before any work.
    """
    for name in (*targets, *trained):
        exp.require_target(name)
    rows, seconds = [], []
    base = Readout.of(exp.ft, exp.features["test"])
    for target in targets:
        edit = lambda_ * exp.vectors[target]
        gated = Readout.of(inject(exp.ft, edit.gated(exp.gate(target))), exp.features["test"])
        rows.append(
            _row(exp, "latent injection, margin gate", target, gated, base, gated, edit.dim)
        )
        references = exp.features["train"]
        closed = {
            "null space": map_edit(exp.ft, edit, exp.moments, shrinkage=shrinkage),
            "null space, retired": map_edit(
                exp.ft,
                retirement(exp.vectors, target),
                exp.moments,
                shrinkage=shrinkage,
            ),
            f"ridge, {n_references} references": map_edit(
                exp.ft,
                edit,
                references,
                method="ridge",
                n_references=n_references,
                seed=exp.seed,
            ),
        }
        for name, found in closed.items():
            rows.append(_row(exp, name, target, _read(exp, found), base, gated, found.n_parameters))
            seconds.append(
                {
                    "mapping": name,
                    "target": target,
                    "seconds": found.seconds,
                    "prefix_seconds": np.nan,
                }
            )
        if target not in trained:
            continue
        for i, norms in enumerate(layernorms):
            learnt = {
                f"LayerNorms {norms}, trained": _layernorms(
                    exp, edit, norms, n_references, "trained"
                )
            }
            if i == 0:
                learnt[f"LayerNorms {norms}, published"] = _layernorms(
                    exp, edit, norms, 1, "published"
                )
            for name, found in learnt.items():
                edited = found.apply_to(exp.ft)
                features = extract_features(edited, exp.data["test"], progress=False, cache=False)
                rows.append(
                    _row(
                        exp,
                        name,
                        target,
                        Readout.of(edited, features),
                        base,
                        gated,
                        found.n_parameters,
                    )
                )
                time = {"seconds": found.seconds, "prefix_seconds": found.prefix_seconds}
                seconds.append({"mapping": name, "target": target, **time})
    return MappingStudy(pd.DataFrame(rows), pd.DataFrame(seconds))


def summarise_mappings(table: pd.DataFrame) -> pd.DataFrame:
    """One row a mapping: n (targets and seeds), stored numbers, means of ACC_f and ACC_r with 95 % t-intervals, the worst."""
    rows = []
    for name, part in table.groupby("mapping", sort=False):
        row = {
            "mapping": name,
            "n": len(part),
            "n_parameters": part["n_parameters"].mean(),
            "split": "test",
        }
        for column in ("acc_f", "acc_r", "change_r", "agreement"):
            mean, low, high = mean_interval(part[column])
            bounds = (0, 1) if column != "change_r" else (-1, 1)
            row |= {
                column: mean,
                f"{column}_low": np.clip(low, *bounds),
                f"{column}_high": np.clip(high, *bounds),
            }
        worst = part.loc[part["acc_f"].idxmax()]
        rows.append(row | {"worst_acc_f": worst["acc_f"], "worst_target": worst["target"]})
    return pd.DataFrame(rows)


def mapping_references(
    exp: Experiment, targets: Sequence[str], *, lambda_: float = -1.5, counts=COUNTS
) -> pd.DataFrame:
    """ACC_f and ACC_r on test over references a class: the ridge from samples, the null space from their moments.

    One row a method, number and target. Few references leave the null space a covariance of low rank, which shrinkage fills up.
    """
    rows = []
    rng = np.random.default_rng(exp.seed)
    train = exp.features["train"]
    order = {c: rng.permutation(np.flatnonzero(train.y == c)) for c in range(len(train.classes))}
    least = min(len(found) for found in order.values())
    for count in (*(c for c in counts if c < least), least):
        chosen = np.concatenate([found[:count] for found in order.values()])
        few = Features(train.z[chosen], train.y[chosen], train.classes, train.model)
        for target in targets:
            edit = lambda_ * exp.vectors[target]
            for method in ("ridge", "nullspace"):
                if method == "nullspace" and count < 2:
                    continue
                found = map_edit(
                    exp.ft, edit, few, method=method, n_references=count, seed=exp.seed
                )
                found = _accuracies(_read(exp, found), target)
                row = {"method": method, "references": count, "target": target, "split": "test"}
                rows.append(row | {k: found[k] for k in ("n_f", "acc_f", "n_r", "acc_r")})
    return pd.DataFrame(rows)


def mapping_several(
    exp: Experiment,
    targets: Sequence[str],
    *,
    lambda_: float = -1.5,
    shrinkage: float = 0.5,
) -> pd.DataFrame:
    """The first 1, 2, half and all but one of the targets mapped at once, along the class vectors and retired to the mean.

    One row a way and number of classes: ACC_f over the classes mapped, ACC_r over the others, 95 % Wilson intervals, n.
    """
    sizes = sorted(
        {min(k, len(targets)) for k in (1, 2, (len(targets) + 1) // 2, max(len(targets) - 1, 1))}
    )
    rows = []
    for size in sizes:
        gone = tuple(targets[:size])
        ways = {"along the class vectors": [lambda_ * exp.vectors[t] for t in gone]}
        if size < len(exp.ft.classes):
            ways["retired to the mean"] = [
                retirement(exp.vectors, t, without=tuple(x for x in gone if x != t)) for t in gone
            ]
        for way, edits in ways.items():
            deltas = [map_edit(exp.ft, e, exp.moments, shrinkage=shrinkage) for e in edits]
            edited = apply_deltas(exp.ft, [d.delta for d in deltas])
            moved = exp.features["test"].z + sum(
                d.amounts(exp.features["test"].z) @ d.steps for d in deltas
            )
            readout = _of(exp, edited, moved, deltas[0])
            inside = np.isin(readout.y, [readout.index(t) for t in gone])
            row = {
                "way": way,
                "classes": size,
                "n_parameters": sum(d.n_parameters for d in deltas),
                "split": "test",
            }
            row |= split_accuracy(readout.predicted == readout.y, inside)
            rows.append(row)
    return pd.DataFrame(rows)


def sample_groups(features: Features, target: str) -> dict[str, np.ndarray]:
    """Representations of the class and of all other classes, by name."""
    own = features.y == features.classes.index(target)
    return {f"class {target}": features.z[own], "other classes": features.z[~own]}


def compare_mappings(
    mappings: Mapping[str, MappedEdit], groups: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """How far each mapping moves each sample, in units of its step: columns mapping, group, amount."""
    rows = [
        pd.DataFrame({"mapping": name, "group": group, "amount": found.amounts(z)[:, 0]})
        for name, found in mappings.items()
        for group, z in groups.items()
    ]
    return pd.concat(rows, ignore_index=True)


def mapping_difference(
    pair: Sequence[MappedEdit], groups: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """How far two mappings of one edit are apart on each group: root mean square difference of amounts over that of the first.

    One row a group with n, difference (0: the same weights' effect; 1: as different as doing nothing), and its 95 %
    interval from the ratio of the mean squares.
    """
    rows = []
    for group, z in groups.items():
        first, second = (found.amounts(z)[:, 0] for found in pair)
        value, low, high = ratio_interval(np.square(first - second), np.square(first))
        row = {"group": group, "n": len(z)}
        for name, part in (("difference", value), ("low", low), ("high", high)):
            row[name] = float(np.sqrt(max(part, 0.0))) if np.isfinite(part) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def mapping_says(summary: pd.DataFrame, guarantee: pd.DataFrame) -> tuple[str, ...]:
    """What each mapping does, and whether single samples of the other classes keep to the quantile."""
    found = []
    for _, row in summary.iterrows():
        verdict = "forgets" if row["acc_f"] <= 0.02 else "does not forget"
        cost = (
            "keeps the others"
            if row["change_r"] >= -0.01
            else f"costs the others {-100 * row['change_r']:.1f} points"
        )
        found.append(
            f"{row['mapping'][0].upper() + row['mapping'][1:]}: {verdict} (ACC_f {row['acc_f']:.1%}, worst {row['worst_target']} "
            f"{row['worst_acc_f']:.1%}) and {cost}; {row['n_parameters']:.0f} numbers, agrees with latent injection on "
            f"{row['agreement']:.1%} (n = {row['n']:.0f})."
        )
    beyond = (guarantee["beyond"] * guarantee["n"]).sum() / guarantee["n"].sum()
    high = guarantee["beyond"].max()
    verdict = (
        "about as stated"
        if 0.03 <= beyond <= 0.07
        else "more than stated"
        if beyond > 0.07
        else "less than stated"
    )
    found.append(
        f"Single samples of the other classes pass the 5 % quantile set on val in {beyond:.1%} of cases on test, {verdict} "
        f"(worst target {high:.1%})."
    )
    return tuple(found)


def difference_says(differ: pd.DataFrame) -> tuple[str, ...]:
    """One sentence on Theorem 3.2: where two mappings of the same edit differ most and least."""
    least, most = (
        differ.loc[differ["difference"].idxmin()],
        differ.loc[differ["difference"].idxmax()],
    )
    return (
        f"Two mappings that move the class mean alike differ by {least['difference']:.0%} of the movement on {least['group']} "
        f"(n = {least['n']}) and by {most['difference']:.0%} on {most['group']} (n = {most['n']}).",
    )


def _layernorms(exp: Experiment, edit, norms: str, n_references: int, method: str):
    train = exp.data["train"]
    options = {
        "parameters": norms,
        "method": method,
        "n_references": n_references,
        "seed": exp.seed,
    }
    if method == "trained":
        options |= {"anchors": train, "n_anchors": n_references}
    return map_layernorms(exp.ft, edit.vector, edit.target, train, **options)


def _read(exp: Experiment, found: MappedEdit) -> Readout:
    test = exp.features["test"]
    return _of(exp, found.apply_to(exp.ft), found.moved(test.z), found)


def _of(exp: Experiment, edited, moved: np.ndarray, found: MappedEdit) -> Readout:
    """A head that was changed reads the representation as it is; one behind a changed encoder the moved one."""
    test = exp.features["test"]
    z = test.z if found.site.kind == "head" else moved.astype(np.float32)
    return Readout.of(edited, Features(z, test.y, test.classes))


def _accuracies(readout: Readout, target: str) -> dict:
    return split_accuracy(readout.predicted == readout.y, readout.y == readout.index(target))


def _row(
    exp: Experiment,
    name: str,
    target: str,
    readout: Readout,
    base: Readout,
    gated: Readout,
    size: int,
) -> dict:
    found = _accuracies(readout, target)
    row = {
        "mapping": name,
        "target": target,
        "seed": exp.seed,
        "split": "test",
        "n_parameters": size,
    }
    row |= {k: found[k] for k in ("n_f", "acc_f", "n_r", "acc_r")}
    row["change_r"] = found["acc_r"] - _accuracies(base, target)["acc_r"]
    return row | {"agreement": float((readout.predicted == gated.predicted).mean())}
