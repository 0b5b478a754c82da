"""From a batch's loss to the next step: gradient, clipping, update, learning rate, weight average."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from infobatch import DynamicPruner
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.devices import resolve_device
from infobatch.lab.training.optimizers import make_optimizer

WARM_UP_SHARE = 0.3
DIV_FACTOR = 25
FINAL_DIV_FACTOR = 1e4
TRIANGLE_START, TRIANGLE_PEAK = 0.2, 0.15
"""Of the triangle: the first rate as a share of the highest, and the share of the run before that."""


def make_schedule(config: TrainConfig, optimizer: Optimizer, num_steps: int) -> LRScheduler:
    """Make a run's learning-rate schedule.

    Args:
        config: The run's options.
        optimizer: The optimizer whose rates it sets.
        num_steps: The steps of a run on full data.
    """
    if config.schedule == "triangle":
        return LambdaLR(optimizer, lambda step: triangle(step / num_steps))
    return one_cycle(optimizer, [group["lr"] for group in optimizer.param_groups], num_steps)


def triangle(done: float) -> float:
    """The rate as a share of the highest, which comes early, and falls to 0 at the end.

    Args:
        done: The share of the run that is done, in [0, 1].
    """
    if done < TRIANGLE_PEAK:
        return TRIANGLE_START + (1 - TRIANGLE_START) * done / TRIANGLE_PEAK
    return max(0.0, (1 - done) / (1 - TRIANGLE_PEAK))


def one_cycle(optimizer: Optimizer, lr: float | list[float], num_steps: int) -> OneCycleLR:
    """Make the schedule of one cycle.

    It also cycles SGD's momentum, from 0.95 down to 0.85 at the peak rate and back.

    Args:
        optimizer: The optimizer whose rate it sets.
        lr: The peak rate, of all groups of parameters or of each.
        num_steps: The steps of a run on full data.

    Returns:
        The schedule.

    Source: Smith and Topin, Super-Convergence (2018).
    """
    return OneCycleLR(
        optimizer,
        lr,
        total_steps=num_steps,
        pct_start=WARM_UP_SHARE,
        div_factor=DIV_FACTOR,
        final_div_factor=FINAL_DIV_FACTOR,
    )


class Optimization:
    """The optimizer with its schedule, gradient scaling and weight average.

    Args:
        config: The run's options.
        model: The model to train.
        pruner: The run's pruner, which moves the schedule on.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, pruner: DynamicPruner) -> None:
        self.model = model
        self.optimizer = make_optimizer(config.optimizer, model, config.lr, config.weight_decay)
        self.scheduler = pruner.lr_scheduler(
            make_schedule(config, self.optimizer, pruner.full_steps),
            scaling=config.lr_scaling,
        )
        device = resolve_device(config.device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
        self._parameters = list(model.parameters())
        self._clip_norm = config.clip_norm

    @property
    def lr(self) -> float:
        """The rate of the next update."""
        return float(self.scheduler.get_last_lr()[0])

    @property
    def eval_model(self) -> nn.Module:
        """The model to evaluate and keep: the average, where there is one."""
        return self.average.model if self.average is not None else self.model

    def step(self, loss: Tensor) -> None:
        """Take a step.

        Args:
            loss: The batch's weighted mean loss, a scalar.
        """
        self.update(loss)
        self.advance()

    def update(self, loss: Tensor) -> None:
        """Change the model: all of a step that the device does.

        Args:
            loss: The batch's weighted mean loss, a scalar.
        """
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._clip_norm:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self._parameters, self._clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def advance(self) -> None:
        """Go on to the next step: its learning rate, and the average of the weights."""
        self.scheduler.step()
        if self.average is not None:
            self.average.update(self.model)

    def state_dict(self) -> dict[str, Any]:
        """The state of all its parts."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.model.state_dict() if self.average is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.model.load_state_dict(state["average"])


class WeightAverage:
    """The exponential moving average of a model's weights; its statistics are the model's own.

    PyTorch's AveragedModel reads its count of updates on the device, for which each step would wait.

    Args:
        model: The model to average.
        decay: The share of the average that a step keeps, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards a model.

        Args:
            model: The model after a step.
        """
        ours: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - self._decay)
        if buffers := list(self.model.buffers()):
            torch._foreach_copy_(buffers, list(model.buffers()))
