"""Streams: the selection is the map-style loader's, wherever and however late samples are read."""

import copy
from collections import Counter, deque
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers import launch, new_pruner, random_losses, record_epoch
from helpers.streams import BATCH, EPOCHS, SIZE, Endless, Shards, make, run, train_epoch
from infobatch import DynamicPruner, InfoBatch, NoPruning, RandomPruning, Sharded
from infobatch.batching import Batching
from infobatch.policies import PercentileTiers
from infobatch.streams import in_step
from infobatch.streams.filter import ENTRY, StreamFilter

OPTIONS = {
    "infobatch": {"policy": InfoBatch(0.7)},
    "target": {"policy": InfoBatch(0.7), "target": 0.2},
    "tiers": {"policy": PercentileTiers()},
    "random": {"policy": RandomPruning(0.5), "delta": 1},
    "no warm-up": {"policy": RandomPruning(0.5), "warmup_epochs": 0},
    "cut short": {"policy": InfoBatch(0.7), "num_epochs": 3.4, "delta": 1},
    "in steps": {"num_epochs": None, "max_steps": 21, "delta": 1},
    "by the weights": {"normalizer": "weights"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_selection_and_the_weights_are_those_of_random_access(options, monkeypatch):
    monkeypatch.setattr(Batching, "last_batch", lambda *_: None)  # a stream's batches are not known
    pruner, keep, stream = make(**options)
    loader = DataLoader(stream, BATCH)
    expected = new_pruner(SIZE, **{"num_epochs": EPOCHS, **options})
    expected.loader(BATCH)
    assert pruner.num_epochs == expected.num_epochs
    assert pruner.full_steps == expected.full_steps
    left_out = 0
    for epoch in expected.epochs():
        pruner.set_epoch(epoch)
        assert torch.equal(pruner.selection.weights, expected.selection.weights)
        order, losses = expected.current.order, random_losses(SIZE, epoch)
        seen = {}
        for batch in loader:
            indices = keep.indices(batch[ENTRY])
            seen |= dict(zip(indices.tolist(), keep.weights(batch[ENTRY]).tolist(), strict=True))
            weights = expected.weights(indices)
            total = weights.sum() if pruner.normalizer == "weights" else len(indices)
            given = losses[indices].requires_grad_()
            loss = keep.update(given, batch[ENTRY])
            mean_weight = 1 if pruner.normalizer == "weights" else expected.mean_weight
            shown = (losses[indices] * weights).sum() / total / mean_weight
            torch.testing.assert_close(loss.detach(), shown)
            loss.backward()
            torch.testing.assert_close(given.grad, weights / total)
        assert sorted(seen) == sorted(order.tolist())
        record_epoch(expected, losses)
        left_out += SIZE - len(order)
        assert pruner.progress == pytest.approx(expected.progress)
    assert left_out > 0
    assert torch.equal(pruner.scores["last_loss"], expected.scores["last_loss"])


def test_what_is_left_out_is_not_decoded():
    decoded = Counter()

    def decode(sample):
        decoded[sample["id"]] += 1
        return {**sample, "image": torch.zeros(2)}

    pruner, keep, stream = make(policy=RandomPruning(0.5), delta=1)
    loader = DataLoader(stream.map(decode), BATCH)
    for _ in pruner.epochs():
        decoded.clear()
        train_epoch(keep, loader, random_losses(SIZE))
        assert decoded == Counter(pruner.selection.indices.tolist())
    assert len(decoded) == SIZE / 2


def test_the_expected_weighted_sum_is_the_full_one():
    losses, sums = random_losses(SIZE), []
    for seed in range(300):
        pruner, keep, stream = make(policy=InfoBatch(0.7), num_epochs=2, delta=1, seed=seed)
        train_epoch(keep, DataLoader(stream, BATCH), losses)
        pruner.set_epoch(1)
        tickets = torch.cat([batch[ENTRY] for batch in DataLoader(stream, BATCH)])
        sums.append(float(keep.weights(tickets) @ losses[keep.indices(tickets)]))
    error = np.std(sums) / np.sqrt(len(sums))
    assert error > 0
    assert abs(np.mean(sums) - float(losses.sum())) < 5 * error


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_prefetched_across_an_epochs_end_keep_their_weight(workers):
    pruner, keep, _ = make(policy=RandomPruning(0.2), delta=1)
    batches = iter(DataLoader(keep(Endless()), BATCH, num_workers=workers))
    ahead = deque(islice(batches, 2))
    losses, weights, num_late = random_losses(SIZE), [], []
    for epoch in pruner.epochs():
        weights.append(pruner.selection.weights)
        recorded, late = set(), 0
        for _ in range(pruner.current.length // BATCH):
            ahead.append(next(batches))
            tickets = ahead.popleft()[ENTRY]
            indices, epochs = keep.indices(tickets), tickets // SIZE - 1
            expected = torch.stack([weights[e][i] for e, i in zip(epochs, indices, strict=True)])
            loss = keep.update(losses[indices], tickets)
            mean = (losses[indices] * expected).mean()
            torch.testing.assert_close(loss, mean / pruner.mean_weight)
            recorded |= set(indices[epochs == epoch])
            late += int((epochs < epoch).sum())
        assert set(np.flatnonzero(pruner.current.recorded)) == recorded
        num_late.append(late)
    assert num_late[0] == 0
    assert min(num_late[1:]) >= 2 * BATCH


def test_looking_late_samples_up_in_the_new_epoch_would_be_wrong():
    """Why a sample carries the epoch that let it through."""
    pruner, keep, _ = make(policy=RandomPruning(0.5), delta=1, warmup_epochs=0)
    batches = iter(DataLoader(keep(Endless()), BATCH))
    first, late = next(batches)[ENTRY], next(batches)[ENTRY]
    keep.update(torch.ones(BATCH), first)
    pruner.set_epoch(1)
    with pytest.raises(ValueError, match="was not selected in epoch 1"):
        pruner.update(torch.ones(BATCH), keep.indices(late))
    before = pruner.scores["last_loss"].clone()
    assert keep.weigh(torch.ones(BATCH), late) == 2
    keep.record(torch.ones(BATCH), late)
    assert pruner.current.num_recorded == 0
    assert torch.equal(pruner.scores["last_loss"].nan_to_num(-1), before.nan_to_num(-1))


def test_late_samples_without_a_score_and_their_mates():
    pruner, keep, _ = make(policy=NoPruning())
    batches = iter(DataLoader(keep(Endless()), BATCH))
    old = next(batches)[ENTRY]
    keep.update(torch.ones(BATCH), old)
    old = next(batches)[ENTRY]
    pruner.set_epoch(1)
    next(batches)  # holds one that was let through before
    mixed = torch.cat([old[:4], next(batches)[ENTRY][:4]])
    losses = torch.arange(8.0, requires_grad=True)
    scored = torch.tensor([True] * 7 + [False])
    keep.update(losses, mixed, scored).backward()
    assert losses.grad.tolist() == [1 / 8] * 8
    new = keep.indices(mixed)[4:]
    assert np.flatnonzero(pruner.current.recorded).tolist() == sorted(new.tolist())
    assert pruner.scores["last_loss"][new].nan_to_num(-1)[:3].tolist() == [4, 5, 6]


def test_scores_are_remembered_in_place_of_losses():
    pruner, keep, _ = make(policy=NoPruning())
    batches = iter(DataLoader(keep(Endless()), BATCH))
    old = next(batches)[ENTRY]
    losses, scores = torch.ones(BATCH, requires_grad=True), torch.arange(1.0, BATCH + 1)
    keep.update(losses, old, scores=scores).backward()
    assert losses.grad.tolist() == [1 / BATCH] * BATCH
    assert pruner.scores["last_loss"][keep.indices(old)].tolist() == scores.tolist()
    old = next(batches)[ENTRY]
    pruner.set_epoch(1)
    next(batches)  # holds one that was let through before
    mixed = torch.cat([old[:4], next(batches)[ENTRY][:4]])
    with pytest.raises(ValueError, match=r"scores are of shape \(3,\) .* losses of shape \(8,\)"):
        keep.update(losses, mixed, scores=scores[:3])
    keep.update(losses, mixed, scores=scores)
    assert pruner.scores["last_loss"][keep.indices(mixed)[4:]].tolist() == [5, 6, 7, 8]


def test_samples_that_come_twice_or_not_at_all():
    given = [*range(10), *range(20), 3]
    pruner = DynamicPruner(range(SIZE), EPOCHS, policy=RandomPruning(0.5), delta=1)
    keep = StreamFilter(pruner, "id", BATCH, length=len(given))
    loader = DataLoader(keep(Shards(given)), BATCH, num_workers=1)
    assert pruner.full_steps == EPOCHS * 4
    for epoch in pruner.epochs():
        seen = chain(*train_epoch(keep, loader, random_losses(SIZE)))
        selected = set(pruner.selection.indices.tolist())
        assert sorted(seen) == sorted(i for i in given if i in selected)
        assert pruner.current.finished
        assert pruner.progress == (epoch + 1) / EPOCHS
    assert pruner.scores["visits"][20:].max() == 0


def test_workers_that_all_read_the_whole_stream_are_told_of():
    rows = [{"id": i, "x": float(i)} for i in range(60)]
    pruner = DynamicPruner(range(60), 2, policy=InfoBatch())
    keep = StreamFilter(pruner, "id", 10)
    loader = DataLoader(keep(rows), 10, num_workers=2)
    next(pruner.epochs())
    message = r"has given 1?\d\d samples of epoch 0, which .* about 60 on"
    with pytest.warns(UserWarning, match=message):
        deque(keep.update(batch["x"].float(), batch["__tickets__"]) for batch in loader)


def test_a_tickets_number_is_no_index():
    pruner, keep, stream = make()
    batch = next(iter(DataLoader(stream, BATCH)))
    with pytest.raises(ValueError, match="does not exist: the dataset has 60"):
        pruner.update(torch.ones(BATCH), batch[ENTRY])
    with pytest.raises(ValueError, match="no ticket of a sample that epoch 0 let through; pass what"):
        keep.update(torch.ones(BATCH), batch["id"])
    with pytest.raises(ValueError, match="7 losses came with 8 indices"):
        keep.update(torch.ones(BATCH - 1), batch[ENTRY])
    assert pruner.current.num_recorded == 0


def test_weigh_and_record_are_update():
    pruner, keep, stream = make(warmup_epochs=0, policy=RandomPruning(0.5), delta=1)
    losses = torch.rand(BATCH)
    for batch in DataLoader(stream, BATCH):
        tickets, mine = batch[ENTRY], losses[: len(batch[ENTRY])]
        loss = keep.weigh(mine, tickets)
        torch.testing.assert_close(loss, 2 * mine.mean())
        keep.record(mine, tickets)
    assert pruner.current.finished


def test_a_pruner_with_a_filter_can_be_copied():
    pruner, keep, stream = make()
    train_epoch(keep, DataLoader(stream, BATCH), random_losses(SIZE))
    copied = copy.deepcopy(pruner)
    for each in (copied, pruner):
        each.set_epoch(1)
    assert torch.equal(copied.selection.weights, pruner.selection.weights)
    batches = train_epoch(keep, DataLoader(stream, BATCH), random_losses(SIZE))
    assert sorted(chain(*batches)) == pruner.selection.indices.tolist()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's
def test_a_compiled_step_may_hold_the_update():
    pruner, keep, stream = make(num_epochs=1)
    losses = torch.ones(BATCH, requires_grad=True)

    @torch.compile(backend="eager")
    def step(tickets):
        return keep.update(2 * losses[: len(tickets)], tickets)

    for batch in DataLoader(stream, BATCH):
        step(batch[ENTRY]).backward()
    assert pruner.current.finished
    assert float(losses.grad.sum()) == pytest.approx(2 * 8)


def test_sharded_scores_are_refused():
    pruner = DynamicPruner(range(3000), 2, layout=Sharded(num_shards=4))
    with pytest.raises(ValueError, match="leave the order to the pruner, or drop layout="):
        StreamFilter(pruner, "id", BATCH)


def resumed_in_step(share):
    """The epochs that a run trains which was saved when the ranks had left the first in step."""
    first, keep, stream = make(stream=Shards(share))
    train_epoch(keep, in_step(DataLoader(stream, BATCH)), random_losses(SIZE))
    first.end_epoch()
    states = [first.state_dict()]
    torch.distributed.broadcast_object_list(states, 0)
    resumed, keep, stream = make(stream=Shards(share))
    resumed.load_state_dict(states[0])
    return [
        epoch
        for epoch in resumed.epochs()
        if train_epoch(keep, in_step(DataLoader(stream, BATCH)), random_losses(SIZE))
    ]


PROGRAM = """
    import sys

    import torch
    import torch.distributed as dist
    from infobatch.streams import in_step
    from helpers.streams import SIZE
    from test_filter import resumed_in_step, run

    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo")
    try:
        share = range(SIZE)[rank * 21 : 21 + rank * 39]
        runs = [run(share), run(share, in_step), run(share, shrink="batches")]
        resumed = resumed_in_step(share)
        assert resumed == [1, 2, 3], resumed
        torch.save(runs, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_ranks_train_one_selection_and_may_keep_step(tmp_path):
    alone = run(range(SIZE))
    ranks = launch(PROGRAM, 2, tmp_path, [str(Path(__file__).parent)])
    (first, first_equal, first_smaller), (second, second_equal, second_smaller) = ranks
    for epoch in range(EPOCHS):
        assert torch.equal(first[1][epoch], alone[1][epoch])
        trained = chain(*first[0][epoch], *second[0][epoch])
        assert sorted(trained) == sorted(chain(*alone[0][epoch]))
    for column in alone[2]:
        assert torch.equal(first[2][column], alone[2][column])
        assert torch.equal(second[2][column], alone[2][column])
    assert first[3] == second[3] == 1
    # Their numbers of batches differ, and with in_step they do not.
    assert [len(batches) for batches in first[0]] != [len(batches) for batches in second[0]]
    lengths = [len(batches) for batches in first_equal[0]]
    assert lengths == [len(batches) for batches in second_equal[0]]
    assert sum(lengths) > 0
    assert all(torch.equal(*pair) for pair in zip(first_equal[1], second_equal[1], strict=True))
    # Where batches shrink, each rank has about as many as its share has on full data.
    for mine, theirs, weights in zip(first_smaller[0], second_smaller[0], first_smaller[1], strict=True):
        assert sorted(chain(*mine, *theirs)) == torch.nonzero(weights).flatten().tolist()
        assert abs(len(mine) - 3) <= 1
        assert abs(len(theirs) - 5) <= 1


def test_alone_in_step_gives_all():
    assert list(in_step(range(3))) == [0, 1, 2]
