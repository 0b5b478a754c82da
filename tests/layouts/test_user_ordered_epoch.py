"""An epoch in the order of the user's own sampler, which nobody knows before it has come."""

import numpy as np
import pytest

from helpers import UNMERGED, new_pruner, random_losses
from infobatch.layouts.user_ordered_epoch import UserOrderedEpoch


def begun(**options):
    """A pruner in its first pruned epoch, in the order of a sampler that visits every other sample."""
    pruner = new_pruner(size=60, **options)
    loader = pruner.loader(5, sampler=range(0, 60, 2))
    pruner.record(random_losses(60), np.arange(60))
    pruner.set_epoch(1)
    assert isinstance(pruner.current, UserOrderedEpoch)
    return pruner, loader


ORDER = {
    "num_draws": lambda epoch: epoch.num_draws(),
    "draws": lambda epoch: epoch.draws(),
    "share_of_rank": lambda epoch: epoch.share_of_rank(resumes=False),
}


@pytest.mark.parametrize("ask", ORDER.values(), ids=ORDER)
def test_its_order_is_not_told_before_it_has_come(ask):
    pruner, loader = begun()
    with pytest.raises(RuntimeError, match=r"order of epoch 1 is that of a sampler of yours.* iterate"):
        ask(pruner.current)
    drawn = np.concatenate([indices for indices, _ in loader])
    kept = pruner.selection.indices.numpy()
    assert drawn.tolist() == [index for index in kept if index % 2 == 0]


def test_it_has_no_batches_of_its_own():
    pruner, _ = begun(shrink="batches")
    with pytest.raises(RuntimeError, match=r"no batches of its own: .* filters a sampler of yours"):
        pruner.current.batch_ends()


def test_how_far_it_is_is_told_by_the_draws_of_all_ranks():
    pruner, loader = begun(rank=0, num_replicas=2, layout=UNMERGED)
    epoch, num_drawn = pruner.current, 0
    assert (epoch.num_done, epoch.num_full, epoch.finished) == (0, None, False)
    for indices, batch in loader:
        pruner.record(batch.float(), indices)
        num_drawn += len(indices)
        assert epoch.num_done == 2 * num_drawn
    assert epoch.finished
    assert epoch.length == epoch.num_done
    assert epoch.num_full == 60, "30 draws of each rank's sampler"
    assert epoch.num_trained == pruner.selection.num_selected


def test_its_state_has_the_draws():
    pruner, loader = begun()
    indices, batch = next(iter(loader))
    pruner.record(batch.float(), indices)
    counts = pruner.state_dict()["draws"]["counts"].numpy()
    assert np.array_equal(np.flatnonzero(counts), np.sort(indices))
    again, loader = begun()
    again.load_state_dict(pruner.state_dict())
    assert again.current.is_untouched
    assert again.current.num_done == len(indices)
    rest = np.concatenate([indices for indices, _ in loader])
    assert not np.isin(rest, indices).any()
