"""How noisy a step's gradient is under a policy, beside full data's, and how far it is off.

With v a sample's weight over the mean weight of all N samples (0 where it is left out), k of them
selected, and means over all N, a step on a pruned epoch has a noise of

    rho = [ (k/N) mean(E[v^2] |g|^2) - |mean(E[v] g)|^2 ] / [ mean(|g|^2) - |mean(g)|^2 ]

times that of a step on full data with a batch of the same size, and a bias of |mean(E[v] g) - mean(g)| /
|mean(g)|. The expectation is over the draw. Where it is unbiased, E[v] = 1 and E[v^2] = 1/p, with p the
chance to be kept: the variance of Horvitz and Thompson (1952) for a single sample, the one that
Katharopoulos and Fleuret (ICML 2018, section 3.1) make small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch import DynamicPruner
from infobatch.policies import BiasedPolicy, Policy, Request
from infobatch.scores import ScoreTable
from infobatch.seeding import epoch_generator
from infobatch.selection import inclusion_probabilities, select

NUM_DRAWS = 32
"""Of a biased policy, which tells no chances; they take no gradients."""
PROBE_STREAM = 1 << 17
"""Far from the streams of the library and of the augmentation."""


@dataclass(frozen=True)
class Influence:
    """What n probed samples count for in a step's gradient, each float64 (n,).

    ``excess``: E[v] - 1, 0 for an unbiased policy; ``again``: the same from other draws, so that the
    two have no error in common. ``second``: (k/N) E[v^2].
    """

    excess: Tensor
    again: Tensor
    second: Tensor


def influence(
    policy: Policy, scores: ScoreTable, request: Callable[[int], Request], probe: Tensor
) -> Influence:
    """What the samples ``probe``, int64 (n,), count for in a coming epoch.

    ``request``: of the epoch, for a draw of this number.
    """
    if isinstance(policy, BiasedPolicy):
        return _drawn(policy, scores, request, probe)
    asked = request(0)
    chances = inclusion_probabilities(policy.keep_probabilities(scores, asked), asked.multiple)
    none = torch.zeros(len(probe), dtype=torch.float64)
    return Influence(none, none, float(chances.mean()) / chances[probe])


def _drawn(
    policy: BiasedPolicy, scores: ScoreTable, request: Callable[[int], Request], probe: Tensor
) -> Influence:
    values, squares = [], []
    for number in range(NUM_DRAWS):
        selection = select(policy, scores, request(number))
        weights = selection.weights.to(torch.float64)
        value = weights[probe] / weights.mean()
        values.append(value)
        squares.append(selection.num_selected / len(weights) * value.square())
    even, odd = torch.stack(values[::2]).mean(0), torch.stack(values[1::2]).mean(0)
    return Influence(even - 1, odd - 1, torch.stack(squares).mean(0))


@dataclass(frozen=True)
class Noise:
    """``ratio``: rho, 1 for a step as noisy as one on full data; ``bias``: of the expected gradient.

    None where the full gradient, or its noise, is too small to be told from none by this probe.
    """

    ratio: float | None = None
    bias: float | None = None


def probe(
    pruner: DynamicPruner,
    scores: ScoreTable,
    epoch: int,
    num_probed: int,
    gradients: Callable[[np.ndarray], Iterable[Sequence[Tensor]]],
) -> Noise:
    """The noise of a coming epoch that is pruned, at the ``scores`` and the weights of now.

    Measured on the ``gradients`` of the same random ``num_probed`` samples at every call, by generators
    of its own: it leaves no trace in the run.
    """
    generator = epoch_generator(pruner.seed, 0, PROBE_STREAM)
    probed = torch.randperm(pruner.num_samples, generator=generator)[:num_probed]

    def request(number: int) -> Request:
        stream = PROBE_STREAM + 1 + number
        return pruner.plan.request(epoch, epoch_generator(pruner.seed, epoch, stream))

    counts = influence(pruner.policy, scores, request, probed)
    return measure(gradients(probed.numpy()), counts, pruner.num_samples)


def measure(chunks: Iterable[Sequence[Tensor]], counts: Influence, num_samples: int) -> Noise:
    """The noise of a step, from the gradients of probed samples drawn at random from ``num_samples`` N.

    ``chunks``: of c probed samples each, in order, their gradients in each parameter, (c, *shape). Only
    their norms and three weighted sums are kept. Squares of means are freed of what the probe's own
    chance adds to them; with all samples probed there is nothing to free them of.
    """
    factors = torch.stack([torch.ones_like(counts.excess), counts.excess, counts.again])
    num_probed = factors.shape[1]
    norms = torch.zeros(num_probed, dtype=torch.float64)  # squared
    sums: list[Tensor] = []
    done = 0
    for chunk in chunks:
        flat = [gradients.flatten(1) for gradients in chunk]
        part = slice(done, done + len(flat[0]))
        norms[part] = sum(torch.linalg.vector_norm(g, dim=1).cpu().double().square() for g in flat)
        sums = sums or [g.new_zeros(len(factors), g.shape[1]) for g in flat]
        weights = factors[:, part].to(flat[0])
        for total, gradients in zip(sums, flat, strict=True):
            total.addmm_(weights, gradients)
        done = part.stop
    assert done == num_probed, f"{done} gradients of {num_probed} probed samples"
    products = torch.stack([total.double() @ total.double().T for total in sums]).sum(0).cpu()
    products /= num_probed**2
    singles = (factors * norms) @ factors.T / num_probed
    return _noise(products_of_all(products, singles, num_probed, num_samples), norms, counts.second)


def products_of_all(products: Tensor, singles: Tensor, num_probed: int, num_samples: int) -> Tensor:
    """The inner products (3, 3) of means over all samples, estimated without bias.

    ``products``: of the means over the probe; ``singles``: the means of each sample's own (Cochran,
    *Sampling Techniques*, theorem 2.3).
    """
    covariance = (singles - products) * num_probed / (num_probed - 1)
    return products - (1 / num_probed - 1 / num_samples) * covariance


def _noise(products: Tensor, norms: Tensor, second: Tensor) -> Noise:
    full = float(products[0, 0])
    moved = float(products[1, 2])  # of what the draw adds to the mean, from draws without common error
    expected = full + float(products[0, 1] + products[0, 2]) + moved
    variance = float(norms.mean()) - full
    ratio = (float((second * norms).mean()) - expected) / variance if variance > 0 else None
    return Noise(ratio, math.sqrt(max(0.0, moved) / full) if full > 0 else None)
