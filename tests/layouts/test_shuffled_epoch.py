"""An order of the library's own, in equal shares of one selection."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import BatchSampler, DistributedSampler

from helpers import UNMERGED, Numbers, new_pruner, random_losses, record_epoch
from helpers.replicated import LAYOUTS, ranks
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Replicated
from infobatch.chunks import CHUNK
from infobatch.seeding import epoch_generator


@pytest.mark.parametrize(("size", "num_replicas", "batch_size"), LAYOUTS)
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_union_of_the_ranks_is_the_selection(size, num_replicas, batch_size, drop_last):
    made = ranks(size, num_replicas, batch_size, drop_last)
    seen, batches = [], []
    for _, loader in made:
        own = [indices for indices, _ in loader]
        assert len(own) == len(loader)
        batches.append([len(indices) for indices in own])
        seen += np.concatenate(own).tolist()
    assert all(sizes == batches[0] for sizes in batches), "batch counts and sizes are equal"
    real = [index for index in seen if index >= 0]
    assert sorted(real) == made[0][0].selection.indices.tolist()
    repeats = [index for index in seen if index < 0]
    assert len(repeats) < 2 * num_replicas
    ends_in_one = size % (num_replicas * batch_size) == 1  # on full data, too
    assert batch_size == 1 or ends_in_one or batches[0][-1] > 1
    assert not drop_last or not repeats
    assert all(~index in real for index in repeats)


@settings(deadline=None, max_examples=150)
@given(
    num_replicas=st.integers(1, 7),
    batch_size=st.integers(1, 9),
    rest=st.integers(0, 60),
    drop_last=st.booleans(),
    epoch=st.sampled_from([0, 1, 5]),
)
def test_any_number_of_ranks_share_any_number_of_samples(
    num_replicas, batch_size, rest, drop_last, epoch
):
    size = num_replicas * batch_size + rest
    losses, shares = random_losses(size), []
    for rank in range(num_replicas):
        pruner = DynamicPruner(
            range(size), 6, rank=rank, num_replicas=num_replicas, layout=UNMERGED, policy=InfoBatch()
        )
        sampler = pruner.sampler(batch_size, drop_last=drop_last)
        for number in range(1, epoch + 1):
            record_epoch(pruner, losses)
            pruner.set_epoch(number)
        batches = list(BatchSampler(sampler, batch_size, drop_last))
        assert sum(map(len, batches)) == len(sampler)
        shares.append(batches)
    assert len({tuple(map(len, batches)) for batches in shares}) == 1, "unequal ranks"
    rounds = [[batches[step] for batches in shares] for step in range(len(shares[0]))]
    trained = [i for parts in rounds for part in zip(*parts, strict=True) for i in part]
    order = pruner.current.order.tolist()
    assert [i for i in trained if i >= 0] == order
    num_repeats, fewest = sum(i < 0 for i in trained), -len(order) % num_replicas
    more = num_replicas if len(rounds[-1][0]) == 2 else 0  # a batch of one that was filled up
    assert num_repeats in (fewest, fewest + more)
    if pruner.selection.num_selected < size or not drop_last:
        assert sorted(order) == pruner.selection.indices.tolist()


@pytest.mark.parametrize("num_pruned", [6, 22])
def test_a_resumed_epoch_has_the_repeats_that_it_would_have_had(num_pruned):
    """Also where there are fewer samples than repeats."""
    done = np.zeros(24, bool)  # on any rank
    layout = Replicated(merge=lambda scores, recorded: recorded | done)

    def start(rank):
        options = {"policy": RandomPruning(), "target": [0, num_pruned], "layout": layout}
        pruner = DynamicPruner(Numbers(24), 2, rank=rank, num_replicas=4, **options)
        return pruner, pruner.loader(2)

    made, steps = [start(rank) for rank in range(4)], []
    for pruner, loader in made:
        pruner.record(torch.ones(24), np.arange(24))
        pruner.set_epoch(1)
        steps.append([indices.tolist() for indices, _ in loader])
    for num_done in range(len(steps[0])):
        done[[i for rank in steps for batch in rank[:num_done] for i in batch if i >= 0]] = True
        for rank in range(4):
            pruner, loader = start(rank)
            pruner.load_state_dict(made[rank][0].state_dict())
            rest = []
            for indices, _ in loader:
                rest.append(indices.tolist())
                pruner.record(torch.ones(2), indices)
            assert rest == steps[rank][num_done:]
            assert pruner.current.finished


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [64, 57])
def test_a_ranks_progress_is_the_runs(size, drop_last):
    def trace(rank, num_replicas):
        options = {"rank": rank, "num_replicas": num_replicas, "layout": UNMERGED}
        pruner = DynamicPruner(Numbers(size), 3, policy=InfoBatch(0), **options)
        loader = pruner.loader(16 // num_replicas, drop_last=drop_last)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
        scheduler = pruner.lr_scheduler(LinearLR(optimizer, 1, 0.1, pruner.full_steps))
        for _ in pruner.epochs():
            for indices, batch in loader:
                pruner.update(batch, indices)
                optimizer.step()
                scheduler.step()
                yield pruner.progress, scheduler.get_last_lr()[0]

    single = list(trace(0, 1))
    assert single[-1] == (1, pytest.approx(0.01))
    assert list(trace(0, 2)) == list(trace(1, 2)) == single


@pytest.mark.parametrize("size", [64, 57])
def test_a_rank_that_is_through_its_share_does_not_iterate_it_again(size):
    for pruner, loader in ranks(size, 2, 8):
        for indices, batch in loader:
            pruner.update(batch, indices)
        with pytest.raises(RuntimeError, match="epoch 1 is finished"):
            next(iter(loader))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_replaced_sampler_is_refused_at_its_first_batch(epoch):
    """As Ray's prepare_data_loader does; a rank may record all samples at once."""
    for pruner, loader in ranks(64, 2, 16):
        if epoch == 0:
            pruner = DynamicPruner(
                Numbers(64), 3, rank=pruner.replicas.rank, num_replicas=2, policy=InfoBatch()
            )
            loader = pruner.loader(16)
        replaced = DistributedSampler(loader.dataset, 2, pruner.replicas.rank, shuffle=epoch == 0)
        kept = [i for i in replaced if pruner.selection.weights[i] > 0][:16]
        before = pruner.scores["visits"].sum()
        with pytest.raises(
            ValueError, match=rf"is not of this rank's share of epoch {epoch}: .*replaced"
        ):
            pruner.update(torch.ones(len(kept)), kept)
        assert pruner.scores["visits"].sum() == before
        assert pruner.current.num_recorded == 0


def test_the_order_is_a_part_of_the_full_one():
    pruner = new_pruner(seed=4)
    record_epoch(pruner, random_losses(60))
    pruner.set_epoch(1)
    kept = set(pruner.selection.indices.tolist())
    permutation = torch.randperm(60, generator=epoch_generator(4, 1)).tolist()
    assert 30 < len(kept) < 60
    assert pruner.current.order.tolist() == [i for i in permutation if i in kept]


def test_an_epoch_that_is_over_leaves_its_order_to_the_next():
    pruner = new_pruner(num_epochs=4)
    pruner.sampler(8)
    record_epoch(pruner, random_losses(60))
    over = pruner.current
    pruner.set_epoch(1)
    assert len(over.order) == len(over.share) == 0
    assert over.num_trained == over.num_left == over.length == over.num_recorded
    assert over.done == 1
    assert over.finished


def test_a_long_order_is_given_piece_by_piece():
    pruner = DynamicPruner(range(CHUNK + 5), 2, policy=InfoBatch())
    pruner.sampler(8)
    expected = torch.randperm(CHUNK + 5, generator=epoch_generator(0, 0))
    assert list(pruner.current.draws()) == expected.tolist()
