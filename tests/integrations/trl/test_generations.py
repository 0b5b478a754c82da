"""The tokens of completions, and what a checkpoint knows of its generations."""

import pytest
import torch

pytest.importorskip("trl")

from infobatch.integrations.trl.generations import MeanTokens

pytestmark = pytest.mark.integrations


def test_the_mean_is_that_of_the_epoch_before():
    mean = MeanTokens()
    assert mean.known is None
    mean.add(0, torch.tensor([1, 2]), torch.ones(2))
    mean.add(0, torch.tensor([6]), torch.ones(1))
    assert mean.known is None, "the epoch is under way"
    mean.add(1, torch.tensor([100, 10]), torch.tensor([0.5, 2.0]))
    assert mean.known == 3
    mean.add(2, torch.tensor([1]), torch.ones(1))
    assert mean.known == pytest.approx(70 / 2.5)


def test_it_goes_on_within_an_epoch():
    mean, again = MeanTokens(), MeanTokens()
    mean.add(0, torch.tensor([1, 2]), torch.ones(2))
    again.load_state_dict(mean.state_dict())
    for each in (mean, again):
        each.add(0, torch.tensor([6]), torch.ones(1))
        each.add(1, torch.tensor([6]), torch.ones(1))
    assert mean.known == again.known == 3
