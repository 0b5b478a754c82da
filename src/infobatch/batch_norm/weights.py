"""The weights of a batch, and how they reach the batch norm layers of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from infobatch.batch_norm.layers import WeightedBatchNorm, weighed
from infobatch.batch_norm.statistics import BatchShares
from infobatch.losses import sent_to_device


@contextmanager
def batch_weights(model: nn.Module, weights: Tensor) -> Iterator[None]:
    """Give the batch norm layers of a model the weights of the batch that is in its forward pass.

    In training mode their mean and variance, and the running averages of these, are then weighted, and
    in expectation close to those of full data. A model that :func:`weigh_batch_norm` has not converted
    is not changed. Inside the block belong the forward pass and, with ``torch.utils.checkpoint``, which
    runs it again, the backward pass. Where ``SyncBatchNorm`` spans several ranks, all of them enter.

    A sample of weight 0, a repeat that keeps a rank in step, has no say in the statistics, and is itself
    normalized as if all weights were equal. So is a whole batch of them, and one in which a single
    sample of one position has a weight, since it has no variance; both leave the running averages.

    Args:
        model: The model, or a wrapper of it such as DDP or ``torch.compile``'s.
        weights: (B,), at least 0, on the host: ``pruner.weights(indices)``. Where a layer sees each
            sample as several rows, one for each row.

    Raises:
        TypeError: For weights that are no tensor.
        ValueError: For weights of another shape, below 0, not finite or not on the host; in the forward
            pass, for a batch of another size.
        RuntimeError: Where a checkpoint repeats a forward pass of unequal weights outside the block.
    """
    packed, equal = packed_shares(weights)
    with batch_shares(model, packed, equal, repeats=bool((packed[:-2] == 0).any())):
        yield


@contextmanager
def batch_shares(model: nn.Module, packed: Tensor, equal: bool, repeats: bool = False) -> Iterator[None]:
    """:func:`batch_weights`, of what :func:`packed_shares` gives, which may be on the model's device."""
    layers = [layer for layer in model.modules() if isinstance(layer, WeightedBatchNorm)]
    before = [layer.__dict__.get("_batch") for layer in layers]
    try:
        if layers:
            _give(layers, packed, equal, repeats)
        yield
    finally:
        for layer, batch in zip(layers, before, strict=True):
            layer.__dict__.pop("_batch", None)
            if batch is not None:
                layer._batch = batch


def packed_shares(weights: Tensor) -> tuple[Tensor, bool]:
    """The shares of a batch, its mass and squares, float64 (B + 2,), and whether they are equal."""
    if not isinstance(weights, Tensor):
        raise TypeError(
            f"the weights of a batch are a {type(weights).__name__}; give a tensor of one for each "
            "sample, as pruner.weights(indices) does"
        )
    if weights.dim() != 1 or not len(weights):
        raise ValueError(
            f"the weights of a batch have shape {tuple(weights.shape)}; give one for each sample, (B,)"
        )
    if weights.device.type != "cpu":
        raise ValueError(
            f"the weights of a batch are on {weights.device}, and reading them there makes each "
            "step wait; give them on the host, as pruner.weights(indices) does"
        )
    exact = weights.detach().double()
    wrong = ~(exact.isfinite() & (exact >= 0))
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise ValueError(
            f"weight {at} of the batch is {float(exact[at])}; give finite weights, at least 0"
        )
    mass = exact.sum()
    equal = bool((exact == exact[0]).all())
    shares = exact / mass if mass > 0 else torch.full_like(exact, 1 / len(exact))
    packed = torch.cat([shares, mass[None], shares.square().sum()[None]])
    return packed, equal and bool(mass > 0)


def _unpacked(packed: Tensor, equal: bool, repeats: bool = False) -> BatchShares:
    return BatchShares(packed[:-2], packed[-2], packed[-1], equal, repeats)


def _give(layers: list[WeightedBatchNorm], packed: Tensor, equal: bool, repeats: bool) -> None:
    """Set the batch of each layer, sent once to each device, and not at all where none needs it.

    It has the precision of the layer's own tensors, and float32 at least.
    """
    prepared: dict[tuple[torch.device, torch.dtype], BatchShares] = {}
    device, dtype = packed.device, torch.float32
    for layer in layers:
        for tensor in chain(layer.parameters(), layer.buffers()):
            device, dtype = tensor.device, torch.promote_types(tensor.dtype, torch.float32)
            break
        stays = equal and layer._group() is None
        kind = packed.device if stays else device, dtype
        if kind not in prepared:
            sent = packed.to(dtype)
            if sent.device != kind[0]:
                sent = sent_to_device(sent, kind[0])
            prepared[kind] = _unpacked(sent, equal, repeats)
        layer._batch = prepared[kind]
        (weighed.discard if stays else weighed.add)(layer)
