"""Labels and scores, one for each sample."""

import pytest
import torch

from helpers import Numbers
from infobatch import DynamicPruner
from infobatch.policies import RCAP, ClassQuotas, Static, Undersampling
from infobatch.scores import ScoreTable

NAN = float("nan")


@pytest.mark.parametrize("kind", [RCAP, ClassQuotas, Undersampling])
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, TypeError, r"has no labels; give {name}\(labels\), the class of each sample"),
        ([0.0, 1.0], TypeError, "the labels have dtype float64; they must be integers"),
        (torch.tensor([True, False]), TypeError, "the labels have dtype bool"),
        ([], TypeError, "the labels have dtype float64"),
        ([[0, 1]], ValueError, r"the labels have shape \(1, 2\); there must be one a sample"),
    ],
)
def test_labels_that_make_no_sense_are_refused(kind, labels, error, message):
    with pytest.raises(error, match=message.format(name=kind.__name__)):
        kind(labels)


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (None, TypeError, r"Static has no scores; give Static\(scores\)"),
        (["a"], TypeError, "they must be numbers"),
        ([0.0, NAN], ValueError, "the score of sample 1 is NaN"),
        (torch.zeros(2, 2), ValueError, r"the scores have shape \(2, 2\)"),
    ],
)
def test_static_scores_that_make_no_sense_are_refused(scores, error, message):
    with pytest.raises(error, match=message):
        Static(scores)


def test_scores_may_come_as_a_model_gives_them():
    given = torch.tensor([3.0, 1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
    assert Static(given).ranked.tolist() == Static([3.0, 1.0, 2.0]).ranked.tolist()
    assert ScoreTable.from_losses(given)["last_loss"].tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "policy", [RCAP([0, 1]), ClassQuotas([0, 1]), Undersampling([0, 1]), Static([0, 1])], ids=repr
)
def test_labels_of_other_data_are_refused(policy):
    with pytest.raises(ValueError, match=r"(labels|scores) of 2 samples, but the dataset has 1,000; "):
        DynamicPruner(Numbers(1000), 3, policy=policy)


@pytest.mark.parametrize("kind", [RCAP, ClassQuotas, Undersampling])
def test_a_target_that_loses_a_class_is_refused(kind):
    policy = kind([0, 1, 2] * 4)
    policy.check_target(9, 12)
    with pytest.raises(ValueError, match=r"leaves out 10 of 12 samples .* there are 3 classes"):
        policy.check_target(10, 12)
