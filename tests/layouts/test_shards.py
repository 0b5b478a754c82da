"""Every sample has one place in one shard, and every shard one rank."""

import numpy as np
import pytest

from infobatch.distributed import Replicas
from infobatch.layouts.shards import Shards, default_num_shards


@pytest.mark.parametrize(("size", "num_shards", "num_replicas"), [(57, 6, 3), (64, 8, 3), (30, 30, 7)])
def test_every_sample_has_one_place_on_one_rank(size, num_shards, num_replicas):
    owners = np.zeros(size, int)
    for rank in range(num_replicas):
        shards = Shards(size, num_shards, Replicas(rank, num_replicas))
        own = np.concatenate([shards.indices(column) for column in range(len(shards.ids))])
        assert shards.locate(own).tolist() == list(range(shards.num_local))
        assert (shards.locate(np.setdiff1d(np.arange(size + 40), own)) == -1).all()
        assert shards.ids[shards.columns(own)].tolist() == (own % num_shards).tolist()
        owners[own] += 1
        assert shards.by_rank(shards.shared(size))[rank] == shards.num_local
    assert (owners == 1).all()


@pytest.mark.parametrize(
    ("num_samples", "num_shards"),
    [(1, 1), (320, 10), (10**5, 60), (1_281_167, 960), (10**9, 7680), (10**12, 7680)],
)
def test_the_number_of_shards_follows_the_data_alone(num_samples, num_shards):
    assert default_num_shards(num_samples) == num_shards
