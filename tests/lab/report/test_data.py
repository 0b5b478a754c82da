"""The data behind the report."""

import json

import pytest

from infobatch.lab.report import read_comparison, write_report


def test_the_data_behind_the_report_is_written_beside_it(comparison, tmp_path):
    write_report(read_comparison(comparison.path), tmp_path)
    saved = json.loads((tmp_path / "runs.json").read_text())
    assert len(saved["runs"]) == 2 * 4
    for run in saved["runs"]:
        assert sum(run["kept"]) == run["num_trained"]
        assert run["results"][-1] == pytest.approx(run["result"], abs=1e-3)
        assert run["seed"] in (3, 4)
        assert "policy" in run["config"]
        assert not {"noise_ratio", "bias"} & run.keys()  # not measured: there was no probe
    assert saved["config"]["data"] == "digits"
    assert "policy" not in saved["config"]
    assert saved["commands"][0].startswith("infobatch compare --data digits")
