"""How samples become batches, on one process or several that train one model together."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Batching:
    """How samples become batches, so that steps can be counted before they are made.

    ``batch_size``: of each replica; the mean where batches differ in size. ``own_length``: where the
    user's own sampler orders the epoch, the indices it gives on this replica in one of full data.
    """

    batch_size: float
    drop_last: bool = False
    num_replicas: int = 1
    own_length: int | None = None

    @property
    def own_order(self) -> bool:
        """Whether the user's own sampler orders the epoch."""
        return self.own_length is not None

    @property
    def round_size(self) -> float:
        """The global batch: samples that all replicas together train in one step."""
        return self.batch_size * self.num_replicas

    @property
    def multiple(self) -> int:
        """Pruned epochs keep a multiple of this many samples, so that no tail is dropped."""
        return int(self.round_size) if self.drop_last and not self.own_order else 1

    def full_length(self, num_samples: int) -> int:
        """The draws on all replicas in an epoch of full data."""
        return num_samples if self.own_length is None else self.own_length * self.num_replicas

    def num_trained(self, num_samples: int) -> int:
        """Of ``num_samples``, those that are trained: all, but for a last short batch dropped."""
        return num_samples // self.multiple * self.multiple

    def num_steps(self, num_samples: int) -> int:
        """The steps that training ``num_samples`` takes, the last one perhaps short."""
        steps = num_samples / self.round_size
        return math.floor(steps) if self.drop_last else math.ceil(steps - 1e-9)


def nearest_multiple(count: int, multiple: int, num_samples: int, least: int = 1) -> int:
    """The multiple nearest to ``count`` among those from ``least`` to ``num_samples``."""
    nearest = max((count + multiple // 2) // multiple, -(-least // multiple)) * multiple
    return min(nearest, num_samples // multiple * multiple)
