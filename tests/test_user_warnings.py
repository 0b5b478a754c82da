"""Every warning points at the user's line."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import infobatch
from helpers import Numbers
from infobatch import DynamicPruner, InfoBatch, NoiseBudget
from infobatch.policies import RandomPruning

HERE = Path(__file__).read_text().splitlines()


def new_pruner(policy, **options):
    return DynamicPruner(Numbers(20), 5, policy=policy, **options)


def check(told):
    (warning,) = told
    assert warning.filename == __file__
    assert HERE[warning.lineno - 1].endswith("# this line")


@pytest.mark.parametrize("call", [DynamicPruner.update, DynamicPruner.record])
def test_it_is_that_of_the_step(call):
    pruner = new_pruner(InfoBatch())
    next(iter(pruner.loader(4)))
    with pytest.warns(UserWarning, match="not given by the loader as one") as told:
        call(pruner, torch.ones(4), range(4))  # this line
    check(told)
    losses = F.mse_loss(torch.ones(4, requires_grad=True), torch.zeros(4), reduction="none")
    with pytest.warns(UserWarning, match="the losses look like errors") as told:
        call(new_pruner(NoiseBudget()), losses, range(4))  # this line
    check(told)


def test_it_is_that_of_the_loop():
    pruner = new_pruner(InfoBatch())
    loader, epochs = pruner.loader(4), pruner.epochs()
    next(epochs)
    for indices, _ in loader:
        pruner.update(torch.full((len(indices),), torch.nan), indices)
    with pytest.warns(UserWarning, match=r"losses of epoch 0 were NaN") as told:
        next(epochs)  # this line
    check(told)


def test_it_is_that_of_a_state_or_of_options():
    with pytest.warns(UserWarning, match="saved with the policy InfoBatch") as told:
        new_pruner(RandomPruning()).load_state_dict(new_pruner(InfoBatch()).state_dict())  # this line
    check(told)
    with pytest.warns(UserWarning, match=r"prune_ratio=0.3 has no effect") as told:
        DynamicPruner(Numbers(20), 5, policy=RandomPruning(0.3), target=0.2)  # this line
    check(told)


def test_no_module_of_the_method_warns_in_another_way():
    root = Path(infobatch.__file__).parent
    paths = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] != "lab"]
    assert [path.name for path in paths if "warnings.warn(" in path.read_text()] == ["user_warnings.py"]
