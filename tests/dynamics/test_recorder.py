"""Runs that record their epochs: what the files hold, in whatever way a run is driven or resumed."""

import copy
import shutil
from collections import deque
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers import Numbers, check_same_history, launch, random_losses
from helpers.sharded import Ranks
from helpers.streams import make as make_stream
from helpers.streams import train_epoch as train_stream
from infobatch import (
    DynamicPruner,
    InfoBatch,
    NoPruning,
    RandomPruning,
    Sharded,
    classification_margins,
    read_dynamics,
)
from infobatch.dynamics import Recording
from infobatch.policies import Kakurenbo

SIZE, EPOCHS, BATCH = 40, 5, 8
LOSSES = random_losses(SIZE * EPOCHS).reshape(EPOCHS, SIZE)
"""The loss of each sample in each epoch."""


def made(folder, **options):
    options = {"policy": RandomPruning(0.4), "delta": 1.0, **options}
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, record_to=folder, **options)
    return pruner, pruner.loader(BATCH)


def steps(pruner, loader, margins=True):
    """Train, and give a state after each step."""
    for epoch in pruner.epochs():
        for indices, _ in loader:
            losses = LOSSES[epoch, indices]
            pruner.update(losses, indices, **({"margins": 1 - losses} if margins else {}))
            yield epoch, indices


def trained(pruner, loader, **options):
    """What each epoch trained, by its number."""
    samples = {}
    for epoch, indices in steps(pruner, loader, **options):
        samples.setdefault(epoch, []).extend(indices.tolist())
    return samples


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def near(values, expected):
    return values == pytest.approx(expected, rel=3 / 128)


@pytest.mark.parametrize("policy", [NoPruning(), RandomPruning(0.4)])
def test_an_epoch_has_a_row_for_each_sample_it_trained(tmp_path, policy):
    samples = trained(*made(tmp_path / "new/dynamics", policy=policy))
    dynamics = read_dynamics(tmp_path / "new/dynamics")
    assert dynamics.epochs == [0, 1, 2, 3, 4]
    for record in dynamics:
        assert record.index.tolist() == sorted(samples[record.epoch])
        expected = LOSSES[record.epoch, record.index].numpy()
        assert near(record.loss, expected)
        assert near(record.margin, 1 - expected) or np.allclose(record.margin, 1 - expected, atol=2e-2)
        assert record.confidence is None


def test_recording_changes_nothing_of_a_run(tmp_path):
    options = {"policy": InfoBatch(0.6), "delta": 1.0}
    plain = DynamicPruner(Numbers(SIZE), EPOCHS, **options)
    recorded = DynamicPruner(Numbers(SIZE), EPOCHS, record_to=tmp_path, **options)
    assert trained(recorded, recorded.loader(BATCH)) == trained(plain, plain.loader(BATCH))
    assert recorded.report() == plain.report()
    for name in plain.scores.columns:
        assert torch.equal(recorded.scores[name], plain.scores[name])


@pytest.mark.parametrize("options", [{}, {"layout": Sharded(4), "policy": InfoBatch()}], ids=str)
def test_a_resumed_run_leaves_the_files_of_one_that_was_not_interrupted(tmp_path, options):
    whole, loader = made(tmp_path / "whole", **options)
    states, folders = [], []
    for number, _ in enumerate(steps(whole, loader)):
        states.append(copy.deepcopy(whole.state_dict()))
        folders.append(shutil.copytree(tmp_path / "whole", tmp_path / f"{number}"))
    expected = contents(tmp_path / "whole")
    assert len(expected) == EPOCHS
    for state, folder in zip(states, folders, strict=True):
        resumed, loader = made(folder, **options)
        resumed.load_state_dict(state)
        trained(resumed, loader)
        assert contents(folder) == expected, folder.name


def test_epochs_after_an_older_state_are_replaced(tmp_path):
    pruner, loader = made(tmp_path)
    states = [copy.deepcopy(pruner.state_dict()) for _ in steps(pruner, loader)]
    before = contents(tmp_path)
    again, loader = made(tmp_path)
    again.load_state_dict(states[5])
    assert contents(tmp_path) == before, "looking at a state removes nothing"
    epoch = again.epoch
    next(steps(again, loader))
    assert list(contents(tmp_path)) == list(before)[: epoch + (again.epoch > epoch)]


