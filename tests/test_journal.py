"""What loggers are told of an epoch, when, and how often."""

import pytest
import torch

from helpers import Numbers, launch
from infobatch import DynamicPruner, InfoBatch, NoiseBudget, NoPruning

SIZE, EPOCHS, BATCH = 40, 5, 8
LABELS = torch.arange(SIZE) % 4
LOSSES = torch.linspace(0.1, 4, SIZE) ** 2


def trained(pruner, stop=None):
    """Train; as far as a number of steps if one is given."""
    loader, steps = pruner.loader(BATCH), 0
    for epoch in pruner.epochs():
        for indices, _ in loader:
            pruner.update(LOSSES[indices] / (1 + epoch), indices)
            steps += 1
            if steps == stop:
                return


def logged(stop=None, labels=LABELS, **options):
    logs = []
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, **{"policy": InfoBatch(0.5), "delta": 1, **options})
    pruner.log_to(logs.append, labels=labels)
    trained(pruner, stop)
    return pruner, logs


def test_each_epoch_is_told_of_once_with_what_the_report_says():
    pruner, logs = logged()
    report = pruner.report()
    assert [log.epoch for log in logs] == list(range(EPOCHS))
    assert logs[-1].values["infobatch/saved"] == pytest.approx(report.saved)
    for log, counts in zip(logs, report.epochs, strict=True):
        assert log.values["infobatch/epoch"] == log.epoch
        assert log.values["infobatch/kept"] == pytest.approx(counts.num_selected / SIZE)
        assert log.values.get("infobatch/noise") == counts.noise
        assert ("infobatch/effective_share" in log.values) == (log.epoch > 0)
    pruner.finish()
    assert len(logs) == EPOCHS


def test_keep_rates_are_of_the_samples_that_the_epoch_trained():
    pruner, logs = logged()
    rates = [logs[-1].values[f"infobatch/keep_rate/{label}"] for label in range(4)]
    kept = torch.bincount(LABELS[pruner.selection.indices], minlength=4) / 10
    assert rates == pytest.approx(kept.tolist())
    assert [logs[0].values[f"infobatch/keep_rate/{label}"] for label in range(4)] == [1.0] * 4
    assert not [name for name in logged(labels=None)[1][0].values if "keep_rate" in name]


def test_losses_and_suspects_are_the_latest():
    pruner, logs = logged(policy=NoPruning())
    last = logs[-1]
    assert last.losses.counts.sum() == SIZE
    assert last.losses.total / SIZE == pytest.approx(pruner.mean_loss)
    assert last.values["infobatch/mean_loss"] == pytest.approx(pruner.mean_loss)
    assert [suspect.index for suspect in last.suspects] == list(range(SIZE - 1, SIZE - 21, -1))
    first = last.suspects[0]
    assert (first.loss, first.visits, first.label) == (pytest.approx(16 / 5), EPOCHS, 3)
    assert "highest losses: samples 39, 38" in str(last)


def test_a_run_that_stops_early_is_told_of_by_finish():
    pruner, logs = logged(stop=7)
    assert [log.epoch for log in logs] == [0]
    pruner.finish()
    assert [log.epoch for log in logs] == [0, 1]


def test_an_epoch_that_goes_on_after_finish_is_told_of_whole():
    whole = logged()[1]
    pruner, logs = logged(stop=7)
    pruner.finish()
    pruner.finish()
    trained(pruner)
    assert [log.epoch for log in logs] == [0, 1, 1, 2, 3, 4]
    assert [str(log) for log in logs[:1] + logs[2:]] == [str(log) for log in whole]


def test_a_logger_that_fails_takes_no_epoch_from_the_others():
    seen, faults = [], [ConnectionError()]
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch(0.5), delta=1)

    def failing(log):
        if log.epoch == 1 and faults:
            raise faults.pop()
        seen.append(("failing", log.epoch))

    pruner.log_to(lambda log: seen.append(("before", log.epoch)), failing)
    pruner.log_to(lambda log: seen.append(("after", log.epoch)))
    with pytest.raises(ConnectionError):
        trained(pruner)
    trained(pruner)
    assert sorted(seen) == [(name, i) for name in ("after", "before", "failing") for i in range(EPOCHS)]


