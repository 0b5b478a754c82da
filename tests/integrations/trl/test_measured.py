"""What the page says was measured is what the benchmark tells of its runs."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("trl")

ROOT = Path(__file__).parents[3]


def test_the_table_is_that_of_the_runs(capsys):
    spec = importlib.util.spec_from_file_location("grpo_benchmark", ROOT / "benchmarks" / "grpo.py")
    grpo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(grpo)
    grpo.report([ROOT / "benchmarks" / "results" / "2026-11-28-grpo" / "second-start.jsonl"])
    told = capsys.readouterr().out.splitlines()
    page = (ROOT / "docs" / "rl.md").read_text().replace("−", "-")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")]
    rows = {row[1].strip(): [cell.strip() for cell in row[2:5]] for row in rows}
    names = {"full": "all prompts", "pruned": "budget of 1.2", "random": "random prompts, as many steps"}
    for line in told:
        arm = line[:12].strip()
        completions, success, difference = rows[names.get(arm, f"all prompts, {arm}")]
        assert f" {completions} completions " in line
        assert f" success 0{success}" in line
        interval = difference.split(", p")[0]
        assert interval.replace("+.", "+0.").replace("-.", "-0.") in line
    assert len(told) == 4
