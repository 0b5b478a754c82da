"""All ranks of a run with sharded scores, as threads of one process."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from helpers.training import Numbers
from infobatch import DynamicPruner, InfoBatch, NoPruning, RandomPruning, Sharded
from infobatch.policies import PercentileTiers


class Together:
    """Ranks as threads of one process, whose ``reduce`` waits for all of them."""

    def __init__(self, num_replicas):
        self.num_replicas = num_replicas
        self._barrier = threading.Barrier(num_replicas, timeout=20)
        self._tensors = [None] * num_replicas
        self._rank = threading.local()
        self.num_reductions = 0

    def reduce(self, values):
        self._tensors[self._rank.number] = values
        self._barrier.wait()
        total = torch.stack(self._tensors).sum(0)
        self.num_reductions += self._rank.number == 0
        self._barrier.wait()
        return total

    def run(self, work, *arguments):
        """``work(rank, ...)`` on each rank; what they return, by rank."""

        def on_rank(rank):
            self._rank.number = rank
            try:
                return work(rank, *(values[rank] for values in arguments))
            except BaseException:
                self._barrier.abort()
                raise

        with ThreadPoolExecutor(self.num_replicas) as pool:
            made = [pool.submit(on_rank, rank) for rank in range(self.num_replicas)]
        errors = [error for error in (one.exception() for one in made) if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [one.result() for one in made]


class Ranks:
    """All ranks of a sharded run."""

    def __init__(self, num_replicas, size=600, batch_size=12, num_shards=12, drop_last=False, **options):
        self.together = Together(num_replicas)
        self.num_replicas = num_replicas
        self.size = size
        self.pruners, self.loaders = [], []
        for rank in range(num_replicas):
            pruner = DynamicPruner(
                Numbers(size),
                options.get("num_epochs", 4),
                rank=rank,
                num_replicas=num_replicas,
                layout=Sharded(num_shards, self.together.reduce),
                **{"delta": 1.0, **{k: v for k, v in options.items() if k != "num_epochs"}},
            )
            self.pruners.append(pruner)
            self.loaders.append(pruner.loader(batch_size // num_replicas, drop_last=drop_last))

    def each(self, work, *arguments):
        return self.together.run(lambda rank, *more: work(self.pruners[rank], *more), *arguments)

    def score(self, losses):
        """Record these losses of all samples, as if in epoch 0, and begin epoch 1."""

        def work(pruner):
            own = pruner.current.indices.numpy()
            pruner.record(losses[own], own)
            pruner.set_epoch(1)

        self.each(work)
        return self

    @property
    def weights(self):
        """Of all samples, gathered from the ranks; 0 where left out."""
        weights = torch.zeros(self.size)
        for pruner in self.pruners:
            own = pruner.current.indices
            weights[own] = pruner.weights(own)
        return weights

    def train(self, losses, num_steps=None):
        """Each step's epoch, and of each rank its draws and progress."""
        steps = []
        while True:
            pruners = self.pruners
            epochs = set(self.each(lambda pruner: next(pruner.epochs(), None)))
            (epoch,) = epochs
            if epoch is None:
                return steps
            for step in zip(*self.loaders, strict=True):
                made = []
                for pruner, (indices, batch) in zip(pruners, step, strict=True):
                    pruner.update(losses[batch.long()] / (epoch + 1), indices)
                    made.append((indices.tolist(), pruner.progress))
                steps.append((epoch, made))
                if len(steps) == num_steps:
                    return steps

    def states(self):
        return copy.deepcopy(self.each(lambda pruner: pruner.state_dict()))

    def load(self, states):
        self.each(lambda pruner: pruner.load_state_dict(states))
        return self


POLICIES = {
    "threshold": {"policy": InfoBatch()},
    "target": {"target": 0.2},
    "tiers": {"policy": PercentileTiers()},
    "tiers to a target": {"policy": PercentileTiers(), "target": 0.3},
    "random": {"policy": RandomPruning(0.4)},
    "random to a target": {"policy": RandomPruning(), "target": 0.3},
    "none": {"policy": NoPruning()},
}


every_policy = pytest.mark.parametrize("options", POLICIES.values(), ids=POLICIES)
