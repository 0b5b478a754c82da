import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes import RECIPES
from infobatch.lab.recipes.published import Published
from infobatch.lab.report import read_comparison, to_markdown
from infobatch.lab.report.results import Results
from infobatch.lab.runs.folder import RunFolder

ENVIRONMENT = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
ONE = ["--seeds", 1, "--policies", "infobatch", "--prune-ratio", 0.5]
BASE = ["mnist5k-small-cnn", "--data", "digits", "--epochs", "3", "--device", "cpu"]
NAME = "mnist5k-small-cnn"


def start(*arguments):
    command = [sys.executable, "-m", "infobatch.lab.cli", "sweep", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def sweep(*arguments):
    process = start(*arguments)
    output, error = process.communicate(timeout=300)
    return process.returncode, output, error


def summaries(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("summary.json")}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    options = ["--seeds", 2, "--prune-ratio", "0.3,0.5", "--jobs", 2, "--out", out]
    code, output, error = sweep(*BASE, *options)
    assert code == 0, error
    return out, output


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


def test_what_is_finished_is_skipped_and_what_is_missing_is_added(swept):
    out, _ = swept
    before = summaries(out)
    code, _, error = sweep(*BASE, "--seeds", 2, "--prune-ratio", "0.7", "--out", out, "--no-controls")
    assert code == 0, error
    after = summaries(out)
    added = after.keys() - before.keys()
    assert {path.parent.parent.parent.name for path in added} == {"infobatch-0.7"}
    assert all(after[path] == before[path] for path in before)
    assert len(Comparison.load(out / NAME).variants) == 4


def test_the_command_that_repeats_it_is_in_the_report(swept):
    html = (swept[0] / NAME / "report" / "report.html").read_text()
    assert f"infobatch sweep {NAME} --data digits" in html


def test_other_options_in_the_same_folder_are_refused(swept):
    code, _, error = sweep(*BASE, "--lr", 0.1, "--out", swept[0])
    assert code == 2
    assert "was trained with --lr 0.2, but --lr 0.1 is wanted" in error


def test_a_foreign_run_in_the_folder_is_refused(tmp_path):
    folder = RunFolder(tmp_path / NAME / "full" / "seed-0")
    folder.create(TrainConfig(data="digits", epochs=7))
    code, _, error = sweep(*BASE, *ONE, "--out", tmp_path)
    assert code == 2
    assert "seed-0 was trained with" in error


def test_a_killed_sweep_goes_on_with_the_same_command(tmp_path):
    arguments = [*BASE, *ONE, "--out", tmp_path]
    process = start(*arguments)
    until = time.monotonic() + 120
    while not list(tmp_path.rglob("metrics.jsonl")):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(summaries(tmp_path)) < 5
    code, _, error = sweep(*arguments)
    assert code == 0, error
    assert len(summaries(tmp_path)) == 5


def test_a_run_belongs_to_one_process_at_a_time(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    assert first.claim()
    assert not second.claim()
    first.release()
    assert second.claim()


def test_a_running_run_is_not_trained_by_another(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.claim()
    command = [sys.executable, "-m", "infobatch.lab.cli", "train", *BASE]
    command += ["--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 2
    assert "is being trained by another process" in done.stderr


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


def test_figures_of_others_are_for_the_very_recipe_alone(tmp_path):
    recipe = RECIPES["cifar10-resnet18"]
    for name, options in (("same", {}), ("shorter", {"epochs": 2.0, "model": "small-cnn"})):
        config = replace(recipe.config(), **options)
        made = Comparison(config, (Variant("infobatch"),), 1, 0.5, tmp_path / name)
        made.save()
    assert read_comparison(tmp_path / "same").published == recipe.published
    shorter = read_comparison(tmp_path / "shorter")
    assert not shorter.published
    assert "it differs from the recipe in --model, --epochs" in shorter.notes[-1]


@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.jsonl"])
def test_a_damaged_file_is_named(swept, tmp_path, name):
    shutil.copytree(swept[0] / NAME, tmp_path / NAME)
    damaged = tmp_path / NAME / "full" / "seed-0" / name
    damaged.write_text("{")
    with pytest.raises(ValueError, match=rf"seed-0/{name} is damaged"):
        read_comparison(tmp_path / NAME)


def test_options_that_are_none_are_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json holds no options of a run"):
        RunFolder(tmp_path).config()


def test_a_helper_ends_with_the_sweep_that_started_it(tmp_path):
    long = [NAME, "--data", "digits", "--device", "cpu", "--epochs", 500]
    process = start(*long, "--seeds", 1, "--jobs", 2, "--out", tmp_path)
    until = time.monotonic() + 120
    while len(list(tmp_path.rglob("metrics.jsonl"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folders = [RunFolder(path.parent) for path in tmp_path.rglob("config.json")]
    while not all(folder.claim() for folder in folders):
        for folder in folders:
            folder.release()
        assert time.monotonic() < until, "the helper still trains"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", 1], "name a recipe to sweep"),
        ([NAME, "--prune-ratio", "half"], "--prune-ratio is 'half'; give numbers"),
        ([NAME, "--policies", "infobach"], "no policy 'infobach'; did you mean infobatch"),
        ([NAME, "--jobs", 0], "--jobs is 0"),
        ([NAME, "--minutes", -1], "--minutes is -1; it must be above 0"),
        (
            [NAME, "--policies", "infobatch", "--target", 0.3, "--prune-ratio", "0.7,0.1"],
            "can leave out at most",
        ),
        (["cifar10-resnet17"], "no recipe 'cifar10-resnet17'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, arguments, message):
    code, _, error = sweep(*arguments, "--out", tmp_path / "out")
    assert code == 2
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "unknown options: epoch"),
        ({"mae": {"patchs": 3}}, r"unknown options: mae\.patchs"),
        ({"mae": {}}, r"missing options: mae\.evaluate, mae\.mask_ratio"),
        ({"mae": 3}, "mae is 3, not a mapping"),
    ],
)
def test_options_that_do_not_exist_are_named(tmp_path, options, message):
    folder = RunFolder(tmp_path)
    folder.create(TrainConfig(data="digits"))
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, **options}))
    with pytest.raises(ValueError, match=rf"config\.json holds no options of a run \({message}"):
        folder.config()
