"""The benchmarks run; what they find is told elsewhere."""

import importlib.util
import json
from pathlib import Path

import pytest


def benchmark(name):
    path = Path(__file__).parent.parent / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def distributed():
    return benchmark("distributed")


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


def test_the_choices_of_rescaling_are_compared_and_kept(tmp_path, capsys, monkeypatch):
    out = tmp_path / "runs"
    options = ["--recipe", "mnist5k-small-cnn", "--epochs", "3", "--optimizers", "sgd", "--save", "20"]
    options += ["--seeds", "1", "--device", "cpu", "--out", str(out), "--json", str(tmp_path / "r.json")]
    monkeypatch.setattr("sys.argv", ["normalizers.py", *options])
    normalizers = benchmark("normalizers")
    normalizers.main()
    rows = json.loads((tmp_path / "r.json").read_text())
    assert [name for _, name, *_ in rows] == [
        "full",
        *(f"{normalizer}, rate {scaling}" for normalizer, scaling in normalizers.CHOICES),
    ]
    accuracies = {name: accuracy for _, name, [accuracy], _ in rows}
    assert all(50 < accuracy <= 100 for accuracy in accuracies.values())
    assert accuracies["mean, rate none"] != accuracies["batch, rate none"]
    before = {file: file.stat().st_mtime_ns for file in out.rglob("summary.json")}
    normalizers.main()
    assert {file: file.stat().st_mtime_ns for file in out.rglob("summary.json")} == before