def test_a_loop_that_sets_epochs_finishes_by_a_call(tmp_path):
    pruner, loader = made(tmp_path)
    for epoch in range(EPOCHS):
        pruner.set_epoch(epoch)
        for indices, _ in loader:
            pruner.update(LOSSES[epoch, indices], indices)
    assert read_dynamics(tmp_path).epochs == [0, 1, 2, 3]
    pruner.finish()
    assert read_dynamics(tmp_path).epochs == [0, 1, 2, 3, 4]


def test_a_run_that_stops_early_has_what_it_trained(tmp_path):
    pruner, loader = made(tmp_path)
    *_, (_, last) = islice(steps(pruner, loader), 6)  # a step into epoch 1
    pruner.finish()
    assert read_dynamics(tmp_path)[1].index.tolist() == sorted(last.tolist())
    pruner, loader = made(tmp_path / "other")
    pruner.finish()
    next(pruner.epochs())
    pruner.finish()
    assert contents(tmp_path / "other") == {}, "nothing was trained"


def test_an_interrupt_between_two_epochs_changes_nothing(tmp_path, monkeypatch):
    """The epoch that ended is neither counted nor written again, whichever way the run goes on."""
    expected, told = made(tmp_path / "expected"), []
    trained(*expected)
    pruner, loader = made(tmp_path / "interrupted")
    pruner.log_to(lambda log: told.append(log.epoch))
    run = steps(pruner, loader)
    deque(islice(run, 2 * SIZE // BATCH - 2), 0)  # epochs of 5 and of 3

    def stop(*_):
        raise KeyboardInterrupt

    assert pruner.current.finished
    with monkeypatch.context() as patch:
        patch.setattr(RandomPruning, "keep_probabilities", stop)
        with pytest.raises(KeyboardInterrupt):
            next(run)
    state = copy.deepcopy(pruner.state_dict())
    files = tmp_path / "resumed"
    shutil.copytree(tmp_path / "interrupted", files)
    trained(pruner, loader)
    assert told == list(range(EPOCHS))
    resumed, loader = made(files)
    resumed.load_state_dict(state)
    trained(resumed, loader)
    for other in (pruner, resumed):
        check_same_history(other.history, expected[0].history)
    assert contents(files) == contents(tmp_path / "interrupted") == contents(tmp_path / "expected")


def test_only_some_epochs_may_be_recorded(tmp_path):
    trained(*made(Recording(tmp_path, every=3)))
    assert read_dynamics(tmp_path).epochs == [0, 3, 4]


def test_another_run_into_the_folder_is_refused_before_it_trains(tmp_path):
    trained(*made(tmp_path))
    before = contents(tmp_path)
    with pytest.raises(
        FileExistsError, match=r"has recorded epochs of another run, 0 to 4; give rec.*new"
    ):
        next(steps(*made(tmp_path)))
    assert contents(tmp_path) == before


def test_a_state_of_a_run_with_another_seed_is_refused_before_anything_is_removed(tmp_path):
    trained(*made(tmp_path / "other"))
    before = contents(tmp_path / "other")
    pruner, loader = made(tmp_path / "own", seed=7)
    for number, _ in enumerate(steps(pruner, loader)):
        if number == 6:
            break
    resumed, _ = made(tmp_path / "other", seed=7)
    with pytest.raises(
        FileExistsError, match=r"00000\.parquet is of a run with seed 0, and this run has seed 7; give"
    ):
        resumed.load_state_dict(pruner.state_dict())
    assert contents(tmp_path / "other") == before


def test_a_damaged_epoch_does_not_stop_a_run_that_goes_on(tmp_path):
    pruner, loader = made(tmp_path)
    for number, _ in enumerate(steps(pruner, loader)):
        if number == 6:
            break
    (tmp_path / "epoch-00000.parquet").write_bytes(b"PAR1 cut short")
    resumed, loader = made(tmp_path)
    resumed.load_state_dict(pruner.state_dict())
    trained(resumed, loader)
    assert sorted(contents(tmp_path)) == [f"epoch-{epoch:05}.parquet" for epoch in range(EPOCHS)]


def test_the_folder_stays_where_it_was_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pruner = DynamicPruner(range(8), 1, policy=NoPruning(), record_to="run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for _ in pruner.epochs():
        for indices, _ in pruner.loader(4):
            pruner.update(torch.ones(4), indices)
    assert read_dynamics(tmp_path / "run").epochs == [0]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("file", "file/dynamics"):
        with pytest.raises(NotADirectoryError, match=r"record_to is .*file.*, where there is a file"):
            made(tmp_path / path)


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (["margins"], [], "no margins or confidences came with this batch to be recorded, and margins"),
        ([], ["margins"], "margins came with this batch to be recorded, and no margins or confidences"),
        (["margins"], ["margins", "confidences"], "margins and confidences came with this batch"),
    ],
)
def test_batches_bring_the_same_or_are_refused(tmp_path, first, then, said):
    pruner, loader = made(tmp_path)
    batches = [indices for indices, _ in loader]
    for names, indices in zip([first, then], batches, strict=False):
        losses = LOSSES[0, indices]
        if names is then:
            with pytest.raises(ValueError, match=said):
                pruner.update(losses, indices, **dict.fromkeys(names, losses))
        else:
            pruner.update(losses, indices, **dict.fromkeys(names, losses))


def test_margins_are_refused_in_a_resumed_run_that_had_none(tmp_path):
    pruner, loader = made(tmp_path)
    next(steps(pruner, loader, margins=False))
    resumed, loader = made(tmp_path)
    resumed.load_state_dict(pruner.state_dict())
    with pytest.raises(ValueError, match="margins came with this batch to be recorded"):
        next(steps(resumed, loader))


def test_what_was_trained_without_recording_is_told(tmp_path):
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=RandomPruning(0.4))
    for number, _ in enumerate(steps(pruner, pruner.loader(BATCH))):
        if number == 6:
            break
    resumed, loader = made(tmp_path)
    with pytest.warns(
        UserWarning, match=r"goes on in epoch 1, and .* lacks what it trained of epochs 0, 1"
    ):
        resumed.load_state_dict(pruner.state_dict())
    trained(resumed, loader)
    assert read_dynamics(tmp_path).epochs == [2, 3, 4]


