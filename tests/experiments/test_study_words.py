"""Sentences hold the table's numbers, and say the opposite where the numbers do."""

import re

import numpy as np
import pandas as pd
import pytest

from classvec_lab.editing.advice import cannot_lose
from classvec_lab.editing.strength import Bounds
from classvec_lab.experiments.forget_words import study_says
from classvec_lab.statistics import crossed_mean, mean_interval
from classvec_lab.words import percent, points

TARGETS = ("owl", "cat", "elk", "ant")
SHAPE = np.array([1.0, -1.0, 0.5, -0.5])  # of the targets about their mean
START = {
    "method": "class vector", "family": "latent edit", "gate": "margin", "chosen": False,
    "lambda_": -1.5, "seed": 0, "acc_f": 0.01, "acc_r": 0.97, "change_r": -0.002,
    "false_fire": 0.011, "miss": 0.02, "sibling_fires": 0.25, "out_of_reach": 0.0, "routing_js": np.nan,
    "n_parameters": 6.0,
}  # fmt: skip
UNGATED = {"gate": "none", "false_fire": np.nan, "miss": np.nan, "sibling_fires": np.nan}


def rows(spread=0.005, targets=TARGETS, **changes):
    """One row a target, with changes; a mean and a spread give each its ACC_f."""
    row = START | changes
    found = pd.DataFrame([row | {"target": target} for target in targets])
    return found.assign(acc_f=row["acc_f"] + spread * SHAPE[: len(targets)])


def main(**changes):
    """The class vector at its chosen strength."""
    return rows(**{"chosen": True} | changes)


def said(*parts, gate="margin", **options):
    return study_says(pd.concat(parts, ignore_index=True), gate=gate, **options)


def only(sentences, start):
    (found,) = (text for text in sentences if text.startswith(start))
    return found


def of_all(*tables):
    """(mean, low, high) of ACC_f over classes and trainings."""
    table = pd.concat(tables)
    return tuple(crossed_mean(table["acc_f"], table["target"], table["seed"]))


def interval(mean, spread=0.005, n=4):
    return percent(mean, *np.clip(mean_interval(mean + spread * SHAPE[:n])[1:], 0, 1))


def test_the_first_sentence_has_the_numbers():
    (first, gate) = said(main())
    assert first == (
        "The class vector behind the gate 'margin', its strength chosen on val (mean lambda "
        "-1.50), forgets and leaves the others alone: ACC_f 1.0% [0.3%, 1.7%] (worst owl with "
        "1.5%), ACC_r 97.0% [97.0%, 97.0%] (-0.2 points), n = 4 classes."
    )
    assert "ACC_f " + interval(0.01) in first
    assert gate == (
        "The gate fires on 1.1% of the other classes' samples and misses 2.0% of the class's; on "
        "its worst sibling it fires on 25.0%: a pooled rate hides siblings."
    )


@pytest.mark.parametrize(
    ("acc_f", "spread", "forgets"),
    [
        (0.01, 0.005, "forgets"),
        (0.6, 0.005, "does not forget"),
        (0.015, 0.005, "is not shown to forget"),  # its interval reaches beyond the 2 %
        (0.025, 0.005, "is not shown to forget"),
    ],
)
@pytest.mark.parametrize(
    ("change", "spread_r", "keeps"),
    [
        (-0.002, 0.001, "leaves the others alone"),
        (-0.3, 0.001, "costs the others accuracy"),
        (-0.009, 0.003, "is not shown to leave the others alone"),
        (0.01, 0.001, "leaves the others alone"),
    ],
)
def test_the_effect_follows_the_intervals(acc_f, spread, forgets, change, spread_r, keeps):
    table = main(acc_f=acc_f, spread=spread).assign(change_r=change + spread_r * SHAPE)
    text = said(table)[0]
    assert f", {forgets} and {keeps}: ACC_f {interval(acc_f, spread)} (" in text
    assert f"({100 * change:+.1f} points)" in text


def test_the_effect_is_held_to_the_bounds_of_the_study():
    table = main(acc_f=0.1, change_r=-0.05)
    assert "does not forget and costs the others accuracy" in said(table)[0]
    lenient = Bounds(threshold=0.12, tolerance=0.06)
    assert "), forgets and leaves the others alone" in said(table, bounds=lenient)[0]
    share = Bounds(tolerance=0.05)  # of the unedited ACC_r of 1.02, not points
    assert "costs" not in said(table, bounds=share)[0]
    assert "costs" in said(table, bounds=Bounds(tolerance=0.049))[0]


