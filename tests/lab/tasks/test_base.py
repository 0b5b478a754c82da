"""What every task does with a batch's indices and scores."""

import numpy as np
import torch

from infobatch.lab.tasks.base import SampleOutputs, indices_on


def test_a_repeat_that_fills_a_batch_is_its_sample():
    assert indices_on(torch.device("cpu"), np.array([5, ~5, 0, ~0])).tolist() == [5, 5, 0, 0]


def test_losses_are_recorded_where_there_are_no_other_scores():
    losses, scores = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert SampleOutputs(losses).recorded is losses
    assert SampleOutputs(losses, scores).recorded is scores
