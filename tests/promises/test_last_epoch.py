"""The last epoch of a run is looked at, merged and told of as the others are."""

import warnings

import pytest
import torch

from helpers import launch, new_pruner
from infobatch import NoPruning

ON_RANKS = """
    import sys, warnings, torch, torch.distributed as dist
    from infobatch import DynamicPruner, NoPruning
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_replicas
    )
    try:
        pruner = DynamicPruner(range(41), num_epochs=3, policy=NoPruning())
        loader = pruner.loader(5)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for epoch in pruner.epochs():
                for indices, _ in loader:
                    pruner.record(torch.full((len(indices),), VALUE), indices)
        scores = pruner.scores
        said = [str(warning.message) for warning in caught if warning.category is UserWarning]
        torch.save([scores["visits"], scores["last_loss"], said], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_each_rank_has_all_scores_when_the_run_has_ended(tmp_path):
    for visits, losses, said in launch(ON_RANKS.replace("VALUE", "1.0 + epoch"), 2, tmp_path):
        assert (visits == 3).all()
        assert (losses == 3).all()
        assert said == []


def test_each_rank_warns_of_each_epoch_that_diverged(tmp_path):
    for *_, said in launch(ON_RANKS.replace("VALUE", "float('nan') if epoch else 1.0"), 2, tmp_path):
        assert [message.split(":")[0] for message in said] == [
            f"all losses of epoch {epoch} were NaN or infinite" for epoch in (1, 2)
        ]


def train(pruner, loader, of_bad, last=None):
    for epoch in pruner.epochs():
        for indices, batch in loader:
            pruner.record(torch.where(batch < 4, of_bad, 1.0), indices)
        if epoch == last:
            return


def test_a_run_whose_last_epoch_diverges_has_a_warning():
    pruner = new_pruner(size=4, num_epochs=2, policy=NoPruning())
    with pytest.warns(UserWarning, match="all losses of epoch [01] were NaN") as caught:
        train(pruner, pruner.loader(2), torch.nan)
    assert len(caught) == 2


def test_samples_that_are_always_nan_are_no_divergence_after_a_resume():
    def begun():
        pruner = new_pruner(size=40, num_epochs=30, policy=NoPruning())
        return pruner, pruner.loader(10)

    pruner, loader = begun()
    train(pruner, loader, torch.nan, last=15)
    assert pruner.scores.num_nonfinite > 40
    again, loader = begun()
    again.load_state_dict(pruner.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(again, loader, torch.nan, last=20)
