"""The weighted mean and variance of a batch, and the normalization through which gradients flow.

A sample's share p of the batch is its weight by their sum; over P positions a sample,

    mean = sum_i p_i mean_j(x_ij),    var = sum_i p_i mean_j((x_ij - mean)^2).

Equal shares give batch norm: Ioffe & Szegedy, 2015, section 3.1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


class BatchShares(NamedTuple):
    """What each sample counts in the statistics of a batch.

    Attributes:
        shares: (B,), with sum 1; equal where all weights are 0.
        mass: (), the sum of the weights. At 0 the batch holds repeats alone, and running averages stay.
        squares: (), the sum of the squares of the shares, in [1/B, 1].
        equal: Whether all weights are equal and above 0; the tensors then stay on the host.
        repeats: Whether some of the weights, not all, are 0.
    """

    shares: Tensor
    mass: Tensor
    squares: Tensor
    equal: bool
    repeats: bool = False

    def alike(self) -> BatchShares:
        """The same batch, of which each sample counts alike."""
        each = torch.full_like(self.shares, 1 / len(self.shares))
        return self._replace(shares=each, squares=each[0])


class Statistics(NamedTuple):
    """The statistics by which a batch is normalized, of one process or of all in a group.

    Attributes:
        mean: (C,), in float32 at least, as all of these.
        var: (C,), about that mean and biased.
        shares: (B,), the share of each value of each sample here: over the whole batch, all samples and
            their positions, shares sum to 1.
        squares: (), the sum of the squares of the shares over the whole batch.
        mass: (), the sum of the weights over the whole batch; 0 where running averages stay.
    """

    mean: Tensor
    var: Tensor
    shares: Tensor
    squares: Tensor
    mass: Tensor


def per_channel(values: Tensor, ndim: int) -> Tensor:
    """Values (C,) or (B, C), shaped to broadcast over an input of ``ndim`` dimensions."""
    return values.reshape(values.shape + (1,) * (ndim - 2))


def over_positions(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The sums (B, C) of values (B, C, *positions)."""
    if values.dim() == 2:
        return values.to(dtype)
    return values.sum(tuple(range(2, values.dim())), dtype=dtype)


def weighted_statistics(x: Tensor, batch: BatchShares, whole: bool = True) -> Statistics:
    """The statistics of a batch (B, C, *positions): one read for the mean, one for the variance.

    A value that alone has a weight has no variance; then all samples count alike, and it has mass 0.

    Args:
        x: The batch, or this rank's part of it.
        batch: What each of its samples counts.
        whole: Whether it is no part of a group's batch, for which :func:`gathered` sees to that.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    shares, mass, squares = (t.to(x.device, dtype, non_blocking=True) for t in batch[:3])
    positions = math.prod(x.shape[2:])
    if whole and positions == 1:
        alone = squares >= 1
        shares, squares = (torch.where(alone, 1 / len(shares), t) for t in (shares, squares))
        mass = mass * ~alone
    means, variances = _moments_of_samples(x, positions, dtype)
    column = shares[:, None]
    mean = (column * means).sum(0)
    var = (column * (variances + (means - mean).square())).sum(0)
    return Statistics(mean, var, shares / positions, squares / positions, mass * positions)


def _moments_of_samples(x: Tensor, positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Each sample's mean and variance over its positions, (B, C) each."""
    if x.dim() == 2:
        return x.to(dtype), x.new_zeros((), dtype=dtype)
    if x.is_cuda:  # one read; on the host it is ten times slower than the two below
        dims = tuple(range(2, x.dim()))
        variances, means = torch.var_mean(x.to(dtype), dims, correction=0)
        return means, variances
    means = over_positions(x, dtype) / positions
    deviations = (x - per_channel(means, x.dim())).square_()
    return means, over_positions(deviations, dtype) / positions


def gathered(own: Statistics, group: ProcessGroup) -> Statistics:
    """The statistics of the batch of a whole group, from those of each rank's part."""
    num_samples = own.shares.new_full((), len(own.shares))
    scalars = torch.stack([own.mass, own.squares, num_samples])
    sent = torch.cat([scalars, own.mean, own.var])
    received = sent.new_empty(dist.get_world_size(group) * len(sent))
    # PyTorch 2.13 renamed it.
    all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    all_gather(received, sent, group)
    ranks = received.view(-1, len(sent))
    masses, squares, counts = ranks[:, :3].unbind(1)
    means, variances = ranks[:, 3:].chunk(2, 1)
    mass = masses.sum()
    parts = torch.where(mass > 0, masses, counts)
    parts = parts / parts.sum()
    alone = (parts.square() * squares).sum() >= 1
    parts = torch.where(alone, counts / counts.sum(), parts)
    column = parts[:, None]
    mean = (column * means).sum(0)
    var = (column * (variances + (means - mean).square())).sum(0)
    own_part = parts[dist.get_rank(group)]
    return Statistics(mean, var, own.shares * own_part, (parts.square() * squares).sum(), mass * ~alone)


class WeightedNormalization(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, for statistics that are made of x.

    Its gradient in x is batch norm's, with the share of each value in the place of 1/n.
    """

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        shares: Tensor,
        eps: float,
        group: ProcessGroup | None,
    ) -> Tensor:
        """One elementwise pass."""
        scale = torch.rsqrt(var + eps)
        if weight is not None:
            scale = scale * weight
        shift = -mean * scale
        if bias is not None:
            shift = shift + bias
        normalized = torch.addcmul(per_channel(shift, x.dim()), x, per_channel(scale, x.dim()))
        return normalized.to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what backward needs: the input, as batch norm does, and vectors."""
        x, weight, bias, mean, var, shares, ctx.eps, ctx.group = inputs
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight, mean, var, shares)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in x, weight and bias; over a group x's takes the sums of all ranks, once only."""
        if ctx.group is None:
            return _gradients(ctx, gradient)
        return torch.autograd.function.once_differentiable(_gradients)(ctx, gradient)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """What :class:`WeightedNormalization` gives; itself differentiable where gradients are recorded."""
    x, weight, mean, var, shares = ctx.saved_tensors
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        mean, var = _moments_of_values(x, shares, mean.dtype)
    inverse = torch.rsqrt(var + ctx.eps)
    scale = inverse if weight is None else inverse * weight
    centered = x - per_channel(mean, x.dim())
    total = over_positions(gradient, mean.dtype).sum(0)
    along = over_positions(centered * gradient, mean.dtype).sum(0)
    in_weight = None if weight is None else (along * inverse).to(weight.dtype)
    in_bias = None if ctx.bias_dtype is None else total.to(ctx.bias_dtype)
    in_x = None
    if ctx.needs_input_grad[0]:
        if ctx.group is not None:
            both = torch.stack([total, along])
            dist.all_reduce(both, group=ctx.group)
            total, along = both.unbind()
        through_mean = per_channel(-shares[:, None] * (scale * total), x.dim())
        through_var = per_channel(-shares[:, None] * (scale * inverse.square() * along), x.dim())
        in_x = torch.addcmul(through_mean, centered, through_var)
        in_x = in_x.addcmul_(gradient, per_channel(scale, x.dim())).to(x.dtype)
    return in_x, in_weight, in_bias, None, None, None, None, None


def _moments_of_values(x: Tensor, shares: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The mean and variance (C,) of a batch by the shares (B,) of its values."""
    column = shares[:, None]
    mean = (column * over_positions(x, dtype)).sum(0)
    var = (column * over_positions((x - per_channel(mean, x.dim())).square(), dtype)).sum(0)
    return mean, var
