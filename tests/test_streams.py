"""Streams: the selection is the map-style loader's, wherever and however late samples are read."""

import copy
from collections import Counter, deque
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from helpers import Numbers, launch, random_losses, record_epoch
from infobatch import DynamicPruner, InfoBatch, NoPruning, RandomPruning, Sharded
from infobatch.policies import PercentileTiers
from infobatch.streams.filter import ENTRY, SampleIds, StreamFilter, in_step

SIZE, EPOCHS, BATCH = 60, 4, 8


class Shards(IterableDataset):
    """Samples with an id, in shards of unequal sizes that workers share out; a new order each epoch."""

    def __init__(self, ids=range(SIZE), num_shards=5, pairs=False):
        self.ids = list(ids)
        self.num_shards = num_shards
        self.pairs = pairs
        self.epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch):
        self.epoch.fill_(epoch)

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        sizes = np.arange(1, self.num_shards + 1)
        ends = (sizes.cumsum() / sizes.sum() * len(self.ids)).astype(int)[:-1]
        generator = np.random.default_rng(int(self.epoch))
        for shard in np.split(np.arange(len(self.ids)), ends)[first::step]:
            for place in generator.permutation(shard):
                sample_id = self.ids[place]
                yield (sample_id, sample_id) if self.pairs else {"id": sample_id, "raw": sample_id}


def make(ids=None, stream=None, **options):
    pruner = DynamicPruner(ids or range(SIZE), **{"num_epochs": EPOCHS, **options})
    keep = StreamFilter(pruner, "id", BATCH)
    return pruner, keep, keep(Shards() if stream is None else stream)


def train_epoch(keep, loader, losses):
    """Feed the losses of an epoch's batches through ``update``; the batches' indices."""
    batches = []
    for batch in loader:
        indices = keep.indices(batch[ENTRY])
        keep.update(losses[indices], batch[ENTRY])
        batches.append(indices.tolist())
    return batches


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
def test_the_selection_and_the_weights_are_those_of_random_access(options):
    pruner, keep, stream = make(**options)
    loader = DataLoader(stream, BATCH)
    expected = DynamicPruner(Numbers(SIZE), **{"num_epochs": EPOCHS, **options})
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
            loss = keep.update(losses[indices], batch[ENTRY])
            torch.testing.assert_close(loss, (losses[indices] * weights).sum() / total)
        assert sorted(seen) == sorted(order.tolist())
        record_epoch(expected, losses)
        left_out += SIZE - len(order)
        assert pruner.progress == pytest.approx(expected.progress)
    assert left_out > 0
    assert torch.equal(pruner.scores["last_loss"], expected.scores["last_loss"])


@pytest.mark.parametrize(
    ("workers", "num_shards", "extra"),
    [
        (0, 5, {}),
        (2, 5, {}),
        (2, 5, {"persistent_workers": True, "prefetch_factor": 4}),
        (2, 1, {"persistent_workers": True}),  # one of them without a shard
        (1, 5, {"persistent_workers": True, "multiprocessing_context": "spawn"}),
    ],
    ids=str,
)
def test_workers_see_each_epoch_and_its_end(workers, num_shards, extra):
    pruner, keep, stream = make(stream=Shards(num_shards=num_shards))
    loader = DataLoader(stream, BATCH, num_workers=workers, **extra)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    scheduler = pruner.lr_scheduler(LinearLR(optimizer, 1, 0.1, pruner.full_steps))
    optimizer.step()
    losses = random_losses(SIZE)
    for epoch in pruner.epochs():
        assert pruner.progress == epoch / EPOCHS
        seen = []
        for batch in loader:
            assert not pruner.current.finished
            indices = keep.indices(batch[ENTRY])
            assert torch.equal(keep.weights(batch[ENTRY]), pruner.selection.weights[indices])
            keep.update(losses[indices], batch[ENTRY])
            scheduler.step()
            seen += indices.tolist()
        assert sorted(seen) == pruner.selection.indices.tolist()
        assert pruner.current.finished
        assert pruner.progress == (epoch + 1) / EPOCHS
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]
    assert pruner.report().saved > 0.1
    assert pruner.report().num_unreached == 0


def test_a_stale_copy_would_train_what_is_left_out():
    """Why the selection is in shared memory: a persistent worker's copy is that of the first epoch."""
    pruner, _, stream = make(warmup_epochs=1)
    naive = DataLoader(Naive(pruner, Shards()), BATCH, num_workers=1, persistent_workers=True)
    loader = DataLoader(stream, BATCH, num_workers=1, persistent_workers=True)
    record_first(pruner, naive, lambda batch: batch["index"])
    assert sum(len(batch["id"]) for batch in naive) == SIZE
    assert sum(len(batch["id"]) for batch in loader) == pruner.selection.num_selected < SIZE


