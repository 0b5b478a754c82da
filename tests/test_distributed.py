"""What the ranks compare before they train an epoch, and what they tell one another."""

import numpy as np
import pytest
import torch

from infobatch.distributed import Replicas, ShareCheck, check_agreement, merge_scores
from infobatch.scores import ScoreTable
from infobatch.scores.columns import NO_SCORE


def test_selections_of_one_size_are_told_apart(monkeypatch):
    def gather(gathered, mine):
        for rank, other in enumerate(gathered):
            other.copy_(mine)
            other[-1] += rank == 2

    monkeypatch.setattr("infobatch.distributed.has_process_group", lambda: True)
    monkeypatch.setattr("torch.distributed.get_backend", lambda group: "gloo")
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 12)
    monkeypatch.setattr("torch.distributed.all_gather", gather)
    message = (
        r"different selections for epoch 4 \(ranks 0, 1, 3, 4, 5, 6, 7, 8, \.\.\. one, rank 2 one\), so "
        r".* same policy, target, delta, warmup_epochs and checkpoint"
    )
    with pytest.raises(RuntimeError, match=message):
        check_agreement({"seed": 2**80, "the epoch": 4, "selection": 77})


def test_without_a_process_group_nothing_is_compared():
    check_agreement({"selection": 1})


def test_columns_of_the_draw_cross_no_ranks(monkeypatch):
    rows = []
    monkeypatch.setattr("infobatch.distributed.has_process_group", lambda: True)
    monkeypatch.setattr("torch.distributed.get_backend", lambda group: "gloo")
    monkeypatch.setattr("torch.distributed.all_reduce", lambda packed, _: rows.append(len(packed)))
    scores = ScoreTable(3, ["last_loss", "visits", "recent_norms", "credit", "weight"])
    weights, recorded = torch.tensor([2.0, 0.0, 1.0]), np.array([True, False, True])
    scores.adopt("weight", weights)
    ones = np.ones(3, np.float32)
    scores.record(np.arange(3), ones, ones)
    assert merge_scores(scores, recorded).tolist() == [True, False, True]
    assert rows == [5], "last_loss, visits, two norms, and which were recorded"
    assert scores["weight"].data_ptr() == weights.data_ptr()


def test_a_sample_trained_without_a_score_is_counted_on_every_rank(monkeypatch):
    monkeypatch.setattr("infobatch.distributed.has_process_group", lambda: True)
    monkeypatch.setattr("torch.distributed.get_backend", lambda group: "gloo")
    tables, sent = [ScoreTable(2), ScoreTable(2)], []
    for place, (table, loss) in enumerate(zip(tables, (NO_SCORE, 0.5), strict=True)):
        table.record(np.array([place]), np.array([loss], np.float32))
    for reduce in (
        lambda packed, _: sent.append(packed.clone()),
        lambda packed, _: packed.copy_(torch.maximum(*sent)),
    ):
        monkeypatch.setattr("torch.distributed.all_reduce", reduce)
        for table, recorded in zip(tables, np.eye(2, dtype=bool), strict=True):
            merge_scores(table, recorded)
    for table in tables:
        assert table["visits"].tolist() == [1, 1]
        assert table["last_loss"].nan_to_num(-1).tolist() == [-1, 0.5]


STRIDED = [[1, 3, 5], [7, 9, 11]]
IN_BATCHES = [[2, 3], [6, 7], [10, 11]]


@pytest.mark.parametrize(
    ("rank", "places", "raises_at"),
    [
        (1, STRIDED, 0),
        (1, [[1], [3]], 1),
        (0, [[0, 2], [4, 6]], 0),
        (1, IN_BATCHES, 1),
        (0, [[0, 1], [4, 5], [8, 9]], 2),
        (0, [[0, 1], [4, 5], [6, 7]], None),  # the loop passed over a batch
        (0, [[0], [2], [3]], None),  # the same with batches of a single sample
        (0, [[0], [2], [4]], 2),
        (0, [[0, 1], [2, 3]], None),
        (1, [[0, 1], [4, 5]], None),
        (1, [[7, 2], [9, 4]], None),  # a batch sampler of the user's own orders the share
        (1, [[1, 2, 3], [4, 5, 6]], None),
        (1, [[], []], None),  # of repeats alone
        (0, [[0, 1], [], []], None),
        (1, [[], *IN_BATCHES], 2),
    ],
)
def test_a_share_that_is_shared_out_again_shows_in_its_first_batches(rank, places, raises_at):
    share = np.random.default_rng(0).permutation(100)[:20]
    check = ShareCheck(share, Replicas(rank, 2))
    for step, batch in enumerate(places):
        if step == raises_at:
            with pytest.raises(RuntimeError, match=r"shared out .* use_distributed_sampler=False"):
                check.see(share[batch])
            return
        check.see(share[batch])
    assert raises_at is None