def test_one_class_has_no_interval():
    text = said(main(targets=["owl"]))[0]
    assert "ACC_f 1.5% (worst owl with 1.5%), ACC_r 97.0% (" in text
    assert text.endswith("n = 1 class.")
    assert "[" not in text
    assert ", forgets and" in text


def test_several_trainings_have_intervals_over_classes_and_trainings():
    """The classes of a training agree here and the trainings do not, so nothing is shown."""
    levels = {0: 0.001, 1: 0.012, 2: 0.02}
    tables = [main(acc_f=x, spread=1e-4, seed=seed) for seed, x in levels.items()]
    text = said(*tables)[0]
    mean, low, high = of_all(*tables)
    assert high > 0.02 > mean_interval(pd.concat(tables)["acc_f"])[2]
    assert (
        f", is not shown to forget and leaves the others alone: ACC_f {percent(mean)}"[:-1] in text
    )
    assert percent(mean, max(low, 0), high) in text
    assert text.endswith("n = 4 classes × 3 trainings.")


@pytest.mark.parametrize(
    ("acc_f", "own", "compared", "end"),
    [
        (0.9, 0.01, "forgets less than the class vector", "So the direction matters."),
        (
            0.012,
            0.01,
            "is not shown to forget less or more than the class vector",
            "So the direction is not shown to matter.",
        ),
        (
            0.1,
            0.4,
            "forgets more than the class vector",
            "So the direction is not shown to matter.",
        ),
    ],
)
def test_the_control(acc_f, own, compared, end):
    """Its draws are averaged before it is compared."""
    draws = [
        rows(method="random vector", acc_f=acc_f + x, spread=-0.005, draw=i)
        for i, x in enumerate((-0.05, 0.05))
    ]
    start = "A random direction of the same norm, gate and strength"
    gap = points(*mean_interval(acc_f - own - 0.01 * SHAPE))
    lowest = acc_f - 0.055  # of a single draw, not of the class's mean
    forget = sum((draw["acc_f"] <= 0.02).sum() for draw in draws)
    assert only(said(main(acc_f=own), *draws), start) == (
        f"{start} {compared}: ACC_f {interval(acc_f)}, {gap} beside it (n = 4 classes), ACC_r -0.2 "
        f"points. Of its 8 draws the lowest leaves {percent(lowest)} (of owl), and {forget} "
        f"forget. {end}"
    )


def test_a_draw_that_forgets_leaves_a_difference_on_average():
    draws = [rows(method="random vector", acc_f=x, draw=i) for i, x in enumerate((0.9, 0.98))]
    draws[0].loc[2, "acc_f"] = 0.015
    text = only(said(main(acc_f=0.01), *draws), "A random direction")
    assert " forgets less than the class vector: " in text
    assert text.endswith(
        "Of its 8 draws the lowest leaves 1.5% (of elk), and 1 forget. So the direction matters on "
        "average."
    )


def test_a_comparison_is_paired():
    """Both vary much over targets, and their difference little; or the other way round."""
    rival = rows(method="head direction", acc_f=0.52, spread=0.2)
    noise = 0.005 * np.array([1, 1, -1, -1])
    shown = said(main(acc_f=0.5, spread=0.2), rival.assign(acc_f=rival["acc_f"] + noise))
    assert " forgets less than the class vector: ACC_f 52.0%" in only(shown, "The head's own")
    crossed = rival.assign(acc_f=rival["acc_f"].to_numpy()[[1, 0, 3, 2]])
    not_shown = said(main(acc_f=0.5, spread=0.2), crossed)
    assert " is not shown to forget less or more than" in only(not_shown, "The head's own")


def test_a_comparison_over_trainings_is_not_one_over_classes():
    gaps = {0: -0.01, 1: 0.05, 2: 0.03}  # the same in each class of a training
    tables = [main(seed=s, acc_f=0.1) for s in gaps]
    tables += [rows(method="logit mask", seed=s, acc_f=0.1 + x, **UNGATED) for s, x in gaps.items()]
    text = only(said(*tables), "Masking the logit")
    assert " is not shown to forget less or more than the class vector" in text
    mean, low, high = mean_interval(list(gaps.values()))
    assert f"{points(mean, low, high)} beside it (n = 4 classes × 3 trainings)" in text


