"""What was trained, left out, and how noisy its steps were."""

import pytest
import torch
from torch.utils.data import BatchSampler

from helpers import UNMERGED, Numbers, random_losses, train_epoch, without_address
from infobatch import DynamicPruner, NoiseBudget, NoPruning, RandomPruning
from infobatch.policies import Proportional


def test_an_epoch_broken_off_is_reported_as_far_as_it_went():
    pruner = DynamicPruner(Numbers(100), 6)
    loader = pruner.loader(8)
    for step, (indices, _) in enumerate(loader):
        pruner.update(random_losses(100)[indices], indices)
        if step == 3:
            break
    (counts,) = pruner.report().epochs
    assert counts == (0, 100, 32, 100, None, 1.0)


class Interrupted(RandomPruning):
    """Does not come to draw epoch 2."""

    def keep_probabilities(self, scores, request):
        if request.epoch == 2:
            raise KeyboardInterrupt
        return super().keep_probabilities(scores, request)


def test_an_epoch_is_counted_once_where_the_next_could_not_be_made():
    def start():
        pruner = DynamicPruner(Numbers(100), 4, policy=Interrupted(0.5), delta=1)
        return pruner, pruner.loader(10)

    pruner, loader = start()
    logs = []
    for epoch in (0, 1):
        pruner.set_epoch(epoch)
        train_epoch(pruner, loader, random_losses(100))
    with pytest.raises(KeyboardInterrupt):
        pruner.set_epoch(2)
    pruner.log_to(logs.append)
    pruner.finish()
    resumed, _ = start()
    resumed.load_state_dict(pruner.state_dict())
    for each in (pruner, resumed):
        assert [counts.num_recorded for counts in each.report().epochs] == [100, 50]
    assert logs[0].values["infobatch/saved"] == 0.25


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_report_counts_what_was_trained(drop_last):
    pruner = DynamicPruner(Numbers(100), 6)
    loader = pruner.loader(8, drop_last=drop_last)
    trained = [sum(map(len, train_epoch(pruner, loader, random_losses(100)))) for _ in pruner.epochs()]
    report = pruner.report()
    assert [counts.num_recorded for counts in report.epochs] == trained
    assert [counts.num_selected for counts in report.epochs] == trained
    assert report.num_recorded == sum(trained) == int(pruner.scores["visits"].sum())
    full = 6 * (96 if drop_last else 100)
    assert report.saved == pytest.approx(1 - sum(trained) / full)
    assert f"6 epochs: {sum(trained)} of {full} samples trained" in str(report)


@pytest.mark.parametrize(("num_replicas", "where"), [(1, ""), (2, " on this rank alone")])
def test_losses_that_are_not_finite_are_counted_on_each_rank(num_replicas, where):
    options = {"rank": 0, "num_replicas": num_replicas, "layout": UNMERGED}
    pruner = DynamicPruner(Numbers(100), 6, **options)
    indices, _ = next(iter(pruner.loader(8)))
    pruner.update(torch.tensor([1.0] * 7 + [float("nan")]), indices)
    assert f"1 losses or signals were NaN or infinite{where}; those" in str(pruner.report())


def test_epochs_that_train_something_are_counted():
    pruner = DynamicPruner(Numbers(100), 1.05, policy=NoPruning())
    loader = pruner.loader(10, drop_last=True)
    for _ in pruner.epochs():
        train_epoch(pruner, loader, random_losses(100))
    assert pruner.epoch == 1, "whose only batch is dropped"
    assert str(pruner.report()).startswith("1 epoch: 100 of 100 samples")


class Untold:
    """Gives indices without telling how many."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return iter(range(self.size))


@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize(
    ("length", "options", "num_full"),
    [
        ({"num_epochs": 2.5}, {}, 250),
        ({"num_epochs": 3}, {"drop_last": True}, 288),
        ({"max_steps": 20}, {}, 156),
        ({"num_epochs": 2}, {"sampler": range(40)}, 80),
        ({"num_epochs": 2.5}, {"sampler": range(48)}, 120),
        ({"num_epochs": 2}, {"sampler": range(42), "drop_last": True}, 80),
        ({"max_steps": 8}, {"batch_sampler": BatchSampler(range(30), 8, True)}, 64),
        ({"num_epochs": 2}, {"sampler": Untold(42)}, 84),
    ],
    ids=without_address,
)
def test_nothing_is_left_out_of_what_would_not_be_trained(shrink, length, options, num_full):
    pruner = DynamicPruner(Numbers(100), policy=NoPruning(), shrink=shrink, **length)
    loader = pruner.loader(**{} if "batch_sampler" in options else {"batch_size": 8}, **options)
    for _ in pruner.epochs():
        train_epoch(pruner, loader, random_losses(100))
    report = pruner.report()
    assert (report.saved, report.num_full, report.num_recorded) == (0, num_full, num_full)


@pytest.mark.parametrize(
    "policy", [NoiseBudget(), Proportional(0.3, by="gradient_norm"), None], ids=repr
)
def test_a_report_can_be_asked_for_when_an_epoch_begins(policy):
    pruner = DynamicPruner(Numbers(100), 4, policy=policy)
    loader = pruner.loader(10)
    losses = random_losses(100) ** 4
    for epoch in pruner.epochs():
        assert len(pruner.report().epochs) == epoch + 1
        assert pruner.report().epochs[-1].noise is None, "nothing of it is trained yet"
        for indices, _ in loader:
            norms = losses[indices].clamp(max=1)
            pruner.update(losses[indices], indices, gradient_norms=norms)


def test_a_run_that_trains_nothing_saves_nothing():
    pruner = DynamicPruner(Numbers(64), num_epochs=0.4)
    loader = pruner.loader(64, drop_last=True)
    for _ in pruner.epochs():
        train_epoch(pruner, loader, random_losses(64))
    assert pruner.report().saved == 0
    assert "0 of 0 samples" in str(pruner.report())
