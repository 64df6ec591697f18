"""`forget_study`: every method on every target class, one table; nothing is chosen on the split that is reported."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..editing.audit.metrics import collateral, js_divergence, routing, worst_sibling
from ..editing.audit.report import Audit, audit
from ..editing.strength import BOUNDS, Bounds
from ..errors import EditError
from ..progress import progress_bar
from ..readout import predict
from ..statistics import mean_interval, split_accuracy
from . import methods
from .experiment import Experiment
from .methods import Outcome

GATES = ("none", "cosine", "margin", "predicted")
TRAINED = ("retain", "neggrad", "neggrad+", "random_label")
N_RANDOM = 5
RETRAINED, FINE_TUNED = "retrained without it", "fine-tuned"


@dataclass(frozen=True, eq=False)
class ForgetStudy:
    """What each method left of each target class, on the test split.

    table: one row a method, setting and target: method, family, gate, lambda_ and `chosen` (whether on val), target, seed,
    n_f, acc_f and n_r, acc_r with 95 % Wilson intervals, change_r (acc_r less the fine-tuned model's), false_fire
    (on all others), miss, sibling and sibling_fires (the other class on which the gate fires most), routing_js
    (bits, to the retrained model; NaN without one), n_parameters, leaves_encoder, draw of a random direction.
    outcomes: by target, what the rows were made from. seconds: (method, target) to wall time, which no table holds.
    """

    exp: Experiment
    table: pd.DataFrame
    outcomes: dict[str, list[Outcome]]

    def find(
        self, method: str, target: str, *, gate: str | None = None, chosen: bool = True
    ) -> Outcome:
        """The outcome of a method on a target; with `gate` behind that gate, with chosen=False at lambda = -1."""
        for outcome in self.outcomes.get(target, ()):
            at = not chosen and outcome.lambda_ == -1.0 and outcome.strength is None
            if outcome.method == method and gate in (None, outcome.gate) and (chosen or at):
                return outcome
        wanted = f"{method!r}{'' if gate is None else f' behind {gate!r}'}{'' if chosen else ' at lambda = -1'}"
        if target not in self.outcomes:
            raise EditError(
                f"no outcome of {wanted} on {target!r} here; the targets are {', '.join(self.outcomes)}"
            )
        have = dict.fromkeys(
            f"{o.method} ({o.gate})" if o.gate != "none" else o.method
            for o in self.outcomes[target]
        )
        raise EditError(f"no outcome of {wanted} on {target!r} here; there are {', '.join(have)}")

    def summary(self) -> pd.DataFrame:
        """One row a method and setting: means over targets with 95 % t-intervals over the n cells, and the worst target."""
        return summarise(self.table)

    def collateral(self, method: str = "class vector", *, gate: str | None = None) -> pd.DataFrame:
        """Change of every class's accuracy (columns) under each target's edit (rows) on test; gate: by default the main one."""
        after = {t: self.find(method, t, gate=gate).readouts["test"] for t in self.outcomes}
        before = self.find(FINE_TUNED, next(iter(self.outcomes))).readouts["test"]
        return collateral(before, after)

    def routes(self, methods_: Sequence[str]) -> pd.DataFrame:
        """Where test samples of each target go: one row a method, target and predicted class with share and n.

        A target without that method, as a retrained reference of others only, has no rows.
        """
        rows = []
        have = {target: {o.method for o in found} for target, found in self.outcomes.items()}
        for target in self.outcomes:
            for method in methods_:
                if method not in have[target] and any(method in names for names in have.values()):
                    continue
                r = self.find(method, target).readouts["test"]
                frame = routing(r.predicted, r.y, target, r.classes).reset_index()
                rows.append(frame.assign(method=method, target=target))
        return pd.concat(rows, ignore_index=True)

    def audit(
        self, method: str, target: str, *, gate: str | None = None, incompetent=None
    ) -> Audit:
        """The full audit of one method on one target, beside the retrained model where the study has it."""
        outcome = self.find(method, target, gate=gate)
        have = {o.method for o in self.outcomes[target]}
        original = self.find(FINE_TUNED, target).readouts
        retrained = self.find(RETRAINED, target).readouts if RETRAINED in have else None
        fired = None if outcome.fired is None else {s: outcome.fired[s] for s in ("train", "test")}
        return audit(
            outcome.readouts, original, target=target, retrained=retrained, incompetent=incompetent, fired=fired,
            seed=self.exp.seed, method=method, leaves_encoder=outcome.leaves_encoder,
        )  # fmt: skip

    def seconds(self) -> pd.DataFrame:
        """Wall time of each method, mean over targets: for a manifest, not for a table that must repeat."""
        rows = [
            {"method": o.method, "gate": o.gate, "seconds": o.seconds}
            for found in self.outcomes.values()
            for o in found
        ]
        return (
            pd.DataFrame(rows)
            .groupby(["method", "gate"], sort=False, as_index=False)["seconds"]
            .mean()
        )


def forget_study(
    exp: Experiment,
    targets: Sequence[str] | None = None,
    *,
    gates: Sequence[str] = GATES,
    trained: Sequence[str] = (),
    retrained: Sequence[str] | None = (),
    n_random: int = N_RANDOM,
    main_gate: str = "margin",
    erasers: bool = True,
    bounds: Bounds = BOUNDS,
    progress: bool = True,
) -> ForgetStudy:
    """Forget each target in turn by every method.

    targets: class names, all by default. gates: those behind which the class vector stands. Rival and random directions
    have the class vector's norm, main_gate and strength. trained: baselines by training, "retain", "neggrad",
    "neggrad+", "random_label"; retrained: the targets with a retrained reference, None for all; both take seconds to minutes
    each, and the baselines by training are run on those targets. erasers: projection and LEACE.
    Raises EditError for unknown targets or gates, before any work.
    """
    targets, gates = exp.require_targets(targets), exp.require_gates(gates)
    references = targets if retrained is None else tuple(exp.require_target(t) for t in retrained)
    if extra := [t for t in references if t not in targets]:
        raise EditError(
            f"a retrained reference is for a target; {extra[0]!r} is none of {', '.join(targets)}"
        )
    if unknown := [t for t in trained if t not in TRAINED]:
        raise EditError(f"no baseline {unknown[0]!r}; there are {', '.join(TRAINED)}")
    if trained and not references:
        raise EditError(
            "baselines by training are run on the targets with a retrained reference: name some in retrained="
        )
    if main_gate not in gates:
        raise EditError(
            f"the main gate {main_gate!r} must be one of the gates tried, {', '.join(gates)}"
        )

    for target in targets:  # too few samples for a gate must not cost a training
        for gate in gates:
            exp.gate(target, gate, bounds)
    outcomes, rows = {}, []
    for target in progress_bar(targets, desc="forget", disable=not progress):
        reference = target in references
        found = list(
            _run(
                exp,
                target,
                gates,
                trained if reference else (),
                reference,
                n_random,
                main_gate,
                erasers,
                bounds,
            )
        )
        base = found[0].readouts["test"]
        likeness = next((o.readouts["test"] for o in found if o.method == RETRAINED), None)
        rows += [_row(exp, o, base, likeness) for o in found]
        outcomes[target] = found
    return ForgetStudy(exp, pd.DataFrame(rows), outcomes)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Means of a study's table, or of several joined, over targets and seeds; draws of a random direction are averaged first."""
    keys = ["method", "family", "gate", "chosen"]
    columns = [
        "lambda_",
        "acc_f",
        "acc_r",
        "change_r",
        "false_fire",
        "miss",
        "sibling_fires",
        "routing_js",
        "n_parameters",
    ]
    cells = table.groupby([*keys, "target", "seed"], sort=False, dropna=False, as_index=False)[
        columns
    ].mean()
    rows = []
    for key, part in cells.groupby(keys, sort=False, dropna=False):
        row = dict(zip(keys, key, strict=True)) | {
            "lambda_": part["lambda_"].mean(),
            "n": len(part),
        }
        for name in ("acc_f", "acc_r"):
            mean, low, high = mean_interval(part[name])
            row |= {
                name: mean,
                f"{name}_low": np.clip(low, 0, 1),
                f"{name}_high": np.clip(high, 0, 1),
            }
        worst = part.loc[part["acc_f"].idxmax()]
        row |= {
            "worst_acc_f": worst["acc_f"],
            "worst_target": worst["target"],
            "change_r": part["change_r"].mean(),
        }
        row |= {
            "false_fire": part["false_fire"].mean(),
            "miss": part["miss"].mean(),
            "sibling_fires": part["sibling_fires"].max(),
        }
        row |= {
            "routing_js": part["routing_js"].mean(),
            "n_parameters": part["n_parameters"].mean(),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def summarise_audits(audits: Iterable[Audit]) -> pd.DataFrame:
    """One row a method: means over the audits (targets and seeds) with 95 % t-intervals and n, on test but for MIA.

    ACC_f, ACC_r, routing_js, probe (recall of the class), zrf, cka_retrained, mia, and mean_gap (to the retrained model's
    ACC_f, ACC_r and MIA, see `Audit`); worst_probe and worst_js are the largest of all.
    """
    columns = {
        "ACC_f": "test_ACC_f", "ACC_r": "test_ACC_r", "routing_js": "routing_js", "probe": "probe", "zrf": "zrf",
        "cka_retrained": "cka_retrained", "mia": "mia", "mean_gap": "mean_gap",
    }  # fmt: skip
    found = pd.concat([audit.summary() for audit in audits], ignore_index=True)
    rows = []
    for method, part in found.groupby("method", sort=False):
        row = {"method": method, "n": len(part), "split": "test"}
        for name, column in columns.items():
            mean, low, high = mean_interval(part[column].dropna())
            row |= {name: mean, f"{name}_low": max(low, 0.0), f"{name}_high": min(high, 1.0)}
        rows.append(
            row | {"worst_probe": part["probe"].max(), "worst_js": part["routing_js"].max()}
        )
    return pd.DataFrame(rows)


def _run(
    exp,
    target,
    gates,
    trained,
    reference: bool,
    n_random: int,
    main_gate: str,
    erasers: bool,
    bounds,
):
    yield methods.unedited(exp, target)
    yield methods.pretrained(exp, target)
    if reference:
        yield methods.retrained(exp, target)
    yield methods.logit_mask(exp, target)
    main = methods.class_vector(exp, target, gate=main_gate, bounds=bounds)
    yield main
    yield methods.class_vector(exp, target, gate=main_gate, lambda_=-1.0, bounds=bounds)
    for gate in gates:
        if gate != main_gate:
            yield methods.class_vector(exp, target, gate=gate, bounds=bounds)
    for which in ("z_ft - μ", "head direction"):
        yield methods.rival(exp, target, which, gate=main_gate, lambda_=main.lambda_, bounds=bounds)
    for draw in range(n_random):
        yield methods.random_vector(
            exp, target, draw=draw, gate=main_gate, lambda_=main.lambda_, bounds=bounds
        )
    if _named(exp, target):  # else there is no held-out sample from which its step could be chosen
        yield methods.head_aware(exp, target, bounds=bounds)
    for setting in ({}, {"towards": "retire"}, {"towards": "retire", "scatter": 2}):
        yield methods.mapped(exp, target, **setting, bounds=bounds)
    if erasers:
        yield methods.projection(exp, target)
        yield methods.leace_eraser(exp, target)
    for method in trained:
        yield methods.trained(exp, target, method, bounds)


def _named(exp: Experiment, target: str) -> bool:
    """Whether the model calls any sample of val by this name."""
    val = exp.features["val"]
    return bool((predict(exp.ft, val) == val.classes.index(target)).any())


def _row(exp: Experiment, o: Outcome, base, likeness) -> dict:
    r = o.readouts["test"]
    own = r.y == r.index(o.target)
    row = {
        "method": o.method, "family": o.family, "gate": o.gate, "lambda_": o.lambda_, "chosen": o.strength is not None,
        "target": o.target, "seed": exp.seed, "split": "test",
    }  # fmt: skip
    hit = r.predicted == r.y
    row |= split_accuracy(hit, own)
    row["change_r"] = row["acc_r"] - float((base.predicted == base.y)[~own].mean())
    row |= {"false_fire": np.nan, "miss": np.nan, "sibling": "", "sibling_fires": np.nan}
    if o.fired is not None:
        fired = o.fired["test"]
        worst = worst_sibling(fired, r.y, o.target, r.classes)
        row |= {"false_fire": float(fired[~own].mean()), "miss": float(1 - fired[own].mean())}
        row |= {"sibling": worst.name, "sibling_fires": worst.value}
    row["routing_js"] = np.nan if likeness is None else _likeness(r, likeness, o.target)
    return row | {
        "n_parameters": o.n_parameters,
        "leaves_encoder": o.leaves_encoder,
        "draw": o.facts.get("draw", ""),
        "unedited_f": float((base.predicted == base.y)[own].mean()),
    }


def _likeness(readout, reference, target: str) -> float:
    shares = [
        routing(r.predicted, r.y, target, r.classes)["share"].to_numpy()
        for r in (readout, reference)
    ]
    return float(np.squeeze(js_divergence(*[s[None] for s in shares])))
