"""The benchmarks run; what they find is told elsewhere."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def distributed():
    path = Path(__file__).parent.parent / "benchmarks" / "distributed.py"
    spec = importlib.util.spec_from_file_location("distributed_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("policy", ["mean", "tiers", "random"])
def test_the_plan_of_one_rank_of_many(policy, distributed, capsys):
    distributed.plan_cost(70_000, policy)
    seconds, processor, megabytes = json.loads(capsys.readouterr().out)
    assert 0 < seconds < 5
    assert 0 < processor < 5
    assert megabytes < 300


@pytest.mark.slow
def test_a_step_and_a_collective(distributed):
    times = distributed.in_processes("step", 3, 8)
    assert {name: len(values) for name, values in times.items()} == {"ours": 3, "plain": 3, "again": 3}
    times = distributed.in_processes("collective", 500, 2)
    assert all(value > 0 for values in times.values() for value in values)