def test_a_control_behind_another_gate_or_at_another_strength_is_no_control():
    for changes in ({"gate": "cosine"}, {"chosen": True}):
        control = rows(method="random vector", acc_f=0.9, **changes)
        assert not any("random" in text for text in said(main(), control))


def test_the_published_strength():
    at = {"lambda_": -1.0, "acc_f": 0.4}
    expected = (
        f"At the published lambda = -1 it leaves ACC_f {interval(0.4)} (worst owl with 40.5%): "
        "4 of 4 classes keep more than the 2.0% of a forgotten one."
    )
    assert expected in said(main(), rows(**at))
    one = rows(**at).assign(acc_f=[0.01, 0.02, 0.9, 0.0])  # a mean that one class makes
    text = only(said(main(), one), "At the published")
    assert "(worst elk with 90.0%): 1 of 4 classes keep more than the 2.0%" in text
    assert not any("published" in text for text in said(main(), rows(**at, gate="cosine")))
    assert not any("published" in text for text in said(main(), rows(**at | {"lambda_": -2.0})))


@pytest.mark.parametrize(
    ("method", "start"),
    [
        ("z_ft - μ", "z_ft - μ, which needs no pre-trained model,"),
        ("head direction", "The head's own direction"),
        ("logit mask", "Masking the logit, which removes nothing,"),
    ],
)
@pytest.mark.parametrize(
    ("acc_f", "own", "spread", "verdict"),
    [
        (0.5, 0.4, 0.01, "forgets less than the class vector"),
        (0.495, 0.49, 0.01, "is not shown to forget less or more than the class vector"),
        (0.485, 0.49, 0.01, "is not shown to forget less or more than the class vector"),
        (0.1, 0.4, 0.01, "forgets more than the class vector"),
    ],
)
def test_the_rivals(method, start, acc_f, own, spread, verdict):
    gate = UNGATED if method == "logit mask" else {}
    rival = rows(method=method, acc_f=acc_f, spread=-spread, change_r=0.031, **gate)
    text = only(said(main(acc_f=own, spread=spread), rival), start)
    gap = points(*mean_interval(acc_f - own - 2 * spread * SHAPE))
    assert text == (
        f"{start} {verdict}: ACC_f {interval(acc_f, spread)}, {gap} beside it (n = 4 classes), "
        "ACC_r +3.1 points."
    )


def test_mappings_are_told_without_a_gate():
    mapping = rows(
        method="mapping, retired to the mean", family="weight mapping", acc_f=0.07,
        n_parameters=48.0, **UNGATED,
    )  # fmt: skip
    assert only(said(main(), mapping), "Mapping") == (
        "Mapping, retired to the mean does not forget and leaves the others alone: ACC_f "
        f"{interval(0.07)} (worst owl with 7.5%), ACC_r -0.2 points, from 48 stored numbers and "
        "without a gate."
    )


def test_where_nothing_is_left_no_class_is_the_worst():
    text = said(main(acc_f=0.0, spread=0.0))[0]
    assert "ACC_f 0.0% [0.0%, 0.0%] (0 for each class), ACC_r" in text


def test_nearest_to_retraining_is_the_smallest_distance_but_for_retraining_itself():
    others = [
        rows(method="retrained without it", routing_js=0.0),
        rows(method="logit mask", routing_js=0.12),
        rows(method="LEACE", routing_js=0.3),
    ]
    assert said(main(routing_js=0.2), *others)[-1] == (
        "Nearest to retraining in where the class's samples go: logit mask (0.12 bits; the class "
        "vector 0.20; 0 is the same, 1 disjoint; n = 4 classes)."
    )
    assert said(main(routing_js=0.05), *others)[-1].startswith(
        "Nearest to retraining in where the class's samples go: class vector (0.05 bits"
    )
    assert not any("Nearest" in text for text in said(main(), others[0]))
    aside = rows(gate="none", routing_js=0.01), rows(lambda_=-1.0, routing_js=0.01)
    assert "logit mask (0.12 bits" in said(main(routing_js=0.2), *others, *aside)[-1]


