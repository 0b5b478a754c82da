"""One clear error with cause, value and remedy, before any training time is spent."""

import numpy as np
import pytest
import torch

from helpers import Numbers, random_losses, record_epoch
from infobatch import (
    DynamicPruner,
    IndexedDataset,
    InfoBatch,
    NoPruning,
    RandomPruning,
    Schedule,
    read_scores,
)
from infobatch.policies import KeepProbabilities, PercentileTiers
from infobatch.scores import ScoreTable
from infobatch.selection import draw


def pruner(size=20, num_epochs=5, **options):
    made = DynamicPruner(Numbers(size), num_epochs, **options)
    made.sampler(4)
    return made


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Numbers(0), 5), {}, ValueError, "dataset is empty"),
        ((Numbers(9),), {}, ValueError, "num_epochs is None and max_steps is None; give"),
        ((Numbers(9), 5), {"max_steps": 5}, ValueError, "num_epochs is 5 and max_steps is 5"),
        ((Numbers(9), 0), {}, ValueError, "num_epochs is 0; it must be a number above 0"),
        ((Numbers(9), -1.5), {}, ValueError, r"num_epochs is -1\.5"),
        ((Numbers(9), "ten"), {}, ValueError, "num_epochs is 'ten'"),
        ((Numbers(9), True), {}, ValueError, "num_epochs is True"),
        ((Numbers(9), float("nan")), {}, ValueError, "num_epochs is nan; it must be a number above 0"),
        ((Numbers(9), float("inf")), {}, ValueError, "num_epochs is inf"),
        ((Numbers(9),), {"max_steps": 0}, ValueError, "max_steps is 0"),
        ((Numbers(9), 5), {"delta": float("nan")}, ValueError, "delta is nan"),
        ((Numbers(9), 5), {"target": -0.1}, ValueError, r"target is -0\.1; .* at least 0"),
        ((Numbers(9), 5), {"target": float("nan")}, ValueError, "target is nan"),
        ((Numbers(9), 1e-10), {}, ValueError, "num_epochs is 1e-10; it must be a number above 1e-09"),
        ((Numbers(9), 5), {"delta": "x"}, TypeError, "delta is 'x'; it must be a number, between 0"),
        ((Numbers(9), 5), {"delta": 1.2}, ValueError, r"delta is 1\.2; .* between 0"),
        ((Numbers(9), 5), {"delta": -0.1}, ValueError, r"delta is -0\.1"),
        ((Numbers(9), 5), {"warmup_epochs": -1}, ValueError, "warmup_epochs is -1"),
        ((Numbers(9), 5), {"target": 1.0}, ValueError, r"target is 1\.0; .* less than 1"),
        ((Numbers(9), 5), {"target": 0.9}, ValueError, "cannot be met by any policy"),
        (
            (Numbers(99), 9),
            {"target": 0.4, "policy": InfoBatch()},
            ValueError,
            r"smallest prune_ratio that meets it is 0\.516",
        ),
        ((Numbers(9), 5), {"target": 0.1, "policy": NoPruning()}, ValueError, "leaves out none"),
        ((Numbers(9), 5), {"policy": InfoBatch}, TypeError, r"such as InfoBatch\(prune_ratio=0\.5\)"),
        ((Numbers(9), 5), {"policy": "infobatch"}, TypeError, "policy is 'infobatch'; give an object"),
        ((Numbers(9), 5), {"normalizer": "sum"}, ValueError, "normalizer is 'sum'; choose"),
        ((Numbers(9), 5), {"seed": -1}, ValueError, "seed is -1"),
        ((Numbers(9), 5), {"rank": 1}, ValueError, "rank is 1 and num_replicas is None; give both"),
        ((Numbers(9), 5), {"rank": 2, "num_replicas": 2}, ValueError, r"rank is 2; .* 0\.\.1"),
    ],
)
def test_a_pruner_that_cannot_be(arguments, options, error, message):
    with pytest.raises(error, match=message):
        DynamicPruner(*arguments, **options)


