"""Sweeps: several processes fill one folder, which is added to over time."""

import io
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from helpers.commands import start
from infobatch.lab import cli
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.sweep import HELPER, name_of
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.config.train import TrainConfig, of_table
from infobatch.lab.recipes.published import Published
from infobatch.lab.report import read_comparison, to_markdown
from infobatch.lab.report.results import Results
from infobatch.lab.runs.folder import RunFolder

NAME = "mnist5k-small-cnn"
BASE = ["sweep", NAME, "--data", "digits", "--epochs", "3", "--device", "cpu"]
BASE += ["--train-samples", "600"]
TWO = ["--policies", "infobatch,percentile-tiers"]
ONE = ["--seeds", 1, "--policies", "infobatch", "--prune-ratio", 0.5]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    options = ["--seeds", "2", *TWO, "--prune-ratio", "0.3,0.5", "--jobs", "2", "--out", str(out)]
    with redirect_stdout(io.StringIO()) as output:
        cli.main([*BASE, *options])
    return out, output.getvalue()


def test_every_arm_of_every_seed_is_trained(swept):
    out, output = swept
    comparison = Comparison.load(out / NAME)
    assert [variant.name for variant in comparison.variants] == [
        "infobatch-0.3",
        "infobatch-0.5",
        "percentile-tiers",
    ]
    assert len(comparison.runs) == 2 * (1 + 3 * 4)
    assert all(comparison.folder(arm, seed).finished for arm, seed in comparison.runs)
    assert "Verdict" in output
    assert (out / NAME / "report" / "report.html").exists()


def test_ratios_reach_the_runs(swept):
    comparison = Comparison.load(swept[0] / NAME)
    for ratio in (0.3, 0.5):
        folder = comparison.folder(Arm("pruned", Variant("infobatch", ratio)), 1)
        assert folder.config().prune_ratio == ratio
        assert folder.config().recipe == NAME
        assert folder.config().data == "digits"


def summaries(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("summary.json")}


def test_what_is_finished_is_skipped_and_what_is_missing_is_added(call, swept):
    out, _ = swept
    before = summaries(out)
    more = ["--seeds", 2, *TWO, "--prune-ratio", "0.7", "--no-controls"]
    code, _, error = call(*BASE, *more, "--out", out)
    assert code == 0, error
    after = summaries(out)
    added = after.keys() - before.keys()
    assert {path.parent.parent.parent.name for path in added} == {"infobatch-0.7"}
    assert all(after[path] == before[path] for path in before)
    assert len(Comparison.load(out / NAME).variants) == 4


def test_a_helper_leaves_the_report_to_who_started_it(call, swept, monkeypatch):
    page = swept[0] / NAME / "report" / "report.html"
    before = page.stat().st_mtime_ns
    monkeypatch.setenv(HELPER, "1")
    code, _, error = call(*BASE, "--seeds", 2, *TWO, "--prune-ratio", "0.3,0.5", "--out", swept[0])
    assert code == 0, error
    assert page.stat().st_mtime_ns == before


def test_the_command_that_repeats_it_is_in_the_report(swept):
    html = (swept[0] / NAME / "report" / "report.html").read_text()
    assert f"infobatch sweep {NAME} --data digits" in html


def test_published_figures_stand_beside_ours(swept):
    results = read_comparison(swept[0] / NAME)
    published = (
        Published("someone", "full", "full", 95.0, None, 60.0),
        Published("someone", "InfoBatch", "infobatch-0.5", 94.0, 33.3),
        Published("someone", "InfoBatch, 70 % pruned", "", 93.0),
    )
    shown = Results(**{**vars(results), "published": published})
    full, half, other = shown.published_rows()
    assert full.ours.result == results.full.result
    assert half.ours.saved == pytest.approx(results.rows()[5].saved)
    assert other.ours is None
    assert f"| someone | InfoBatch | 94.00 | 33.3% |  | {half.ours.result:.2f} ±" in to_markdown(shown)
    assert "one seed each" in to_markdown(shown)


def test_other_options_in_the_same_folder_are_refused(call, swept):
    code, _, error = call(*BASE, "--lr", 0.1, "--out", swept[0])
    assert code == 2
    assert "was trained with --lr 0.2, but --lr 0.1 is wanted" in error


def test_seeds_that_leave_some_out_are_refused(call, swept):
    code, _, error = call(*BASE, *ONE, "--seed", 5, "--out", swept[0])
    assert code == 2
    assert "has the seeds 0 to 1, and 5 to 5 are wanted, which leaves some between them out" in error
    assert "give --seed 2" in error


def test_a_foreign_run_in_the_folder_is_refused(call, tmp_path):
    folder = RunFolder(tmp_path / NAME / "full" / "seed-0")
    folder.create(TrainConfig(data="digits", epochs=7))
    code, _, error = call(*BASE, *ONE, "--out", tmp_path)
    assert code == 2
    assert "seed-0 was trained with" in error
    assert not (tmp_path / NAME / "compare.json").exists(), "refused before anything is written"


def test_two_tables_of_one_name_are_not_trained_in_one_folder(call, tmp_path):
    files = [tmp_path / folder / "data.csv" for folder in "ab"]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_text("x,y\n" + "".join(f"{n + number},{n % 2}\n" for n in range(40)))
    typed = ("--epochs", 2, "--seeds", 1, "--no-controls", "--out", tmp_path / "out")
    code, _, error = call("sweep", *(f"{file}:y" for file in files), *typed)
    assert code == 2
    assert f"{files[0]}:y and {files[1]}:y would both be trained in {tmp_path}/out/data-y" in error
    assert "give each an --out of its own" in error
    assert not (tmp_path / "out").exists()


def test_a_column_with_a_slash_makes_one_folder():
    config = of_table(Path("data.csv"), "price/unit", "regression")
    assert name_of(config) == "data-price-unit"


def test_a_killed_sweep_goes_on_with_the_same_command(call, tmp_path):
    arguments = [*BASE, *ONE, "--out", tmp_path]
    process = start(*arguments)
    until = time.monotonic() + 120
    while not list(tmp_path.rglob("metrics.jsonl")):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.join()
    assert len(summaries(tmp_path)) < 5
    code, _, error = call(*arguments)
    assert code == 0, error
    assert len(summaries(tmp_path)) == 5


def test_a_helper_ends_with_the_sweep_that_started_it(tmp_path):
    long = ["sweep", NAME, "--data", "digits", "--device", "cpu", "--epochs", 500]
    process = start(*long, "--seeds", 1, "--jobs", 2, "--out", tmp_path)
    until = time.monotonic() + 120
    while len(list(tmp_path.rglob("metrics.jsonl"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.join()
    folders = [RunFolder(path.parent) for path in tmp_path.rglob("config.json")]
    while not all(folder.claim() for folder in folders):
        for folder in folders:
            folder.release()
        assert time.monotonic() < until, "the helper still trains"
        time.sleep(0.2)
