"""Diffusion: a U-Net predicts the noise that was added to an image (Ho et al., NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data, ImageData, ImageFeed, make_feed
from infobatch.lab.data.noising import Draws
from infobatch.lab.devices import resolve_device
from infobatch.lab.models.unets import check_unet, make_unet
from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import Evaluation, Inputs, SampleOutputs, Task, without_marks
from infobatch.lab.tasks.fid import Features, Moments, frechet_distance
from infobatch.losses import sent_to_device
from infobatch.scores import TimestepScores

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
"""The noise schedules, and their names in diffusers."""
PICTURE_ROWS, PICTURE_COLUMNS = 8, 10


class Diffusion(Task):
    """Prediction of the noise that was added to images.

    Inputs are noisy images and their noise (B, C, H, W), timesteps and labels (B,). Images lie between
    -1 and 1, and are flipped where the data allows it, but not cropped.

    Args:
        config: The run's options.
        data: The images.

    Source: Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020.
    """

    feed: ImageFeed

    @classmethod
    def check(cls, config: TrainConfig, data: Data) -> None:
        options, num_classes = config.diffusion, None
        if options.class_conditional:
            if data.train_labels is None:
                raise ValueError(
                    f"--diffusion.class-conditional needs a class for each image, and {data.name} has "
                    "none; leave it out, or take other data"
                )
            num_classes = data.num_classes
        pixels = data.test.pixels[:2]
        check_unet(config.model, pixels.shape[1], pixels.shape[2], num_classes)
        if options.features:
            device = resolve_device(config.device)
            Features(options.features, device).check(pixels.to(device))

    def __init__(self, config: TrainConfig, data: ImageData) -> None:
        self.options = config.diffusion
        self._num_classes = data.num_classes if self.options.class_conditional else None
        super().__init__(config, data)
        self._scheduler = _diffusers().DDPMScheduler(  # by keyword, or the sampler does not learn of it
            num_train_timesteps=self.options.timesteps,
            beta_schedule=SCHEDULES[self.options.schedule],
        )
        self._drops = any(isinstance(part, nn.Dropout) and part.p > 0 for part in self.model.modules())
        self._normalizer = TimestepScores(self.options.timesteps)
        num_draws = self.options.test_draws
        self._test_draws = [
            Draws.of_test(len(data.test), self.options.timesteps, number, num_draws)
            for number in range(num_draws)
        ]
        self._features = Features(self.options.features, self.device) if self.options.features else None
        self._real: tuple[Tensor, Tensor] | None = None  # moments of the training images' features

    def make_feed(self) -> ImageFeed:
        data = replace(self.data, crop_padding=0)
        return make_feed(data, self.device, self.config.seed, self.config.workers)

    def make_model(self) -> nn.Module:
        num_channels, side = self.data.train.pixels.shape[1:3]
        return make_unet(self.config.model, num_channels, side, self._num_classes, self.options.dropout)

    def begin(self, epoch: int) -> None:
        super().begin(epoch)
        num_samples = len(self.feed.dataset)
        self._draws = Draws.of_epoch(num_samples, self.options.timesteps, self.config.seed, epoch)

    def inputs(self, batch: Any, indices: np.ndarray) -> Inputs:
        indices = without_marks(indices)
        if self._drops:  # so that dropout in a resumed run depends on no earlier step
            torch.manual_seed(int(self._draws.seeds[indices[0]]) + 1)
        return self._noised(*self.feed(batch), self._draws, indices)

    def forward(self, model: nn.Module, inputs: Inputs) -> Tensor:
        noisy, _, timesteps, labels = inputs
        classes = {} if self._num_classes is None else {"class_labels": labels}
        noise: Tensor = model(noisy, timesteps, return_dict=False, **classes)[0]
        return noise.float()

    def sample_outputs(self, outputs: Tensor, inputs: Inputs, signals: Sequence[str]) -> SampleOutputs:
        _, noise, timesteps, _ = inputs
        losses = F.mse_loss(outputs, noise, reduction="none").flatten(1).mean(1)
        if self.options.scores == "loss":
            return SampleOutputs(losses)
        return SampleOutputs(losses, scores=self._normalizer(losses, timesteps))

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        model = (model or self.model).eval()
        # Rows: images, each once a draw, and the sum of their losses; a column a class.
        sums = torch.zeros(2, self.data.num_classes, dtype=torch.float64, device=self.device)
        for draws in self._test_draws:
            for inputs in self._test_inputs(draws):
                losses = F.mse_loss(self._forward(model, inputs), inputs[1], reduction="none")
                means = losses.flatten(1).mean(1).double()
                sums.index_add_(1, inputs[3], torch.stack([torch.ones_like(means), means]))
        counts, losses = total(sums)
        loss = float(losses.sum() / counts.sum())
        details = {"FID": self._distance(model)} if self._features is not None else {}
        self.model.train()
        return Evaluation(
            result=loss,
            loss=loss,
            details=details,
            per_class=(losses / counts).tolist(),
            counts=(counts / len(self._test_draws)).long().tolist(),
        )

    @torch.no_grad()
    def generate(self, model: nn.Module, draws: Draws, indices: np.ndarray) -> Tensor:
        """Generate images from noise by DDIM, of each class in turn.

        Args:
            model: The U-Net, or an average of its weights.
            draws: The noise to start from.
            indices: Which of the draws, (B,).

        Returns:
            The images, uint8 (B, C, H, W).

        Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021.
        """
        scheduler = _diffusers().DDIMScheduler.from_config(self._scheduler.config)
        scheduler.set_timesteps(self.options.sampling_steps)
        images = draws.noise(indices, self.data.train.pixels.shape[1:]).to(self.device)
        labels = torch.from_numpy(indices).to(self.device) % max(1, self.data.num_classes)
        for step in scheduler.timesteps.tolist():
            timesteps = torch.full_like(labels, step)
            noise = self._forward(model, (images, images, timesteps, labels))
            images = scheduler.step(noise, step, images).prev_sample
        return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

    def picture(self) -> Tensor:
        """Show generated images, of each class in turn where the model is given the class.

        Returns:
            A grid of images, uint8 (C, H, W).
        """
        indices = np.arange(PICTURE_ROWS * PICTURE_COLUMNS)
        self.model.eval()
        pixels = self.generate(self.model, Draws.to_start_from(len(indices)), indices).cpu()
        self.model.train()
        rows = pixels.reshape(PICTURE_ROWS, PICTURE_COLUMNS, *pixels.shape[1:])
        return rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)

    def state_dict(self) -> dict[str, Any]:
        """The means by timestep that losses are divided by, of every rank: (ranks, num_bins) each."""
        here = replicas()
        state = {}
        for name, values in self._normalizer.state_dict().items():
            rows = torch.zeros(here.num_replicas, len(values))
            rows[here.rank] = values
            state[name] = total(rows)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken; with another number of ranks, from the mean over the ranks.

        Args:
            state: What :meth:`state_dict` returned.
        """
        here = replicas()
        own = {
            name: rows[here.rank] if len(rows) == here.num_replicas else rows.mean(0)
            for name, rows in state.items()
        }
        self._normalizer.load_state_dict(own)

    # -- Inside ------------------------------------------------------------------------------------

    def _noised(self, pixels: Tensor, labels: Tensor, draws: Draws, indices: np.ndarray) -> Inputs:
        """Add the noise of ``draws`` to images uint8 (B, C, H, W), which are the samples ``indices``."""
        images = (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        noise = sent_to_device(draws.noise(indices, pixels.shape[1:]), self.device)
        timesteps = sent_to_device(draws.timesteps[indices], self.device)
        return self._scheduler.add_noise(images, noise, timesteps), noise, timesteps, labels

    def _test_inputs(self, draws: Draws) -> Iterator[Inputs]:
        """The test images of this rank, with noise, in batches of the size that is trained."""
        here = replicas()
        indices = np.arange(here.rank, len(self.data.test), here.num_replicas)
        done = 0
        for batch in self.feed.test_batches(here):
            parts = (torch.split(values, self._batch_size) for values in batch)
            for pixels, labels in zip(*parts, strict=True):
                yield self._noised(pixels, labels, draws, indices[done : done + len(labels)])
                done += len(labels)

    def _distance(self, model: nn.Module) -> float:
        """The Fréchet distance between the training images and generated ones."""
        assert self._features is not None
        if self._real is None:
            real = Moments()
            for _, (pixels, _) in self.feed.plain_batches(self._batch_size, replicas()):
                real.add(self._features(pixels))
            self._real = real.merged()
        made = Moments()
        here, num_images = replicas(), self.options.num_generated
        draws = Draws.to_start_from(num_images)
        share = np.arange(here.rank, num_images, here.num_replicas)
        for start in range(0, len(share), self._batch_size):
            part = share[start : start + self._batch_size]
            made.add(self._features(self.generate(model, draws, part)))
        return frechet_distance(self._real, made.merged())


def _diffusers() -> Any:
    import diffusers

    return diffusers
