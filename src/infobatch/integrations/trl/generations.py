"""What a run knows of its generations beside the pruner: their tokens, and where among them it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infobatch.integrations.transformers.epochs import read_state

FILE = "generations.pt"
"""What all processes know, within a checkpoint's folder."""
SIZES = (
    "num_generations",
    "num_iterations",
    "steps_per_generation",
    "generation_batch_size",
    "gradient_accumulation_steps",
)
"""The arguments by which prompts become optimizer steps."""


class MeanTokens:
    """The mean number of tokens of a completion, of all prompts, as the epoch before tells it.

    Losses that are divided by the tokens of a generation would otherwise depend on which prompts were
    drawn for it, and be biased wherever the score of a prompt goes with the length of its completions.
    """

    def __init__(self) -> None:
        self._epoch = -1
        self._before = torch.zeros(2, dtype=torch.float32)
        self._sums = torch.zeros(2, dtype=torch.float32)

    def add(self, epoch: int, tokens: Tensor, weights: Tensor) -> None:
        """Count completions of an epoch: their tokens and their weights, each (B,)."""
        if epoch != self._epoch:
            self._epoch, self._before = epoch, self._sums
            self._sums = torch.zeros(2, dtype=torch.float32)
        tokens, weights = tokens.cpu().double(), weights.cpu().double()
        self._sums = self._sums + torch.stack([tokens @ weights, weights.sum()])

    @property
    def known(self) -> float | None:
        """The mean, by the epoch before; None if there was none."""
        total, count = self._before.tolist()
        return total / count if count else None

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "before": self._before, "sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._before, self._sums = state["epoch"], state["before"], state["sums"]


def sizes_of(args: Any) -> dict[str, int]:
    """The arguments by which prompts become optimizer steps, those of them that a trainer has."""
    return {name: int(getattr(args, name)) for name in SIZES if hasattr(args, name)}


def read_generations(checkpoint: Path, args: Any) -> dict[str, Any]:
    """What a checkpoint knows of its run's generations.

    Args:
        checkpoint: The checkpoint's folder.
        args: The arguments of the trainer that goes on.

    Raises:
        ValueError: If it was saved with other sizes, or by other processes within a generation.
    """
    state = read_state(checkpoint / FILE)
    within = state["trained"] % state["num_repeats"]
    if within and state["num_processes"] != args.world_size:
        raise ValueError(
            f"{checkpoint} was saved within a generation by {state['num_processes']} processes, and "
            f"there are {args.world_size}, which cannot share its completions; resume on as many, or "
            "from a checkpoint between two generations"
        )
    if state["epoch_is_over"]:
        return state
    for name, value in sizes_of(args).items():
        if value != state["sizes"][name]:
            raise ValueError(
                f"{name} is {value}, and {checkpoint} was saved within an epoch that is trained with "
                f"{state['sizes'][name]}; resume with that, or from a checkpoint between two epochs"
            )
    return state
