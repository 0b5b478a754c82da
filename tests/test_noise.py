"""The noise of a step: from norms and weights, and norms from losses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from infobatch import classification_gradient_norms
from infobatch.noise import noise_of, noise_sums, norms_of_losses


def test_norms_of_cross_entropies_are_within_the_root_of_two():
    logits = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)) * 3
    targets = torch.arange(200) % 7
    exact = classification_gradient_norms(logits, targets)
    estimate = norms_of_losses(F.cross_entropy(logits, targets, reduction="none"), "cross-entropy")
    ratio = exact / estimate
    assert ratio.min() >= 1 - 1e-5
    assert ratio.max() <= 2**0.5 + 1e-5


def test_norms_of_squared_errors_are_those_of_the_errors():
    errors = torch.tensor([[3.0, 4.0], [0.0, 0.5]])
    assert norms_of_losses(errors.square().sum(1) / 2, "squared-error").tolist() == [5.0, 0.5]


def test_other_losses_stand_for_themselves_and_negative_ones_for_nothing():
    losses = torch.tensor([0.5, -1.0, float("nan")], dtype=torch.float64, requires_grad=True)
    norms = norms_of_losses(losses, "losses")
    assert norms[:2].tolist() == [0.5, 0.0]
    assert norms[2].isnan()
    assert norms.dtype == torch.float32
    assert not norms.requires_grad


def test_the_noise_of_random_pruning_is_one_over_its_share():
    norms = np.array([1.0, 2.0, 3.0], np.float32)
    assert noise_of(noise_sums(norms, np.full(3, 4.0, np.float32))) == pytest.approx(4)


def test_the_estimated_noise_is_on_average_that_of_the_probabilities():
    generator = np.random.default_rng(0)
    norms = generator.exponential(size=50).astype(np.float32)
    kept = np.clip(norms / norms.max(), 0.1, 1)
    exact = np.mean(norms**2 / kept) / np.mean(norms**2)
    sums = np.zeros(2)
    for _ in range(4000):
        chosen = generator.random(50) < kept
        sums += noise_sums(norms[chosen], 1 / kept[chosen])
    assert noise_of(sums) == pytest.approx(exact, rel=0.01)


def test_norms_that_are_not_known_are_passed_over():
    norms, weights = np.array([1.0, np.nan, 2.0]), np.array([1.0, 9.0, 2.0])
    assert noise_of(noise_sums(norms, weights)) == pytest.approx((1 + 16) / (1 + 8))
    assert noise_of(noise_sums(norms[1:2], weights[1:2])) is None
