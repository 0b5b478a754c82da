"""How samples become batches, so that steps can be counted before they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Batching:
    """The shape of an epoch's batches.

    Args:
        batch_size: Samples in a batch of each rank; the mean, where batches differ in size.
        drop_last: Whether a last batch that is not full is dropped.
        num_replicas: Ranks that train one model together.
        user_length: Where the user's own sampler orders the epoch, the indices that it gives on this
            rank in an epoch on full data; None for the library's own order.
    """

    batch_size: float
    drop_last: bool = False
    num_replicas: int = 1
    user_length: int | None = None

    @property
    def has_user_order(self) -> bool:
        """Whether the user's own sampler orders the epoch."""
        return self.user_length is not None

    @property
    def global_batch_size(self) -> float:
        """Samples that all ranks together train in one step."""
        return self.batch_size * self.num_replicas

    @property
    def multiple(self) -> int:
        """Pruned epochs keep a multiple of this many samples, so that no last batch is dropped."""
        return int(self.global_batch_size) if self.drop_last and not self.has_user_order else 1

    def full_length(self, num_samples: int) -> int:
        """Draws on all ranks in an epoch on full data."""
        return num_samples if self.user_length is None else self.user_length * self.num_replicas

    def num_trained(self, num_samples: int) -> int:
        """How many of ``num_samples`` are trained: all, less a last batch that is dropped."""
        return num_samples // self.multiple * self.multiple

    def num_steps(self, num_samples: int) -> int:
        """Steps that ``num_samples`` take, the last one perhaps with a short batch."""
        steps = num_samples / self.global_batch_size
        return math.floor(steps) if self.drop_last else math.ceil(steps - 1e-9)


def nearest_multiple(count: int, multiple: int, num_samples: int, least: int = 1) -> int:
    """The multiple nearest to ``count`` among those from ``least`` to ``num_samples``."""
    nearest = max((count + multiple // 2) // multiple, -(-least // multiple)) * multiple
    return min(nearest, num_samples // multiple * multiple)
