"""`audit`: one edit that should make a classifier forget a class, measured beside the original and a retrained model."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...readout import Readout
from ...statistics import Estimate, accuracy, paired_change, share
from .metrics import (
    Membership,
    Probe,
    confidence_scores,
    linear_cka,
    membership_inference,
    probe_recovery,
    routing,
    routing_distance,
    worst_sibling,
    zrf,
)
from .words import audit_says

SPLITS = ("train", "test")
GAPS = (
    ("ACC_f", "train"),
    ("ACC_f", "test"),
    ("ACC_r", "train"),
    ("ACC_r", "test"),
    ("MIA", "train"),
)


@dataclass(frozen=True, eq=False)
class Audit:
    """What an edit did to class `target`.

    table: one row a metric and split: value with its 95 % interval (low, high; NaN where none is known), n, `of` (the
    class that a worst case is of), the same metric of the original and of the retrained model, gap = |value -
    retrained|, and ideal: a fixed number, or else the retrained model's (NaN without one). ACC_f is the accuracy on
    the class, ACC_r on all others; "worst class" the most negative change of another class's accuracy; MIA the
    share of the class's training images that a membership attack calls members; "probe" the recall
    of the class by a linear probe; routing JS (bits) and TV the distance to where the retrained model sends the class.
    per_class: accuracy of every class and split for all models, with Wilson intervals, and the edit's change.
    routing: where the class's samples go, counts and shares for all models. membership and probes hold the attacks
    behind the table; masked what masking the class's logit gives on the test split, and chance
    the routing JS that two samples of this size from one histogram stay below in 95 of 100 cases.
    """

    target: str
    method: str
    leaves_encoder: bool | None
    table: pd.DataFrame
    per_class: pd.DataFrame
    routing: pd.DataFrame
    membership: Membership
    probes: Mapping[str, Probe]
    masked: Mapping[str, float]
    chance: float

    def get(self, metric: str, split: str = "test") -> pd.Series:
        """One row of the table; all NaN where it was not measured."""
        found = self.table[(self.table["metric"] == metric) & (self.table["split"] == split)]
        return (
            found.iloc[0]
            if len(found)
            else pd.Series(np.nan, index=self.table.columns, dtype=object)
        )

    @property
    def mean_gap(self) -> float:
        """Mean absolute gap to the retrained model over ACC_f and ACC_r on both splits and MIA; NaN without one."""
        return float(np.mean([self.get(*key)["gap"] for key in GAPS]))

    def summary(self) -> pd.DataFrame:
        """One row for a table of methods: what ranks edits, with NaN where it was not measured."""
        row = {"method": self.method, "target": self.target}
        row |= {
            f"{split}_{metric}": self.get(metric, split)["value"]
            for metric in ("ACC_f", "ACC_r")
            for split in SPLITS
        }
        probe, worst, sibling = (
            self.get("probe"),
            self.get("worst class"),
            self.get("worst sibling"),
        )
        row |= {
            "mean_gap": self.mean_gap,
            "routing_js": self.get("routing JS")["value"],
            "probe": probe["value"],
            "probe_gap": probe["gap"],
            "cka_original": self.get("CKA to original")["value"],
            "cka_retrained": self.get("CKA to retrained")["value"],
            "zrf": self.get("ZRF")["value"],
            "mia": self.membership.members.value,
            "mia_auc": self.membership.auc.value,
            "worst_class": worst["of"],
            "worst_change": worst["value"],
            "worst_sibling": sibling["of"],
            "worst_sibling_fires": sibling["value"],
        }
        return pd.DataFrame([row])

    def says(self) -> tuple[str, ...]:
        """The sentences, computed from the numbers."""
        return audit_says(self)


def audit(
    edited: Mapping[str, Readout],
    original: Mapping[str, Readout],
    *,
    target: str,
    retrained: Mapping[str, Readout] | None = None,
    incompetent: Readout | Mapping[str, Readout] | None = None,
    fired: np.ndarray | Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    method: str = "",
    leaves_encoder: bool | None = None,
) -> Audit:
    """Everything that tells whether a classifier forgot class `target`, and what it cost the others.

    edited, original, retrained: read-outs of the same images under "train" and "test"; the retrained model learnt from the
    same images but those of the class. incompetent: the read-out of a randomly initialised network, for ZRF, of the
    test split or by split. fired: where the edit's gate fires, bool (N,) for the test split or by
    split, for the worst sibling. leaves_encoder: whether the edit acts behind an untouched encoder (latent injection). `seed`
    decides the folds of the membership attack and the bootstrap of the routing distances.
    Raises MismatchError, naming what differs, for missing splits, other classes, labels or order, a target that is
    unknown or has no sample in a split, or splits without another class.
    """
    models = {"edited": edited, "original": original} | (
        {} if retrained is None else {"retrained": retrained}
    )
    _check(models, target)
    incompetent = _by_split(incompetent, Readout, "incompetent")
    for split, readout in incompetent.items():
        _same(readout, original[split], f"the incompetent model's {split!r} read-out")
    fired = _by_split(fired, np.ndarray | list | tuple, "fired")
    measured = {
        name: _measure(parts, original, target, incompetent, seed) for name, parts in models.items()
    }
    rows = []
    for (metric, split), value in measured["edited"][0].items():
        own = {name: found[0][metric, split].value for name, found in measured.items()}
        rows.append(_row(metric, split, value, own, 0.0 if metric == "worst class" else None))
    nearby, table = (
        {},
        pd.concat([_where(models, split, target) for split in SPLITS], ignore_index=True),
    )
    if retrained is not None:
        for split in SPLITS:
            goes = {
                name: routing(m[split].predicted, m[split].y, target, m[split].classes)["count"]
                for name, m in models.items()
            }
            distances = {
                name: routing_distance(counts, goes["retrained"], seed=seed)
                for name, counts in goes.items()
            }
            nearby[split] = distances["edited"].loc["js", "chance"]
            for distance in ("js", "tv"):
                row = distances["edited"].loc[distance]
                value = Estimate(row["value"], row["low"], row["high"], int(row["n"]))
                own = {name: d.loc[distance, "value"] for name, d in distances.items()}
                rows.append(_row(f"routing {distance.upper()}", split, value, own, 0.0))
        own = {name: linear_cka(m["test"].z, retrained["test"].z) for name, m in models.items()}
        rows.append(
            _row(
                "CKA to retrained",
                "test",
                Estimate(own["edited"], np.nan, np.nan, len(edited["test"])),
                own,
                1.0,
            )
        )
    for split, where in fired.items():
        worst = worst_sibling(where, edited[split].y, target, edited[split].classes)
        rows.append(_row("worst sibling", split, worst, {}, 0.0))
    return Audit(
        target,
        method,
        leaves_encoder,
        pd.DataFrame(rows),
        _per_class(models),
        table,
        measured["edited"][1],
        {name: found[2] for name, found in measured.items()},
        _masked(original["test"], target),
        float(nearby.get("test", np.nan)),
    )


def _check(models: Mapping[str, Mapping[str, Readout]], target: str) -> None:
    for name, parts in models.items():
        missing = [s for s in SPLITS if not isinstance(parts, Mapping) or s not in parts]
        if missing:
            have = (
                ", ".join(map(repr, parts)) if isinstance(parts, Mapping) else type(parts).__name__
            )
            raise MismatchError(
                f"audit needs the {name} model's read-outs as a mapping with 'train' and 'test'; got {have}, "
                f"without {' and '.join(map(repr, missing))}"
            )
    for split in SPLITS:
        reference = models["original"][split]
        own = reference.y == reference.index(target)
        if own.all() or not own.any():
            what = "no sample of it" if not own.any() else "no sample of any other class"
            raise MismatchError(
                f"class {target!r} can't be audited: the {split!r} split has {what}"
            )
        for name, parts in models.items():
            _same(parts[split], reference, f"the {name} model's {split!r} read-out")


def _same(readout: Readout, reference: Readout, owner: str) -> None:
    if readout.classes != reference.classes:
        raise MismatchError(
            f"{owner} has other classes than the original's, or another order: {', '.join(readout.classes[:10])} "
            f"instead of {', '.join(reference.classes[:10])}"
        )
    if len(readout) != len(reference):
        raise MismatchError(
            f"{owner} has {len(readout)} samples and the original's {len(reference)}: read out the same images"
        )
    if not np.array_equal(readout.y, reference.y):
        first = int(np.flatnonzero(readout.y != reference.y)[0])
        raise MismatchError(
            f"{owner} has other labels than the original's from sample {first} on: same images, same order"
        )


def _by_split(given, single, owner: str) -> Mapping:
    if given is None:
        return {}
    if isinstance(given, single):
        return {"test": given}
    if not isinstance(given, Mapping) or set(given) - set(SPLITS):
        have = ", ".join(map(repr, given)) if isinstance(given, Mapping) else type(given).__name__
        raise MismatchError(
            f"{owner} is given for the test split, or as a mapping with 'train' or 'test'; got {have}"
        )
    return given


def _measure(
    parts, original, target: str, incompetent, seed: int
) -> tuple[dict, Membership, Probe]:
    """(estimates by (metric, split), the membership attack, the probe) of one model."""
    found, own = {}, {split: parts[split].y == parts[split].index(target) for split in SPLITS}
    for split in SPLITS:
        hits = parts[split].predicted == parts[split].y
        found["ACC_f", split], found["ACC_r", split] = (
            share(hits[own[split]]),
            share(hits[~own[split]]),
        )
        found["worst class", split] = _worst_class(parts[split], original[split], target)
    scores = {split: confidence_scores(parts[split].probabilities) for split in SPLITS}
    attack = membership_inference(
        scores["train"][~own["train"]],
        scores["test"][~own["test"]],
        scores["train"][own["train"]],
        seed,
    )
    found["MIA", "train"], found["MIA AUC", "test"] = attack.members, attack.auc
    probe = probe_recovery(parts["train"], parts["test"], target)
    found["probe", "test"], found["probe others", "test"] = probe.recall, probe.others
    cka = linear_cka(parts["test"].z, original["test"].z)
    found["CKA to original", "test"] = Estimate(cka, np.nan, np.nan, len(parts["test"]))
    for split, readout in incompetent.items():
        chosen = own[split]
        found["ZRF", split] = zrf(parts[split].probabilities[chosen], readout.probabilities[chosen])
    return found, attack, probe


def _worst_class(readout: Readout, original: Readout, target: str) -> Estimate:
    """The most negative change of another class's accuracy; ties go to the class with more samples."""
    before, after = original.predicted == original.y, readout.predicted == readout.y
    changes = []
    for i, name in enumerate(readout.classes):
        chosen = readout.y == i
        if name != target and chosen.any():
            c = paired_change(before[chosen], after[chosen])
            changes.append(Estimate(c.value, c.low, c.high, c.n, name))
    return min(changes, key=lambda c: (c.value, -c.n))


