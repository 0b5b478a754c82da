"""Prompts in groups, and the spread of their rewards."""

import pytest
import torch

pytest.importorskip("trl")

from torch.utils.data import BatchSampler
from trl.trainer.utils import RepeatSampler

from infobatch.integrations.transformers import INDICES
from infobatch.integrations.trl.groups import (
    GroupBatches,
    IndexedRows,
    have_spread,
    have_unequal,
    rewards_of,
    smallest_part,
    spreads,
    without_indices,
)

pytestmark = pytest.mark.integrations


def test_the_order_is_that_of_trl():
    expected = RepeatSampler(range(12), 2, batch_size=3, repeat_count=4, shuffle=False)
    generations = BatchSampler(range(12), 3, drop_last=True)
    ours = GroupBatches(generations, 2, 4)
    assert [index for batch in ours for index in batch] == list(expected)
    assert len(ours) == 4 * 4
    halves = [GroupBatches(generations, 2, 4, rank, 2) for rank in range(2)]
    both = [mine + theirs for mine, theirs in zip(*halves, strict=True)]
    assert both == list(ours)


def test_parts_of_a_generation_are_equal():
    for num_generations, num_parts in [(8, 1), (8, 12), (4, 16), (6, 9)]:
        least = smallest_part(num_generations, num_parts)
        fits = [n for n in range(1, 40) if n * num_generations % num_parts == 0]
        assert fits[0] == least


def test_rows_carry_their_index_to_the_trainer_and_no_further():
    rows = IndexedRows([{"prompt": "a"}, {"prompt": "b"}])
    assert rows[1] == {"prompt": "b", INDICES: 1}
    assert len(rows) == 2
    assert without_indices([rows[1], rows[0]]) == ([{"prompt": "b"}, {"prompt": "a"}], [1, 0])


def test_the_spread_is_the_root_mean_square_of_a_group():
    advantages = torch.tensor([3.0, -3.0, 0.0, 0.0, 1.0, -1.0])
    assert spreads(advantages, 2).tolist() == [3, 0, 1]
    assert spreads(advantages[:, None].expand(-1, 3), 2).tolist() == [3, 0, 1]


def test_rewards_that_are_missing_are_equal_to_all():
    nan = float("nan")
    rewards = torch.tensor([1000.1, 1000.1, 1000.1, nan, 1000.1, 1000.2, nan, nan])
    assert have_unequal(rewards, 2).tolist() == [False, False, True, False]


def test_rewards_are_added_up_as_trl_does():
    nan = float("nan")
    by_function = torch.tensor([[1.0, 2.0], [nan, 2.0], [nan, nan]])
    found = rewards_of(by_function, torch.tensor([1.0, 0.5]))
    assert found[:2].tolist() == [2, 1]
    assert found[2].isnan()


def test_a_spread_is_known_where_two_completions_have_a_reward():
    nan = float("nan")
    first = torch.tensor([1.0, nan, nan, 0.0, nan, nan, nan, nan, nan])
    second = torch.tensor([nan, 2.0, nan, nan, nan, nan, nan, nan, nan])
    rewards = rewards_of(torch.stack([first, second], 1), torch.ones(2))
    assert have_spread(rewards, 3).tolist() == [True, False, False]
    infinite = torch.tensor([0.0, 1.0, float("inf"), 1.0, 0.0, 2.0])
    assert have_spread(infinite, 3).tolist() == [False, True]
