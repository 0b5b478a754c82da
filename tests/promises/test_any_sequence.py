"""Whatever is called, in whatever order: a resumed run is the uninterrupted one, promises are kept."""

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from helpers import Numbers, random_losses
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Replicated, Sharded, Spaced
from infobatch.policies import PercentileTiers
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection import inclusion_probabilities

SEED, EPOCHS = 3, 4

OPTIONS = {
    "threshold": {"policy": InfoBatch()},
    "target": {"target": 0.15},
    "target, smaller batches": {"target": 0.15, "shrink": "batches"},
    "tiers": {"policy": PercentileTiers()},
    "random, no warm-up": {"policy": RandomPruning(0.4), "warmup_epochs": 0},
    "spaced": {"policy": Spaced(RandomPruning(0.4)), "delta": 1},
    "cut short": {"num_epochs": 3.4, "policy": InfoBatch(0.9), "delta": 1},
    "smaller batches": {"policy": InfoBatch(0.7), "shrink": "batches"},
    "sharded": {"layout": Sharded(2)},
}


LOSSES = torch.stack([random_losses(40, epoch) for epoch in range(EPOCHS)])
"""Of each epoch and sample."""


class Ranks:
    """All ranks of a run, trained in step; what they record meets as over a process group."""

    def __init__(self, size, num_replicas, batch_size, drop_last, options, state=None):
        self.arguments = (size, num_replicas, batch_size, drop_last, options)
        self.pruners = []
        options = {"num_epochs": EPOCHS, **options}
        if num_replicas > 1:
            options["layout"] = Replicated(self.merge)
        for rank in range(num_replicas):
            place = {"rank": rank, "num_replicas": num_replicas, "seed": SEED}
            self.pruners.append(DynamicPruner(Numbers(size), **place, **options))
        self.loaders = [pruner.loader(batch_size, drop_last=drop_last) for pruner in self.pruners]
        if state is not None:
            for pruner in self.pruners:
                pruner.load_state_dict(copy.deepcopy(state))

    def merge(self, scores, recorded):
        union = recorded.copy()
        for pruner in self.pruners:
            there = pruner.current.recorded & ~recorded
            for name in scores.columns:
                scores[name][there] = pruner.scores[name][there]
            union |= there
        return union

    @property
    def first(self):
        return self.pruners[0]

    def state(self):
        """What a file gives back of the first rank's state; saving is a collective."""
        self.merged()
        file = io.BytesIO()
        torch.save(self.first.state_dict(), file)
        return torch.load(io.BytesIO(file.getvalue()), weights_only=True)

    def resumed(self, batch_size):
        size, num_replicas, _, *options = self.arguments
        return Ranks(size, num_replicas, batch_size, *options, state=self.state())

    def steps(self, num_steps):
        """Train so many batches of the epoch: what each rank is given, with its weights."""
        given, epoch = [], self.first.epoch
        iterators = [iter(loader) for loader in self.loaders]
        for _ in range(num_steps):
            batches = [next(iterator, None) for iterator in iterators]
            assert len({batch is None for batch in batches}) == 1, "ranks have equally many batches"
            if batches[0] is None:
                break
            step = []
            for pruner, (indices, samples) in zip(self.pruners, batches, strict=True):
                real = indices >= 0
                assert (np.where(real, indices, ~indices) == samples.numpy()).all()
                weights = pruner.weights(indices)
                pruner.update(LOSSES[epoch][samples.long()], indices)
                step.append((indices.tolist(), weights.tolist()))
            given.append(step)
        return given

    def merged(self):
        """The scores, once all ranks know what each recorded."""
        for pruner in self.pruners:
            pruner.state_dict()
        return self.first.scores

    def peek(self, num_batches):
        for loader in self.loaders:
            for _, _ in zip(range(num_batches), loader, strict=False):
                pass

    def observe(self, share):
        for pruner in self.pruners:
            indices = pruner.left_out[: round(share * len(pruner.left_out))]
            if len(indices):
                pruner.observe(LOSSES[pruner.epoch][indices], indices)

    def advance(self):
        self.merged()  # for here the ranks do not advance at once
        for pruner in self.pruners:
            pruner.set_epoch(pruner.epoch + 1)

    @property
    def facts(self):
        """All that a resumed run must have in common with the uninterrupted one."""
        scores = self.merged()
        columns = {name: scores[name].nan_to_num(-1).tolist() for name in scores.columns}
        selection = [pruner.weights(pruner.current.indices).tolist() for pruner in self.pruners]
        return columns, selection, self.first.progress, self.first.history


