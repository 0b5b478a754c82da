"""Batches of loader processes."""

from dataclasses import replace

from helpers import run, without_times
from helpers.digits import QUICK


def test_workers_change_nothing(data, tmp_path):
    run(QUICK, data, tmp_path / "none")
    run(replace(QUICK, workers=2), data, tmp_path / "two")
    assert without_times(tmp_path / "none") == without_times(tmp_path / "two")