@pytest.mark.parametrize("options", [{"warmup_epochs": 1.5}, {"warmup_epochs": 1.5, "target": 0.1}])
def test_a_warm_up_of_a_broken_number_of_epochs(options):
    with pytest.raises((TypeError, ValueError), match=r"warmup_epochs is 1\.5"):
        DynamicPruner(Numbers(9), 5, **options)


@pytest.mark.parametrize(
    "policy", [InfoBatch(), InfoBatch(0.3), PercentileTiers(), RandomPruning()], ids=repr
)
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_target_that_is_too_high_is_told_the_highest(policy, drop_last):
    def make(target):
        made = DynamicPruner(Numbers(99), 9, policy=policy, target=target)
        made.sampler(8, drop_last=drop_last)
        return made.plan.schedule.most_pruned

    highest = 0.95
    for _ in range(1 + drop_last):  # lower once it is known that pruned epochs keep whole batches
        with pytest.raises(ValueError, match="highest target that can be reached is") as caught:
            make(highest)
        highest = float(str(caught.value).split()[-1])
    assert make(highest) > 0
    with pytest.raises(ValueError, match="highest target"):
        make(highest + 0.02)


@pytest.mark.parametrize("policy", [NoPruning(), InfoBatch(0)], ids=repr)
def test_where_no_target_can_be_met_none_is_named(policy):
    with pytest.raises(ValueError, match="the target leaves out") as caught:
        DynamicPruner(Numbers(99), 9, policy=policy, target=0.3)
    assert "highest" not in str(caught.value)


@pytest.mark.parametrize(("size", "left_out"), [(99, 51), (10**7, 10**7 - 1), (14_197_122, 14_197_121)])
def test_the_smallest_ratio_that_is_named_meets_the_target(size, left_out):
    with pytest.raises(ValueError, match="smallest prune_ratio") as caught:
        InfoBatch(0.5).check_target(left_out, size)
    named = float(str(caught.value).split("meets it is ")[1].split(";")[0])
    InfoBatch(named).check_target(left_out, size)


def test_a_ratio_that_a_target_overrides_is_warned_of():
    with pytest.warns(UserWarning, match=r"prune_ratio=0\.3 has no effect: with a target"):
        DynamicPruner(Numbers(99), 9, policy=RandomPruning(0.3), target=0.2)
    DynamicPruner(Numbers(99), 9, policy=RandomPruning(), target=0.2)
    DynamicPruner(Numbers(99), 9, policy=RandomPruning(0.3))


def test_a_ratio_that_is_no_number():
    with pytest.raises(TypeError, match=r"prune_ratio is '0\.5'; it must be a number"):
        RandomPruning("0.5")


@pytest.mark.parametrize(
    ("probabilities", "strata", "message"),
    [
        ([0.5], [0, 1, 1], "there is a stratum 1, but only 1 keep probabilities; give one for each"),
        ([0.5, float("nan"), 1], None, r"a keep probability is nan; .* in \(0, 1\]"),
        ([0.5, 1.5, 1], None, r"a keep probability is 1\.5"),
        ([0.5, 0.0], [0, 1, 1], r"a keep probability is 0\.0"),
    ],
)
def test_keep_probabilities_that_cannot_be(probabilities, strata, message):
    strata = None if strata is None else torch.tensor(strata, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        draw(KeepProbabilities(torch.tensor(probabilities), strata), torch.Generator())


@pytest.mark.parametrize("target", ["0.3", {"run": 0.3}])
def test_a_target_that_is_neither_a_share_nor_numbers(target):
    with pytest.raises((TypeError, ValueError), match="target is"):
        DynamicPruner(Numbers(9), 3, target=target)


@pytest.mark.parametrize("length", [{"num_epochs": np.int64(3)}, {"max_steps": np.int64(9)}])
def test_a_length_that_numpy_made_is_a_number(length):
    made = DynamicPruner(Numbers(9), **length, seed=np.int64(1))
    made.sampler(3)
    assert made.num_epochs == 3


def test_numbers_for_each_epoch_may_come_as_an_array():
    made = DynamicPruner(Numbers(9), 3, target=np.array([0, 2, 0]))
    assert [made.plan.schedule.num_pruned(epoch) for epoch in range(3)] == [0, 2, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 2.0}, r"delta is 2\.0"),
        ({"target": -0.1}, r"target is -0\.1"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1"),
    ],
)
def test_a_schedule_of_ones_own_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(100, 10, **options)


