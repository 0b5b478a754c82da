"""The data behind the report."""

import json
import math
import shutil
from dataclasses import replace

import pytest

from infobatch.lab.report import read_comparison, read_runs, write_report
from infobatch.lab.report.data import to_json
from infobatch.lab.runs.folder import RunFolder


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


def test_small_results_keep_their_digits(comparison):
    results = read_comparison(comparison.path)
    for arm in results.arms:
        for seed, run in arm.runs.items():
            metrics = [replace(each, result=1.234e-6, train_loss=5.678e-7) for each in run.metrics]
            arm.runs[seed] = replace(run, metrics=metrics)
    for run in json.loads(to_json(results))["runs"]:
        assert set(run["results"]) == {1.234e-6}
        assert set(run["train_loss"]) == {5.678e-7}


def test_what_is_not_finite_is_null_and_stays_so(comparison, tmp_path):
    """NaN is no JSON: strict readers, as of browsers, refuse the whole file."""
    folder = comparison.folder(comparison.arms[0], comparison.config.seed)
    shutil.copytree(folder.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    details = {"loss": math.inf, "error %": 1.0}
    run.write_summary(replace(run.summary(), result=math.nan, test_loss=math.nan, details=details))
    write_report(read_runs([run.path]), tmp_path)
    for text in ((run.path / "summary.json").read_text(), (tmp_path / "runs.json").read_text()):
        json.loads(text, parse_constant=pytest.fail)
    assert math.isnan(run.summary().result)
    assert math.isnan(run.summary().details["loss"])
    assert run.summary().details["error %"] == 1
