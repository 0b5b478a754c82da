"""What a run knows of its generations beside the pruner: their tokens, and where among them it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
