"""What each task is judged by, and which options it has."""

import pytest

from helpers import changed
from helpers.mae import QUICK
from infobatch.lab.config.task_options import SegmentationOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.tasks.metrics import KNN, RECONSTRUCTION
from infobatch.lab.tasks.registry import TASKS, check_policy, metric_of
from infobatch.lab.training.validate import check_config
from infobatch.policies import NoiseBudget


def test_the_metric_is_that_of_the_probe():
    assert metric_of(QUICK) == KNN
    assert metric_of(changed(QUICK, {"mae.evaluate": "none"})) == RECONSTRUCTION


def test_options_of_segmentation_are_of_no_other_task():
    config = TrainConfig(segmentation=SegmentationOptions(crop=64))
    with pytest.raises(ValueError, match=r"--segmentation\.crop is for --task segmentation, not for"):
        check_config(config)


@pytest.mark.parametrize("task", TASKS)
def test_norms_of_gradients_follow_from_losses_where_a_task_gives_none(task):
    spec = TASKS[task]
    squared = task in ("mae", "diffusion", "regression")
    assert spec.norms_from == ("squared-error" if squared else "cross-entropy")
    check_policy(TrainConfig(task=task, policy="noise-budget"), NoiseBudget())
