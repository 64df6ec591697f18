"""`audit`: an edit that should forget a class, beside the original and a retrained model."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch

from ...checks import index_of, listed, record, same_images
from ...errors import MismatchError
from ...readout import Readout
from ...statistics import Estimate, paired_change, share
from .membership import FEWEST, Membership, confidence_scores, membership_inference
from .metrics import (
    linear_cka,
    of_others,
    routing,
    routing_distance,
    worst_sibling,
    zrf,
)
from .probe import Probe, probe_recovery
from .words import audit_says

SPLITS = ("train", "test")
GAPS = ["ACC_f", "ACC_r", "MIA"]
IDEALS = dict.fromkeys(["worst class", "worst sibling", "routing JS", "routing TV"], 0)
IDEALS["CKA to retrained"] = 1
SUMMARY = {
    "test_ACC_f": "ACC_f",
    "test_ACC_r": "ACC_r",
    "routing_js": "routing JS",
    "probe": "probe",
    "cka_retrained": "CKA to retrained",
    "zrf": "ZRF",
}


@record
class Audit:
    """What an edit did to class `target`.

    table: one row a metric and split: value with its 95 % interval (low, high; NaN where none is
    known), n, `of` (the class that a worst case is of), the same metric of the original and of the
    retrained model, gap = |value - retrained|, and ideal: a fixed number, or else the retrained
    model's (NaN without one). ACC_f is the accuracy on the class, ACC_r on all others; "worst
    class" the most negative change of another class's accuracy; MIA the share of the class's
    training images that a membership attack calls members; "probe" the recall of the class by a
    linear probe; routing JS (bits) and TV the distance to where the retrained model sends the
    class. routing: model, and the rows of `metrics.routing`: where the test split's samples go.
    membership and probes (by model) hold the attacks behind the table. masked: ACC_r on the test
    split after masking the class's logit, which brings ACC_f to 0. chance: the routing JS that two
    samples of this size from one histogram stay below in 95 of 100 cases.
    """

    target: str
    method: str
    leaves_encoder: bool | None
    table: pd.DataFrame
    routing: pd.DataFrame
    membership: Membership
    probes: Mapping[str, Probe]
    masked: float
    chance: float

    def get(self, metric: str, split: str = "test") -> pd.Series:
        """One row of the table; all NaN where it was not measured."""
        return self.table.set_index(["metric", "split"]).reindex([(metric, split)]).iloc[0]

    @property
    def mean_gap(self) -> float:
        """Mean gap to the retrained model over ACC_f and ACC_r (both splits) and MIA; or NaN."""
        return float(self.table.loc[self.table["metric"].isin(GAPS), "gap"].mean())

    def summary(self) -> pd.DataFrame:
        """One row for a table of methods: what ranks edits, with NaN where it was not measured."""
        row = {"method": self.method, "target": self.target, "mean_gap": self.mean_gap}
        row |= {name: self.get(metric)["value"] for name, metric in SUMMARY.items()}
        return pd.DataFrame([row | {"mia": self.membership.members.value}])

    def says(self) -> tuple[str, ...]:
        """The sentences, computed from the numbers."""
        return audit_says(self)


def audit(
    edited: Mapping[str, Readout],
    original: Mapping[str, Readout],
    *,
    target: str,
    retrained: Mapping[str, Readout] | None = None,
    incompetent: Readout | None = None,
    fired: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    method: str = "",
    leaves_encoder: bool | None = None,
    known: dict | None = None,
) -> Audit:
    """Everything that tells whether a classifier forgot a class, and what it cost the others.

    Args:
        edited, original: read-outs of the same images under "train" and "test".
        target: name of the class.
        retrained: the same of a model that learnt from the same images but those of the class.
        incompetent: the read-out of a randomly initialised network on the test split, for ZRF.
        fired: where the edit's gate fires, bool (N,) by split, for the worst sibling.
        seed: draws the folds of the membership attack and the resamples of the routing distances.
        method: name of the edit.
        leaves_encoder: whether the edit acts behind an untouched encoder (latent injection).
        known: takes up what is measured of the original and the retrained model. Given again with
            other edits and all else the same, it spares measuring them again.
    Returns:
        An `Audit`.
    Raises:
        MismatchError: naming what differs, for missing splits, other classes, labels or order, a
            target that is unknown or has no sample in a split, or splits without another class.
    """
    models = {"edited": edited, "original": original}
    if retrained is not None:
        models["retrained"] = retrained
    for name, parts in models.items():
        if not isinstance(parts, Mapping) or not set(SPLITS) <= set(parts):
            raise MismatchError(
                f"the {name} model's read-outs must be given under {listed(SPLITS)}"
            )
    own = {}
    for split in SPLITS:
        part = original[split]
        own[split] = mine = part.y == index_of(target, part.classes)
        if mine.all() or not mine.any():
            lacking = "another class than" if mine.any() else "class"
            raise MismatchError(f"the {split!r} split has no sample of {lacking} {target!r}")
        for name, parts in models.items():
            owner = f"the {name} model's {split!r} read-out"
            same_images(parts[split], original[split], owner, "the original's")
    if incompetent is not None:
        same_images(incompetent, original["test"], "the incompetent model's", "the original's")
    known = {} if known is None else known
    new = [name for name in models if name == "edited" or name not in known]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        jobs = [pool.submit(_measure, models, n, target, own, incompetent, seed) for n in new]
        found = {name: job.result() for name, job in zip(new, jobs, strict=True)}
    known |= {name: values for name, values in found.items() if name != "edited"}
    measured = {name: found.get(name) or known[name] for name in models}
    found, attack, _, chance = measured["edited"]
    for split, where in (fired or {}).items():
        part = edited[split]
        found["worst sibling", split] = worst_sibling(where, part.y, target, part.classes)
    tables = {
        name: pd.DataFrame(map(vars, values.values()), pd.MultiIndex.from_tuples(values))
        for name, (values, *_) in measured.items()
    }
    table = tables["edited"].rename(columns={"name": "of"})
    for name in ("original", "retrained"):
        table[name] = tables[name]["value"] if name in tables else np.nan
    table = table.rename_axis(["metric", "split"]).reset_index()
    table["gap"] = (table["value"] - table["retrained"]).abs()
    table["ideal"] = table["metric"].map(IDEALS).fillna(table["retrained"])
    goes = [_goes(parts["test"], target).assign(model=name) for name, parts in models.items()]
    test, others = original["test"], ~own["test"]
    logits = test.logits[others]
    logits[:, test.index(target)] = -np.inf
    return Audit(
        target,
        method,
        leaves_encoder,
        table,
        pd.concat(goes, ignore_index=True),
        attack,
        {name: probe for name, (_, _, probe, _) in measured.items()},
        share(logits.argmax(axis=1) == test.y[others]).value,
        chance,
    )


def _goes(readout, target) -> pd.DataFrame:
    return routing(readout.predicted, readout.y, target, readout.classes)


def _measure(models, name, target, own, incompetent, seed) -> tuple:
    """One model's estimates by (metric, split), its attack, its probe, and routing's chance."""
    parts, original, retrained = models[name], models["original"], models.get("retrained")
    found, chance, test = {}, {}, parts["test"]
    for split in SPLITS:
        readout, mine = parts[split], own[split]
        y, classes = readout.y, readout.classes
        hits, before = readout.predicted == y, original[split].predicted == y
        changes = of_others(paired_change, y, target, classes, before, hits)
        found["ACC_f", split], found["ACC_r", split] = share(hits[mine]), share(hits[~mine])
        found["worst class", split] = min(changes, key=lambda one: (one.value, -one.n))

    groups = ("train", ~own["train"]), ("test", ~own["test"]), ("train", own["train"])
    scores = [confidence_scores(parts[split].probabilities[rows]) for split, rows in groups]
    if min(len(scores[0]), len(scores[1])) < FEWEST:
        attack = Membership(*[Estimate(np.nan, np.nan, np.nan, 0)] * 3)
    else:
        attack = membership_inference(*scores, seed)
    probe = probe_recovery(parts["train"], test, target)
    found["MIA", "train"], found["MIA AUC", "test"] = attack.members, attack.auc
    found["probe", "test"], found["probe others", "test"] = probe.recall, probe.others
    found["CKA to original", "test"] = linear_cka(test.z, original["test"].z)
    if incompetent is not None:
        answers = (part.probabilities[own["test"]] for part in (test, incompetent))
        found["ZRF", "test"] = zrf(*answers)
    if retrained is not None:
        for split in SPLITS:
            counts = (_goes(given[split], target)["hits"] for given in (parts, retrained))
            for kind, (value, limit) in routing_distance(*counts, seed=seed).items():
                found[f"routing {kind}", split] = value
                chance[kind, split] = limit
        found["CKA to retrained", "test"] = linear_cka(test.z, retrained["test"].z)
    return found, attack, probe, chance.get(("JS", "test"), np.nan)
