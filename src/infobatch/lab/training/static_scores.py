"""Scores made before a run, by networks trained for a few epochs: forgetting events, EL2N, GraNd.

The share of the run that they are trained for is ours, since it is taken off the run's own: the papers'
scores come of whole trainings or of ten networks, and cost as much as what they save.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from infobatch import DynamicPruner, NoPruning
from infobatch.lab.config import policy_spec
from infobatch.lab.config.train import PASS, TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.interrupts import ignore_interrupts
from infobatch.lab.processes import agree, replicas, total
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import FORWARD_COST
from infobatch.lab.tasks.classification import Classification, sample_gradients
from infobatch.lab.training.optimization import Optimization
from infobatch.losses import classification_gradient_norms, classification_losses
from infobatch.policies.base import reads_losses
from infobatch.scores.columns import IndexArray
from infobatch.seeding import epoch_generator

SCORING_STREAM = 1 << 17
"""Of the seeds of the networks that score."""
STEPS_BETWEEN_PAUSES = 20

Score = Callable[[Classification, Tensor], Tensor]
"""A trained network, and what it had right (see :func:`forgetting_events`), to scores, float32 (N,)."""


@dataclass(frozen=True)
class Scoring:
    """How samples are scored: the mean over ``num_networks``, each trained on all data.

    ``share``: of the run's epochs for which each is trained, at least ``least`` epochs. ``look``: what
    its look at a sample costs after that, in samples trained.
    """

    score: Score
    num_networks: int
    share: float
    least: int
    look: float

    def num_epochs(self, length: float) -> int:
        """The epochs each network is trained, for a run of ``length`` epochs."""
        return max(self.least, round(self.share * length))


# -- The scores ------------------------------------------------------------------------------------


def forgetting_events(history: Tensor) -> Tensor:
    """How often each sample was right, and then wrong, float32 (N,); infinity if it never was right.

    ``history``: int8 (S, N), of each epoch: 1 where the sample was right when it was trained, 0 where
    wrong, -1 where it was not trained. Toneva et al., ICLR 2019, algorithm 1.
    """
    events = torch.zeros(history.shape[1])
    was_right = torch.zeros(history.shape[1], dtype=torch.bool)
    for now in history:
        events += was_right & (now == 0)
        was_right = torch.where(now < 0, was_right, now == 1)
    return events.masked_fill(~(history == 1).any(0), math.inf)


def error_norms(task: Classification, history: Tensor) -> Tensor:
    """The norm of the errors p - y of each sample, (N,): EL2N (Paul et al., NeurIPS 2021, section 2)."""

    def score(images: Tensor, labels: Tensor) -> Tensor:
        return classification_gradient_norms(task.logits(images), labels)

    return _of_all(task, score, 1000)


def gradient_norms(task: Classification, history: Tensor) -> Tensor:
    """The norm of the gradient of each sample's loss in all parameters, (N,): GraNd (Paul et al.)."""

    def score(images: Tensor, labels: Tensor) -> Tensor:
        gradients = sample_gradients(task.model, images, labels)
        norms = [torch.linalg.vector_norm(values.flatten(1), dim=1) for values in gradients]
        whole: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        return whole

    return _of_all(task, score, task.gradient_chunk)


def _of_all(task: Classification, score: Callable[[Tensor, Tensor], Tensor], size: int) -> Tensor:
    """The scores of all training images, in batches of ``size``, shared out among the processes."""
    scores = torch.zeros(len(task.feed.dataset), device=task.device)
    task.model.eval()
    for indices, images, labels in task.training_images(size):
        scores[indices.to(task.device)] = score(images, labels)
    return total(scores)


SCORINGS = {
    "forgetting": Scoring(
        lambda task, history: forgetting_events(history), 1, share=0.2, least=2, look=0
    ),
    "el2n": Scoring(error_norms, 2, share=0.05, least=1, look=FORWARD_COST),
    "grand": Scoring(gradient_norms, 2, share=0.05, least=1, look=1),
}
"""By the policy that keeps the samples with the highest scores."""


# -- What they cost --------------------------------------------------------------------------------


def has_static_scores(config: TrainConfig) -> bool:
    return policy_spec.name_of(config.policy) in SCORINGS


def scoring_epochs(config: TrainConfig) -> float:
    """What a run's scores cost beforehand, in epochs of full data."""
    if not has_static_scores(config):
        return 0
    scoring = SCORINGS[policy_spec.name_of(config.policy)]
    return scoring.num_networks * (scoring.num_epochs(config.epochs) + scoring.look)


def looking_epochs(config: TrainConfig) -> float:
    """What the look at all samples before the first epoch costs, in epochs of full data."""
    return FORWARD_COST if config.prior_scores == PASS else 0.0


