"""Timesteps and noise of images."""

import numpy as np
import torch

from infobatch.lab.data.noising import Draws


def test_noise_is_standard_normal_and_differs_by_sample():
    noise = Draws.of_epoch(500, 100, 0, 3).noise(np.arange(500), torch.Size((1, 16, 16)))
    assert abs(noise.mean()) < 5 / noise.numel() ** 0.5
    assert abs(noise.std() - 1) < 5 / (2 * noise.numel()) ** 0.5
    correlations = torch.corrcoef(noise.flatten(1)).fill_diagonal_(0)
    assert correlations.abs().max() < 6 / 16


def test_timesteps_of_the_test_are_at_equal_distances():
    first, second = (Draws.of_test(50, 100, number, 2).timesteps for number in (0, 1))
    assert sorted(first.tolist()) == [2 * i for i in range(50)]
    assert sorted(second.tolist()) == [2 * i + 1 for i in range(50)]
    assert first.tolist() != sorted(first.tolist())
