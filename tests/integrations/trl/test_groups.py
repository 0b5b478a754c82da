"""Prompts in groups, and the spread of their rewards."""

import pytest
import torch

pytest.importorskip("trl")

from trl.trainer.utils import RepeatSampler

from infobatch.integrations.transformers import INDICES
from infobatch.integrations.trl.groups import (
    GroupSampler,
    IndexedRows,
    have_spread,
    spreads,
    without_indices,
)

pytestmark = pytest.mark.integrations


def test_the_order_is_that_of_trl():
    expected = RepeatSampler(range(12), 2, batch_size=3, repeat_count=4, shuffle=False)
    ours = GroupSampler(range(12), 3, 2, 4)
    assert list(ours) == list(expected)
    assert len(ours) == len(expected) == len(list(ours))


def test_rows_carry_their_index_to_the_trainer_and_no_further():
    rows = IndexedRows([{"prompt": "a"}, {"prompt": "b"}])
    assert rows[1] == {"prompt": "b", INDICES: 1}
    assert len(rows) == 2
    assert without_indices([rows[1], rows[0]]) == ([{"prompt": "b"}, {"prompt": "a"}], [1, 0])


def test_the_spread_is_the_root_mean_square_of_a_group():
    found = spreads(torch.tensor([3.0, -3.0, 0.0, 0.0, 1.0, -1.0]), 2)
    assert found.tolist() == [3, 0, 1]


def test_a_spread_is_known_where_two_completions_have_a_reward():
    nan = float("nan")
    first = torch.tensor([1.0, nan, nan, 0.0, nan, nan, nan, nan, nan])
    second = torch.tensor([nan, 2.0, nan, nan, nan, nan, nan, nan, nan])
    assert have_spread(torch.stack([first, second], 1), 3).tolist() == [True, False, False]
