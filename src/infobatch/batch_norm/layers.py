"""PyTorch's batch norm layers with weights, and the conversion there and back."""

from __future__ import annotations

from typing import Any, TypeVar
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.modules.batchnorm import _BatchNorm

from infobatch.batch_norm.statistics import (
    BatchShares,
    Statistics,
    WeightedNormalization,
    gathered,
    per_channel,
    weighted_statistics,
)
from infobatch.user_warnings import warn_user

Model = TypeVar("Model", bound=nn.Module)


class WeightedBatchNorm(_BatchNorm):
    """What the weighted layers share: in training mode, each sample's weight enters the statistics."""

    _batch: BatchShares | None = None

    def forward(self, input: Tensor) -> Tensor:
        """PyTorch's own in evaluation mode, without weights and with equal ones."""
        batch = self._batch
        if batch is None or not self.training:
            if batch is None and self.training and not torch.compiler.is_compiling():
                self._check_no_repetition()
            return super().forward(input)
        if len(input) != len(batch.shares):
            raise ValueError(
                f"batch norm got an input of {len(input)} rows, and the batch has {len(batch.shares)} "
                "weights; give batch_weights one weight for each row, in the order of the rows, such as "
                "weights.repeat_interleave(T) where each sample is T rows"
            )
        group = self._group()
        if batch.equal and group is None:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            statistics = weighted_statistics(input, batch, whole=group is None)
            if group is not None:
                statistics = gathered(statistics, group)
            self._track(statistics)
        normalized = self._normalized(input, statistics, group)
        if group is not None or not batch.repeats:
            return normalized
        # Repeats have no say in these statistics, and would grow by them from layer to layer.
        with torch.no_grad():
            alike = weighted_statistics(input, batch.alike())
        counts = per_channel(statistics.shares[:, None] > 0, input.dim())
        return torch.where(counts, normalized, self._normalized(input, alike))

    def _normalized(
        self, x: Tensor, statistics: Statistics, group: ProcessGroup | None = None
    ) -> Tensor:
        """The input by statistics that are made of it."""
        mean, var, shares = statistics.mean, statistics.var, statistics.shares
        normalized: Tensor = WeightedNormalization.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, mean, var, shares, self.eps, group
        )
        return normalized

    def __getstate__(self) -> dict[str, Any]:
        """Without the batch: a copy, even one that is made inside its block, has no weights."""
        state = vars(self).copy()
        state.pop("_batch", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy is a converted layer, too."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        _converted.add(self)

    def _check_no_repetition(self) -> None:
        """Refuse that a checkpoint repeats a forward pass without the weights that it had."""
        if torch._C._current_graph_task_id() == -1:  # no backward pass is running
            weighed.discard(self)
        elif self in weighed:
            raise RuntimeError(
                "a checkpoint repeats the forward pass of batch norm outside of the block that gave it "
                "weights; run the backward pass inside of `with batch_weights(...)`, too"
            )

    def _group(self) -> ProcessGroup | None:
        """The processes that share their statistics, where there are several."""
        return None

    def _track(self, batch: Statistics) -> None:
        """Move the running averages, unless the batch's mass is 0."""
        mean, var = self.running_mean, self.running_var
        if not self.track_running_stats or mean is None or var is None:
            return
        counts = batch.mass > 0
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(counts)
        factor = counts.to(mean.dtype)
        if self.momentum is not None:
            factor = factor * self.momentum
        elif self.num_batches_tracked is not None:  # the mean over all batches
            factor = factor / self.num_batches_tracked.clamp(min=1)
        freedom = (1 - batch.squares).clamp(min=torch.finfo(batch.squares.dtype).eps)
        mean.lerp_(batch.mean.to(mean.dtype), factor)
        var.lerp_((batch.var / freedom).to(var.dtype), factor)


class WeightedBatchNorm1d(WeightedBatchNorm, nn.BatchNorm1d):
    """``BatchNorm1d`` with weights."""


class WeightedBatchNorm2d(WeightedBatchNorm, nn.BatchNorm2d):
    """``BatchNorm2d`` with weights."""


class WeightedBatchNorm3d(WeightedBatchNorm, nn.BatchNorm3d):
    """``BatchNorm3d`` with weights."""


class WeightedSyncBatchNorm(WeightedBatchNorm, nn.SyncBatchNorm):
    """``SyncBatchNorm`` with weights, over processes on any device.

    Equal weights on this rank say nothing of the others', so that within :func:`batch_weights` several
    processes never run PyTorch's own layer.
    """

    def _group(self) -> ProcessGroup | None:
        if not (dist.is_available() and dist.is_initialized()):
            return None
        group = self.process_group or dist.group.WORLD
        return group if dist.get_world_size(group) > 1 else None


class WeightedLazyBatchNorm1d(WeightedBatchNorm, nn.LazyBatchNorm1d):
    """``LazyBatchNorm1d`` with weights."""

    cls_to_become = WeightedBatchNorm1d


class WeightedLazyBatchNorm2d(WeightedBatchNorm, nn.LazyBatchNorm2d):
    """``LazyBatchNorm2d`` with weights."""

    cls_to_become = WeightedBatchNorm2d


class WeightedLazyBatchNorm3d(WeightedBatchNorm, nn.LazyBatchNorm3d):
    """``LazyBatchNorm3d`` with weights."""

    cls_to_become = WeightedBatchNorm3d


WEIGHTED: dict[type[nn.Module], type[WeightedBatchNorm]] = {
    nn.BatchNorm1d: WeightedBatchNorm1d,
    nn.BatchNorm2d: WeightedBatchNorm2d,
    nn.BatchNorm3d: WeightedBatchNorm3d,
    nn.SyncBatchNorm: WeightedSyncBatchNorm,
    nn.LazyBatchNorm1d: WeightedLazyBatchNorm1d,
    nn.LazyBatchNorm2d: WeightedLazyBatchNorm2d,
    nn.LazyBatchNorm3d: WeightedLazyBatchNorm3d,
}
PLAIN: dict[type[nn.Module], type[nn.Module]] = {weighted: plain for plain, weighted in WEIGHTED.items()}

_converted: WeakSet[nn.Module] = WeakSet()

weighed: WeakSet[nn.Module] = WeakSet()
"""The layers whose newest forward pass in training may have had unequal weights."""


def weigh_batch_norm(model: Model) -> Model:
    """Convert the batch norm layers of a model, in place, so that they take :func:`batch_weights`.

    Only their class changes: parameters, buffers, hooks and the keys of the ``state_dict`` stay. Without
    weights, with equal ones and in evaluation mode they run PyTorch's own layer. A layer of another
    library that has a forward pass of its own is left alone, with a warning. Call
    ``SyncBatchNorm.convert_sync_batchnorm`` before, not after.

    Args:
        model: Any module, wrapped or not; on several ranks the same on each.

    Returns:
        The model itself.

    Raises:
        ValueError: For a layer that ``fully_shard`` has wrapped: convert before.
    """
    _check_not_sharded(model, converted=False)
    others: dict[str, str] = {}
    for name, layer in model.named_modules():
        if type(layer) in WEIGHTED:
            layer.__class__ = WEIGHTED[type(layer)]
            _converted.add(layer)
        elif isinstance(layer, _BatchNorm) and not isinstance(layer, WeightedBatchNorm):
            kind = type(layer)
            others.setdefault(f"{kind.__module__}.{kind.__qualname__}", name or "the model itself")
    if others:
        listed = ", ".join(f"{kind} (such as {name})" for kind, name in others.items())
        warn_user(
            f"these layers are not PyTorch's batch norm and take statistics without weights: {listed}; "
            "put PyTorch's in their place, or accept the bias"
        )
    return model


def unweigh_batch_norm(model: Model) -> Model:
    """Convert the layers back that :func:`weigh_batch_norm` converted, in place.

    Args:
        model: The module that was converted, or one that holds it.

    Returns:
        The model itself.

    Raises:
        ValueError: For a layer that ``fully_shard`` has wrapped: convert before.
    """
    _check_not_sharded(model, converted=True)
    for layer in model.modules():
        if type(layer) in PLAIN:
            layer.__class__ = PLAIN[type(layer)]
            _converted.discard(layer)
    return model


def _check_not_sharded(model: nn.Module, converted: bool) -> None:
    """Refuse layers to convert whose class is one that FSDP2 has made for them."""
    for name, layer in model.named_modules():
        kind = type(layer)
        if not isinstance(layer, _BatchNorm) or isinstance(layer, WeightedBatchNorm) is not converted:
            continue
        if any(base.__module__.startswith("torch.distributed.") for base in kind.__mro__):
            call = "unweigh_batch_norm" if converted else "weigh_batch_norm"
            raise ValueError(
                f"batch norm {name or 'of the model itself'} is sharded by itself ({kind.__name__}), "
                f"and its class cannot be changed; call {call}(model) before fully_shard"
            )


def converted_weights() -> list[Tensor]:
    """The parameters ``weight`` of all layers that :func:`weigh_batch_norm` has converted."""
    weights = (layer.weight for layer in _converted)
    return [weight for weight in weights if isinstance(weight, Tensor)]


def is_weighed(model: nn.Module) -> bool:
    """Whether a model has layers that :func:`weigh_batch_norm` has converted."""
    return any(isinstance(layer, WeightedBatchNorm) for layer in model.modules())
