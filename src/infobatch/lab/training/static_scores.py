"""Scores made before a run, by networks trained for a few epochs: forgetting events, EL2N, GraNd.

How long the networks are trained, and what that costs, is in :mod:`.scoring_costs`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from infobatch import DynamicPruner, NoPruning
from infobatch.lab.config import policy_spec
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.processes import agree, replicas, total
from infobatch.lab.random_streams import Stream
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.tasks.classifier import sample_gradients
from infobatch.lab.training.epoch_loop import make_loader, train_epochs
from infobatch.lab.training.optimization import Optimization
from infobatch.lab.training.pauses import Pauses
from infobatch.lab.training.scoring_costs import SCORINGS, has_static_scores
from infobatch.losses import classification_gradient_norms
from infobatch.scores.columns import IndexArray
from infobatch.seeding import epoch_generator


@dataclass(frozen=True)
class StaticScores:
    """The scores that a static policy goes by.

    Args:
        values: float32 (N,); None for other policies.
        seconds: The time that making them took.
    """

    values: Tensor | None = None
    seconds: float = 0.0


def static_scores(config: TrainConfig, data: Data, folder: RunFolder, pauses: Pauses) -> StaticScores:
    """Read the scores that a run's policy goes by from its folder, or make them and keep them there.

    Args:
        config: The run's options.
        data: What it trains on.
        folder: The run's folder.
        pauses: Decides between steps whether to stop.

    Returns:
        The scores.

    Raises:
        Interrupted: If the user asked to stop.
    """
    if not has_static_scores(config):
        return StaticScores()
    known = agree(folder.load_static_scores)
    if known is not None:
        return StaticScores(*known)
    began = time.perf_counter()
    scores = make_scores(config, data, pauses)
    seconds = time.perf_counter() - began
    if replicas().rank == 0:
        folder.save_static_scores(scores, seconds)
    return StaticScores(scores, seconds)


def make_scores(config: TrainConfig, data: Data, pauses: Pauses) -> Tensor:
    """Train the networks of a static policy, and average their scores.

    Args:
        config: The run's options.
        data: What it trains on.
        pauses: Decides between steps whether to stop.

    Returns:
        float32 (N,).
    """
    name = policy_spec.name_of(config.policy)
    scoring, score = SCORINGS[name], SCORES[name]
    mean = torch.zeros(len(data.train))
    for network in range(scoring.num_networks):
        seed = epoch_generator(config.seed, network, Stream.SCORING_NETWORKS).initial_seed()
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
        mean += score(*train_network(own, data, pauses)) / scoring.num_networks
    return mean


def train_network(config: TrainConfig, data: Data, pauses: Pauses) -> tuple[Classification, Tensor]:
    """Train a network on all data, and note what it predicts correctly.

    Args:
        config: The network's options.
        data: What it trains on.
        pauses: Decides between steps whether to stop.

    Returns:
        The task with its trained model, and int8 (S, N) for S epochs: 1 where a sample was predicted
        correctly when it was trained, 0 where it was not, -1 where it was not trained.
    """
    task = Classification(config, data)
    pruner = DynamicPruner(task.feed.dataset, config.epochs, policy=NoPruning(), seed=config.seed)
    loader = make_loader(config, task, pruner)
    optimization = Optimization(config, task.model, pruner)
    trained: list[IndexArray] = []
    correct: list[Tensor] = []
    history: list[Tensor] = []

    def step(indices: IndexArray, batch: object) -> None:
        outputs = task.train_outputs(task.inputs(batch, indices), ["correct"])
        optimization.step(pruner.update(outputs.losses, indices))
        trained.append(indices)
        correct.append(outputs.signals["correct"])

    def end(epoch: int) -> None:
        history.append(
            _correctness(pruner.num_samples, np.concatenate(trained), torch.cat(correct).cpu())
        )
        trained.clear()
        correct.clear()

    train_epochs(pruner, loader, begin=task.begin, step=step, pause=pauses.pause, end=end)
    return task, torch.stack(history)


def _correctness(num_samples: int, indices: IndexArray, correct: Tensor) -> Tensor:
    """An epoch's row of :func:`train_network`, int8 (N,), over all ranks."""
    is_sample = indices >= 0  # the others are repeats that fill the last batches of several ranks
    marks = torch.zeros(num_samples, dtype=torch.int8)
    marks[torch.from_numpy(indices[is_sample])] = 1 + correct[is_sample].to(torch.int8)
    return total(marks) - 1


# -- The scores ------------------------------------------------------------------------------------


def forgetting_events(history: Tensor) -> Tensor:
    """Count how often each sample was predicted correctly, and wrongly the next time it was trained.

    Args:
        history: int8 (S, N), as :func:`train_network` gives it.

    Returns:
        float32 (N,); infinity for a sample that was never predicted correctly.

    Source: Toneva et al., An Empirical Study of Example Forgetting, ICLR 2019, algorithm 1.
    """
    events = torch.zeros(history.shape[1])
    was_correct = torch.zeros(history.shape[1], dtype=torch.bool)
    for now in history:
        events += was_correct & (now == 0)
        was_correct = torch.where(now < 0, was_correct, now == 1)
    return events.masked_fill(~(history == 1).any(0), math.inf)


def error_norms(task: Classification) -> Tensor:
    """Compute EL2N, the norm of each sample's errors p - y.

    Args:
        task: A trained network.

    Returns:
        float32 (N,).

    Source: Paul et al., Deep Learning on a Data Diet, NeurIPS 2021, section 2.
    """

    def score(images: Tensor, labels: Tensor) -> Tensor:
        return classification_gradient_norms(task.logits(images), labels)

    return _score_all(task, score, 1000)


def gradient_norms(task: Classification) -> Tensor:
    """Compute GraNd, the norm of the gradient of each sample's loss in all parameters.

    Args:
        task: A trained network.

    Returns:
        float32 (N,).

    Source: Paul et al., Deep Learning on a Data Diet, NeurIPS 2021, section 2.
    """

    def score(images: Tensor, labels: Tensor) -> Tensor:
        gradients = sample_gradients(task.model, (images,), labels)
        norms = [torch.linalg.vector_norm(values.flatten(1), dim=1) for values in gradients]
        whole: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        return whole

    return _score_all(task, score, task.gradient_chunk)


def _score_all(task: Classification, score: Callable[[Tensor, Tensor], Tensor], size: int) -> Tensor:
    """The scores of all training images, in batches of ``size``, shared out among the ranks."""
    scores = torch.zeros(len(task.feed.dataset), device=task.device)
    task.model.eval()
    for indices, images, labels in task.training_images(size):
        scores[indices.to(task.device)] = score(images, labels)
    return total(scores)


SCORES: dict[str, Callable[[Classification, Tensor], Tensor]] = {
    "forgetting": lambda task, history: forgetting_events(history),
    "el2n": lambda task, history: error_norms(task),
    "grand": lambda task, history: gradient_norms(task),
}
"""By policy: what makes scores (N,) of a trained network and what it predicted correctly."""
