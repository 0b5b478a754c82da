"""What users give with a batch, read and checked: losses, indices, scores and signals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from infobatch.batch_indices import dropped_from
from infobatch.noise import NormsFrom, norms_of_losses
from infobatch.scores.columns import NORMS, SIGNALS, IndexArray

Indices = IndexArray | Tensor | Sequence[int]
"""Indices of samples, shape (B,)."""


def check_choice(option: str, value: str, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` for a value that is none of the choices."""
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{option} is {value!r}; choose {', '.join(others)} or {last}")


def read_batch(losses: Tensor, indices: Indices, scored: Tensor | None = None) -> IndexArray:
    """The indices of a batch on the host, once there is one loss for each."""
    batch = host_indices(indices)
    check_losses(losses, batch, scored)
    return batch


def check_losses(losses: Tensor, indices: IndexArray, scored: Tensor | None) -> None:
    """Raise an error for anything but one loss for each of the samples with ``indices`` (B,)."""
    num_indices = len(indices)
    if not isinstance(losses, Tensor):
        raise TypeError(
            f"losses are a {type(losses).__name__}; give the tensor that the loss function made, shape "
            "(B,), for gradients flow through it"
        )
    _check_whole("losses", losses)
    if losses.ndim > 1 and losses.numel() == num_indices > 1:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)}; give them as (B,), by losses.flatten()"
        )
    if losses.ndim != 1:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)}; pruning needs one loss for each sample, shape "
            "(B,): compute them with reduction='none' (averaged over pixels or tokens within each "
            "sample, not over the batch)"
        )
    if len(losses) != num_indices:
        raise ValueError(
            f"{len(losses)} losses came with {num_indices} indices; pass the indices of this very "
            "batch. If the collate_fn drops samples, have it return infobatch.loading.Kept(batch, kept)"
        )
    if num_indices == 0 and not len(dropped_from(indices)):
        raise ValueError(
            "the batch is empty, and a mean over no losses is NaN; pass over batches without samples"
        )
    if not losses.is_floating_point():
        raise TypeError(f"losses have dtype {losses.dtype}; they must be floating point")
    if num_indices > 1 and losses.stride(0) == 0:
        raise ValueError(
            f"the {num_indices} losses are one number repeated (expand), and so tell no sample from "
            "another; compute one for each sample, with reduction='none'. Where there is a loss of the "
            "whole batch only, make the pruner with policy=BLS() and give loss.repeat(len(indices))"
        )
    if scored is not None:
        check_scored(scored, losses)


def remembered_of(losses: Tensor, scores: Tensor | None) -> Tensor:
    """What is remembered of samples: ``scores``, if they are one for each, by default their losses."""
    if scores is None:
        return losses
    _check_beside("scores", scores, losses)
    if not scores.is_floating_point():
        raise TypeError(f"scores have dtype {scores.dtype}; they must be floating point")
    return scores


def signals_read(
    names: Sequence[str], given: Mapping[str, Tensor], losses: Tensor, estimated: NormsFrom | None
) -> list[Tensor]:
    """The signals that a policy reads, in the order of their ``names``, out of those ``given``.

    Norms of gradients that are not given are ``estimated`` from the losses, unless that is None.
    """
    for name, values in given.items():
        if name not in SIGNALS:
            raise TypeError(f"there is no signal {name!r}; there are {', '.join(SIGNALS)}")
        _check_beside(name, values, losses)
    if estimated and NORMS in names and NORMS not in given:
        given = {**given, NORMS: norms_of_losses(losses, estimated)}
    for name in names:
        if name not in given:
            raise ValueError(
                f"the policy reads {name}, and none came with this batch; give {name}=... beside its "
                f"losses, such as {SIGNALS[name]}"
            )
    return [given[name].detach() for name in names]


def check_scored(scored: Tensor, losses: Tensor) -> None:
    """Raise an error for anything but one truth value for each loss."""
    if not isinstance(scored, Tensor) or scored.dtype != torch.bool:
        kind = scored.dtype if isinstance(scored, Tensor) else type(scored).__name__
        raise TypeError(
            f"scored is {kind}; give a bool tensor on the losses' device, true for the samples that "
            "have a score"
        )
    _check_whole("scored", scored)
    if scored.shape != losses.shape:
        raise ValueError(
            f"scored has shape {tuple(scored.shape)} and the losses {tuple(losses.shape)}; give one "
            "truth value for each sample"
        )
    if scored.device != losses.device:
        raise ValueError(
            f"scored is on {scored.device}, and the losses on {losses.device}; give "
            "scored.to(losses.device)"
        )


def _check_beside(name: str, values: object, losses: Tensor) -> None:
    """Refuse anything but one number for each loss, on its device."""
    if not isinstance(values, Tensor) or values.shape != losses.shape or values.device != losses.device:
        what = type(values).__name__
        if isinstance(values, Tensor):
            what = f"of shape {tuple(values.shape)} on {values.device}"
        raise ValueError(
            f"{name} are {what}, and the losses of shape {tuple(losses.shape)} on {losses.device}; give "
            "a tensor with one number for each sample, beside its loss"
        )
    _check_whole(name, values)


def _check_whole(name: str, values: Tensor) -> None:
    """Refuse with ``TypeError`` a DTensor, of which this rank may hold a part alone."""
    if hasattr(values, "full_tensor"):
        raise TypeError(
            f"{name} are a {type(values).__name__}, which the ranks hold together; give the numbers "
            f"themselves, on each rank those of its batch: {name}.full_tensor()"
        )


def all_below(indices: IndexArray, size: int) -> bool:
    """Whether all of ``indices`` lie in 0..size-1.

    Negative numbers are too large when read as unsigned ones: one test serves both bounds, for it is in
    every step.
    """
    return bool(np.maximum.reduce(indices.view(np.uint64), initial=0) < size)


def host_indices(indices: Indices) -> IndexArray:
    """Indices of any integer kind as int64 (B,), without waiting for a device."""
    if isinstance(indices, np.ndarray) and indices.dtype == np.int64 and indices.ndim == 1:
        return indices  # as they come with a batch
    if isinstance(indices, Tensor):
        if indices.device.type != "cpu":
            raise TypeError(
                f"the sample indices are on {indices.device}; reading them would wait for the "
                "device. Keep them on the host: move the batch, not the indices, to the device"
            )
        indices = indices.detach().numpy()
    array = np.asarray(indices)
    if array.shape == (0,):
        return np.empty(0, np.int64)  # of no dtype in particular, as an empty list
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"the sample indices have dtype {array.dtype}; only integers name samples exactly. "
            "The loader gives (indices, batch): pass `indices` as it came, after the losses"
        )
    if array.ndim != 1:
        raise ValueError(f"the sample indices have shape {array.shape}; it must be (B,)")
    return array.astype(np.int64, copy=False)
