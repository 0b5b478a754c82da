"""Policies made, asked and drawn from."""

from inspect import signature

import numpy as np
import pytest
import torch

from infobatch import InfoBatch, NoiseBudget
from infobatch.policies import POLICIES as NAMED
from infobatch.policies import WRAPPERS, BiasedPolicy, Protected, Request, WholeGroups
from infobatch.scores import ScoreTable
from infobatch.selection import select

POLICIES = NAMED | WRAPPERS
UNBIASED = {name: kind for name, kind in POLICIES.items() if not issubclass(kind, BiasedPolicy)}
BIASED = {name: kind for name, kind in POLICIES.items() if name not in UNBIASED}


def made(kind, num_samples, target=None):
    """A policy at its defaults, given labels or scores where it asks for them, and fit for a target."""
    indices = np.arange(num_samples)
    known = {"labels": indices % 3, "scores": np.sin(indices)}
    if kind is Protected:
        known |= {"policy": InfoBatch(0.8), "kept": indices % 5 == 0}
    if kind is WholeGroups:
        known |= {"labels": indices}  # groups of one, so that what holds of samples holds of them
    if kind is NoiseBudget and target is not None:
        known |= {"max_noise": None}  # the target is in place of a budget
    asked = signature(kind).parameters
    return kind(**{name: values for name, values in known.items() if name in asked})


def generator(seed):
    return torch.Generator().manual_seed(seed)


def request(num_pruned=None, seed=0, epoch=1, prunable=range(1, 9), **options):
    return Request(num_pruned, generator(seed), epoch, prunable, **options)


def table_of(losses, policy):
    """The score table that ``policy`` needs, the losses recorded in batches of ten at about one time."""
    losses = np.asarray(losses, dtype=np.float32)
    table = ScoreTable(len(losses), list(dict.fromkeys(["last_loss", "visits", *policy.columns])))
    for start in range(0, len(losses), 10):
        batch = np.arange(start, min(start + 10, len(losses)))
        table.record(batch, *[losses[batch]] * (1 + len(table.signals)))
    if "trained_at" in table.columns:
        table["trained_at"].fill_(1)
    return table


def table_from(losses, policy, **columns):
    """The score table that ``policy`` needs, begun with the losses; other columns as given."""
    names = dict.fromkeys(["last_loss", "visits", *policy.columns])
    table = ScoreTable.from_losses(torch.as_tensor(losses), list(names))
    for name, values in columns.items():
        table[name].copy_(torch.as_tensor(values))
    return table


def keep_probabilities(policy, losses, num_pruned=None, seed=0):
    return policy.keep_probabilities(table_of(losses, policy), request(num_pruned, seed))


def selection_of(policy, losses, num_pruned=None, seed=0, epoch=1, **options):
    asked = request(num_pruned, seed, epoch, **options)
    return select(policy, table_of(losses, policy), asked)


def chosen(policy, table, *arguments, **options):
    """The indices that the policy keeps."""
    return select(policy, table, request(*arguments, **options)).indices.tolist()


def sizes_kept(selection, labels):
    """How many samples of each class are kept."""
    return np.bincount(np.asarray(labels)[selection.indices.numpy()]).tolist()


def stratum_counts(keep):
    sizes = torch.bincount(keep.strata.long(), minlength=len(keep.probabilities)).tolist()
    return [
        (n, min(max(round(n * p), 1), n) if n else 0)
        for n, p in zip(sizes, keep.probabilities.tolist(), strict=True)
    ]


def check_strata(keep, selection):
    for stratum, (n, k) in enumerate(stratum_counts(keep)):
        weights = selection.weights[keep.strata == stratum]
        kept = weights[weights > 0]
        assert len(kept) == k
        assert (kept == np.float32(n / k if k else 0)).all()
        assert float(kept.double().sum()) == pytest.approx(n, rel=1e-6)