def test_a_resumed_run_goes_on_with_the_epoch_under_way():
    whole = logged()[1]
    pruner, before = logged(stop=12)
    again, after = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch(0.5), delta=1), []
    again.loader(BATCH)
    again.log_to(after.append, labels=LABELS)
    again.load_state_dict(pruner.state_dict())
    trained(again)
    assert [str(log) for log in [*before, *after]] == [str(log) for log in whole]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (["runs/x"], {}, TypeError, "'runs/x' is no logger: it must be called with an EpochLog"),
        ([], {"labels": [1, 2]}, ValueError, r"labels have the shape \(2,\), but the dataset has 40"),
        ([], {"labels": ["cat"] * 40}, ValueError, "labels has cat, which is no number of a class"),
        ([], {"labels": [1.0, float("nan")] * 20}, ValueError, "labels has nan, which is no number"),
        ([], {"labels": [None] * 40}, ValueError, "labels has None, which is no number of a class"),
        ([], {"num_suspects": -1}, ValueError, "num_suspects is -1; it must be at least 0"),
    ],
)
def test_bad_input_is_told_before_training(arguments, options, error, message):
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS)
    with pytest.raises(error, match=message):
        pruner.log_to(*arguments, **options)


def test_what_is_refused_changes_nothing():
    pruner, logs = DynamicPruner(Numbers(SIZE), EPOCHS), []
    pruner.loader(BATCH)
    with pytest.raises(ValueError, match="labels have the shape"):
        pruner.log_to(print, labels=[1, 2], num_suspects=3)
    pruner.log_to(logs.append)
    trained(pruner)
    assert not any("keep_rate" in name for name in logs[-1].values)
    assert len(logs[-1].suspects) == min(SIZE, 20)


RANKS = """
    import sys

    import torch
    import torch.distributed as dist
    from infobatch import DynamicPruner, NoiseBudget, Sharded, RandomPruning

    rank, replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo", rank=rank, world_size=replicas)
    told, refused = {}, ""
    for name, options in {
        "replicated": {"policy": NoiseBudget(1.3)},
        "sharded": {"policy": RandomPruning(0.4), "layout": Sharded(num_shards=4)},
    }.items():
        logs = told[name] = []
        pruner = DynamicPruner(range(40), 4, delta=1, **options)
        pruner.log_to(lambda log: logs.append((dict(log.values), len(log.suspects))), labels=[0, 1] * 20)
        loader = pruner.loader(5)
        for epoch in pruner.epochs():
            for indices, _ in loader:
                pruner.update(torch.as_tensor(indices + 1) ** 2 / 100, indices)
    pruner = DynamicPruner(range(40), 4)
    if rank == 0:
        pruner.log_to(print)
    pruner.loader(5)
    try:
        pruner.set_epoch(0)
    except RuntimeError as error:
        refused = str(error)
    torch.save((told, refused), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
"""


def test_the_first_rank_alone_is_told_of_what_all_trained(tmp_path):
    (first, refused), (second, _) = launch(RANKS, 2, tmp_path)
    assert second == {"replicated": [], "sharded": []}
    assert [values["infobatch/epoch"] for values, _ in first["replicated"]] == [0, 1, 2, 3]
    values, num_suspects = first["replicated"][-1]
    assert values["infobatch/noise"] >= 1, "also of the last epoch, which no other follows"
    assert values["infobatch/keep_rate/0"] > 0
    assert num_suspects == 20
    values, num_suspects = first["sharded"][-1]
    assert {"infobatch/saved", "infobatch/kept"} <= values.keys()
    assert not {"infobatch/mean_loss", "infobatch/keep_rate/0"} & values.keys()
    assert num_suspects == 0
    assert "the number of loggers (of log_to, which is called on every rank) is 1 on rank 0" in refused


def test_a_step_costs_nothing_more(monkeypatch):
    """Nothing is worked out before an epoch has ended."""
    logs = []
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=NoiseBudget())
    pruner.log_to(logs.append)
    asked = []
    monkeypatch.setattr(pruner._journal, "tell", lambda *parts: asked.append(parts))
    trained(pruner, stop=SIZE // BATCH)
    assert asked == []
