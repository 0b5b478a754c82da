"""Training pauses to write a checkpoint, or to stop."""

import pytest
import torch

from infobatch.distributed import Replicas
from infobatch.lab.training import pauses
from infobatch.lab.training.pauses import (
    CHECKPOINT_SECONDS,
    STEPS_BETWEEN_QUESTIONS,
    Interrupted,
    Pauses,
)


@pytest.fixture
def clock(monkeypatch):
    """Seconds, to be changed."""
    seconds = [0.0]
    monkeypatch.setattr(pauses.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_checkpoint_is_due_once_a_minute(clock, tmp_path):
    made, saved = Pauses(tmp_path, lambda: False), []
    for clock[0] in (1.0, CHECKPOINT_SECONDS + 1, CHECKPOINT_SECONDS + 2, 2 * CHECKPOINT_SECONDS + 2):
        made.pause(lambda: saved.append(clock[0]))
    assert saved == [CHECKPOINT_SECONDS + 1, 2 * CHECKPOINT_SECONDS + 2]


def test_who_asks_to_stop_has_a_checkpoint(tmp_path):
    saved = []
    with pytest.raises(Interrupted, match=str(tmp_path)):
        Pauses(tmp_path, lambda: True).pause(lambda: saved.append(1))
    assert saved == [1]


def test_several_ranks_ask_each_other_seldom(monkeypatch, tmp_path):
    monkeypatch.setattr(pauses, "replicas", lambda: Replicas(0, 2))
    monkeypatch.setattr(pauses, "total", lambda values: values + torch.tensor([1, 0]))  # the other asks
    made = Pauses(tmp_path, lambda: False)
    decided = [made.decide() for _ in range(2 * STEPS_BETWEEN_QUESTIONS)]
    stops = [step for step, (_, stop) in enumerate(decided, 1) if stop]
    assert stops == [STEPS_BETWEEN_QUESTIONS, 2 * STEPS_BETWEEN_QUESTIONS]
