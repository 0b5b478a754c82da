"""What pruned epochs have less of, and the batch of fewer epochs in the same steps."""

from dataclasses import replace

import pytest

from helpers import changed
from infobatch import ShrinkBatches
from infobatch.lab.config.shrinking import (
    shrink_option,
    shrinks_batches,
    smaller_batch,
)
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.training.validate import check_config

BUDGET = TrainConfig(policy="noise-budget:max_noise=1.3")
PAPER = TrainConfig(policy="infobatch")


def test_a_policy_shrinks_what_it_is_made_for_unless_told_otherwise():
    assert shrinks_batches(BUDGET)
    assert shrinks_batches(TrainConfig())
    assert not shrinks_batches(PAPER)
    assert shrinks_batches(replace(PAPER, shrink="batches"))
    assert not shrinks_batches(replace(BUDGET, shrink="steps"))
    for policy in ("none", "selective-backprop"):
        assert not shrinks_batches(TrainConfig(policy=policy, shrink="batches"))


def test_the_pruner_is_given_the_options_of_smaller_batches():
    assert shrink_option(replace(PAPER, least_batch=4)) == "steps"
    assert shrink_option(replace(BUDGET, least_batch=4, batch_multiple=8)) == ShrinkBatches(4, 8)


def test_a_smaller_batch_makes_the_same_steps_of_fewer_epochs():
    config = TrainConfig(epochs=10, batch_size=128)
    assert smaller_batch(config, 6.4, 1) == (82, 0)
    # 66 steps on full data: 5 epochs of 13 and one of 1, where a batch of 107 would have 5 of 14.
    assert smaller_batch(replace(config, epochs=6), 5.0125, 1) == (107, 0)
    assert smaller_batch(replace(config, epochs=6), 5.0125, 1, 1400) == (108, 0)
    assert smaller_batch(config, 10, 1, 1400) == (128, 0)
    assert smaller_batch(config, 0.01, 1, 1400)[0] == 2


def test_a_smaller_batch_leaves_no_single_sample_for_a_step_of_its_own():
    config = TrainConfig(epochs=40, batch_size=8)
    assert smaller_batch(config, 28, 1, 367)[0] == 5, "of 6 the last batch of each epoch has one"
    assert smaller_batch(replace(config, drop_last=True), 28, 1, 367)[0] == 6
    assert smaller_batch(config, 28, 1, 361)[0] == 6, "as on full data"


def test_a_smaller_batch_can_be_shared_and_accumulated():
    config = TrainConfig(epochs=10, batch_size=128)
    assert smaller_batch(config, 6.4, 4) == (80, 0)
    small = changed(config, {"tuning.micro_batch": 16})
    assert smaller_batch(small, 6.4, 1) == (80, 16)
    assert smaller_batch(small, 0.8, 1) == (10, 0), "fewer than a micro batch"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "none", "shrink": "batches"}, "--shrink is batches, and --policy none leaves"),
        ({"policy": "none", "batch_norm": "weighted"}, "--batch-norm is weighted, and --policy none"),
        ({"policy": "noise-budget", "lr_scaling": "sqrt"}, "--lr-scaling is sqrt, which makes up for"),
        ({"shrink": "batches", "lr_scaling": "linear"}, "or give --shrink steps"),
        ({"batch_norm": "weighted", "norm": "group"}, "has no batch norm; leave it out, or give --norm"),
        ({"least_batch": 0}, "--least-batch is 0; it must be at least 1"),
        ({"batch_multiple": 0}, "--batch-multiple is 0; it must be at least 1"),
        (
            {"task": "mae", "model": "mae-tiny", "batch_norm": "weighted"},
            "--batch-norm is for --task classification, not for mae",
        ),
        (
            {"task": "tabular", "data": "breast-cancer", "model": "mlp", "batch_norm": "weighted"},
            "or give --tabular.batch-norm",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(replace(TrainConfig(), **options))
