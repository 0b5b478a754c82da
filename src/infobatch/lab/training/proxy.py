"""A small network that is trained along, by whose losses samples are chosen for the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from infobatch import DynamicPruner
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.tasks.base import Inputs
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.optimization import Optimization
from infobatch.lab.training.scoring_costs import PROXY_PERIOD


class Proxy:
    """Gives the losses of batches that are about to be trained, and learns from every fourth of them.

    Args:
        config: The options of the run whose samples it chooses.
        data: What that trains on.
        pruner: The run's pruner, whose progress moves the schedule of its learning rate.

    Source: the proxy of Jordan's 96 % record on CIFAR-10 (cifar10-airbench, 2024).
    """

    def __init__(self, config: TrainConfig, data: Data, pruner: DynamicPruner) -> None:
        own = replace(config, model=config.proxy, ema_decay=0.0, compile=False)
        self.task = Classification(own, data)
        self._optimization = Optimization(own, self.task.model, pruner)
        self._num_batches = 0

    def losses(self, inputs: Inputs) -> Tensor:
        """The losses of a batch, (B,), without a gradient.

        Args:
            inputs: The views that the other network is going to see.
        """
        learned = self.learn(inputs)
        if learned is not None:
            return learned
        with torch.no_grad():
            return self.task.train_outputs(inputs).losses

    def learn(self, inputs: Inputs) -> Tensor | None:
        """Train on a batch, if it is a fourth one.

        Args:
            inputs: The views that the other network is going to see.

        Returns:
            The losses (B,) of a batch that it was trained on, without a gradient.
        """
        self._num_batches += 1
        if self._num_batches % PROXY_PERIOD != 1:
            return None
        losses = self.task.train_outputs(inputs).losses
        self._optimization.step(losses.mean())
        return losses.detach()

    def state_dict(self) -> dict[str, Any]:
        """Its weights, and where its schedule is."""
        return {
            "model": self.task.model.state_dict(),
            "optimization": self._optimization.state_dict(),
            "num_batches": self._num_batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.task.model.load_state_dict(state["model"])
        self._optimization.load_state_dict(state["optimization"])
        self._num_batches = state["num_batches"]
