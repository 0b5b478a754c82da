"""The report is one page, with its plots inside."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from infobatch.lab.config.train import of_function, of_table
from infobatch.lab.report import read_comparison, to_markdown, write_report
from infobatch.lab.report.page import write_page
from infobatch.lab.report.verdict import verdict


def test_the_report_is_one_page_with_its_plots_inside(comparison, tmp_path):
    results = read_comparison(comparison.path)
    page = write_report(results, tmp_path)
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 7
    assert "http://" not in html
    assert "https://" not in html
    assert "infobatch compare --data digits" in html
    assert verdict(results)[:20] in html
    assert "--image-size" in html
    assert "--tabular.target" not in html, "an option of another task"
    courses = ("results", "results-by-epoch", "train-losses", "test-losses")
    for name in ("differences", *courses, "kept", "scores"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(to_markdown(results).rstrip())
    assert "![differences](differences.png)" in text


def test_each_file_of_a_report_is_replaced_whole(comparison, tmp_path):
    """Another process may read it, or write it, too."""
    results = read_comparison(comparison.path)
    write_report(results, tmp_path)
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    write_report(results, tmp_path)
    after = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[path] != number for path, number in before.items())


def test_every_machine_is_named(comparison, tmp_path):
    results = read_comparison(comparison.path)
    last = list(results.arms[-1].runs.values())[-1]
    last.summary.environment["device"] = "cuda (another)"
    for text in (write_page(results, [], tmp_path / "page.html").read_text(), to_markdown(results)):
        assert text.count("cuda (another)") == 1
        assert text.count("cpu (") == 1


@pytest.mark.parametrize(
    "config", [of_table(Path("my.csv"), "fraud", ""), of_function("my_script.py:train")]
)
def test_options_that_follow_from_a_table_or_a_function_are_none_that_differ(
    config, comparison, tmp_path
):
    results = read_comparison(comparison.path)
    marked = replace(config, lr=0.07, data_mark="abc", source="def")
    ours = results.pruned[0]
    runs = {seed: replace(run, config=marked) for seed, run in ours.runs.items()}
    results = replace(results, arms=[replace(ours, runs=runs)])
    html = write_page(results, [], tmp_path / "page.html").read_text()
    differing = html[html.index("that differ from") : html.index("All options of")]
    assert re.findall("<td>(--.*?)</td>", differing) == ["--lr"]


def test_names_from_elsewhere_are_text_on_the_page_and_stay_in_their_cells(comparison, tmp_path):
    hostile = """<script>alert("&')</script> | x\ny"""
    results = read_comparison(comparison.path)
    arms = [replace(arm, label=hostile) for arm in results.arms]
    named = replace(results, title=hostile, notes=[hostile], arms=arms, full=arms[0])
    plot = tmp_path / "<b>.png"
    plot.write_bytes(b"")
    html = write_page(named, [plot], tmp_path / "page.html").read_text()
    assert "<script" not in html
    assert "<b>" not in html
    assert html.count("&lt;script&gt;alert(") > 3
    rows = [line for line in to_markdown(named).splitlines() if line.startswith("| ")]
    cells = {row.replace("\\|", "").count("|") for row in rows[: len(arms) + 2]}
    assert len(cells) == 1
