"""What a batch of the Trainer carries: its samples' indices beside the model's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from infobatch.loading.dataset import IndexedCollate
from infobatch.losses import NOT_SUPERVISED

INDICES = "infobatch_indices"
"""The batch's entry that holds its samples' indices, int64 (B,); the model never sees it."""


class CollateWithIndices:
    """A collate function whose batches are mappings, with their samples' indices added to them."""

    def __init__(self, collate_fn: Callable[[Any], Any]) -> None:
        self._collate = IndexedCollate(collate_fn)

    def __call__(self, pairs: Any) -> Any:
        indices, batch = self._collate(pairs)
        if not isinstance(batch, MutableMapping):
            raise TypeError(
                f"the data collator made a {type(batch).__name__}; the Trainer needs a mapping of the "
                "model's arguments, to which the samples' indices are added"
            )
        if (indices < 0).any() and "labels" in batch:
            # Repeats that only fill up a last batch, in no count of supervised items.
            batch["labels"] = batch["labels"].clone()
            batch["labels"][torch.from_numpy(indices < 0)] = NOT_SUPERVISED
        batch[INDICES] = indices
        return batch


def with_decoder_inputs(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
    """A batch with the decoder's inputs that a model makes of its labels, if it makes any.

    It would make them itself if it were given the labels.
    """
    make = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if make is None or inputs.keys() & {"decoder_input_ids", "decoder_inputs_embeds"}:
        return inputs
    return {**inputs, "decoder_input_ids": make(labels=inputs["labels"])}


def found_logits(outputs: Any) -> Tensor | None:
    """The logits among a model's outputs: of a tuple the first tensor that has a row for each sample."""
    if isinstance(outputs, Mapping):
        return outputs.get("logits")
    several = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return next((value for value in several if isinstance(value, Tensor) and value.ndim > 1), None)


def logits_of(outputs: Any) -> Tensor:
    """The logits among a model's outputs. ``ValueError`` if there are none."""
    logits = found_logits(outputs)
    if logits is None:
        names = ", ".join(outputs) if isinstance(outputs, Mapping) else f"a {type(outputs).__name__}"
        raise ValueError(
            f"the model gave only {names or 'nothing'}, without logits, so that no loss of a single "
            "sequence can be computed: a fused loss (Liger) never makes them. Turn it off"
        )
    return logits


def class_logits_of(outputs: Any) -> Tensor | None:
    """The logits of sequences that have a class of several, (B, C); None of others."""
    logits = logits_of(outputs)
    return logits if logits.ndim == 2 and logits.shape[1] >= 2 else None


def own_loss_of(outputs: Any) -> Tensor | None:
    """The loss that a model made itself; None if it made none."""
    if not isinstance(outputs, Mapping):
        first = outputs[0] if isinstance(outputs, tuple | list) and outputs else None
        return first if isinstance(first, Tensor) and first.numel() == 1 else None
    return outputs.get("loss")