def reading_scores(config: TrainConfig) -> TrainConfig:
    """Without scores that its policy would not read."""
    policy = policy_spec.make_policy(config, torch.zeros(1, dtype=torch.int64), torch.zeros(1))
    return config if reads_losses(policy) else replace(config, prior_scores="")


def unchanging(config: TrainConfig) -> TrainConfig:
    """With static scores: the same samples from the first epoch to the last."""
    if not has_static_scores(config):
        return config
    return replace(config, warmup_epochs=0, delta=1.0, ramp=0.0)


def at_equal_cost(config: TrainConfig) -> TrainConfig:
    """A target that leaves out as many samples more as scores made beforehand cost.

    ``ValueError`` if that leaves nothing to train.
    """
    share = (scoring_epochs(config) + looking_epochs(config)) / config.epochs
    if not share:
        return config
    assert isinstance(config.target, float)
    if config.target + share >= 1:
        raise ValueError(
            f"its scores cost {100 * share:.3g} % of the run, and no more than "
            f"{100 * (1 - config.target):.3g} % may be spent in all; save less, or make the run longer"
        )
    return replace(config, target=config.target + share)


# -- How they are made -----------------------------------------------------------------------------


@dataclass(frozen=True)
class StaticScores:
    """``values``: float32 (N,), None for a policy that asks for none; ``seconds``: what they took."""

    values: Tensor | None = None
    seconds: float = 0.0


def static_scores(
    config: TrainConfig, data: Data, folder: RunFolder, pause: Callable[[], None]
) -> StaticScores:
    """What the run's policy asks for: read from the run's folder, or made and kept there.

    ``pause``: called every few steps, on all processes.
    """
    if not has_static_scores(config):
        return StaticScores()
    known = agree(folder.load_static_scores)
    if known is not None:
        return StaticScores(*known)
    began = time.perf_counter()
    scores = make_scores(config, data, pause)
    seconds = time.perf_counter() - began
    if replicas().rank == 0:
        folder.save_static_scores(scores, seconds)
    return StaticScores(scores, seconds)


def make_scores(config: TrainConfig, data: Data, pause: Callable[[], None]) -> Tensor:
    """The mean of the scores that each network gives, float32 (N,)."""
    scoring = SCORINGS[policy_spec.name_of(config.policy)]
    mean = torch.zeros(len(data.train))
    for network in range(scoring.num_networks):
        seed = epoch_generator(config.seed, network, SCORING_STREAM).initial_seed()
        own = replace(
            config,
            policy="none",
            target=None,
            epochs=scoring.num_epochs(config.epochs),
            seed=seed,
            mixup=0.0,
            cutmix=0.0,
            ema_decay=0.0,
        )
        mean += scoring.score(*_trained(own, data, pause)) / scoring.num_networks
    return mean


def _trained(
    config: TrainConfig, data: Data, pause: Callable[[], None]
) -> tuple[Classification, Tensor]:
    """A network trained on all data, and what it had right: see :func:`forgetting_events`."""
    task = Classification(config, data)
    pruner = DynamicPruner(task.feed.dataset, config.epochs, policy=NoPruning(), seed=config.seed)
    loader = pruner.loader(
        config.batch_size // pruner.replicas.num_replicas,
        drop_last=config.drop_last,
        collate_fn=task.feed.collate,
        num_workers=config.workers,
        pin_memory=task.device.type == "cuda",
        worker_init_fn=ignore_interrupts,
    )
    optimization = Optimization(config, task.model, pruner)
    history = []
    for epoch in pruner.epochs():
        task.begin(epoch)
        trained, right = [], []
        for step, (samples, batch) in enumerate(loader):
            if step % STEPS_BETWEEN_PAUSES == 0:
                pause()
            logits, labels = task.training_logits(batch)
            losses = classification_losses(logits, labels, label_smoothing=config.label_smoothing)
            optimization.step(pruner.update(losses, samples))
            trained.append(samples)
            right.append(logits.detach().argmax(1) == labels)
        history.append(_marks(pruner.num_samples, trained, right))
    return task, torch.stack(history)


def _marks(num_samples: int, trained: Sequence[IndexArray], right: Sequence[Tensor]) -> Tensor:
    """Of an epoch on all processes, int8 (N,): 1 where right, 0 where wrong, -1 where not trained."""
    samples = np.concatenate(trained)
    real = samples >= 0  # others are repeats that fill the last batches of several processes
    marks = torch.zeros(num_samples, dtype=torch.int8)
    marks[torch.from_numpy(samples[real])] = 1 + torch.cat(list(right)).cpu()[real].to(torch.int8)
    return total(marks) - 1