class Naive(IterableDataset):
    def __init__(self, pruner, stream):
        self.pruner, self.stream = pruner, stream

    def __iter__(self):
        for sample in self.stream:
            if self.pruner.selection.weights[sample["id"]] > 0:
                yield {**sample, "index": sample["id"]}


def record_first(pruner, loader, samples_of):
    losses = random_losses(SIZE)
    for batch in loader:
        samples = samples_of(batch)
        pruner.record(losses[samples], samples)
    pruner.set_epoch(1)


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


# -- Ids -----------------------------------------------------------------------------------------------


def test_string_ids_have_the_same_numbers_in_any_order(tmp_path):
    names = [f"shard-{i // 7}/{i}" for i in range(SIZE)]
    ids = SampleIds.of(Shards(names), "id")
    assert sorted(map(ids.number, names)) == list(range(SIZE))
    assert [SampleIds.of(reversed(names)).number(name) for name in names] == [*map(ids.number, names)]
    ids.save(tmp_path / "ids.npy")
    ids = SampleIds.load(tmp_path / "ids.npy")
    pruner, keep, stream = make(ids, Shards(names))
    for _ in pruner.epochs():
        batches = train_epoch(keep, DataLoader(stream, BATCH), random_losses(SIZE))
        assert sorted(chain(*batches)) == pruner.selection.indices.tolist()
    assert pruner.report().saved > 0


def test_the_id_may_be_anywhere_in_a_sample_and_of_any_integer():
    big = [10**15 + 7 * i for i in range(SIZE)]
    ids = SampleIds.of(Shards(map(np.int64, big), pairs=True), 0)
    for key in (0, lambda pair: torch.tensor(pair[1])):
        pruner = DynamicPruner(ids, EPOCHS)
        keep = StreamFilter(pruner, key, BATCH)
        seen = []
        for tickets, (first, second) in DataLoader(keep(Shards(big, pairs=True)), BATCH):
            assert keep.indices(tickets).tolist() == [ids.number(i) for i in first]
            assert torch.equal(first, second)
            seen += first.tolist()
        assert sorted(seen) == big


def test_ids_that_are_no_ids():
    with pytest.raises(ValueError, match=r"2 of the stream's 6 ids have come before: samples 1 and 3"):
        SampleIds.of(["a", "b", "c", "b", "d", "b"])
    with pytest.raises(ValueError, match="gives no samples"):
        SampleIds.of([])
    with pytest.raises(TypeError, match=r"id is 0.5, a float; give strings or integers"):
        SampleIds.of([0.5])
    with pytest.raises(ValueError, match=r"no entry 'key' to know it by: it is a dict of 'id', 'raw'"):
        SampleIds.of(Shards(), "key")
    with pytest.raises(ValueError, match=r"no entry 2 to know it by: it is a tuple. Give the name"):
        SampleIds.of(Shards(pairs=True), 2)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("ids", "given", "message"),
    [
        (range(SIZE), range(1, SIZE + 1), r"the id 60, none of the numbers 0..59.*SampleIds.of\(stream"),
        (range(SIZE), [-1, *range(SIZE)], r"the id -1, none of the numbers 0..59"),
        (range(SIZE), [f"{i}" for i in range(SIZE)], r"the id '\d+', none of the numbers 0..59"),
        (
            SampleIds.of(range(SIZE)),
            range(SIZE + 1),
            "the id 60, which is none of the 60 that",
        ),
    ],
    ids=["too large", "negative", "strings", "not counted"],
)
def test_unknown_ids_are_told_of(ids, given, message, workers):
    _, _, stream = make(ids, Shards(given))
    with pytest.raises(ValueError, match=message):
        list(DataLoader(stream, BATCH, num_workers=workers))


# -- Prefetching, stopping and going on ----------------------------------------------------------------


