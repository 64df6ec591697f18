"""`forget_study`: every method on every class to forget, one table, judged on the test split."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import pandas as pd
import torch

from ..checks import one_of, record
from ..editing.audit.metrics import js_divergence, routing, worst_sibling
from ..editing.audit.relearn import BACK, relearn_time
from ..editing.audit.report import SPLITS, Audit, audit
from ..errors import EditError
from ..features import Features
from ..models import held
from ..progress import progress_bar
from ..readout import Readout, predict
from ..statistics import split_accuracy, summarise, with_ends
from .experiment import Experiment
from .methods import FINE_TUNED, REFERENCE, RETRAINED, Method, Outcome, measure, standard_methods

SETTING = ("method", "family", "gate", "chosen")
SUMMARY = (
    "lambda_", "n", "unit", *with_ends("acc_f", "acc_r"), "worst_acc_f", "worst_target",
    "lowest_acc_f", "change_r", "false_fire", "miss", "out_of_reach", "worst_sibling_fires",
    "routing_js", "n_routing_js", "n_parameters",
)  # fmt: skip
JUDGED = ("ACC_f", "ACC_r", "routing_js", "probe", "zrf", "cka_retrained", "mia", "mean_gap")


@record
class ForgetStudy:
    """What each method left of each target class.

    Args:
        exp: the experiment.
        table: one row a method, setting and target, on test: method, family, gate, lambda_,
            `chosen` (on val), target, seed, n_f, acc_f, n_r, acc_r with 95 % Wilson intervals,
            change_r (acc_r less the fine-tuned model's), false_fire (on all others), miss,
            sibling and sibling_fires (the other class on which the gate fires most), routing_js
            (bits, to the retrained model, NaN without one), n_parameters, leaves_encoder, draw
            of a random direction, keys of a mapping, unedited_f, out_of_reach (the share of the
            target's samples that are named rightly before and on which the gate doesn't fire).
        outcomes: by target, what the rows were made from. They hold no encoder beside those of
            `exp`, see `Outcome`.
    """

    exp: Experiment
    table: pd.DataFrame
    outcomes: Mapping[str, Sequence[Outcome]]

    def first(self, target: str, methods: Sequence[str] | None = None) -> dict[str, Outcome]:
        """The first main outcome of each method on a target, by name.

        Args:
            methods: the names wanted, in this order; those that were not run on the target are
                left out. By default all.
        Raises:
            EditError: for an unknown target.
        """
        found = self.outcomes[one_of(target, self.outcomes, "target", EditError)]
        first = {o.method: o for o in sorted(found, key=lambda o: not o.main)[::-1]}
        return {m: first[m] for m in (first if methods is None else methods) if m in first}

    def find(self, method: str, target: str) -> Outcome:
        """The first outcome of a method on a target.

        Raises:
            EditError: where there is none, listing what there is.
        """
        found = self.first(target)
        return found[one_of(method, found, f"outcome on {target!r} of", EditError)]

    def summary(self) -> pd.DataFrame:
        """`summarise_methods` of the table."""
        return summarise_methods(self.table)

    def routes(self, methods: Sequence[str], target: str) -> pd.DataFrame:
        """Where test samples of a target go.

        Args:
            methods: see `first`.
        Returns:
            One row a method and predicted class: the columns of `routing`, method, target.
        """
        test = self.exp.features["test"]
        parts = [
            routing(o.predicted, test.y, target, test.classes).assign(method=m, target=target)
            for m, o in self.first(target, methods).items()
        ]
        return pd.concat(parts, ignore_index=True)

    def audits(
        self,
        methods: Sequence[str],
        target: str,
        *,
        incompetent: Readout | None = None,
        progress: bool = True,
    ) -> dict[str, Audit]:
        """The full audit of methods on a target, beside the retrained model if there is one.

        Args:
            methods: see `first`.
            incompetent: read-out of a random network on test, for ZRF.
            progress: whether to show a bar.
        """
        features, found, known = self.exp.features, self.first(target), {}
        original = {split: Readout.of(self.exp.ft, features[split]) for split in SPLITS}
        retrained = found[RETRAINED].readouts(*SPLITS) if RETRAINED in found else None
        bar = progress_bar(
            self.first(target, methods).items(), desc="audit", delay=2, disable=not progress
        )
        at_once, jobs = torch.get_num_threads(), {}
        with ThreadPoolExecutor(at_once) as pool:
            for i, (m, o) in enumerate(bar):
                jobs[m] = pool.submit(
                    audit, o.readouts(*SPLITS), original, target=target, retrained=retrained,
                    incompetent=incompetent, seed=self.exp.seed, method=m, known=known,
                    fired={s: o.fired(s) for s in SPLITS if o.gate != "none"},
                    leaves_encoder=o.leaves_encoder,
                )  # fmt: skip
                # the first fills `known`; later on so many are in memory
                [*jobs.values()][max(i + 1 - at_once, 0)].result()
        return {m: job.result() for m, job in jobs.items()}

    def relearning(
        self, methods: Sequence[str], target: str, *, max_steps: int, seed: int = 0
    ) -> pd.DataFrame:
        """Steps until accuracy on a target is nine tenths of the fine-tuned model's again, on val.

        Args:
            methods: see `first`.
            max_steps: see `relearn_time`; 0 for no rows.
        Returns:
            One row a method: target, method, steps (text, "> 100" where it never came back),
            censored, threshold, split.
        """
        exp, val, rows = self.exp, self.exp.features["val"], []
        hit = predict(exp.ft, val) == val.y
        goal = float(hit[val.y == val.classes.index(target)].mean())
        task = {"evaluate": exp.val, "target": target, "original_accuracy": goal, "seed": seed}
        for m, o in self.first(target, methods).items():
            if max_steps and m != FINE_TUNED:
                steps = relearn_time(o.classifier, exp.train, max_steps=max_steps, **task)
                told = f"> {max_steps}" if steps is None else str(steps)
                rows.append((target, m, told, steps is None, round(BACK * goal, 6), "val"))
        columns = ["target", "method", "steps", "censored", "threshold", "split"]
        return pd.DataFrame(rows, columns=columns)

    def seconds(self) -> pd.DataFrame:
        """Wall time by method and gate, mean over targets: for a manifest, no table repeats it."""
        rows = [(o.method, o.gate, o.seconds) for part in self.outcomes.values() for o in part]
        table = pd.DataFrame(rows, columns=["method", "gate", "seconds"])
        return table.groupby(["method", "gate"], sort=False, as_index=False).mean()


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
    outcomes = {target: [] for target in targets}
    jobs = progress_bar(plan, desc="forget", disable=not progress)
    for target, few in groupby(jobs, key=lambda job: job[1]):
        with held(exp.pre, exp.ft):  # hashed anew for each target: a method might write to them
            for name, _ in few:
                outcomes[target] += measure(exp, name, target, methods[name])
    base = predict(exp.ft, exp.features["test"]) == exp.features["test"].y
    rows, order = [], [*methods]
    for found in outcomes.values():
        found.sort(key=lambda o: (o.family != REFERENCE, order.index(o.method)))
        like = next((o for o in found if o.method == RETRAINED), None)
        rows += [_row(o, base, like) for o in found]
    return ForgetStudy(exp, pd.DataFrame(rows), outcomes)


def summarise_methods(table: pd.DataFrame) -> pd.DataFrame:
    """One row a method and setting of a study's table, or of several joined; see `summarise`.

    sibling_fires is the largest of all. lowest_acc_f is the smallest of single draws, classes and
    trainings: a random direction that forgets would speak against the class vector's.
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


def gate_errors(
    fired: np.ndarray | None,
    features: Features,
    target: str,
    right: np.ndarray,
    soft: bool = False,
) -> dict:
    """How often a gate errs: false_fire on all other classes, miss, and the worst sibling.

    Args:
        fired: where the gate fires (N,), None without one.
        right: where the model names the samples rightly before any edit (N,).
        soft: whether the gate lets the edit act a little where it doesn't fire.
    Returns:
        false_fire, miss, sibling (the other class on which it fires most) and sibling_fires; and
        out_of_reach, the share of the class's samples that are right and missed: ACC_f stays above.
    """
    if fired is None:
        none = dict.fromkeys(("false_fire", "miss", "sibling_fires"), np.nan)
        return none | {"sibling": "", "out_of_reach": 0.0}
    own = features.y == features.classes.index(target)
    worst = worst_sibling(fired, features.y, target, features.classes)
    rates = {"false_fire": float(fired[~own].mean()), "miss": float(1 - fired[own].mean())}
    rates |= {"sibling": worst.name, "sibling_fires": worst.value}
    hidden = 0.0 if soft else float((right & ~fired)[own].mean())
    return rates | {"out_of_reach": hidden}


def _row(o: Outcome, base: np.ndarray, like: Outcome | None) -> dict:
    test = o.exp.features["test"]
    own = test.y == test.classes.index(o.target)
    row = {name: getattr(o, name) for name in (*SETTING[:3], "lambda_", "chosen", "target")}
    row |= {"seed": o.exp.seed, "split": "test"} | split_accuracy(o.predicted == test.y, own)
    row["change_r"] = row["acc_r"] - float(base[~own].mean())
    soft = o.gate != "none" and o.kept.gate.temperature > 0
    row |= gate_errors(o.fired("test"), test, o.target, base, soft)
    both = (x.predicted[own] for x in (o, like) if like)
    goes = [np.bincount(predicted, minlength=len(test.classes)) for predicted in both]
    row["routing_js"] = float(js_divergence(*goes)) if like else np.nan
    row |= {name: getattr(o, name) for name in ("n_parameters", "leaves_encoder", "draw", "keys")}
    return row | {"unedited_f": float(base[own].mean())}
