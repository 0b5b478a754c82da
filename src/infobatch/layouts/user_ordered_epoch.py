"""An epoch in the order of the user's own sampler, which is known only as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from infobatch.distributed import Replicas
from infobatch.layouts.replicated_epoch import ReplicatedEpoch
from infobatch.scores.columns import IndexArray
from infobatch.selection import Selection
from infobatch.user_draws import UserDraws


class UserOrderedEpoch(ReplicatedEpoch):
    """One epoch under way in the order of the user's own sampler, on this rank.

    How far it is, is told by the draws of that sampler.

    Args:
        number: Number of the epoch, from 0.
        selection: The selected samples and their weights.
        user_draws: The draws of the sampler, those recorded before among them.
        replicas: The place of this rank among those that train one model.
        recorded: Samples whose losses came in before, bool (N,): trained, or left out and observed.
    """

    user_draws: UserDraws

    def __init__(
        self,
        number: int,
        selection: Selection,
        user_draws: UserDraws,
        replicas: Replicas | None = None,
        recorded: Tensor | None = None,
    ) -> None:
        super().__init__(number, selection, replicas, recorded)
        self.user_draws = user_draws
        self._is_shared_once = True
        self._num_left = self.num_selected - self._num_recorded
        self.resumed_at_end = user_draws.finished

    @property
    def mean_weight(self) -> float:
        of_draws = self.user_draws.mean_weight
        return super().mean_weight if of_draws is None else of_draws

    # -- How far it is -----------------------------------------------------------------------------

    @property
    def num_trained(self) -> int:
        return self.num_selected

    @property
    def num_left(self) -> int:
        return self._num_left

    @property
    def length(self) -> int:
        draws = self.user_draws
        length = round(draws.expected) if draws.length is None else draws.length
        return length * self.replicas.num_replicas

    @property
    def done(self) -> float:
        return self.user_draws.done

    @property
    def num_done(self) -> int:
        return self.user_draws.num_recorded * self.replicas.num_replicas

    @property
    def num_full(self) -> int | None:
        of_rank = self.user_draws.num_full
        return None if of_rank is None else of_rank * self.replicas.num_replicas

    @property
    def is_whole(self) -> bool:
        return self.user_draws.finished

    @property
    def is_untouched(self) -> bool:
        # A draw may be of a sample that was recorded before.
        return self.user_draws.num_recorded == self.user_draws.num_before

    # -- Its order on this rank --------------------------------------------------------------------

    def num_draws(self, resumes: bool = True) -> int:
        raise self._unknown_order()

    def draws(self, resumes: bool = True) -> Iterator[int]:
        raise self._unknown_order()

    def share_of_rank(self, resumes: bool = True) -> np.ndarray:
        raise self._unknown_order()

    def _unknown_order(self) -> RuntimeError:
        return RuntimeError(
            f"the order of epoch {self.number} is that of a sampler of yours, which is known only as it "
            "comes; iterate the loader that was made with it, the latest one of the pruner"
        )

    # -- Recording ---------------------------------------------------------------------------------

    def _record_new(self, indices: IndexArray) -> int:
        super()._record_new(indices)
        return self.user_draws.record(indices)

    def merge(self, recorded: np.ndarray) -> None:
        super().merge(recorded)
        self.user_draws.merge(recorded & (self.weights > 0))

    @property
    def _num_given(self) -> int:
        return self.user_draws.length or 0

    def _num_skipped(self) -> int:
        draws, size = self.user_draws, 0 if self._latest is None else len(self._latest)
        # The order is not known; but what was recorded may be a share of the share.
        is_share = abs(draws.num_recorded - self._num_given / self.replicas.num_replicas) <= size
        return self._num_given - draws.num_recorded if is_share else 0

    def close(self) -> None:
        super().close()
        self.user_draws.close()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "draws": self.user_draws.state_dict()}