def _row(
    metric: str, split: str, value: Estimate, own: Mapping[str, float], ideal: float | None
) -> dict:
    reference = own.get("retrained", np.nan)
    row = {
        "metric": metric,
        "split": split,
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "n": value.n,
    }
    row |= {"of": value.name, "original": own.get("original", np.nan), "retrained": reference}
    return row | {
        "gap": abs(value.value - reference),
        "ideal": reference if ideal is None else ideal,
    }


def _per_class(models) -> pd.DataFrame:
    frames = []
    for split in SPLITS:
        table = None
        for name, parts in models.items():
            readout = parts[split]
            own = accuracy(readout.predicted, readout.y, readout.classes).iloc[:-1]
            if table is None:
                table = own[["class", "n"]].copy()
                table.insert(0, "split", split)
            table[name], table[f"{name}_low"], table[f"{name}_high"] = (
                own["accuracy"],
                own["low"],
                own["high"],
            )
        table["change"] = table["edited"] - table["original"]
        frames.append(table)
    return pd.concat(frames, ignore_index=True)


def _where(models, split: str, target: str) -> pd.DataFrame:
    table = None
    for name, parts in models.items():
        readout = parts[split]
        own = routing(readout.predicted, readout.y, target, readout.classes)
        if table is None:
            table = own[["class", "n"]].copy()
            table.insert(0, "split", split)
        table[f"{name}_count"], table[name] = own["count"], own["share"]
        table[f"{name}_low"], table[f"{name}_high"] = own["low"], own["high"]
    return table


def _masked(original: Readout, target: str) -> dict[str, float]:
    logits, own = original.logits.copy(), original.y == original.index(target)
    logits[:, original.index(target)] = -np.inf
    hits = logits.argmax(axis=1) == original.y
    return {"ACC_f": float(hits[own].mean()), "ACC_r": float(hits[~own].mean())}
