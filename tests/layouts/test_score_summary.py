"""Bounds and means of scores that no rank sees all of."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sharded import Ranks, Together
from infobatch import InfoBatch, RandomPruning
from infobatch.distributed import Replicas
from infobatch.layouts.score_summary import NoScores, ShardedScores, score_of_key, sort_keys
from infobatch.layouts.shards import Shards
from infobatch.policies import PercentileTiers
from infobatch.policies.ranking import mean_score

floats = st.floats(width=32, allow_nan=False)


@given(st.lists(floats, min_size=2, max_size=50))
def test_keys_sort_as_losses_do(values):
    losses = np.array(values, np.float32)
    keys = sort_keys(losses)
    assert losses[np.argsort(keys, kind="stable")].tolist() == sorted(losses.tolist())
    assert [score_of_key(int(key)) for key in keys] == losses.tolist()
    assert sort_keys(np.array([np.nan], np.float32)) == sort_keys(np.array([np.inf], np.float32))


scores = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(scores | st.sampled_from([0.0, 1.0]) | st.just(float("nan")), min_size=6, max_size=60),
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
)
def test_bounds_lie_where_the_ranks_of_all_scores_are(values, shares):
    losses = np.array(values, np.float32)
    ranks = sorted(round(share * len(losses)) for share in shares)
    shards = [Shards(len(losses), 6, Replicas(rank, 3)) for rank in range(3)]
    own = [
        losses[np.concatenate([part.indices(column) for column in range(len(part.ids))])]
        for part in shards
    ]
    together = Together(3)
    summaries = [
        ShardedScores(mine, part, together.reduce) for mine, part in zip(own, shards, strict=True)
    ]
    found = together.run(lambda rank: summaries[rank].bounds_at(ranks))
    assert found[0] == found[1] == found[2]
    ordered = np.where(np.isnan(losses), np.inf, losses)
    for bound, rank in zip(found[0], ranks, strict=True):
        below = (ordered < bound.value).sum()
        assert below + bound.share * (ordered == bound.value).sum() == pytest.approx(rank)
    means = together.run(lambda rank: (summaries[rank].mean, summaries[rank].num_scored))
    assert means[0][1] == (~np.isnan(losses)).sum()
    if np.abs(np.nan_to_num(losses)).max() < 1e30:
        expected = mean_score(torch.from_numpy(losses))
        assert means[0][0] == pytest.approx(expected, rel=1e-6, abs=1e-30, nan_ok=True)


def test_before_there_are_scores_no_rank_is_asked():
    for policy in (PercentileTiers(), InfoBatch(), RandomPruning()):
        ranks = Ranks(3, policy=policy, warmup_epochs=0, target=0.2)
        assert {pruner.current.num_trained for pruner in ranks.pruners} == {480}
        assert ranks.together.num_reductions == 0
    for policy in (PercentileTiers(), InfoBatch()):
        ranks = Ranks(3, policy=policy, warmup_epochs=0)
        assert {pruner.current.num_trained for pruner in ranks.pruners} == {600}
    assert NoScores(10).bounds_at([0, 5])[1].share == 0.5
