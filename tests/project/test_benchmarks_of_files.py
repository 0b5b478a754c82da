"""The benchmarks that read files of results."""

import json
import sys

import pytest

from helpers.benchmarks import benchmark


def written(results, folder):
    """A runs.json of results by arm and seed."""
    runs = [
        {"arm": arm, "seed": seed, "result": result}
        for arm, values in results.items()
        for seed, result in enumerate(values)
    ]
    path = folder / "runs.json"
    path.write_text(json.dumps({"runs": runs}))
    return path


def test_results_of_several_files_are_paired(tmp_path, capsys, monkeypatch):
    def write(name, **results):
        rows = [{"name": way, "results": of_seeds} for way, of_seeds in results.items()]
        path = tmp_path / name
        path.write_text(json.dumps({"metric": "accuracy", "results": rows}))
        return str(path)

    first = write("a.json", full={0: 70, 1: 72}, ours={0: 71, 1: 74}, theirs={0: 60, 1: 61})
    second = write("b.json", full={2: 71, 3: 70}, ours={2: 74, 3: 74}, theirs={2: 61, 3: 60})
    other = write("c.json", full={0: 71})
    write("d.json", ours={0: 71})
    diverged = write("e.json", full={0: 70}, ours={0: None})
    paired = benchmark("paired_table")

    def printed(*arguments):
        monkeypatch.setattr("sys.argv", ["paired_table.py", *arguments])
        paired.main()
        lines = capsys.readouterr().out.splitlines()[2:]
        return {cells[1].strip(): cells[3:5] for cells in (line.split("|") for line in lines)}

    rows = printed(first, second, first, "--against", "full")
    assert [*rows] == ["full", "ours", "theirs"]
    # Differences 1, 2, 3, 4: mean 2.5, deviation 1.29, so t = 3.87 of 3 degrees, p = .0305 of two tests.
    assert rows["ours"] == [" 4 ", " +2.5 (+0.4457 to +4.554), p 0.030 "]
    assert float(rows["theirs"][1].split("p ")[1].replace("<", "")) < 0.005
    assert [*printed(first, second, "--against", "full", "--only", "ours")] == ["full", "ours"]
    both = printed(first, second, "--against", "full", "ours")
    assert both["ours"] == rows["ours"], "the pair of the two is one test, and not two"
    report = tmp_path / "runs.json"
    runs = [("full data", 0, 70), ("ours", 0, 71), ("full data", 1, 71), ("ours", 1, 74)]
    runs = [{"arm": arm, "label": arm, "seed": seed, "result": result} for arm, seed, result in runs]
    report.write_text(json.dumps({"config": {"task": "classification"}, "runs": runs}))
    assert printed(str(report), "--against", "full data")["ours"][1].startswith(" +2 (")
    two = tmp_path / "two.json"
    controls = [{**run, "arm": f"{arm}/random", "label": "random"} for run in runs[:1] for arm in "ab"]
    controls += [{**run, "seed": 1} for run in controls]
    two.write_text(json.dumps({"runs": [*runs, *controls]}))
    of_two = printed(str(two), "--against", "full data")
    assert [*of_two] == ["full data", "ours", "a/random", "b/random"], "one label, two arms"
    for arguments, message in (
        ((first, str(report), "--against", "full"), "give files of one"),
        ((first, other, "--against", "full"), "'full' has another result of seed 0 already"),
        ((diverged, "--against", "full"), "'ours' has no number for seed 0, whose run diverged"),
        ((other, "--against", "full", "ours"), "no way is called 'ours'"),
        ((other, first.replace("a.json", "d.json"), "--against", "full"), "seeds in common"),
        ((first, "--against", "fulll"), "no way is called 'fulll'; choose from full, ours, theirs"),
    ):
        with pytest.raises(SystemExit):
            printed(*arguments)
        assert message in capsys.readouterr().err


def test_gains_are_averaged_over_the_costs_that_both_have(tmp_path, monkeypatch, capsys):
    """By 0.5 and 1.5 for InfoBatch, t = 2 and p = 0.295; by 1 and 2 at 30 % alone, t = 3 and 0.205."""
    results = {
        "full": [9.0, 9.0],
        "spaced-save-30/pruned": [5.0, 7.0],
        "spaced-save-50/pruned": [6.0, 4.0],
        "infobatch-0.5-save-30/pruned": [5.0, 7.0],
        "infobatch-0.773-save-50/pruned": [5.0, 1.0],
        "save-30/fewer-epochs": [4.0, 5.0],
    }
    path = written(results, tmp_path)
    monkeypatch.setattr(sys, "argv", ["averaged.py", str(path)])
    benchmark("averaged").main()
    fewer, paper = capsys.readouterr().out.splitlines()
    assert fewer.startswith("spaced − fewer-epochs       +1.50 ")
    assert fewer.endswith("2 seeds, 30 % saved")
    assert paper.startswith("spaced − infobatch          +1.00 (-5.35 to +7.35)  p 0.410")
    assert paper.endswith("2 seeds, 30, 50 % saved")
    monkeypatch.setattr(sys, "argv", ["averaged.py", str(path), "--save", "70"])
    with pytest.raises(SystemExit):
        benchmark("averaged").main()
    assert "--save has 70, at which spaced was not run" in capsys.readouterr().err


def test_only_ratios_are_left_out_of_the_names_of_policies(tmp_path):
    names = ("infobatch-0.5", "infobatch-0.773", "bls-by-x-0.5", "proportional-floor-0.1")
    path = written({f"{name}-save-30/pruned": [1.0] for name in names}, tmp_path)
    assert [*benchmark("averaged").read([path])] == ["infobatch", "bls-by-x", "proportional-floor-0.1"]


def test_fewer_seeds_are_judged_as_a_report_judges(tmp_path, monkeypatch, capsys):
    """Where all seeds differ by the same, as of few test samples, there is no spread to judge by."""
    results = {"full": [80.0] * 4, "p/pruned": [80.5] * 4, "p/fewer-epochs": [79.0, 80.0, 79.5, 79.2]}
    path = written(results, tmp_path)
    monkeypatch.setattr(sys, "argv", ["fewer_seeds.py", "--seeds", "3", str(path)])
    benchmark("fewer_seeds").main()
    said = capsys.readouterr().out
    assert "4 choices of 3 seeds: lossless in 0" in said
    assert "ahead of fewer-epochs" in said


def test_the_epochs_of_a_contest_are_gathered(tmp_path):
    run, out = tmp_path / "contest" / "full" / "seed-0", tmp_path / "out"
    run.mkdir(parents=True)
    out.mkdir()
    for name in ("config", "summary"):
        (run / f"{name}.json").write_text("{}")
    (run / "metrics.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n')
    benchmark("gpu").gather(tmp_path / "contest", out)
    (found,) = json.loads((out / "runs.json").read_text()).values()
    assert found == {"config": {}, "summary": {}, "metrics": [{"epoch": 0}, {"epoch": 1}]}
