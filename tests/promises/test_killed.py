"""A run that is killed again and again ends as one that nobody touched, by benchmarks/killed.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "killed.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_killed_runs_end_as_untouched_ones():
    command = [sys.executable, str(SCRIPT), "--kills", "6", "--seed", "4", "--only", "plain", "stream"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    first, plain, stream, last = found.stdout.splitlines()
    assert first.startswith("seed 4, ")
    assert plain.startswith("plain           3 kills (")
    assert stream.startswith("stream          3 kills (")
    assert last.startswith("6 kills, ")
    assert "runs ended identical" in last
