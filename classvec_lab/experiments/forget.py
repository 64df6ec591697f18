"""`forget_study`: every method on every class to forget, one table, judged on the test split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..checks import one_of
from ..editing.audit.metrics import js_divergence, routing, worst_sibling
from ..editing.audit.report import Audit, audit
from ..errors import EditError
from ..progress import progress_bar
from ..readout import Readout, predict
from ..statistics import split_accuracy, summarise, with_ends
from .experiment import Experiment
from .methods import REFERENCE, RETRAINED, Method, Outcome, measure, standard_methods

AUDITED = ("train", "test")
SETTING = ("method", "family", "gate", "chosen")
SUMMARY = (
    "lambda_", "n", "unit", *with_ends("acc_f", "acc_r"), "worst_acc_f", "worst_target", "change_r",
    "false_fire", "miss", "worst_sibling_fires", "routing_js", "n_parameters",
)  # fmt: skip
JUDGED = ("ACC_f", "ACC_r", "routing_js", "probe", "zrf", "cka_retrained", "mia", "mean_gap")


@dataclass(frozen=True, eq=False)
class ForgetStudy:
    """What each method left of each target class.

    Args:
        exp: the experiment.
        table: one row a method, setting and target, on test: method, family, gate, lambda_,
            `chosen` (on val), target, seed, n_f, acc_f, n_r, acc_r with 95 % Wilson intervals,
            change_r (acc_r less the fine-tuned model's), false_fire (on all others), miss,
            sibling and sibling_fires (the other class on which the gate fires most), routing_js
            (bits, to the retrained model, NaN without one), n_parameters, leaves_encoder, draw
            of a random direction, unedited_f.
        outcomes: by target, what the rows were made from. They hold no encoder beside those of
            `exp`, see `Outcome`.
    """

    exp: Experiment
    table: pd.DataFrame
    outcomes: Mapping[str, Sequence[Outcome]]
    _retrained: dict = field(default_factory=dict, init=False, repr=False)  # of one target

    def has(self, method: str, target: str) -> bool:
        """Whether the method was run on the target."""
        return any(o.method == method for o in self.outcomes[target])

    def find(self, method: str, target: str, *, gate: str | None = None) -> Outcome:
        """The first outcome of a method on a target, behind a gate where one is given.

        Raises:
            EditError: where there is none, listing what there is.
        """
        found = self.outcomes[one_of(target, self.outcomes, "target", EditError)]
        for o in found:
            if o.method == method and gate in (None, o.gate):
                return o
        have = dict.fromkeys(f"{o.method} ({o.gate})" for o in found)
        wanted = method if gate is None else f"{method} ({gate})"
        return one_of(wanted, have, f"outcome on {target!r} of", EditError)

    def summary(self) -> pd.DataFrame:
        """`summarise_methods` of the table."""
        return summarise_methods(self.table)

    def agreement(self, method: str) -> list[float]:
        """For each row of the table, the share of test images answered as `method` answers them."""
        like = {target: self.find(method, target).predicted for target in self.outcomes}
        return [
            float((o.predicted == like[target]).mean())
            for target, found in self.outcomes.items()
            for o in found
        ]

    def routes(self, methods: Sequence[str]) -> pd.DataFrame:
        """Where test samples of each target go.

        Args:
            methods: names; targets on which one was not run have no rows of it.
        Returns:
            One row a method, target and predicted class: share, its Wilson interval and n.
        Raises:
            EditError: for a method that was run on no target.
        """
        test = self.exp.features["test"]
        for method in methods:
            one_of(method, dict.fromkeys(self.table["method"]), "outcome of", EditError)
        rows = [
            routing(self.find(method, target).predicted, test.y, target, test.classes)
            .reset_index()
            .assign(method=method, target=target)
            for target in self.outcomes
            for method in methods
            if self.has(method, target)
        ]
        return pd.concat(rows, ignore_index=True)

    def audit(
        self, method: str, target: str, *, gate: str | None = None, incompetent=None
    ) -> Audit:
        """The full audit of one method on one target, beside the retrained model if there is one.

        Args:
            gate: see `find`.
            incompetent: read-out of a random network on test, for ZRF.
        """
        outcome, features = self.find(method, target, gate=gate), self.exp.features
        if target not in self._retrained:  # kept for the audits of one target after the other
            self._retrained.clear()
            known = self.has(RETRAINED, target)
            found = self.find(RETRAINED, target).readouts(*AUDITED) if known else None
            self._retrained[target] = found
        return audit(
            outcome.readouts(*AUDITED), {s: Readout.of(self.exp.ft, features[s]) for s in AUDITED},
            target=target, retrained=self._retrained[target], incompetent=incompetent,
            fired=None if outcome.gate == "none" else {s: outcome.fired(s) for s in AUDITED},
            seed=self.exp.seed, method=method, leaves_encoder=outcome.leaves_encoder,
        )  # fmt: skip

    def seconds(self) -> pd.DataFrame:
        """Wall time by method and gate, mean over targets: for a manifest, no table repeats it."""
        keys, found = ["method", "gate"], [o for part in self.outcomes.values() for o in part]
        frame = self.table[keys].assign(seconds=[o.seconds for o in found])
        return frame.groupby(keys, sort=False, as_index=False).mean()


def forget_study(
    exp: Experiment,
    targets: Sequence[str] | None = None,
    methods: Mapping[str, Method] | None = None,
    *,
    only: Mapping[str, Sequence[str]] | None = None,
    progress: bool = True,
) -> ForgetStudy:
    """Forget each target in turn by every method.

    Gates and strengths are set on val, and nothing is chosen on the split that is reported. Methods
    named in `only` come last, so that a mistake in another one costs no training.

    Args:
        targets: class names, all by default.
        methods: names to callables (exp, target), see `experiments.methods`; by default
            `standard_methods()`. A way of your own is one line:
            `methods["my way"] = lambda exp, target: inject(exp.ft, -2 * exp.vectors[target])`.
        only: names of methods that are too slow for all targets to those they are run on.
    Raises:
        EditError: for unknown targets or methods, before any work.
    """
    targets, only = exp.require_targets(targets), only or {}
    methods = standard_methods() if methods is None else methods
    for name, few in only.items():
        one_of(name, methods, "method", EditError)
        for target in few:
            one_of(target, targets, "target", EditError)
    plan = [(n, t) for t in targets for n in methods if t in only.get(n, targets)]
    plan.sort(key=lambda job: job[0] in only)
    made = {
        (name, target): measure(exp, name, target, methods[name])
        for name, target in progress_bar(plan, desc="forget", disable=not progress)
    }
    base = predict(exp.ft, exp.features["test"]) == exp.features["test"].y
    outcomes, rows = {}, []
    for target in targets:
        found = [o for name in methods for o in made.get((name, target), ())]
        outcomes[target] = sorted(found, key=lambda o: o.family != REFERENCE)
        like = next((o for o in found if o.method == RETRAINED), None)
        rows += [_row(o, base, like) for o in outcomes[target]]
    return ForgetStudy(exp, pd.DataFrame(rows), outcomes)


def summarise_methods(table: pd.DataFrame) -> pd.DataFrame:
    """One row a method and setting of a study's table, or of several joined; see `summarise`.

    sibling_fires is the largest of all.
    """
    found = summarise(table, SETTING, SUMMARY)
    return found.rename(columns={"worst_sibling_fires": "sibling_fires"})


def summarise_audits(table: pd.DataFrame) -> pd.DataFrame:
    """One row a method of joined `Audit.summary()`s with a column seed, on test but for MIA."""
    table = table.rename(columns={"test_ACC_f": "ACC_f", "test_ACC_r": "ACC_r"})
    columns = ["n", "unit", *with_ends(*JUDGED), "worst_probe", "worst_routing_js"]
    found = summarise(table, ["method"], columns, of="ACC_f")
    found.insert(3, "split", "test")
    return found.rename(columns={"worst_routing_js": "worst_js"})


def _row(o: Outcome, base: np.ndarray, like: Outcome | None) -> dict:
    test, fired = o.exp.features["test"], o.fired()
    own, hit = test.y == test.classes.index(o.target), o.predicted == test.y
    row = {name: getattr(o, name) for name in (*SETTING[:3], "lambda_", "chosen", "target")}
    row |= {"seed": o.exp.seed, "split": "test"} | split_accuracy(hit, own)
    row["change_r"] = row["acc_r"] - float(base[~own].mean())
    row |= {"false_fire": np.nan, "miss": np.nan, "sibling": "", "sibling_fires": np.nan}
    if fired is not None:
        worst = worst_sibling(fired, test.y, o.target, test.classes)
        row |= {"false_fire": float(fired[~own].mean()), "miss": float(1 - fired[own].mean())}
        row |= {"sibling": worst.name, "sibling_fires": worst.value}
    goes = [routing(x.predicted, test.y, o.target, test.classes)["share"] for x in (o, like or o)]
    row["routing_js"] = float(js_divergence(*goes)) if like else np.nan
    row |= {name: getattr(o, name) for name in ("n_parameters", "leaves_encoder", "draw")}
    return row | {"unedited_f": float(base[own].mean())}