class AnySequence(RuleBasedStateMachine):
    """A run, a model of what it has trained, and the events that it consists of."""

    name, num_replicas = "threshold", 1

    @initialize(
        size=st.integers(24, 40),
        batch_size=st.integers(2, 5),
        drop_last=st.booleans(),
        num_epochs=st.integers(0, 2),
    )
    def begin(self, size, batch_size, drop_last, num_epochs):
        """A run that has trained some epochs."""
        options = OPTIONS[self.name]
        batch_size += 2 * ("shrink" in options)
        self.arguments = (size, self.num_replicas, batch_size, drop_last, options)
        self.run, self.twin = Ranks(*self.arguments), None
        self.events = []
        self.save()
        self.begin_model()
        self.after_draw()
        for _ in range(num_epochs):
            self.train_to_the_next_epoch()
        self.save()

    def begin_model(self):
        size = self.arguments[0]
        self.visits, self.last_loss = np.zeros(size, int), np.full(size, -1, np.float32)
        self.trained, self.progress = [], -1.0

    def do(self, name, *arguments):
        """An event of the run, and of its uninterrupted twin, where it has one: both do the same."""
        done = getattr(self.run, name)(*arguments)
        if self.twin is not None:
            assert getattr(self.twin, name)(*arguments) == done
            assert self.twin.facts == self.run.facts
        self.events.append((name, arguments))
        return done

    @property
    def pruner(self):
        return self.run.first

    # -- What may happen ---------------------------------------------------------------------------

    @rule(num_steps=st.integers(1, 20))
    def train(self, num_steps):
        epoch = self.pruner.epoch
        if self.pruner.current.num_trained == 0:
            return
        if self.pruner.current.finished:
            with pytest.raises(RuntimeError, match="epoch"):
                self.run.steps(1)
            return
        for step in self.do("steps", num_steps):
            for indices, weights in step:
                for index, weight in zip(indices, weights, strict=True):
                    assert (weight == 0) == (index < 0), "repeats weigh nothing, and others something"
                    if index >= 0:
                        self.trained.append(index)
                        self.visits[index] += 1
                        self.last_loss[index] = LOSSES[epoch, index]

    @rule(num_batches=st.integers(0, 5))
    def fetch_without_training(self, num_batches):
        for pruner in self.run.pruners:
            pruner.set_epoch(pruner.epoch)
        if not self.pruner.current.finished:
            self.run.peek(num_batches)

    @rule(share=st.sampled_from([0.5, 1.0]))
    def observe(self, share):
        epoch = self.pruner.epoch
        for pruner in self.run.pruners:
            indices = pruner.left_out[: round(share * len(pruner.left_out))]
            self.last_loss[indices] = LOSSES[epoch][indices]
        self.do("observe", share)

    @rule()
    def train_to_the_next_epoch(self):
        self.train(100)
        assert self.pruner.current.finished
        self.break_the_epoch_off()

    @rule()
    def break_the_epoch_off(self):
        if not self.trained or self.pruner.epoch + 1 == self.pruner.num_epochs:
            return
        epoch = self.pruner.current
        if epoch.is_resumed and epoch.is_untouched and not epoch.finished:
            with pytest.raises(RuntimeError, match="ends without any of the rest"):
                self.run.advance()
            return
        self.do("advance")
        self.trained = []
        self.after_draw()

    @rule()
    def save(self):
        self.saved = self.run.state(), self.run.arguments, len(self.events)

    @rule()
    def crash(self):
        """Go on from the last checkpoint; what was trained since is lost."""
        state, arguments, num_events = self.saved
        self.run, self.twin = Ranks(*arguments, state=state), None
        events, self.events = self.events[:num_events], []
        self.begin_model()
        self.replay(events)

        assert len(self.events) == num_events

    def replay(self, events):
        """Do it all again in a run that nothing interrupts, which is the twin from then on."""
        resumed, self.run = self.run, Ranks(*self.arguments)
        repeat = {"steps": self.train, "observe": self.observe, "resumed": self.change_batch_size}
        for name, arguments in events:
            if name == "advance":
                self.break_the_epoch_off()
            else:
                repeat[name](*arguments)
        self.run, self.twin = resumed, self.run
        assert self.twin.facts == self.run.facts

    @rule(batch_size=st.integers(1, 6))
    def change_batch_size(self, batch_size):
        """Go on with batches of another size, which the epoch's rest is cut into."""
        size, num_replicas, _, drop_last, options = self.arguments
        is_cut = options.get("num_epochs", 1) % 1 != 0  # where, its last batch has a say in
        if drop_last or is_cut or options.get("shrink") or batch_size * num_replicas > size:
            return
        self.events.append(("resumed", (batch_size,)))
        self.run = self.run.resumed(batch_size)
        if self.twin is not None:
            self.twin = self.twin.resumed(batch_size)

    # -- What always holds -------------------------------------------------------------------------

    def after_draw(self):
        """An epoch's weights are the inverse of probabilities, and ranks share what it trains."""
        self.progress = -1.0
        run, epoch = self.run, self.pruner.current
        scores, plan = self.pruner.scores, self.pruner.plan
        weights, is_stratified = np.zeros(plan.num_samples), True
        weights[epoch.indices] = epoch.weights_of(epoch.indices.numpy())
        if plan.schedule.prunes(epoch.number) and self.pruner._store.layout == "replicated":
            generator = epoch_generator(SEED, epoch.number, Stream.DRAW)
            request = plan.request(epoch.number, generator)
            keep = plan.policy.keep_probabilities(scores, request)
            pruned = request.num_pruned
            wanted = None if pruned is None else plan.num_samples - pruned
            chances = inclusion_probabilities(keep, request.epoch_sizes, wanted)
            if plan.saves_nothing(epoch.number, round(float(chances.sum()))):
                chances = torch.ones_like(chances)  # all are taken, and none needs another weight
            np.testing.assert_allclose((weights * chances.numpy())[weights > 0], 1, rtol=1e-5)
            assert (weights > 0).sum() == pytest.approx(float(chances.sum()))
            is_stratified = keep.strata is not None and keep.credit is None
        if is_stratified:
            assert weights.sum() == pytest.approx(plan.num_samples, rel=1e-5)
        shares = [pruner.current.share_of_rank() for pruner in run.pruners]
        assert len({len(share) for share in shares}) == 1
        real = np.concatenate([share[share >= 0] for share in shares])
        assert len(np.unique(real)) == len(real) == epoch.num_trained
        assert (weights[real] > 0).all()

    @invariant()
    def no_sample_is_trained_twice(self):
        assert len(set(self.trained)) == len(self.trained)
        if self.pruner.current.finished:
            assert len(self.trained) == self.pruner.current.num_trained

    @invariant()
    def progress_goes_on_to_the_end_of_the_epoch(self):
        progresses = {pruner.progress for pruner in self.run.pruners}
        (progress,) = progresses
        assert progress >= self.progress
        self.progress = progress
        length = self.pruner.run_length
        if self.pruner.current.finished:
            assert progress == min(1.0, (self.pruner.epoch + 1) / length)

    @invariant()
    def the_report_counts_what_was_trained(self):
        assert self.pruner.report().num_recorded == self.visits.sum()
        assert self.pruner.report().epochs[-1].num_recorded == len(self.trained)

    @invariant()
    def scores_are_the_last_losses(self):
        store, held = self.pruner._store, slice(None)
        if store.layout == "sharded":
            held = store.shards.held
        scores = self.run.merged()
        assert scores["visits"].tolist() == self.visits[held].tolist()
        assert scores["last_loss"].nan_to_num(-1).tolist() == self.last_loss[held].tolist()


RANKS = [("threshold", 2), ("target", 3), ("spaced", 2), ("smaller batches", 2)]


@pytest.mark.parametrize(("name", "num_replicas"), [*((name, 1) for name in OPTIONS), *RANKS])
def test_any_sequence_of_calls_keeps_the_promises(name, num_replicas):
    machine = type("Machine", (AnySequence,), {"name": name, "num_replicas": num_replicas})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=20,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
