"""Training a run: a plain loop around the method's public calls."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from infobatch import DynamicPruner, batch_weights
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.processes import agree
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import FORWARD_COST, Summary
from infobatch.lab.runs.same_options import require_same
from infobatch.lab.tasks.base import Inputs
from infobatch.lab.training.engine import Engine, Watch
from infobatch.lab.training.epoch_loop import make_loader, train_epochs
from infobatch.lab.training.forward_passes import forward_passes
from infobatch.lab.training.optimization import Optimization
from infobatch.lab.training.pauses import Pauses
from infobatch.lab.training.proxy import Proxy
from infobatch.lab.training.pruner_options import pruner_options
from infobatch.lab.training.recording import signals_asked
from infobatch.lab.training.scoring_costs import choosing_cost
from infobatch.lab.training.selective_backprop import SelectiveBackprop
from infobatch.lab.training.static_scores import StaticScores
from infobatch.scores.columns import IndexArray

WARM_UP_STEPS = 3
"""CUDA graphs are recorded in the second call of a compiled network."""


class Loop(Engine):
    """Trains a run by a plain loop around the method's public calls.

    Args:
        config: The run's options.
        data: What it trains and is tested on.
        folder: Where it leaves its files.
        scores: The scores of a static policy, made before the run.
        pauses: Decides between steps whether to write a checkpoint, and whether to stop.
    """

    def __init__(
        self, config: TrainConfig, data: Data, folder: RunFolder, scores: StaticScores, pauses: Pauses
    ) -> None:
        super().__init__(config, data, folder, scores, pauses)
        state = agree(folder.load_checkpoint)
        prior = self.prior_scores(resumed=state is not None)
        options = pruner_options(config, data, scores.values, prior)
        options["record_to"] = self.record_to(resumed=state is not None)
        self.pruner = DynamicPruner(self.task.feed.dataset, config.epochs, **options)
        self.loader = self.make_loader()
        self.optimization = Optimization(config, self.task.model, self.pruner)
        self.selective = None
        if config.backward_share < 1:
            shape = (self.pruner.num_samples, config.batch_size)
            takes_highest = bool(config.proxy)
            self.selective = SelectiveBackprop(config.backward_share, *shape, config.seed, takes_highest)
        self.proxy = Proxy(config, data, self.pruner) if config.proxy else None
        self._num_left = 0  # samples of the epoch under way that are still to be trained, on all ranks
        self._weighs = False  # whether batch norm counts the samples of the epoch with their weights
        if state is not None:
            with folder.restoring():
                there = TrainConfig.from_json(state["config"])
            require_same(config, there, folder.path)
            with folder.restoring():
                self.load_state_dict(state)

    @property
    def signals(self) -> tuple[str, ...]:
        """What the task is asked for beside losses."""
        return signals_asked(self.config, self.pruner.signals)

    @property
    def eval_model(self) -> nn.Module:
        return self.optimization.eval_model

    def run(self, watch: Watch) -> Summary:
        def end(epoch: int) -> None:
            self._end_epoch(epoch)
            watch(self._progress())

        self._warm_up()
        self._end_interrupted_epoch()
        train_epochs(
            self.pruner,
            self.loader,
            begin=self._begin,
            step=self._step,
            pause=lambda: self.pauses.pause(self._save_checkpoint),
            end=end,
            clock=self._training_clock,
        )
        return self._finish()

    def make_loader(self) -> Iterable[Any]:
        """Make what gives the indices and the batch of each step of an epoch."""
        return make_loader(self.config, self.task, self.pruner)

    # -- A step --------------------------------------------------------------------------------------

    def _begin(self, epoch: int) -> None:
        """Draw the epoch's random numbers."""
        self.task.begin(epoch)
        if self.selective is not None:
            self.selective.begin(epoch, self.task.device)
        self._num_left = self.pruner.current.num_left
        is_pruned = self.pruner.selection.num_selected < self.pruner.num_samples
        self._weighs = is_pruned and self.config.batch_norm == "weighted"

    def _step(self, indices: IndexArray, batch: Any) -> None:
        """Train on a batch, and add its loss to the epoch's."""
        inputs = self.task.inputs(batch, indices)
        if self._is_selective(self.pruner.epoch):
            mean, loss = self._selective_losses(inputs, indices)
        else:
            if self.proxy is not None and not self._is_over(self.pruner.epoch):
                self.proxy.learn(inputs)
            with self._batch_weights(indices):
                outputs = self.task.train_outputs(inputs, self.signals)
            mean = loss = self.pruner.update(
                outputs.losses, indices, outputs.scored, scores=outputs.scores, **outputs.signals
            )
        self.lr = self.optimization.lr
        self.optimization.step(loss)
        self._count(mean, len(indices))

    def _count(self, mean: Tensor, size: int) -> None:
        """Add a batch of ``size``, on this rank, and its mean loss to what is known of the epoch."""
        num_slots = size * self.pruner.replicas.num_replicas
        num_samples = min(self._num_left, num_slots)  # of this step, on all ranks
        self._num_left -= num_samples
        self.loss_sum += mean.detach() * (num_samples / self.pruner.replicas.num_replicas)
        self.num_steps += 1

    def _batch_weights(self, indices: IndexArray) -> AbstractContextManager[None]:
        """Give batch norm the weights of a batch, where it takes any."""
        if not self._weighs:
            return nullcontext()
        return batch_weights(self.task.model, self.pruner.weights(indices))

    def _is_over(self, epoch: int) -> bool:
        """Whether no epoch from this one on may be pruned."""
        return epoch > max(self.pruner.plan.schedule.prunable, default=-1)

    def _is_selective(self, epoch: int) -> bool:
        """Whether only some of each batch are trained: in the epochs in which policies may prune."""
        return self.selective is not None and epoch in self.pruner.plan.schedule.prunable

    def _selective_losses(self, inputs: Inputs, indices: IndexArray) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch, without a gradient, and that of the samples chosen from it.

        With a proxy the first is the proxy's.
        """
        assert self.selective is not None
        if self.proxy is not None:
            losses = self.proxy.losses(inputs)
        else:
            with torch.no_grad():
                losses = self.task.train_outputs(inputs).losses
        chosen = self.selective.choose(losses, indices, self.pruner.current.num_recorded)
        self.pruner.record(losses, indices)
        part = tuple(values[chosen] for values in inputs)
        return losses.mean(), self.task.train_outputs(part).losses.mean()

    # -- Around the steps ----------------------------------------------------------------------------

    def _warm_up(self) -> None:
        """Take a few steps and take them back, so that one-time costs are on no run's clock."""
        self.task.begin(0)
        size = self.config.batch_size // self.pruner.replicas.num_replicas
        batch = self.task.feed.first(size)
        indices = np.arange(min(size, self.pruner.num_samples))
        with self.task.on_a_copy():
            for _ in range(WARM_UP_STEPS):
                self.task.losses(batch, indices).mean().backward()  # type: ignore[no-untyped-call]
                self.task.model.zero_grad()  # with CUDA graphs, the next call overwrites gradients

    def _end_training(self, epoch: int) -> tuple[int, int]:
        num_kept, num_forward = self.pruner.current.num_trained, self._observe_left_out(epoch)
        if self.selective is None or self._is_over(epoch):
            return num_kept, num_forward
        chooses = self._is_selective(epoch)
        num_forward = round(choosing_cost(self.config, chooses) / FORWARD_COST * num_kept)
        return self.selective.num_trained(epoch, num_kept) if chooses else num_kept, num_forward

    def _observe_left_out(self, epoch: int) -> int:
        """Run the model on what was left out, for a policy that asks for it; on how many samples."""
        num_left_out = self.pruner.num_samples - self.pruner.selection.num_selected
        if num_left_out == 0 or not self.pruner.policy.refreshes:
            return 0
        self.task.begin(epoch)  # the epoch's augmentation, in a resumed run too
        left_out, signals = self.pruner.left_out.tolist(), self.pruner.signals
        for indices, outputs in forward_passes(self.task, left_out, signals):
            self.pruner.observe(outputs.recorded, indices, outputs.scored, **outputs.signals)
        return num_left_out

    # -- State ---------------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        self._on_first_rank(self.folder.save_checkpoint, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "model": self.task.model.state_dict(),
            "task": self.task.state_dict(),
            "optimization": self.optimization.state_dict(),
            "pruner": self.pruner.state_dict(),
            "proxy": self.proxy.state_dict() if self.proxy is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.task.model.load_state_dict(state["model"])
        self.task.load_state_dict(state["task"])
        self.optimization.load_state_dict(state["optimization"])
        self.pruner.load_state_dict(state["pruner"])
        if self.proxy is not None:
            self.proxy.load_state_dict(state["proxy"])