@pytest.mark.parametrize(
    ("losses", "samples", "error", "message"),
    [
        (torch.tensor(1.0), [1], ValueError, r"losses have shape \(\); .* reduction='none'"),
        (torch.ones(2, 3), [1, 2], ValueError, r"losses have shape \(2, 3\)"),
        (torch.ones(3), [1, 2], ValueError, "3 losses came with 2 indices"),
        (
            torch.ones(0),
            [],
            ValueError,
            "the batch is empty, .* NaN; pass over",
        ),
        (torch.ones(0), np.empty(0, int), ValueError, "the batch is empty"),
        ([0.5, 0.5], [1, 2], TypeError, "losses are a list; give the tensor"),
        (np.ones(2), [1, 2], TypeError, "losses are a ndarray; give the tensor"),
        (torch.ones(2, dtype=torch.long), [1, 2], TypeError, "dtype torch.int64; they must be floating"),
        (torch.ones(2), np.array([1.0, 2.0]), TypeError, "indices have dtype float64; .*as it came"),
        (torch.ones(2), torch.tensor([1.0, 2.0]), TypeError, "indices have dtype float32"),
        (torch.ones(2), np.array([True, False]), TypeError, "indices have dtype bool"),
        (
            torch.ones(2),
            torch.ones(2, dtype=int, device="meta"),
            TypeError,
            "indices are on meta; .* host",
        ),
        (torch.ones(2), np.ones((1, 2), int), ValueError, r"indices have shape \(1, 2\)"),
        (torch.ones(2), [1, 20], ValueError, "sample 20 does not exist: the dataset has 20"),
        (torch.ones(2), [1, -1], ValueError, "sample -1 does not exist"),
    ],
)
@pytest.mark.parametrize("call", ["update", "weigh", "record"])
def test_losses_and_indices_that_do_not_fit(losses, samples, error, message, call):
    made = pruner()
    with pytest.raises(error, match=message):
        getattr(made, call)(losses, samples)
    assert made.scores["last_loss"].isnan().all()
    assert made.current.num_recorded == 0


@pytest.mark.parametrize("scored", [[True], [True, False, True]])
@pytest.mark.parametrize("call", ["update", "record"])
def test_a_mask_of_another_length(scored, call):
    made = pruner()
    with pytest.raises(ValueError, match="scored"):
        getattr(made, call)(torch.ones(2), [1, 2], torch.tensor(scored))
    assert made.current.num_recorded == 0


@pytest.mark.parametrize(
    ("scored", "kind"),
    [
        ([True, False], "list"),
        (np.array([True, False]), "ndarray"),
        (torch.tensor([1, 0]), "torch.int64"),
    ],
)
@pytest.mark.parametrize("call", ["update", "record"])
def test_a_mask_of_another_kind(scored, kind, call):
    made = pruner()
    with pytest.raises(TypeError, match=f"scored is {kind}; give a bool tensor"):
        getattr(made, call)(torch.ones(2), [1, 2], scored)
    assert made.current.num_recorded == 0


def test_no_samples_have_no_weights():
    assert pruner().weights([]).tolist() == []


