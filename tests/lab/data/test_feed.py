"""Loader processes see the epoch, and ranks share the test images."""

import torch

from infobatch.distributed import Replicas
from infobatch.lab.data import load_data, make_feed

CPU = torch.device("cpu")


def test_running_workers_see_the_epoch(folders):
    feed = make_feed(load_data("imagenet", folders), CPU, 0, 2)
    loader = torch.utils.data.DataLoader(feed.dataset, 24, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in (1, 2, 1):
        feed.begin(epoch)
        seen.append(next(iter(loader))[0])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_processes_share_the_test_images(folders):
    feed = make_feed(load_data("imagenet", folders), CPU, 0, 0)
    batches = [batch for rank in range(4) for batch in feed.test_batches(Replicas(rank, 4))]
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == [0, 0, 1, 1, 2, 2]
