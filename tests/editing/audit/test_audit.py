"""The audit of an edit: its numbers against hand counts, its gaps, its sentences, and what it refuses."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from classvec_lab.editing.audit.membership import confidence_scores, membership_inference
from classvec_lab.editing.audit.metrics import zrf
from classvec_lab.editing.audit.report import audit
from classvec_lab.errors import MismatchError
from classvec_lab.readout import Readout
from classvec_lab.statistics import Estimate

CLASSES = ("cat", "dog", "owl", "fox")
N = {"train": 240, "test": 160}
STEP = np.array([-9.0, 4.5, 0, 0, 0, 0])


def readouts(*, move=None, mask=False, blind=False, seed=0) -> dict[str, Readout]:
    """Clouds at the corners, read by the identity; `move` shifts cats, `mask` never names them, `blind` sees them as owls."""
    parts = {}
    for s, (split, n) in enumerate(N.items()):
        rng = np.random.default_rng([seed, s])
        y = np.arange(n) % 4
        z = 5 * np.eye(4, 6)[np.where(y == 0, 2, y) if blind else y] + rng.normal(size=(n, 6))
        if move is not None:
            z = z + (y == 0)[:, None] * move
        logits = z[:, :4].copy()
        if mask or blind:
            logits[:, 0] = -np.inf
        parts[split] = Readout(z, logits, y, CLASSES)
    return parts


ORIGINAL, INJECTED, MASKED, RETRAINED = (
    readouts(),
    readouts(move=STEP),
    readouts(mask=True),
    readouts(blind=True),
)
UNTRAINED = Readout(
    np.ones((160, 6)), np.random.default_rng(5).normal(size=(160, 4)), ORIGINAL["test"].y, CLASSES
)
FIRED = ORIGINAL["test"].y == 0


@pytest.fixture(scope="module")
def injected():
    return audit(
        INJECTED,
        ORIGINAL,
        target="cat",
        retrained=RETRAINED,
        incompetent=UNTRAINED,
        fired={"test": FIRED},
        method="injection",
        leaves_encoder=True,
    )


def value(report, metric, split="test"):
    return report.get(metric, split)["value"]


def said(report, word):
    """The one sentence with this word in it."""
    (sentence,) = [s for s in report.says() if word in s]
    return sentence


def test_accuracies_are_the_hand_counts(injected):
    for split, part in INJECTED.items():
        own, hit = part.y == 0, part.predicted == part.y
        assert value(injected, "ACC_f", split) == hit[own].mean()
        assert value(injected, "ACC_r", split) == hit[~own].mean()
        assert injected.get("ACC_r", split)["n"] == (~own).sum()
    row = injected.get("ACC_f")
    assert row["original"] == (ORIGINAL["test"].predicted[ORIGINAL["test"].y == 0] == 0).mean()
    assert (row["retrained"], row["gap"], row["ideal"]) == (0, row["value"], 0)
    assert row["low"] <= row["value"] < row["high"]


def test_attack_and_zrf_are_those_of_the_right_images(injected):
    train, test = INJECTED["train"], INJECTED["test"]
    scores = [confidence_scores(p.probabilities) for p in (train, test)]
    expected = membership_inference(
        scores[0][train.y > 0], scores[1][test.y > 0], scores[0][train.y == 0], 0
    )
    assert injected.membership == expected
    assert value(injected, "MIA", "train") == expected.members.value
    own = test.y == 0
    assert (
        value(injected, "ZRF") == zrf(test.probabilities[own], UNTRAINED.probabilities[own]).value
    )


def test_a_gap_that_a_powerless_attack_makes_is_owned_up_to(injected):
    assert not injected.membership.has_power  # the training images are drawn as the test images are
    part = 100 * injected.get("MIA", "train")["gap"] / 5
    assert f"{part:.1f} of them from MIA, whose attack has no power" in said(
        injected, "On unseen images"
    )
    able = replace(
        injected, membership=replace(injected.membership, auc=Estimate(0.9, 0.8, 0.95, 300))
    )
    assert "from MIA" not in said(able, "On unseen images")
    assert "it has power" in said(able, "membership attack")


def test_gaps_are_to_the_retrained_model(injected):
    table = injected.table
    known = table[table["retrained"].notna()]
    np.testing.assert_allclose(known["gap"], (known["value"] - known["retrained"]).abs())
    keys = [(metric, split) for metric in ("ACC_f", "ACC_r") for split in ("train", "test")]
    gaps = [injected.get(*key)["gap"] for key in [*keys, ("MIA", "train")]]
    assert injected.mean_gap == pytest.approx(np.mean(gaps))
    assert not table.duplicated(["metric", "split"]).any()


def test_the_retrained_model_has_no_gap_to_itself():
    report = audit(RETRAINED, ORIGINAL, target="cat", retrained=RETRAINED, incompetent=UNTRAINED)
    assert (report.table["gap"].dropna() == 0).all()
    assert report.mean_gap == 0
    assert value(report, "routing JS") == 0
    assert value(report, "CKA to retrained") == pytest.approx(1)
    assert "Routing is as in" in said(report, "Routing")
    assert "less than in the original" in said(report, "recoverable")


def test_an_edit_that_does_nothing():
    report = audit(ORIGINAL, ORIGINAL, target="cat", retrained=RETRAINED)
    assert value(report, "CKA to original") == pytest.approx(1)
    assert value(report, "worst class") == 0
    assert (report.table["value"] - report.table["original"]).abs().max() == 0
    assert "still names" in said(report, "On unseen images")
    assert "No other class loses" in said(report, "No other")
    assert "traces of training on it" in said(report, "recoverable")
    assert not any("ZRF" in s or "gate fires" in s or "encoder" in s for s in report.says())


def test_where_the_class_goes(injected):
    table = injected.routing.pivot(index="class", columns="model", values="share")
    own, goes = INJECTED["test"].y == 0, injected.routing.set_index("model")
    assert (
        goes.loc["edited", "hits"].tolist()
        == np.bincount(INJECTED["test"].predicted[own], minlength=4).tolist()
    )
    assert table["retrained"].idxmax() == "owl"
    assert table["edited"].idxmax() == "dog"
    assert value(injected, "routing JS") > 0.8 > injected.chance
    assert value(injected, "routing TV") == pytest.approx(
        (table["edited"] - table["retrained"]).abs().sum() / 2
    )
    assert "not as in the retrained model" in said(injected, "Routing")


def test_the_probe_still_finds_an_injected_class(injected):
    probe = injected.get("probe")
    assert probe["value"] > 0.95
    assert probe["retrained"] < 0.8
    text = said(injected, "recoverable")
    assert "is recoverable" in text
    assert "leaves traces" in text
    assert "leaves the encoder untouched" in said(injected, "encoder untouched")


def test_an_encoder_that_is_blind_to_the_class_is_not_recoverable():
    blind = {
        k: Readout(np.where(v.y[:, None] == 0, 0.0, v.z), v.logits, v.y, CLASSES)
        for k, v in MASKED.items()
    }
    for part in blind.values():  # cats look like dogs, of which there are three times as many
        part.z[part.y == 0] = (
            np.random.default_rng(0).normal(size=((part.y == 0).sum(), 6)) + 5 * np.eye(6)[1]
        )
    more_dogs = {
        k: np.r_[np.arange(len(v)), np.tile(np.flatnonzero(v.y == 1), 9)] for k, v in blind.items()
    }

    def chosen(parts):
        return {
            k: Readout(v.z[more_dogs[k]], v.logits[more_dogs[k]], v.y[more_dogs[k]], CLASSES)
            for k, v in parts.items()
        }

    report = audit(
        chosen(blind),
        chosen(ORIGINAL),
        target="cat",
        retrained=chosen(ORIGINAL),
        leaves_encoder=False,
    )
    text = said(report, "recoverable")
    assert "not recoverable" in text
    assert "keeps more of it" in text
    assert "changes the encoder" in said(report, "encoder")


def test_masking_is_perfect_on_both_accuracies_and_the_audit_says_what_that_means(injected):
    report = audit(MASKED, ORIGINAL, target="cat", retrained=RETRAINED)
    assert value(report, "ACC_f") == 0
    assert value(report, "ACC_r") >= report.get("ACC_r")["original"]
    assert report.masked == value(report, "ACC_r")
    assert "exactly this edit's figures" in said(report, "can't rank edits")
    assert value(report, "probe") == report.get("probe")["original"]
    worse = audit(
        readouts(move=STEP, seed=0) | {"test": readouts(move=-STEP)["test"]}, ORIGINAL, target="cat"
    )
    assert "as good as this edit or better" in said(worse, "can't rank edits")


def test_zrf_and_its_verdict(injected):
    row = injected.get("ZRF")
    assert 0 < row["original"] < 1
    assert row["n"] == 40
    assert "ZRF" in said(injected, "ZRF")
    same = audit(
        {**INJECTED, "test": UNTRAINED},
        ORIGINAL,
        target="cat",
        retrained=RETRAINED,
        incompetent=UNTRAINED,
    )
    assert value(same, "ZRF") == pytest.approx(1)
    assert "above the retrained model's" in said(same, "ZRF")
    assert "below the retrained model's" in said(
        audit(
            ORIGINAL,
            ORIGINAL,
            target="cat",
            retrained={**RETRAINED, "test": UNTRAINED},
            incompetent=UNTRAINED,
        ),
        "ZRF",
    )
    few = {
        split: Readout(*(x[:8] for x in (found.z, found.logits, found.y)), CLASSES)
        for split, found in ORIGINAL.items()
    }
    undecided = audit(few, few, target="cat", retrained=few, incompetent=few["test"])
    assert "which 2 images don't tell from the retrained model's" in said(undecided, "ZRF")


def test_the_worst_class_and_the_worst_sibling_are_named():
    damaged = dict(INJECTED)
    logits = damaged["test"].logits.copy()
    foxes = np.flatnonzero(damaged["test"].y == 3)
    logits[foxes[:20], 2] += 50
    damaged["test"] = Readout(damaged["test"].z, logits, damaged["test"].y, CLASSES)
    fired = FIRED.copy()
    fired[foxes[:10]] = True
    report = audit(
        damaged, ORIGINAL, target="cat", fired={"test": fired, "train": INJECTED["train"].y == 0}
    )
    worst, sibling = report.get("worst class"), report.get("worst sibling")
    assert (worst["of"], worst["value"], worst["n"]) == ("fox", pytest.approx(-0.5), 40)
    assert (sibling["of"], sibling["value"], sibling["ideal"]) == ("fox", 0.25, 0)
    assert value(report, "worst sibling", "train") == 0
    assert "'fox' loses most" in said(report, "loses most")
    assert "more than chance" in said(report, "loses most")
    assert "fires most on 'fox'" in said(report, "gate fires")


def test_without_a_retrained_model_nothing_is_claimed_of_it():
    report = audit(INJECTED, ORIGINAL, target="cat")
    assert report.table["retrained"].isna().all()
    assert not report.table["metric"].str.startswith("routing").any()
    assert np.isnan(report.mean_gap)
    assert "not known" in said(report, "On unseen images")
    assert "can't be told" in said(report, "recoverable")
    assert np.isnan(report.summary()["routing_js"].iloc[0])
    assert set(report.routing["model"]) == {"edited", "original"}


def test_summaries_of_several_methods_make_one_table(injected):
    masked = audit(MASKED, ORIGINAL, target="cat", retrained=RETRAINED, method="mask")
    table = pd.concat([injected.summary(), masked.summary()], ignore_index=True)
    assert table["method"].tolist() == ["injection", "mask"]
    assert table["test_ACC_f"].tolist() == [value(injected, "ACC_f"), 0]
    assert table["probe"].tolist() == [value(r, "probe") for r in (injected, masked)]


def test_the_seed_decides(injected):
    again = {
        "target": "cat",
        "retrained": RETRAINED,
        "incompetent": UNTRAINED,
        "fired": {"test": FIRED},
    }
    pd.testing.assert_frame_equal(audit(INJECTED, ORIGINAL, **again).table, injected.table)
    assert not audit(INJECTED, ORIGINAL, seed=1, **again).table.equals(injected.table)


def relabelled(part: Readout) -> Readout:
    return Readout(part.z, part.logits, part.y[::-1], CLASSES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"edited": {"test": INJECTED["test"]}},
            "edited model's read-outs must be given under train, test",
        ),
        (
            {"original": ORIGINAL["test"]},
            "original model's read-outs must be given under train, test",
        ),
        (
            {"retrained": {"train": RETRAINED["train"]}},
            "retrained model's read-outs must be given under train, test",
        ),
        ({"target": "cow"}, "no class 'cow'; there are cat, dog, owl, fox"),
        (
            {"edited": {**INJECTED, "test": relabelled(INJECTED["test"])}},
            "edited model's 'test' .* from sample 0 on",
        ),
        (
            {"retrained": {**RETRAINED, "train": RETRAINED["test"]}},
            "retrained model's 'train' .* has 160 samples and the original's 240",
        ),
        ({"incompetent": relabelled(UNTRAINED)}, "incompetent model's has other labels"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    parts = {
        "edited": INJECTED,
        "original": ORIGINAL,
        "target": "cat",
        "retrained": RETRAINED,
    } | change
    with pytest.raises(MismatchError, match=message):
        audit(**parts)


def test_other_classes_and_an_absent_target_are_refused():
    other = {
        k: Readout(v.z, v.logits, v.y, ("dog", "cat", "owl", "fox")) for k, v in INJECTED.items()
    }
    with pytest.raises(
        MismatchError,
        match=r"edited model's 'train' .* the original's .* same names in another order",
    ):
        audit(other, ORIGINAL, target="cat")

    def only(parts, rows):
        part = parts["test"]
        return {**parts, "test": Readout(part.z[rows], part.logits[rows], part.y[rows], CLASSES)}

    for rows, message in (
        (~FIRED, "'test' split has no sample of class 'cat'"),
        (FIRED, "'test' split has no sample of another class than 'cat'"),
    ):
        with pytest.raises(MismatchError, match=message):
            audit(only(INJECTED, rows), only(ORIGINAL, rows), target="cat")