def test_a_loss_that_is_not_finite_is_a_row_without_one(tmp_path):
    pruner, loader = made(tmp_path, policy=NoPruning())
    for epoch in pruner.epochs():
        for indices, _ in loader:
            losses = LOSSES[epoch, indices].clone()
            losses[torch.from_numpy(indices == 3)] = torch.nan if epoch == 1 else 1.0
            margins = torch.where(torch.from_numpy(indices == 4), torch.inf, losses)
            pruner.update(losses, indices, torch.from_numpy(indices != 5), margins=margins)
    dynamics = read_dynamics(tmp_path)
    assert np.isnan(dynamics.history(3)["loss"]).tolist() == [False, True, False, False, False]
    assert np.isnan(dynamics.history(4)["margin"]).all()
    assert not np.isnan(dynamics.history(4)["loss"]).any()
    assert np.isnan(dynamics.history(5)["loss"]).all(), "a sample without a score has none"
    assert dynamics.signals()["times_trained"].tolist() == [EPOCHS] * SIZE
    assert pruner.scores.num_nonfinite == 1


def test_a_dataset_that_grows_is_recorded_as_it_is(tmp_path):
    dataset = Numbers(SIZE)
    pruner = DynamicPruner(dataset, 3, policy=NoPruning(), record_to=tmp_path)
    loader = pruner.loader(BATCH)
    for epoch in pruner.epochs():
        for indices, _ in loader:
            pruner.update(torch.ones(len(indices)), indices)
        dataset.size = SIZE + 2 * (epoch + 1)
    dynamics = read_dynamics(tmp_path)
    assert [record.num_samples for record in dynamics] == [40, 42, 44]
    signals = dynamics.signals()
    assert signals["times_trained"].tolist() == [3] * 40 + [2, 2, 1, 1]
    assert not signals["times_left_out"].any()


def test_what_is_observed_is_not_recorded(tmp_path):
    pruner, loader = made(tmp_path, policy=Kakurenbo(0.3))
    samples = {}
    for epoch in pruner.epochs():
        samples[epoch] = []
        for indices, _ in loader:
            samples[epoch] += indices.tolist()
            losses, batch = LOSSES[epoch, indices], {"confidences": LOSSES[epoch, indices].neg().exp()}
            pruner.update(losses, indices, **batch, margins=losses)
        left_out = pruner.left_out
        if len(left_out):
            losses = LOSSES[epoch, left_out]
            pruner.observe(losses, left_out, confidences=losses.neg().exp())
    for record in read_dynamics(tmp_path):
        assert record.index.tolist() == sorted(samples[record.epoch])
        assert near(record.confidence, np.exp(-LOSSES[record.epoch, record.index].numpy()))
    assert read_dynamics(tmp_path).signals()["times_left_out"].sum() > 0


