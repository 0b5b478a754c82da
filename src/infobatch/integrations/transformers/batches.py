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


def logits_of(outputs: Any) -> Tensor:
    """The logits among a model's outputs."""
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else outputs[0]
    if logits is None:
        raise ValueError(
            f"the model gave only {', '.join(outputs)}, without logits, so that no loss of a single "
            "sequence can be computed: a fused loss (Liger) never makes them. Turn it off"
        )
    assert isinstance(logits, Tensor)
    return logits
