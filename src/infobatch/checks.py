"""What is refused before training, each with its cause, the value and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.loss import NORMALIZERS
from infobatch.policies import Policy
from infobatch.scores import COLUMNS, SIGNALS, IndexArray

STATE_VERSION = 1
"""Of what ``DynamicPruner.state_dict`` returns; a change that older code cannot read raises it."""

Samples = IndexArray | Tensor | Sequence[int]


def check_run(
    num_samples: int,
    num_epochs: float | None,
    max_steps: int | None,
    policy: Policy,
    delta: float,
    warmup_epochs: int,
    target: float | Sequence[int] | None,
    ramp: float,
) -> None:
    if num_samples == 0:
        raise ValueError("the dataset is empty; there is nothing to select from")
    if (num_epochs is None) == (max_steps is None):
        raise ValueError(
            f"num_epochs is {num_epochs} and max_steps is {max_steps}; give the run's length as one "
            "of them"
        )
    length = num_epochs if max_steps is None else max_steps
    if isinstance(length, bool) or not isinstance(length, Real) or not 0 < length < np.inf:
        name = "num_epochs" if max_steps is None else "max_steps"
        raise ValueError(f"{name} is {length!r}; it must be a number above 0")
    if max_steps is not None and not isinstance(max_steps, Integral):
        raise ValueError(f"max_steps is {max_steps}; it must be a whole number of batches")
    if not isinstance(policy, Policy):
        raise TypeError(
            f"policy is {policy!r}; give an object such as InfoBatch(prune_ratio=0.5), not a "
            f"{type(policy).__name__}"
        )
    if policy.num_samples not in (None, num_samples):
        raise ValueError(
            f"{policy!r} was given the {policy.given} of {policy.num_samples:,} samples, but the "
            f"dataset has {num_samples:,}; give one for each, in the dataset's order"
        )
    check_schedule(delta, warmup_epochs, target, ramp)


def check_schedule(
    delta: float, warmup_epochs: int, target: float | Sequence[int] | None, ramp: float
) -> None:
    if not isinstance(delta, Real):
        raise TypeError(f"delta is {delta!r}; it must be a number, between 0 and 1")
    if not 0 <= delta <= 1:
        raise ValueError(
            f"delta is {delta}; it is the share of the run after which all data is used again, "
            "between 0 (never prune) and 1 (never stop)"
        )
    if not isinstance(warmup_epochs, Integral) or warmup_epochs < 0:
        raise ValueError(f"warmup_epochs is {warmup_epochs}; it must be a whole number, at least 0")
    if isinstance(target, Real):
        if not 0 <= target < 1:
            raise ValueError(
                f"target is {target}; it is the share of the run's samples to leave out, at least 0 "
                "and less than 1"
            )
    elif target is not None and np.asarray(target).dtype.kind not in "iu":
        raise TypeError(
            f"target is {target!r}; give the share of the run's samples to leave out, or the number "
            "to leave out of each epoch"
        )
    if not isinstance(ramp, Real) or not -1 <= ramp <= 1:
        raise ValueError(
            f"ramp is {ramp!r}; it is how the samples left out are spread over the epochs, from -1 "
            "(most in the first) by 0 (evenly) to 1 (most in the last)"
        )
    if ramp and not isinstance(target, Real):
        raise ValueError(
            f"ramp is {ramp:g}, but the target is {target!r}: only a share of the run's samples can be "
            "spread over the epochs; give target= such a share, or leave ramp out"
        )


def check_choices(seed: int, normalizer: str) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
    if normalizer not in NORMALIZERS:
        raise ValueError(f"normalizer is {normalizer!r}; choose {_choices(NORMALIZERS)}")


def check_lr_scaling(scaling: str, choices: Iterable[str]) -> None:
    if scaling not in choices:
        raise ValueError(f"scaling is {scaling!r}; choose {_choices(choices)}")


def _choices(names: Iterable[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}"


def check_own_order(normalizer: str, num_replicas: int, layout: str) -> None:
    if layout == "sharded":
        raise ValueError(
            "with layout=Sharded() each rank trains the samples whose scores it holds, and a sampler of "
            "your own may give it others; leave the order to the pruner, or drop layout="
        )
    if normalizer == "weights" and num_replicas > 1:
        raise ValueError(
            "normalizer='weights' divides by the sum of weights on all replicas, and which samples "
            "the others train is not known with a sampler of your own; use normalizer='batch'"
        )


def check_stream(normalizer: str) -> None:
    if normalizer == "mean":
        raise ValueError(
            "normalizer='mean' divides by the mean weight of the epoch under way, and samples of a "
            "stream may be of the one before; use 'batch' or 'weights'"
        )


def check_losses(losses: Tensor, num_indices: int, scored: Tensor | None) -> None:
    if not isinstance(losses, Tensor):
        raise TypeError(
            f"losses are a {type(losses).__name__}; give the tensor that the loss function made, shape "
            "(B,), for gradients flow through it"
        )
    if losses.ndim != 1:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)}; pruning needs one loss for each sample, shape "
            "(B,): compute them with reduction='none' (averaged over pixels or tokens within each "
            "sample, not over the batch)"
        )
    if len(losses) != num_indices:
        raise ValueError(
            f"{len(losses)} losses came with {num_indices} indices; pass the indices of this very batch"
        )
    if num_indices == 0:
        raise ValueError(
            "the batch is empty, and a mean over no losses is NaN; pass over batches without samples"
        )
    if not losses.is_floating_point():
        raise TypeError(f"losses have dtype {losses.dtype}; they must be floating point")
    if scored is not None:
        check_scored(scored, losses)


def check_scores(scores: Tensor, losses: Tensor) -> None:
    """``scores``: what is remembered of the samples that have these ``losses``."""
    if scores is losses:
        return
    if not isinstance(scores, Tensor) or scores.shape != losses.shape or scores.device != losses.device:
        what = type(scores).__name__
        if isinstance(scores, Tensor):
            what = f"of shape {tuple(scores.shape)} on {scores.device}"
        raise ValueError(
            f"scores are {what}, and the losses of shape {tuple(losses.shape)} on {losses.device}; give "
            "a tensor with one number for each sample, beside its loss"
        )
    if not scores.is_floating_point():
        raise TypeError(f"scores have dtype {scores.dtype}; they must be floating point")


def signals_read(names: Sequence[str], given: Mapping[str, Tensor], losses: Tensor) -> list[Tensor]:
    """Of the signals ``given`` with a batch those that the policy reads, in the order of ``names``."""
    for name, values in given.items():
        if name not in SIGNALS:
            raise TypeError(f"there is no signal {name!r}; there are {', '.join(SIGNALS)}")
        if not isinstance(values, Tensor) or values.shape != losses.shape:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"{name} have shape {shape} and the losses {tuple(losses.shape)}; give a tensor with "
                "one number for each sample"
            )
    for name in names:
        if name not in given:
            raise ValueError(
                f"the policy reads {name}, and none came with this batch; give {name}=... beside its "
                f"losses, for classification {SIGNALS[name]}"
            )
    return [given[name].detach() for name in names]


def check_scored(scored: Tensor, losses: Tensor) -> None:
    if not isinstance(scored, Tensor) or scored.dtype != torch.bool:
        kind = scored.dtype if isinstance(scored, Tensor) else type(scored).__name__
        raise TypeError(
            f"scored is {kind}; give a bool tensor on the losses' device, true for the samples that "
            "have a score"
        )
    if scored.shape != losses.shape:
        raise ValueError(
            f"scored has shape {tuple(scored.shape)} and the losses {tuple(losses.shape)}; give one "
            "truth value for each sample"
        )


def host_indices(samples: Samples) -> IndexArray:
    """Sample indices of any integer kind as int64 (B,), without waiting for a device."""
    if type(samples) is np.ndarray and samples.dtype == np.int64 and samples.ndim == 1:
        return samples  # as they come with a batch
    if isinstance(samples, Tensor):
        if samples.device.type != "cpu":
            raise TypeError(
                f"the sample indices are on {samples.device}; reading them would wait for the "
                "device. Keep them on the host: move the batch, not the indices, to the device"
            )
        samples = samples.numpy()
    indices = np.asarray(samples)
    if indices.shape == (0,):
        return np.empty(0, np.int64)  # of no dtype in particular, as an empty list
    if indices.dtype.kind not in "iu":
        raise TypeError(
            f"the sample indices have dtype {indices.dtype}; only integers name samples exactly. "
            "The loader gives (samples, batch): pass `samples` as it came"
        )
    if indices.ndim != 1:
        raise ValueError(f"the sample indices have shape {indices.shape}; it must be (B,)")
    return indices.astype(np.int64, copy=False)


def foreign_sample(index: int, epoch: int, num_samples: int) -> ValueError:
    if not 0 <= index < num_samples:
        return ValueError(
            f"sample {index} does not exist: the dataset has {num_samples:,}, numbered from 0"
        )
    return ValueError(
        f"sample {index} was not selected in epoch {epoch}; pass the indices that came with the "
        "batch, and advance the epoch only when all of its batches are through"
    )


def check_left_out(indices: IndexArray, trained: np.ndarray, epoch: int) -> None:
    """Refuse to observe samples that the epoch trains on: those that are ``trained``, bool (B,)."""
    if trained.any():
        raise ValueError(
            f"sample {indices[trained][0]} is trained in epoch {epoch}, where its loss is recorded; "
            "observe only what is left out: pruner.left_out"
        )


def check_looks_at_nothing(policy: Policy | None, where: str) -> None:
    """Refuse policies that want the losses of what is left out, where that is never fetched."""
    if policy is not None and policy.refreshes:
        raise ValueError(
            f"{policy!r} goes by the losses of all samples, and {where} does not fetch what is left "
            "out; take a policy that needs no more than what is trained, or a loop of your own"
        )


def check_observed(num_unobserved: int, policy: Policy, epoch: int) -> None:
    """Refuse to go on from losses that a policy wants known and nobody observed."""
    if policy.refreshes and num_unobserved:
        names = dict.fromkeys(COLUMNS[column].signal for column in policy.columns)
        signals = "".join(f", {name}=..." for name in names if name in SIGNALS)
        raise RuntimeError(
            f"{policy!r} goes by the losses of all samples, and those of {num_unobserved:,} left out of "
            f"epoch {epoch} were not observed. At the end of each epoch, with the model in evaluation "
            "mode and under torch.no_grad(), give it them:\n"
            "    left_out = Subset(IndexedDataset(dataset), pruner.left_out)\n"
            "    for samples, batch in DataLoader(left_out, batch_size, collate_fn=IndexedCollate()):\n"
            f"        pruner.observe(losses_of(batch), samples{signals})"
        )


def check_state(
    state: dict[str, Any], num_samples: int, seed: int, num_epochs: int, layout: str
) -> dict[str, Any]:
    """The state, if it is one that the run can go on from."""
    version = state.get("version")
    if version != STATE_VERSION:
        raise ValueError(
            f"the checkpoint has version {version}, this infobatch reads version {STATE_VERSION}; "
            "load it with the release that wrote it"
        )
    made_with = state.get("layout", "replicated")
    if made_with != layout:
        raise ValueError(
            f"the checkpoint holds {made_with} scores, this pruner's are {layout}; make the pruner with "
            f"layout={'Sharded()' if made_with == 'sharded' else 'None'}"
        )
    if state["num_samples"] != num_samples:
        raise ValueError(
            f"the checkpoint is of a dataset of {state['num_samples']:,} samples, this one has "
            f"{num_samples:,}; scores belong to indices, so resume on the data it was made with"
        )
    if state["seed"] != seed:
        raise ValueError(
            f"the checkpoint was made with seed {state['seed']}, this pruner has seed {seed}, so "
            "its order would differ; make the pruner with the checkpoint's seed"
        )
    if state["epoch"] >= num_epochs:
        raise ValueError(
            f"the checkpoint was taken in epoch {state['epoch']}, but this run has only "
            f"{num_epochs} epochs; give the num_epochs it was made with, or more"
        )
    return state
