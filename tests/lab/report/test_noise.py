"""What gradient noise a report tells of each policy."""

import itertools
import json
from dataclasses import replace
from statistics import fmean

import pytest

from infobatch.lab.report import read_comparison
from infobatch.lab.report.noise import NOISE_NOTE, noise_rows, noise_table
from infobatch.lab.runs.folder import RunFolder


def test_a_contest_tells_why_a_policy_wins_or_loses(call, tmp_path):
    options = ["--data", "digits", "--train-samples", 400, "--epochs", 5, "--delta", 1, "--save", 30]
    options += ["--device", "cpu", "--policies", "infobatch,random,ucb", "--seeds", 2, "--no-controls"]
    code, output, error = call("contest", *options, "--probe", 60, "--out", tmp_path)
    assert code == 0, error
    assert "how far the expected gradient is off" in " ".join(output.split())
    path = tmp_path / "mnist5k-small-cnn"
    assert (path / "report" / "noise.png").exists()
    results = read_comparison(path)
    infobatch, random, ucb = rows = noise_rows(results)
    assert [row.label.split()[0] for row in rows] == ["InfoBatch", "random,", "UCB,"]

    def courses(place):
        runs = results.pruned[place].runs
        return [[m.noise_ratio for m in runs[seed].metrics[:4]] for seed in (0, 1)]

    assert infobatch.ratio == pytest.approx(fmean(itertools.chain(*courses(0))))
    assert infobatch.late == pytest.approx(fmean(r for course in courses(0) for r in course[2:]))
    assert infobatch.highest == pytest.approx(max(map(fmean, zip(*courses(0), strict=True))))
    assert infobatch.to_paper is infobatch.late_to_paper is None
    pairs = [
        [ours / paper for ours, paper in zip(*both, strict=True)]
        for both in zip(courses(2), courses(0), strict=True)
    ]
    assert ucb.to_paper == pytest.approx(fmean(itertools.chain(*pairs)))
    assert ucb.late_to_paper == pytest.approx(fmean(r for pair in pairs for r in pair[2:]))
    assert random.ratio == random.highest == pytest.approx(1)
    assert infobatch.bias == random.bias == 0 < ucb.bias
    assert infobatch.effective_share < 0.99
    assert random.effective_share == pytest.approx(ucb.effective_share) == pytest.approx(1)
    visits = [run.summary.visits[0] for run in results.pruned[2].runs.values()]
    assert ucb.visits[0] == fmean(visits)

    folder = path / "report"
    for text in ((folder / "report.md").read_text(), (folder / "report.html").read_text()):
        for cells in noise_table(results)[1]:
            assert all(cell in text for cell in cells)
        assert NOISE_NOTE.split("'")[0] in text
    runs = json.loads((folder / "runs.json").read_text())["runs"]
    (first,) = (run for run in runs if "ucb" in run["arm"] and run["seed"] == 0)
    assert first["noise_ratio"] == [round(r, 4) for r in courses(2)[0]] + [None]
    assert first["bias"][-1] is None
    assert first["effective_share"] == [None, 1, 1, 1, 1]
    assert "class_balance" in first
    assert first["visits"] == pytest.approx(results.pruned[2].runs[0].summary.visits)


def test_without_a_probe_nothing_is_told(call, tmp_path):
    options = ["--data", "digits", "--train-samples", 400, "--epochs", 4, "--device", "cpu"]
    options += ["--seeds", 1, "--out", tmp_path / "c"]
    code, output, error = call("compare", *options)
    assert code == 0, error
    assert "gradients of single samples" not in " ".join(output.split())
    assert not (tmp_path / "c" / "report" / "noise.png").exists()
    # What is measured is not what is trained: a run is no other for it.
    config = RunFolder(tmp_path / "c" / "full" / "seed-0").config()
    RunFolder(tmp_path / "c" / "full" / "seed-0").require(replace(config, probe=10))
