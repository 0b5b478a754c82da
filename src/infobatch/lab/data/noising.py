"""The timestep and the noise of each sample of a diffusion model's training, and of its test.

They depend on (seed, epoch, index) alone: a sample has the same in an epoch of every arm of a
comparison, of a resumed run and of a run on several ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch.lab.random_streams import Stream
from infobatch.seeding import epoch_generator

LARGEST_SEED = 1 << 62


@dataclass(frozen=True)
class Draws:
    """A timestep and a noise for each of N samples.

    Args:
        timesteps: In 0..T-1, int64 (N,) on the host.
        seeds: The seed of each sample's noise, int64 (N,) on the host.
    """

    timesteps: Tensor
    seeds: Tensor

    @classmethod
    def of_epoch(cls, num_samples: int, num_timesteps: int, seed: int, epoch: int) -> Draws:
        """Draw at random, to train an epoch.

        Args:
            num_samples: N, the training samples.
            num_timesteps: T, the steps of the noise schedule.
            seed: The run's seed.
            epoch: The epoch's number.

        Returns:
            The epoch's draws.
        """
        generator = epoch_generator(seed, epoch, Stream.DIFFUSION)
        timesteps = torch.randint(num_timesteps, (num_samples,), generator=generator)
        return cls(timesteps, torch.randint(LARGEST_SEED, (num_samples,), generator=generator))

    @classmethod
    def of_test(cls, num_samples: int, num_timesteps: int, number: int, num_draws: int) -> Draws:
        """Draw for a test, alike for every run: timesteps at equal distances in random order.

        Args:
            num_samples: N, the test samples.
            num_timesteps: T, the steps of the noise schedule.
            number: Which of the draws this is, in 0..num_draws-1.
            num_draws: How many there are; the timesteps of each lie between those of the others.

        Returns:
            The draws of that number.
        """
        generator = epoch_generator(0, number, Stream.DIFFUSION_TEST)
        places = torch.randperm(num_samples, generator=generator) + (number + 0.5) / num_draws
        timesteps = (places * (num_timesteps / num_samples)).long().clamp(max=num_timesteps - 1)
        return cls(timesteps, torch.randint(LARGEST_SEED, (num_samples,), generator=generator))

    @classmethod
    def to_start_from(cls, num_images: int) -> Draws:
        """Draw the noise that images are generated from, alike for every run.

        Args:
            num_images: How many are generated.

        Returns:
            Draws without timesteps.
        """
        generator = epoch_generator(0, 0, Stream.DIFFUSION_SAMPLING)
        seeds = torch.randint(LARGEST_SEED, (num_images,), generator=generator)
        return cls(torch.zeros(0, dtype=torch.int64), seeds)

    def noise(self, indices: np.ndarray, shape: torch.Size) -> Tensor:
        """Make the noise of some samples.

        Args:
            indices: Which samples, (B,).
            shape: The shape of an image.

        Returns:
            Standard normal noise (B, *shape), on the host.
        """
        generator = torch.Generator()
        noise = torch.empty(len(indices), *shape)
        for row, seed in zip(noise, self.seeds[indices].tolist(), strict=True):
            row.normal_(generator=generator.manual_seed(seed))
        return noise
