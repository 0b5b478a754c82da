"""The readers that the page of recorded epochs names read them in the line that it gives."""

import re
from pathlib import Path

import numpy as np
import pytest

from helpers.dynamics import epoch_of, write_epochs
from infobatch import read_dynamics

PAGE = Path(__file__).parents[2] / "docs" / "dynamics.md"
LINES = dict(re.findall(r"^\| (pandas|Polars|DuckDB|cleanlab) \| `(.*)` \|$", PAGE.read_text(), re.M))


@pytest.mark.parametrize("reader", ["pandas", "Polars", "DuckDB", "cleanlab"])
def test_a_line_reads_all_epochs(reader, tmp_path, monkeypatch):
    package = pytest.importorskip(reader.lower())
    if reader == "cleanlab":
        pytest.importorskip("cleanlab.rank")
    losses = {0: 0.5, 1: 4.0, 3: 0.25}
    write_epochs(tmp_path / "run/dynamics", epoch_of(0, losses, losses), epoch_of(1, {1: 2.0}, {1: 1.0}))
    monkeypatch.chdir(tmp_path)
    given = eval(LINES[reader], {reader.lower(): package, "read_dynamics": read_dynamics})
    if reader == "cleanlab":
        assert given[0] == 1, "the sample of least confidence comes first"
        return
    table = given.df() if reader == "DuckDB" else given
    assert list(table.columns) == ["epoch", "index", "loss", "margin"]
    assert np.array(table["loss"]).tolist() == [0.5, 4, 0.25, 2]
    assert np.array(table["epoch"]).tolist() == [0, 0, 0, 1]
