"""What a rank records of an epoch whose selection it knows whole."""

import numpy as np
import pytest
import torch

from helpers import UNMERGED, Numbers, new_pruner, random_losses
from helpers.replicated import ranks
from infobatch import DynamicPruner, InfoBatch
from infobatch.loading import Kept


def test_repeats_are_not_recorded():
    losses = random_losses(57, seed=5)
    made = ranks(57, 2, 8)
    for pruner, loader in made:
        for indices, batch in loader:
            pruner.update(losses[batch.long()], indices)
        expected = -(-pruner.selection.num_selected // 2)
        assert pruner.current.num_recorded in (expected, expected - 1)
        assert int(pruner.scores["visits"].sum()) == 57 + pruner.current.num_recorded


OWN = {"sampler": range(0, 64, 2)}


@pytest.mark.parametrize(
    ("every", "own", "warns"),
    [(2, {}, True), (3, {}, True), (1, {}, False), (2, OWN, True), (4, OWN, False), (1, OWN, False)],
    ids=str,
)
def test_a_loader_shared_out_twice_is_noticed(every, own, warns, recwarn):
    """As accelerator.prepare does; a broken-off epoch skips nothing."""
    pruner = DynamicPruner(Numbers(64), 3, rank=0, num_replicas=2, layout=UNMERGED, policy=InfoBatch())
    for step, (indices, batch) in enumerate(pruner.loader(4, **own)):
        if every == 1 and step == 5:
            break
        if step % every == every - 1:
            pruner.record(batch, indices)
    pruner.set_epoch(1)
    said = [str(warning.message) for warning in recwarn]
    assert [("shared out among the ranks a second time" in text) for text in said] == [True] * warns


@pytest.mark.parametrize("order", [np.s_[::-1], np.s_[:]], ids=["reversed", "as it was"])
def test_a_batch_may_be_put_in_another_order(order):
    options = {"rank": 1, "num_replicas": 2, "layout": UNMERGED}
    pruner, losses = DynamicPruner(Numbers(11), 3, **options), random_losses(11)
    for indices, batch in pruner.loader(4):
        mixed = np.arange(len(indices))[order]
        pruner.update(losses[batch.long()][mixed.copy()], indices[mixed])
    trained = pruner.current.share_of_rank()
    trained = trained[trained >= 0]
    assert pruner.current.finished
    assert torch.equal(pruner.scores["last_loss"][trained], losses[trained])
    assert pruner.scores["visits"].sum() == len(trained)


def test_an_unreadable_sample_is_no_sign_of_a_loader_shared_out_twice():
    unreadable = []

    def collate(samples):
        kept = [place for place, sample in enumerate(samples) if sample not in unreadable]
        return Kept(torch.tensor([samples[place] for place in kept]), kept)

    pruner = new_pruner(size=60, rank=0, num_replicas=2, layout=UNMERGED)
    loader = pruner.loader(3, collate_fn=collate)
    unreadable += pruner.current.share[1:2].tolist()  # what is left of the first batch is every other
    for indices, batch in loader:
        pruner.record(batch.float(), indices)
    assert pruner.progress == 1 / pruner.num_epochs


def test_a_rank_whose_batch_is_unreadable_is_told_what_to_do():
    pruner = new_pruner(size=41, rank=0, num_replicas=2, layout=UNMERGED)
    loader = pruner.loader(5, collate_fn=lambda samples: Kept(torch.empty(0), []))
    indices, _ = next(iter(loader))
    with pytest.raises(ValueError, match=r"the batch is empty.*pruner.record\(losses, indices\)"):
        pruner.update(torch.empty(0), indices)
