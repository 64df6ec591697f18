"""What the parameters of notebooks may be, by name: a typo costs no training."""

from collections.abc import Callable, Mapping
from math import isfinite

from ..checks import listed
from ..errors import NotebookError
from ..experiments.experiment import GATES, SPLITS
from ..experiments.methods import TRAINED

Rule = tuple[Callable[[object], bool], str]  # whether a value will do, and what will


def _kind(kind: type, words: str) -> Rule:
    return lambda value: isinstance(value, kind), words


def _whole(low: int) -> Rule:
    return lambda value: type(value) is int and value >= low, f"a whole number from {low} on"


def _number(words: str, good: Callable[[float], bool]) -> Rule:
    return (
        lambda value: type(value) in (int, float) and isfinite(value) and good(value),
        f"a number {words}",
    )


def _among(*names: str) -> Rule:
    return lambda value: value in names, f"one of {listed(map(repr, names))}"


def _each(rule: Rule, least: int = 1) -> Rule:
    good, words = rule
    return (
        lambda value: isinstance(value, list) and len(value) >= least and all(map(good, value)),
        f"a list, {'each item' if least else '[] or each item'} {words}",
    )


def _distinct(value) -> bool:
    return _each(NAME, 0)[0](value) and len(set(value)) == len(value)


NAME, TEXT, OPTIONS = _kind(str, "a name"), _kind(str, 'text ("" for none)'), _kind(dict, "a dict")
BELOW_0 = _number("below 0", lambda x: x < 0)
_SHIFT = _number("from 0 to 1.5", lambda x: 0 <= x <= 1.5)
_RULES: dict[str, Rule] = {  # by the names of the parameters that they are for
    "dataset model corruption attribute": NAME,
    "group weights finetuned beside other_dataset other_data column value": TEXT,
    "audited source_class target_class target": TEXT,
    "data_args model_args other_args pretrain corruption_args": OPTIONS,
    "limit beside_limit other_limit seed max_pairs relearn_steps n_unseen retrained": _whole(0),
    "epochs beside_epochs other_epochs collapse_epochs n_seeds n_draws n_images": _whole(1),
    "n_order samples batch_size in_turn n_references external n_populations": _whole(1),
    "n_pairs n_candidates steps batch": _whole(1),
    "most_clusters": _whole(2),
    "n_retrained n_trained": _whole(-1),
    "copies": (lambda value: _whole(2)[0](value) and value % 2 == 0, "an even number above 0"),
    "n_audited": (lambda value: value == -1 or _whole(1)[0](value), "-1 or a whole number above 0"),
    "n_boot": (lambda value: value == 0 or _whole(2)[0](value), "0 or a whole number from 2 on"),
    "lr other_lr floor": _number("from 0 on", lambda x: x >= 0),
    "threshold tolerance shrinkage": _number("from 0 to 1", lambda x: 0 <= x <= 1),
    "area error_share delta": _number("above 0 and at most 1", lambda x: 0 < x <= 1),
    "false_fire": _number("between 0 and 1", lambda x: 0 < x < 1),
    "strength eps": _number("above 0", lambda x: x > 0),
    "shift_strength attribute_strength": _SHIFT,
    "lambda_": _number("other than 0", bool),
    "split vectors_split": _among(*SPLITS),
    "gate deploy": _among(*GATES),
    "order": _among("given", "cluster"),
    "guarantee": _among("marginal", "pac", "youden"),
    "head": _among("auto", "cosine", "linear", "own", "probe"),
    "heads": _each(_among("auto", "cosine", "linear", "own")),
    "lambdas": _each(BELOW_0),
    "alphas": _each(_number("from -1 to 2", lambda x: -1 <= x <= 2)),
    "counts": _each(_whole(2)),
    "n_external": _each(_whole(1)),
    "strengths": _each(_SHIFT),
    "shifts datasets": _each(NAME),
    "trained": _each(_among(*TRAINED), 0),
    "layernorms matched": _each(NAME, 0),
    "targets": (_distinct, "a list of classes, each once, or []"),
    "templates": _each(
        (lambda value: isinstance(value, str) and value.count("{}") == 1, "text with one {}"), 0
    ),
    "error": (lambda value: _distinct(value) and len(value) in (0, 2), "[] or two classes"),
}
RULES = {name: rule for names, rule in _RULES.items() for name in names.split()}
WHERE: dict[str, dict[str, Rule]] = {  # what holds only beside another parameter
    "targets": {"lambda_": BELOW_0},
    "datasets": {"epochs": _each(_whole(1)), "n_boot": _whole(2)},
    "delta": {"n_boot": _whole(2)},
    "n_external": {"epochs": _whole(0), "lambdas": _each(_number("", lambda x: True))},
    "collapse_epochs": {
        "lambda_": BELOW_0,
        "order": _among("given", "name", "accuracy", "cluster"),
    },
}
ASKED = (  # what only data or model can answer: `prepare` asks them
    "targets", "audited", "error", "source_class", "target_class", "target", "split",
    "vectors_split", "deploy", "layers", "layernorms", "matched",
)  # fmt: skip


def check_values(given: Mapping[str, object]) -> None:
    """Raise one NotebookError that lists every parameter whose value can't be, and what can."""
    rules = dict(RULES)
    for name in WHERE.keys() & given.keys():
        rules |= WHERE[name]
    problems = [
        f"{name} must be {rules[name][1]}; got {name}={value!r}"
        for name, value in given.items()
        if name in rules and not rules[name][0](value)
    ]
    targets, audited = given.get("targets"), given.get("audited")
    if targets and audited and audited not in targets:
        problems.append(f"audited must be one of targets={targets!r}; got audited={audited!r}")
    if given.get("source_class") and given["source_class"] == given.get("target_class"):
        problems.append(f"source_class and target_class are both {given['source_class']!r}")
    if problems:
        raise NotebookError("\n".join(problems))