def endless(stream):
    while True:
        yield from stream


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
            torch.testing.assert_close(loss, (losses[indices] * expected).mean())
            recorded |= set(indices[epochs == epoch])
            late += int((epochs < epoch).sum())
        assert set(np.flatnonzero(pruner.current.recorded)) == recorded
        num_late.append(late)
    assert num_late[0] == 0
    assert min(num_late[1:]) >= 2 * BATCH


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield from Shards()


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
    assert keep.update(torch.ones(BATCH), late) == 2
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


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("num_epochs", [3, 2.4])
def test_a_resumed_epoch_gives_what_was_not_recorded(workers, num_epochs):
    def start():
        pruner, keep, stream = make(num_epochs=num_epochs, delta=1)
        return pruner, keep, DataLoader(stream, BATCH, num_workers=workers)

    def train(pruner, keep, loader):
        for epoch in pruner.epochs():
            for batch in loader:
                indices = keep.indices(batch[ENTRY])
                keep.update(random_losses(SIZE, epoch)[indices], batch[ENTRY])
                yield epoch, indices.tolist()

    def by_epoch(steps):
        samples = {}
        for epoch, indices in steps:
            samples.setdefault(epoch, []).extend(indices)
        return {epoch: sorted(trained) for epoch, trained in samples.items()}

    whole = start()
    steps, states = [], []
    for step in train(*whole):
        steps.append(step)
        states.append(whole[0].state_dict())
    for done in range(0, len(steps), 1 if workers == 0 else 6):
        run = start()
        run[0].load_state_dict(states[done])
        rest = list(train(*run))
        assert by_epoch(steps[: done + 1] + rest) == by_epoch(steps), done
        assert torch.equal(run[0].scores["last_loss"], whole[0].scores["last_loss"])
        assert run[0].report() == whole[0].report()
        assert run[0].progress == 1


def test_an_epoch_broken_off_is_taken_up_where_it_was_left():
    pruner, keep, stream = make()
    loader = DataLoader(stream, BATCH, num_workers=2, persistent_workers=True)
    pruner.set_epoch(0)
    seen = []
    for batch in islice(loader, 3):
        keep.update(torch.ones(BATCH), batch[ENTRY])
        seen += batch["id"].tolist()
    seen += chain(*train_epoch(keep, loader, torch.ones(SIZE)))
    assert sorted(seen) == list(range(SIZE))
    assert pruner.current.finished
    with pytest.raises(RuntimeError, match=r"epoch 0 is finished.*Begin the next one"):
        keep.update(torch.ones(BATCH), batch[ENTRY])


def test_an_epoch_cut_short_by_the_loop_just_ends():
    pruner, keep, stream = make(policy=RandomPruning(0.5), delta=1)
    for epoch in pruner.epochs():
        batch = next(iter(DataLoader(stream, BATCH)))
        keep.update(torch.ones(BATCH), batch[ENTRY])
        assert pruner.epoch == epoch
        assert not pruner.current.finished
    assert [counts.num_recorded for counts in pruner.history] == [BATCH] * (EPOCHS - 1)
    assert pruner.progress == 1


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


# -- The promises --------------------------------------------------------------------------------------


def test_workers_that_all_read_the_whole_stream_are_told_of():
    rows = [{"id": i, "x": float(i)} for i in range(60)]
    pruner = DynamicPruner(range(60), 2)
    keep = StreamFilter(pruner, "id", 10)
    loader = DataLoader(keep(rows), 10, num_workers=2)
    next(pruner.epochs())
    message = r"has given 1?\d\d samples of epoch 0, which .* about 60 on"
    with pytest.warns(UserWarning, match=message):
        deque(keep.update(batch["x"].float(), batch["__tickets__"]) for batch in loader)


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
    for run in (copied, pruner):
        run.set_epoch(1)
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


def run(share, wrap=lambda loader: loader):
    """A run on this rank: what it trained in each epoch, the selections, the scores, the progress."""
    pruner = DynamicPruner(range(SIZE), EPOCHS, policy=InfoBatch(0.7), delta=1)
    keep = StreamFilter(pruner, "id", BATCH)
    loader = DataLoader(keep(Shards(share)), BATCH, num_workers=1)
    trained, selections = [], []
    for epoch in pruner.epochs():
        selections.append(pruner.selection.weights)
        trained.append(train_epoch(keep, wrap(loader), random_losses(SIZE, epoch)))
    return trained, selections, pruner.state_dict()["scores"]["columns"], pruner.progress


PROGRAM = """
    import sys

    import torch
    import torch.distributed as dist
    from infobatch.streams import in_step
    from test_streams import SIZE, run

    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo")
    try:
        share = range(SIZE)[rank * 21 : 21 + rank * 39]
        torch.save([run(share), run(share, in_step)], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_ranks_train_one_selection_and_may_keep_step(tmp_path):
    alone = run(range(SIZE))
    ranks = launch(PROGRAM, 2, tmp_path, [str(Path(__file__).parent)])
    (first, first_equal), (second, second_equal) = ranks
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


def test_alone_in_step_gives_all():
    assert list(in_step(range(3))) == [0, 1, 2]