@pytest.mark.parametrize(("left", "knows"), [(0.0, False), (0.9, True)])
def test_what_retraining_leaves_is_said(left, knows):
    retrained = rows(
        method="retrained without it", family="reference", acc_f=left, targets=("owl", "cat")
    )
    text = only(said(main(), retrained), "Retrained without the class")
    assert percent(left, *mean_interval(retrained["acc_f"])[1:]) in text or not left
    assert "n = 2 classes" in text
    assert text.endswith("it names the class from before fine-tuning.") == knows


def test_another_gate_may_speak():
    table = [main(gate="predicted", acc_f=0.3), rows(method="random vector", gate="predicted")]
    text = said(main(), *table, gate="predicted")
    assert study_says(pd.concat([main(), *table], ignore_index=True)) == text  # the default
    assert text[0].startswith("The class vector behind the gate 'predicted', its strength")
    assert f"), does not forget: ACC_f {interval(0.3)}" in text[0]  # of ACC_r it says nothing
    assert text[1] == cannot_lose("predicted", 10)[0]
    assert text[2].startswith("A random direction")
    (alone,) = said(main(**UNGATED), gate="none")
    assert alone.startswith("The class vector without a gate, its strength chosen on val")


def test_without_a_gate_comes_first_where_a_gate_is_deployed():
    """It is the claim of independence itself; what it costs the others is judged."""
    free = main(**UNGATED, acc_f=0.004, spread=0.002, change_r=-0.08, lambda_=-2.0)
    for gate in ("margin", "predicted"):
        text = said(main(gate=gate), free, gate=gate)
        assert text[0] == (
            "Without a gate, where nothing but the class vectors' independence spares the others, "
            "the class vector forgets and costs the others accuracy: ACC_f "
            f"{interval(0.004, 0.002)} (worst owl with 0.6%), ACC_r -8.0 points (mean lambda "
            "-2.00)."
        )
        assert text[1].startswith(f"The class vector behind the gate {gate!r}, its strength")
    spared = said(main(), main(**UNGATED))[0]
    assert "the class vector forgets and leaves the others alone: ACC_f" in spared
    # behind no gate it is the main one, and said once
    (alone,) = said(main(**UNGATED), gate="none")
    assert alone.startswith("The class vector without a gate")
    assert not any(text.startswith("Without a gate") for text in said(main()))
    at_one = rows(**UNGATED | {"lambda_": -1.0})
    assert not any(text.startswith("Without a gate") for text in said(main(), at_one))


def test_no_difference_of_shares_is_beyond_100_points():
    """Two classes have one degree of freedom, and an interval that Student's t makes very wide."""
    two = main(acc_f=0.0, spread=0.0).iloc[:2]
    random = rows(**{"method": "random vector"}, acc_f=0.8, spread=0.15).iloc[:2]
    (found,) = (text for text in said(two, random) if text.startswith("A random direction"))
    for number in re.findall(r"([+-]\d+\.\d)(?:,| points|\])", found):
        assert abs(float(number)) <= 100
    assert "+100.0]" in found


def test_what_cannot_fail_is_said_and_not_claimed():
    """Behind the model's own decision ACC_r tests nothing; with two classes hardly anything does."""
    by_construction = "Behind the gate 'predicted' no other class can lose, by construction"
    two = "With two classes, an edit that forgets one leaves one answer"
    for gate in ("none", "margin", "cosine", "predicted"):
        for n_classes in (0, 2, 3):
            changes = UNGATED if gate == "none" else {"gate": gate}
            text = said(main(**changes), gate=gate, n_classes=n_classes)
            assert sum(t.startswith(by_construction) for t in text) == (gate == "predicted")
            assert sum(t.startswith(two) for t in text) == (n_classes == 2)
            assert ("leaves the others alone" in text[0]) == (gate != "predicted")
    lost = said(main(gate="predicted", change_r=-0.3), gate="predicted")[0]
    assert "costs" not in lost


def test_what_no_strength_reaches_is_said():
    hidden = main(acc_f=0.09).assign(out_of_reach=[0.08, 0.06, 0.1, 0.04])
    expected = (
        "7.0% of the class's samples are named rightly and missed by the gate: no strength brings "
        "ACC_f below that."
    )
    assert expected in said(hidden)
    assert not any("no strength" in text for text in said(main()))


def test_nothing_is_said_without_the_gated_class_vector():
    assert said(rows()) == ()
    assert said(main(gate="none")) == ()
    assert said(main(method="LEACE")) == ()
