"""What a Trainer fits on: the batches of whichever epoch it is in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infobatch.pruner import DynamicPruner


class PrunedLoader:
    """The batches ``(indices, batch)`` of whichever epoch the Trainer is in.

    Made by :meth:`PruningCallback.loader`. It is no DataLoader, for Lightning would share that out among
    the processes once more. It has no ``__len__``, so that Lightning looks for each epoch's last batch
    itself; with one it would read the first epoch's and cut later epochs short.
    """

    def __init__(self, dataset: Any, options: dict[str, Any]) -> None:
        self.dataset = dataset
        self.options = options
        self.begins = False
        self._pruner: DynamicPruner | None = None
        self._trainer: Any = None
        self._batches: Any = None

    def attach(self, pruner: DynamicPruner, trainer: Any) -> None:
        """Give the batches of a fit that begins."""
        self._batches = pruner.loader(**self.options)
        self._pruner, self._trainer = pruner, trainer

    def detach(self) -> None:
        """Let go of the fit and of its worker processes."""
        self._pruner = self._trainer = self._batches = None

    @property
    def num_left(self) -> int | None:
        """The batches that were left of the epoch when it began or was resumed; None if not known."""
        try:
            return len(self._batches)
        except TypeError:
            return None

    def __iter__(self) -> Iterator[Any]:
        if self._pruner is None:
            raise RuntimeError(
                "the loader belongs to a PruningCallback that the Trainer does not have, or is iterated "
                "outside of a fit; give Trainer(callbacks=[...]) the callback that made it"
            )
        # Lightning asks for a resumed run's first batch before it has noticed that its epoch is over.
        epoch = max(self._trainer.current_epoch, self._pruner.epoch + self._pruner.current.finished)
        if epoch < self._pruner.num_epochs:
            self._pruner.set_epoch(epoch)
        elif self._pruner.epoch < self._pruner.num_epochs:
            return
        self.begins = True
        yield from self._batches

    def state_dict(self) -> dict[str, Any]:
        """Nothing, for the callback has the state. That there is one tells Lightning it can resume."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
