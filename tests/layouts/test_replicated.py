"""Ranks that each hold all scores merge what each of them has recorded."""

import numpy as np
import pytest
import torch

from helpers import Numbers, launch
from helpers.replicated import ranks
from infobatch import DynamicPruner, InfoBatch, Replicated

PROGRAM = """
    import sys, torch, torch.distributed as dist
    from infobatch import DynamicPruner, InfoBatch
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=num_replicas)

    def make():
        pruner = DynamicPruner(range(57), 4, policy=InfoBatch())
        return pruner, pruner.loader(5)

    def train(pruner, loader):
        for epoch in pruner.epochs():
            for indices, batch in loader:
                pruner.update(losses[batch] / (epoch + 1), indices)
                yield epoch, indices.tolist(), pruner.progress

    def columns(pruner):
        return {name: value.clone() for name, value in pruner.scores.state_dict()["columns"].items()}

    try:
        losses = torch.rand(57, generator=torch.Generator().manual_seed(0))
        first, loader = make()
        unsaved = list(train(first, loader))
        reports = [str(first.report())]
        pruner, loader = make()
        steps, states = [], []
        for step in train(pruner, loader):
            steps.append(step)
            states.append(pruner.state_dict())
        assert steps == unsaved, "saving changes the run"
        for done in range(0, len(steps), 3):
            resumed, loader = make()
            resumed.load_state_dict(states[done])
            rest = list(train(resumed, loader))
            assert rest == steps[done + 1 :], (done, rest, steps[done + 1 :])
            resumed.state_dict()
            for name, column in columns(pruner).items():
                assert torch.equal(column, columns(resumed)[name]), (done, name)
        reports.append(str(pruner.report()))
        torch.save([states, steps, reports], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


@pytest.mark.parametrize("num_replicas", [2, 3])
def test_processes_share_scores_and_resume(num_replicas, tmp_path):
    saved = launch(PROGRAM, num_replicas, tmp_path)
    losses = torch.rand(57, generator=torch.Generator().manual_seed(0))
    states, steps, reports = zip(*saved, strict=True)
    for step in zip(*states, strict=True):
        for name in ("last_loss", "visits"):
            one, *others = (state["scores"]["columns"][name] for state in step)
            assert all(torch.equal(one.nan_to_num(-1), other.nan_to_num(-1)) for other in others)
        assert all(torch.equal(step[0]["weights"], state["weights"]) for state in step)
        assert all(torch.equal(step[0]["recorded"], state["recorded"]) for state in step)
        assert all(step[0]["history"] == state["history"] for state in step)
    trained = np.zeros((4, 57), bool)
    for epoch, indices, _ in (step for rank in steps for step in rank):
        real = [i for i in indices if i >= 0]
        assert not trained[epoch, real].any(), "trained twice"
        trained[epoch, real] = True
    last = states[0][-1]
    assert last["scores"]["columns"]["visits"].tolist() == trained.sum(0).tolist()
    last_epoch = 3 - trained[::-1].argmax(0)
    expected = torch.stack([losses / (epoch + 1) for epoch in range(4)])[last_epoch, range(57)]
    assert torch.equal(last["scores"]["columns"]["last_loss"], expected)
    assert trained.sum(1).tolist()[:1] + trained.sum(1).tolist()[3:] == [57, 57]
    assert [step[-1] for step in steps[0]] == sorted(step[-1] for step in steps[0])
    assert steps[0][-1][-1] == 1
    for report in (report for rank in reports for report in rank):
        assert f"{trained.sum()} of 228 samples trained" in report


CALIBRATION = """
    import sys, torch, torch.distributed as dist
    from itertools import islice
    from infobatch import DynamicPruner, NoiseBudget, Spaced
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=num_replicas)

    class Watched(NoiseBudget):
        def keep_probabilities(self, scores, request):
            shown.append(scores["weight"].clone())
            return super().keep_probabilities(scores, request)

    shown, trained, weights = [], [], []
    try:
        losses = torch.rand(80, generator=torch.Generator().manual_seed(0)) ** 4
        pruner = DynamicPruner(range(80), 4, policy=Watched(2.0))
        loader = pruner.loader(5)
        shown.clear()  # of the rehearsal
        for epoch in pruner.epochs():
            weights.append(pruner.selection.weights)
            trained.append(torch.zeros(80, dtype=torch.bool))
            for _ in range(2):
                pruner.load_state_dict(pruner.state_dict())
                for indices, batch in islice(loader, 2):
                    trained[-1][indices[indices >= 0]] = True
                    pruner.update(losses[batch], indices)
        spaced = DynamicPruner(range(80), 4, policy=Spaced(NoiseBudget(2.0)))
        loader = spaced.loader(5)
        for epoch in spaced.epochs():
            for indices, batch in loader:
                spaced.update(losses[batch] / (epoch + 1), indices)
        columns = spaced.state_dict()["scores"]["columns"]
        torch.save([shown, trained, weights, columns], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_ranks_calibrate_by_what_any_of_them_trained(tmp_path):
    saved = launch(CALIBRATION, 2, tmp_path)
    for shown, _, weights, _ in saved:
        for epoch in range(3):
            trained = saved[0][1][epoch] | saved[1][1][epoch]
            assert torch.equal(shown[epoch], weights[epoch] * trained)
            assert 0 < torch.count_nonzero(shown[epoch]) < torch.count_nonzero(weights[epoch])
    one, other = (columns for *_, columns in saved)
    assert {"credit", "weight", "trained_at"} < one.keys()
    for name in one:
        assert torch.equal(one[name].nan_to_num(-1), other[name].nan_to_num(-1)), name


def test_ranks_without_a_process_group_do_not_drift_apart():
    pruner = DynamicPruner(Numbers(40), 3, rank=1, num_replicas=2, policy=InfoBatch())
    loader = pruner.loader(4)
    for indices, batch in loader:
        pruner.update(batch, indices)
    for merging in (pruner.state_dict, lambda: pruner.set_epoch(1)):
        with pytest.raises(RuntimeError, match=r"not initialized, .*init_process_group .*merge="):
            merging()
    assert pruner.epoch == 0


def test_ranks_may_merge_their_scores_themselves():
    tables = []

    def merge(scores, recorded):
        for other, recorded_there in tables:
            scores["last_loss"][recorded_there] = other["last_loss"][recorded_there]
        return np.logical_or.reduce([mine for _, mine in tables])

    made = []
    for rank in range(2):
        pruner = DynamicPruner(
            Numbers(40), 3, rank=rank, num_replicas=2, layout=Replicated(merge=merge), policy=InfoBatch()
        )
        for indices, batch in pruner.loader(4):
            pruner.update(batch, indices)
        made.append(pruner)
        tables.append((pruner.scores, pruner.current.recorded.copy()))
    for pruner in made:
        pruner.set_epoch(1)
        assert pruner.scores["last_loss"].tolist() == list(range(40))
        assert torch.equal(pruner.selection.weights, made[0].selection.weights)


def test_ranks_that_merge_by_themselves_have_all_scores_at_the_end():
    def merge(scores, recorded):
        """What the other rank would have recorded."""
        scores["last_loss"][~recorded] = 7
        return np.ones_like(recorded)

    for finish in (lambda pruner: list(pruner.epochs()), DynamicPruner.finish):
        layout = Replicated(merge=merge)
        pruner = DynamicPruner(Numbers(40), 1, rank=0, num_replicas=2, layout=layout)
        for indices, _ in pruner.loader(4):
            pruner.update(torch.ones(4), indices)
        finish(pruner)
        assert sorted(pruner.scores["last_loss"].tolist()) == [1] * 20 + [7] * 20


@pytest.mark.parametrize("num_replicas", [2, 4])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("options", [{}, {"target": 0.25}], ids=str)
def test_several_of_a_part_select_as_one_of_32(num_replicas, drop_last, options):
    ((one, whole),) = ranks(200, 1, 32, drop_last, **options)
    several = ranks(200, num_replicas, 32 // num_replicas, drop_last, **options)
    assert len(set(one.selection.weights.tolist())) > 1
    for pruner, loader in several:
        assert torch.equal(one.selection.weights, pruner.selection.weights)
        assert torch.equal(one.current.order, pruner.current.order)
        assert pruner.full_steps == one.full_steps
        assert len(loader) == len(whole)
    for (indices, _), *parts in zip(whole, *(loader for _, loader in several), strict=True):
        together = {i for part, _ in parts for i in part.tolist() if i >= 0}
        assert together == set(indices.tolist())
