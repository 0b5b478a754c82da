"""What a run's data give to its pruner."""

import pytest

from infobatch.lab.runs.folder import RunFolder


@pytest.mark.parametrize("policy", ["rcap", "class-quotas", "rcap:beta=0.5"])
def test_the_labels_are_the_data_sets(call, tmp_path, policy):
    options = ["--data", "digits", "--epochs", 3, "--device", "cpu", "--train-samples", 150]
    code, _, error = call("train", *options, "--policy", policy, "--out", tmp_path / "run")
    assert code == 0, error
    assert min(m.num_kept for m in RunFolder(tmp_path / "run").metrics()) < 110