def test_samples_that_were_not_selected():
    made = pruner()
    record_epoch(made, random_losses(20))
    made.set_epoch(1)
    (left_out, *_) = (made.selection.weights == 0).nonzero().flatten().tolist()
    with pytest.raises(ValueError, match=f"sample {left_out} was not selected in epoch 1; pass"):
        made.update(torch.ones(1), [left_out])


def test_a_finished_epoch_is_not_iterated_again():
    made = DynamicPruner(Numbers(20), 5)
    loader = made.loader(4)
    record_epoch(made, random_losses(20))
    with pytest.raises(RuntimeError, match=r"epoch 0 is finished: .* pruner\.epochs"):
        next(iter(loader))


def test_an_epoch_without_a_single_loss_is_not_passed_over():
    made = pruner()
    made.set_epoch(0)
    with pytest.raises(RuntimeError, match="without a single recorded loss"):
        made.set_epoch(1)


def test_an_epoch_is_not_begun_twice_nor_gone_back_to():
    made = pruner()
    record_epoch(made, random_losses(20))
    made.set_epoch(1)
    weights = made.selection.weights.clone()
    for epoch in (1, 0):
        made.set_epoch(epoch)
        assert made.epoch == 1
        assert torch.equal(made.selection.weights, weights)


def test_an_epoch_before_the_first():
    with pytest.raises(ValueError, match="epoch -1 does not exist"):
        pruner().set_epoch(-1)


def test_an_epoch_past_the_last():
    with pytest.raises(ValueError, match="epoch 5 does not exist: the run has 5"):
        pruner().set_epoch(5)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(21, "the 20 samples are fewer than one batch of 21; lower"), (0, "batch_size is 0")],
)
def test_a_batch_size_that_does_not_fit(batch_size, message):
    with pytest.raises(ValueError, match=message):
        DynamicPruner(Numbers(20), 5).loader(batch_size)


def test_another_batch_size_once_the_run_has_begun():
    made = pruner()
    record_epoch(made, random_losses(20))
    made.sampler(4)
    with pytest.raises(RuntimeError, match="make the loader before training begins"):
        made.sampler(5)


def test_shuffle_false():
    with pytest.raises(ValueError, match="shuffle=False has no meaning here"):
        pruner().loader(4, shuffle=False)


def test_a_dataset_without_indices():
    with pytest.raises(TypeError, match="list_iterator is not a map-style dataset"):
        IndexedDataset(iter([1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 21}, "is of a dataset of 20 samples, this one has 21"),
        ({"seed": 1}, "made with seed 0, this pruner has seed 1"),
        ({"num_epochs": 1}, "taken in epoch 1, but this run has only 1 epochs"),
    ],
)
def test_a_checkpoint_of_another_run(options, message):
    made = pruner()
    record_epoch(made, random_losses(20))
    made.set_epoch(1)
    with pytest.raises(ValueError, match=message):
        pruner(**options).load_state_dict(made.state_dict())


def test_a_checkpoint_of_another_version():
    state = {**pruner().state_dict(), "version": 99}
    with pytest.raises(ValueError, match="version 99, this infobatch reads version 1"):
        pruner().load_state_dict(state)


def test_files_that_are_no_scores(tmp_path):
    with pytest.raises(ValueError, match=r"ends in '\.csv'; name it \.npz or \.parquet"):
        pruner().export(tmp_path / "scores.csv")
    np.savez(tmp_path / "other.npz", loss=np.ones(3))
    with pytest.raises(ValueError, match="has columns loss, but no 'last_loss'"):
        read_scores(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_scores(tmp_path / "missing.npz")


def test_an_unknown_score_column():
    with pytest.raises(ValueError, match="unknown score column 'margin': the table keeps last_loss"):
        ScoreTable(3, ["margin"])


def test_a_schedule_that_counts_no_steps():
    made = pruner()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(TypeError, match="ReduceLROnPlateau does not count steps"):
        made.lr_scheduler(plateau)
