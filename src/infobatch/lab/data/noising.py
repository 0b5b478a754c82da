"""The timestep and the noise of each sample of a diffusion model's training, and of its test.

They depend on (seed, epoch, index) alone: a sample has the same in an epoch of every arm of a
comparison, of a resumed run and of a run on several processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch.seeding import epoch_generator

# Far from the streams of the library and of the lab's other tasks.
NOISE_STREAM = 1 << 20
TEST_STREAM = NOISE_STREAM + 1
SAMPLING_STREAM = NOISE_STREAM + 2
LARGEST_SEED = 1 << 62


@dataclass(frozen=True)
class Draws:
    """``timesteps`` in 0..T-1 and ``seeds`` of the noise: int64 (N,) each, on the host."""

    timesteps: Tensor
    seeds: Tensor

    @classmethod
    def of_epoch(cls, num_samples: int, num_timesteps: int, seed: int, epoch: int) -> Draws:
        """At random, for training."""
        generator = epoch_generator(seed, epoch, NOISE_STREAM)
        timesteps = torch.randint(num_timesteps, (num_samples,), generator=generator)
        return cls(timesteps, torch.randint(LARGEST_SEED, (num_samples,), generator=generator))

    @classmethod
    def of_test(cls, num_samples: int, num_timesteps: int, number: int, num_draws: int) -> Draws:
        """The same for every run: timesteps at equal distances, shared out at random.

        ``number``: of this draw among ``num_draws``, whose timesteps lie between one another's.
        """
        generator = epoch_generator(0, number, TEST_STREAM)
        places = torch.randperm(num_samples, generator=generator) + (number + 0.5) / num_draws
        timesteps = (places * (num_timesteps / num_samples)).long().clamp(max=num_timesteps - 1)
        return cls(timesteps, torch.randint(LARGEST_SEED, (num_samples,), generator=generator))

    @classmethod
    def to_start_from(cls, num_images: int) -> Draws:
        """The noise that images are generated from, the same for every run; no timesteps."""
        generator = epoch_generator(0, 0, SAMPLING_STREAM)
        seeds = torch.randint(LARGEST_SEED, (num_images,), generator=generator)
        return cls(torch.zeros(0, dtype=torch.int64), seeds)

    def noise(self, indices: np.ndarray, shape: torch.Size) -> Tensor:
        """Standard normal noise (B, *shape) of the samples ``indices`` (B,), on the host."""
        generator = torch.Generator()
        noise = torch.empty(len(indices), *shape)
        for row, seed in zip(noise, self.seeds[indices].tolist(), strict=True):
            row.normal_(generator=generator.manual_seed(seed))
        return noise
