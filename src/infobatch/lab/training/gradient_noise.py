"""The noise of a step's gradient under a policy, relative to full data's, and its bias.

With v a sample's weight over the mean weight of all N samples (0 where it is left out), k of them
selected, and means over all N, a step on a pruned epoch has a noise of

    rho = [ (k/N) mean(E[v^2] |g|^2) - |mean(E[v] g)|^2 ] / [ mean(|g|^2) - |mean(g)|^2 ]

times that of a step on full data with a batch of the same size, and a bias of |mean(E[v] g) - mean(g)| /
|mean(g)|. The expectation is over the draw. Where it is unbiased, E[v] = 1 and E[v^2] = 1/p, with p the
keep probability: the variance of Horvitz and Thompson (1952) for a single sample, which Katharopoulos
and Fleuret (ICML 2018, section 3.1) minimize.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch import DynamicPruner
from infobatch.lab.random_streams import Stream
from infobatch.policies import BiasedPolicy, Policy, Request
from infobatch.scores import ScoreTable
from infobatch.seeding import epoch_generator
from infobatch.selection import inclusion_probabilities, select

NUM_DRAWS = 32
"""The draws of a biased policy, which gives no keep probabilities; a draw needs no gradients."""


@dataclass(frozen=True)
class Noise:
    """The noise and the bias of a coming epoch's steps.

    Args:
        ratio: rho, which is 1 for a step as noisy as one on full data; None where full data's noise is
            too small to be measured.
        bias: The bias of the expected gradient; None where the full gradient is too small to be
            measured.
    """

    ratio: float | None = None
    bias: float | None = None


def measure_noise(
    pruner: DynamicPruner,
    scores: ScoreTable,
    epoch: int,
    num_probed: int,
    gradients: Callable[[np.ndarray], Iterable[Sequence[Tensor]]],
) -> Noise:
    """Measure the noise of a coming epoch that is pruned, at the model's weights as they are.

    The samples are the same at every call, and drawn by generators of their own: no measurement changes
    the run.

    Args:
        pruner: The run's pruner.
        scores: The scores as they are.
        epoch: The coming epoch.
        num_probed: The number of random samples whose gradients are computed, at least 2.
        gradients: Computes the gradients of samples; see :meth:`Task.gradients`.

    Returns:
        The noise and the bias.
    """
    generator = epoch_generator(pruner.seed, 0, Stream.NOISE_PROBE)
    probed = torch.randperm(pruner.num_samples, generator=generator)[:num_probed]

    def request(number: int) -> Request:
        stream = Stream.NOISE_PROBE + 1 + number
        return pruner.plan.request(epoch, epoch_generator(pruner.seed, epoch, stream))

    influence = influence_of(pruner.policy, scores, request, probed)
    return estimate_noise(gradients(probed.numpy()), influence, pruner.num_samples)


# -- What samples count for ------------------------------------------------------------------------


@dataclass(frozen=True)
class Influence:
    """What each of n probed samples counts for in a step's gradient.

    Args:
        excess: E[v] - 1, float64 (n,); 0 for an unbiased policy.
        excess_again: ``excess``, estimated from other draws, so that the errors of both are independent.
        second_moment: (k/N) E[v^2], float64 (n,).
    """

    excess: Tensor
    excess_again: Tensor
    second_moment: Tensor


def influence_of(
    policy: Policy, scores: ScoreTable, request: Callable[[int], Request], probed: Tensor
) -> Influence:
    """Compute what samples count for in a coming epoch.

    Args:
        policy: The policy that selects.
        scores: The scores as they are.
        request: Makes the epoch's request, for a draw of the given number.
        probed: The samples, int64 (n,).

    Returns:
        Their influence; a biased policy's is estimated from draws.
    """
    if isinstance(policy, BiasedPolicy):
        return _influence_by_draws(policy, scores, request, probed)
    asked = request(0)
    keep = policy.keep_probabilities(scores, asked)
    wanted = None if asked.num_pruned is None else len(scores) - asked.num_pruned
    chances = inclusion_probabilities(keep, asked.epoch_sizes, wanted)
    none = torch.zeros(len(probed), dtype=torch.float64)
    return Influence(none, none, float(chances.mean()) / chances[probed])


def _influence_by_draws(
    policy: BiasedPolicy, scores: ScoreTable, request: Callable[[int], Request], probed: Tensor
) -> Influence:
    """The influence of samples over ``NUM_DRAWS`` draws."""
    values, squares = [], []
    for number in range(NUM_DRAWS):
        selection = select(policy, scores, request(number))
        weights = selection.weights.to(torch.float64)
        value = weights[probed] / weights.mean()
        values.append(value)
        squares.append(selection.num_selected / len(weights) * value.square())
    even, odd = torch.stack(values[::2]).mean(0), torch.stack(values[1::2]).mean(0)
    return Influence(even - 1, odd - 1, torch.stack(squares).mean(0))


# -- Noise and bias from gradients -----------------------------------------------------------------


def estimate_noise(chunks: Iterable[Sequence[Tensor]], influence: Influence, num_samples: int) -> Noise:
    """Estimate the noise of a step from the gradients of probed samples.

    Only the gradients' norms and three weighted sums are kept. The squares of means are corrected for
    what the random choice of the probed samples adds to them.

    Args:
        chunks: For each chunk of c probed samples, in order, their gradients in each parameter,
            (c, *shape).
        influence: What the n probed samples count for.
        num_samples: N, the samples that they were drawn from.

    Returns:
        The noise and the bias.
    """
    factors = torch.stack([torch.ones_like(influence.excess), influence.excess, influence.excess_again])
    num_probed = factors.shape[1]
    squared_norms = torch.zeros(num_probed, dtype=torch.float64)
    sums: list[Tensor] = []
    done = 0
    for chunk in chunks:
        flat = [gradients.flatten(1) for gradients in chunk]
        part = slice(done, done + len(flat[0]))
        norms = [torch.linalg.vector_norm(gradients, dim=1) for gradients in flat]
        squared_norms[part] = sum(norm.cpu().double().square() for norm in norms)
        sums = sums or [gradients.new_zeros(len(factors), gradients.shape[1]) for gradients in flat]
        weights = factors[:, part].to(flat[0])
        for total, gradients in zip(sums, flat, strict=True):
            total.addmm_(weights, gradients)
        done = part.stop
    assert done == num_probed, f"{done} gradients of {num_probed} probed samples"
    products = torch.stack([total.double() @ total.double().T for total in sums]).sum(0).cpu()
    products /= num_probed**2
    singles = (factors * squared_norms) @ factors.T / num_probed
    products = products_over_all(products, singles, num_probed, num_samples)
    return _noise(products, squared_norms, influence.second_moment)


def products_over_all(products: Tensor, singles: Tensor, num_probed: int, num_samples: int) -> Tensor:
    """Estimate, without bias, the inner products of means over all samples.

    Args:
        products: The inner products of the means over the probed samples, (3, 3).
        singles: The means over the probed samples of each one's own inner products, (3, 3).
        num_probed: The number of probed samples.
        num_samples: N, the samples that they were drawn from.

    Returns:
        (3, 3).

    Source: Cochran, *Sampling Techniques*, theorem 2.3.
    """
    covariance = (singles - products) * num_probed / (num_probed - 1)
    return products - (1 / num_probed - 1 / num_samples) * covariance


def _noise(products: Tensor, squared_norms: Tensor, second_moment: Tensor) -> Noise:
    """Noise and bias from inner products of the means of g, (E[v] - 1) g, and the latter again."""
    full = float(products[0, 0])
    moved = float(products[1, 2])  # |mean(E[v] g) - mean(g)|^2, from draws without common error
    expected = full + float(products[0, 1] + products[0, 2]) + moved
    variance = float(squared_norms.mean()) - full
    ratio = None
    if variance > 0:
        ratio = (float((second_moment * squared_norms).mean()) - expected) / variance
    return Noise(ratio, math.sqrt(max(0.0, moved) / full) if full > 0 else None)
