"""What the ranks compare before they train an epoch."""

import pytest

from infobatch.distributed import check_agreement


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