def test_a_stream_is_recorded(tmp_path):
    pruner, keep, stream = make_stream(policy=RandomPruning(0.4), record_to=tmp_path)
    losses, samples = random_losses(pruner.num_samples), {}
    for epoch in pruner.epochs():
        batches = train_stream(keep, DataLoader(stream, BATCH), losses)
        samples[epoch] = sorted(chain.from_iterable(batches))
    dynamics = read_dynamics(tmp_path)
    assert dynamics.num_epochs == pruner.num_epochs
    for record in dynamics:
        assert record.index.tolist() == samples[record.epoch]


def test_sharded_ranks_write_a_part_each(tmp_path):
    ranks = Ranks(2, size=120, policy=InfoBatch(), record_to=tmp_path)
    losses = random_losses(120)
    every_step = ranks.train(losses)
    assert [path.name for path in sorted(tmp_path.iterdir())][:2] == [
        "epoch-00000-rank-0.parquet",
        "epoch-00000-rank-1.parquet",
    ]
    for record in read_dynamics(tmp_path):
        drawn = {i for e, made in every_step if e == record.epoch for own, _ in made for i in own}
        assert record.index.tolist() == sorted(i for i in drawn if i >= 0)
        assert near(record.loss, losses[record.index].numpy() / (record.epoch + 1))


def test_parts_of_an_earlier_number_of_ranks_are_removed(tmp_path):
    ranks = Ranks(3, size=120, policy=InfoBatch(), record_to=tmp_path)
    ranks.train(random_losses(120), num_steps=14)
    states = ranks.states()
    assert max(state["epoch"] for state in states) == 1
    fewer = Ranks(2, size=120, policy=InfoBatch(), record_to=tmp_path).load(states)
    fewer.train(random_losses(120))
    dynamics = read_dynamics(tmp_path)
    assert [len(dynamics[epoch].index) for epoch in (0, 3)] == [120, dynamics[3].index.size]
    assert len(list(tmp_path.iterdir())) == 3 + 3 * 2


PROGRAM = """
    import sys, torch, torch.distributed as dist
    from infobatch import DynamicPruner, NoPruning, RandomPruning
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=num_replicas)
    try:
        losses = torch.rand(57, generator=torch.Generator().manual_seed(0))

        def train(to, bring=True):
            pruner = DynamicPruner(range(57), 4, policy=RandomPruning(0.4), record_to=f"{folder}/{to}")
            loader = pruner.loader(5)
            for epoch in pruner.epochs():
                for indices, batch in loader:
                    values = losses[batch] / (epoch + 1)
                    pruner.update(values, indices, **({"margins": values} if bring else {}))

        train("dynamics")
        try:
            train("other", bring=rank == 0)
        except RuntimeError as error:
            torch.save(str(error), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_of_processes_that_hold_all_scores_the_first_writes(tmp_path):
    said = launch(PROGRAM, 2, tmp_path)
    losses = torch.rand(57, generator=torch.Generator().manual_seed(0)).numpy()
    dynamics = read_dynamics(tmp_path / "dynamics")
    assert len(list((tmp_path / "dynamics").iterdir())) == 4
    assert len(dynamics[0].index) == 57 > len(dynamics[1].index)
    for record in dynamics:
        assert near(record.loss, losses[record.index] / (record.epoch + 1))
        assert near(record.margin, record.loss)
    assert all("number of score columns (by what batches bring beside losses) is 4" in e for e in said)


def test_margins_are_those_of_pleiss():
    logits = torch.tensor([[2.0, 5.0, 1.0], [2.0, 5.0, 1.0], [0.5, 0.0, -torch.inf]])
    assert classification_margins(logits, torch.tensor([1, 0, 0])).tolist() == [3, -3, 0.5]
    shares = torch.tensor([[0.7, 0.3, 0], [0, 0.2, 0.8], [1, 0, 0]])
    assert classification_margins(logits.half(), shares).tolist() == [-3, -4, 0.5]
