"""A state that is cut, tampered with or of another kind is refused in words, and changes nothing."""

import copy
import re
from pathlib import Path

import pytest
import torch

import infobatch
from helpers import after_one_epoch, new_pruner, random_losses
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Sharded, Spaced
from infobatch.policies import Neyman

SOURCE = Path(infobatch.__file__).parent


def made(layout):
    """A pruner that has recorded its first epoch."""
    if layout is None:
        return after_one_epoch(policy=Spaced(Neyman()))
    pruner = new_pruner(100, 10, layout=layout)
    indices = pruner.current.indices.numpy()
    pruner.record(random_losses(100)[indices], indices)
    return pruner


def changed(state, path, change):
    *folders, name = path.split("/")
    place = state = copy.deepcopy(state)
    for folder in folders:
        place = place[folder]
    change(place, name)
    return state


def to(value):
    return lambda place, name: place.__setitem__(name, value)


def by(function):
    return lambda place, name: place.__setitem__(name, function(place[name]))


def without(place, name):
    del place[name]


FAULTS = {
    "version": (to(1), r"has version 1, this infobatch reads version \d+; load it with the release"),
    "weights": (without, r"the checkpoint lacks 'weights', so it is cut.*resume from an older"),
    "epoch": (without, "the checkpoint lacks 'epoch'"),
    "scores": (without, "the checkpoint lacks 'scores'"),
    "history": (without, "the checkpoint lacks 'history'"),
    "num_samples": (without, "the checkpoint lacks 'num_samples'"),
    "samples": (without, "the checkpoint lacks 'samples'"),
    "policy": (without, "the checkpoint lacks 'policy'"),
    "extra": (to(1), r"the checkpoint has 'extra', which this infobatch does not know and would lose"),
    "scores/extra": (to(1), "'scores' in the checkpoint has 'extra'"),
    "scores/columns/extra": (to(1), "'columns' in the checkpoint has 'extra'"),
    "seed": (to("7"), "'seed' in the checkpoint is a str, where int is expected, so the .* is damaged"),
    "epoch ": (to(-1), "'epoch' in the checkpoint is -1, below 0"),
    "recorded": (by(lambda values: values[:-1]), r"'recorded' in .* shape \(\d+\)?,\), where"),
    "recorded ": (by(torch.Tensor.int), r"'recorded' in .* dtype torch.int32, where torch.bool is"),
    "weights ": (by(torch.Tensor.double), "'weights' in the checkpoint has dtype torch.float64"),
    "weights  ": (by(lambda values: values * torch.nan), "'weights' in .* below 0 or beyond bounds"),
    "weights   ": (to([1.0]), "'weights' in the checkpoint is a list, and no tensor"),
    "scores/columns/last_loss": (by(lambda v: v[1:]), r"'last_loss' in 'columns' .* has shape \(\d+,\)"),
    "scores/columns/visits": (by(torch.Tensor.float), "'visits' in .* dtype torch.float32"),
    "scores/columns": (to(3), "'columns' in 'scores' in the checkpoint is a int, where dict"),
    "history ": (by(lambda rows: [row[:2] for row in rows]), "'history' in .* no list of rows of 6"),
}


@pytest.mark.parametrize("layout", [None, Sharded(2)], ids=["replicated", "sharded"])
@pytest.mark.parametrize("path", FAULTS)
def test_a_faulty_state_is_refused_and_changes_nothing(path, layout):
    change, message = FAULTS[path]
    pruner = made(layout)
    pruner.set_epoch(1)
    state = changed(pruner.state_dict(), path.strip(), change)
    before = pruner.state_dict()
    with pytest.raises(ValueError, match=message):
        pruner.load_state_dict(state)
    after = pruner.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in ("weights", "recorded"))
    assert after["history"] == before["history"]
    columns = [state["scores"]["columns"] for state in (before, after)]
    for name in columns[0]:
        assert torch.equal(columns[0][name].nan_to_num(-1), columns[1][name].nan_to_num(-1))


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("left", by(lambda left: left[:1]), r"'left' in .* shape \(1,\), where \(2,\)"),
        ("left", by(lambda left: left + 1), "samples left to train than it says"),
        ("codes", by(lambda codes: codes + 9), "strata that its weights do not have"),
        ("num_trained", to(7), "samples left to train than it says"),
        ("rank", to(1), r"rank is 1; it must be a whole number in 0\.\.0"),
        ("num_shards", to("2"), "'num_shards' in the checkpoint is a str"),
        ("weights", by(lambda values: values[:1]), r"'weights' in .* where \(2, any\) is expected"),
    ],
)
def test_a_faulty_state_of_shards_is_refused(path, change, message):
    pruner = made(Sharded(2))
    pruner.set_epoch(1)
    with pytest.raises(ValueError, match=message):
        pruner.load_state_dict(changed(pruner.state_dict(), path, change))


def test_what_is_no_state_is_refused():
    with pytest.raises(ValueError, match=r"the checkpoint is a Linear, not what state_dict\(\) gives"):
        new_pruner().load_state_dict([torch.nn.Linear(1, 1)])
    with pytest.raises(ValueError, match="lacks 'version'"):
        new_pruner().load_state_dict({"pruner": new_pruner().state_dict()})


def test_a_state_with_draws_of_another_length_is_refused():
    pruner = DynamicPruner(range(20), 4, policy=InfoBatch())
    pruner.filter(range(20), 4)
    pruner.record(random_losses(20), torch.arange(20))
    state = pruner.state_dict()
    pruner.load_state_dict(state)
    state["draws"]["counts"] = state["draws"]["counts"][:5]
    with pytest.raises(ValueError, match=r"'counts' in 'draws' in the checkpoint has shape \(5,\)"):
        pruner.load_state_dict(state)


def test_columns_that_another_policy_reads_are_no_fault():
    state = made(None).state_dict()
    assert len(state["scores"]["columns"]) > 2
    pruner = new_pruner(100, 10)
    with pytest.warns(UserWarning, match="with the policy Spaced, and the run goes on with InfoBatch"):
        pruner.load_state_dict(state)
    assert set(pruner.state_dict()["scores"]["columns"]) == {"last_loss", "visits"}


@pytest.mark.parametrize("layout", [None, Sharded()], ids=["replicated", "sharded"])
def test_a_policy_of_another_kind_is_told_of(layout):
    options = {} if layout is None else {"layout": layout}
    before, other = (
        DynamicPruner(range(20), 4, policy=policy, **options)
        for policy in (InfoBatch(), RandomPruning(0.3))
    )
    state = before.state_dict()
    with pytest.warns(
        UserWarning, match=r"policy InfoBatch, .* on with RandomPruning.*the policy of then"
    ) as told:
        other.load_state_dict(state)
    assert [warning.filename for warning in told] == [__file__]
    DynamicPruner(range(20), 4, policy=InfoBatch(0.7), **options).load_state_dict(state)


def test_nothing_is_ever_unpickled():
    """Files come from elsewhere, and unpickling one runs what is in it."""
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"^\s*(import|from) (pickle|dill|cloudpickle|shelve|joblib)\b", text, re.M
        ), path
        assert "allow_pickle=True" not in text, path
        for call in re.findall(r"\bnp\.load\([^\n]*", text):
            assert "allow_pickle=False" in call, f"{path}: {call}"
        for call in re.findall(r"\btorch\.load\([^\n]*", text):
            assert "weights_only=True" in call, f"{path}: {call}"
