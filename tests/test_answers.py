"""A wrong answer of a policy is refused when the pruner is made, not trained on."""

import pytest
import torch

from infobatch import DynamicPruner, NoPruning
from infobatch.policies import BiasedPolicy, KeepProbabilities, Policy


class Answers(Policy):
    """Keeps what it was told to."""

    def __init__(self, answer):
        self.answer = answer

    def __repr__(self):
        return "Answers()"

    def keep_probabilities(self, scores, request):
        return self.answer

    def check_target(self, num_pruned, num_samples):
        pass


class Weighs(BiasedPolicy):
    def __init__(self, answer):
        self.answer = answer

    def __repr__(self):
        return "Weighs()"

    def weights(self, scores, request):
        return self.answer


def strata(size):
    return torch.zeros(size, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("policy", "target", "message"),
    [
        (Answers(torch.ones(100)), None, r"Answers\(\) answered with a Tensor; .* must return KeepProb"),
        (Answers(KeepProbabilities(torch.ones(10))), None, r"of shape \(10,\); there are 100 samples"),
        (Answers(KeepProbabilities(torch.ones(1), strata(9))), None, r"strata of shape \(9,\)"),
        (Answers(KeepProbabilities(torch.full((100,), 0.9))), 0.4, "would keep 90 samples, where 80 of"),
        (Answers(KeepProbabilities(torch.full((1,), 0.9), strata(100))), 0.4, "would keep 90 samples"),
        (Answers(KeepProbabilities(torch.zeros(100))), None, r"must lie in \(0, 1\]"),
        (Answers(KeepProbabilities(torch.full((100,), torch.nan))), 0.4, r"is nan; .* must lie in"),
        (Weighs(torch.ones(10)), None, r"weights of shape \(10,\); there are 100 samples"),
        (Weighs([1.0] * 100), None, "weights of shape list"),
        (Weighs(torch.zeros(100)), None, "negative, not finite, or all 0"),
        (Weighs(torch.full((100,), -1.0)), None, "negative, not finite, or all 0"),
        (Weighs(torch.full((100,), torch.inf)), None, "negative, not finite, or all 0"),
        (Weighs(torch.ones(100)), 0.4, r"would keep 100 samples, where 80 of 100 .* = 20"),
    ],
)
def test_a_wrong_answer_is_refused_at_once(policy, target, message):
    with pytest.raises((TypeError, ValueError), match=message):
        DynamicPruner(range(100), 4, policy=policy, target=target)


def test_a_right_answer_is_drawn_from():
    keep = torch.full((100,), 0.5, dtype=torch.float64)
    pruner = DynamicPruner(range(100), 4, policy=Answers(KeepProbabilities(keep)))
    pruner.set_epoch(0)
    assert pruner.selection.num_selected == 100
    weights = (torch.arange(100) < 20).float()
    pruner = DynamicPruner(range(100), 4, policy=Weighs(weights), target=0.4, warmup_epochs=0, delta=0.5)
    assert pruner.selection.indices.tolist() == list(range(20))


def test_a_run_that_prunes_nothing_knows_its_length():
    for options in ({"policy": NoPruning()}, {"warmup_epochs": 4}):
        pruner = DynamicPruner(range(100), 4, **options)
        pruner.loader(batch_size=10)
        assert pruner.total_steps == pruner.full_steps == 40
