"""A membership attack: does a model's confidence tell the images that it was trained on?"""

from dataclasses import dataclass

import numpy as np

from ...errors import MismatchError
from ...statistics import Estimate, auc, share
from ...words import number, percent

FOLDS = 5  # of the cross-validation that tells whether the attack has any power
FEWEST = 2 * FOLDS  # members, and non-members
LEAST = 1e-12  # probability of all other classes, below which the log-odds no longer grow


@dataclass(frozen=True)
class Membership:
    """What a membership attack says.

    members: share of the forget set called members. false_alarms: share of the non-members that the
    same attack, in cross-validation, calls members. auc: its cross-validated power, 0.5 being
    chance. All are NaN, of n = 0, where there were too few images.
    """

    members: Estimate
    false_alarms: Estimate
    auc: Estimate

    @property
    def has_power(self) -> bool:
        """Whether the AUC's interval lies above 0.5; else `members` says nothing of forgetting."""
        return self.auc.low > 0.5

    def says(self) -> str:
        """One sentence: the share called members, and whether the attack has any power."""
        called = f"{percent(*self.members)} of the forget set (n = {self.members.n}) members"
        power = (
            f"and {percent(*self.false_alarms)} of images never trained on: it has power"
            if self.has_power
            else "but can't tell training images from others at all: it has no power here"
        )
        area = number(*self.auc, form=".2f")
        return f"A membership attack calls {called}, {power} (AUC {area}, chance is 0.5)."


def confidence_scores(probabilities) -> np.ndarray:
    """Log-odds of the largest probability, and entropy in bits, of outputs (N, C); (N, 2).

    No label is used: a class that the model can't name at all does not decide the attack by itself.
    """
    from scipy.special import entr

    p = np.sort(np.asarray(probabilities, float), axis=1)
    rest = np.maximum(p[:, :-1].sum(axis=1), LEAST)
    return np.column_stack([np.log(p[:, -1] / rest), entr(p).sum(axis=1) / np.log(2)])


def membership_inference(retain_scores, test_scores, forget_scores, seed: int = 0) -> Membership:
    """How much of the forget set a confidence attack takes for training images.

    The attacker is a logistic regression with balanced classes.

    Args:
        retain_scores: (N, k), as `confidence_scores` gives them, of training images of the retained
            classes: members.
        test_scores: the same of unseen images of these classes: non-members.
        forget_scores: the same of training images of the forgotten class.
        seed: draws the five folds on which the attack's power is measured.
    Returns:
        A `Membership`; the AUC's interval is DeLong's (1988).
    Raises:
        MismatchError: for fewer than 10 members or non-members.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sizes = len(retain_scores), len(test_scores)
    if min(sizes) < FEWEST:
        raise MismatchError(
            f"a membership attack needs at least {FEWEST} images that were trained on and as "
            f"many that were not, all of retained classes; got {sizes[0]} and {sizes[1]}"
        )
    x = np.concatenate([retain_scores, test_scores])
    y = np.arange(len(x)) < sizes[0]
    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    attack = make_pipeline(StandardScaler(), regression)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    decision = cross_val_predict(attack, x, y, cv=folds, method="decision_function")
    called = attack.fit(x, y).decision_function(forget_scores) > 0
    return Membership(share(called), share(decision[~y] > 0), auc(decision[y], decision[~y]))
