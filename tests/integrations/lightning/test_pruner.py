"""The pruner of a fit is made when it begins, and shared by copies of the module."""

import copy

import pytest
from torch.utils.data import TensorDataset

from helpers.points import points

pytest.importorskip("lightning")

from helpers.lightning import MARKS, VARYING, fit
from infobatch.integrations.lightning import PruningCallback

pytestmark = MARKS


def test_a_development_run_prunes_nothing():
    module, callback, _ = fit({**VARYING, "target": [0, 40, 0, 0]}, fast_dev_run=3)
    assert module.batch_counts == [3]
    assert callback.pruner.report().saved == 0


def test_averaged_weights_share_the_pruner():
    averaging = pytest.importorskip("lightning.pytorch.callbacks.weight_averaging")

    class Large(TensorDataset):
        def __deepcopy__(self, memo):
            raise AssertionError("the dataset was copied")

    data = Large(*points().tensors)
    module, callback, _ = fit(callbacks=[averaging.WeightAveraging()], data=data)
    assert module.seen == fit()[0].seen
    assert copy.deepcopy(module).pruner is callback.pruner


def test_there_is_no_pruner_before_the_fit():
    with pytest.raises(RuntimeError, match=r"no pruner here: it is made when trainer.fit begins"):
        _ = PruningCallback().pruner
