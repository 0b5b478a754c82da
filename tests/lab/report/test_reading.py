"""Results are read from the folders of runs."""

import json
import shutil
from dataclasses import replace

import pytest

from helpers.comparisons import FULL, HALF, PRUNED
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import FEWER, FEWER_SCALED, Arm, Variant
from infobatch.lab.recipes import RECIPES
from infobatch.lab.report import read_comparison, read_runs
from infobatch.lab.report.reading import COST_NOTE
from infobatch.lab.report.tables import sections
from infobatch.lab.report.verdict import verdict


def copy_pruned(comparison, path, **options):
    """A copy of a pruned run, as if it had been trained with other options."""
    shutil.copytree(comparison.folder(PRUNED, comparison.config.seed).path, path)
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **options}))


def test_runs_are_grouped_by_all_but_their_seed(comparison):
    paths = [comparison.folder(arm, seed).path for arm in (FULL, PRUNED) for seed in comparison.seeds]
    results = read_runs(paths)
    assert [len(arm.runs) for arm in results.arms] == [2, 2]
    assert results.full is results.arms[0]
    with pytest.raises(ValueError, match="hold the same run"):
        read_runs([*paths, paths[0]])


def test_runs_that_have_targets_are_no_contest(comparison, tmp_path):
    paths = [comparison.folder(FULL, comparison.config.seed).path]
    for target in (0.3, 0.5):
        paths.append(tmp_path / f"{target}")
        copy_pruned(comparison, paths[-1], target=target)
    results = read_runs(paths)
    assert len(verdict(results).splitlines()) == 3, "one for each, and what the interval covers"
    assert "At the same cost" not in [section.title for section in sections(results)]


def test_a_report_of_runs_notes_that_passes_count_as_cost(comparison, tmp_path):
    run = tmp_path / "run"
    copy_pruned(comparison, run)
    assert COST_NOTE not in read_runs([run]).notes
    file = run / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_forward": 300}))
    assert COST_NOTE in read_runs([run]).notes


def test_of_two_rates_the_one_that_did_not_diverge_is_kept(comparison, tmp_path):
    shutil.copytree(comparison.path, tmp_path / "c")
    made = replace(comparison, path=tmp_path / "c")
    scaled = next(arm for arm in made.arms if arm.kind == FEWER_SCALED)
    file = made.folder(scaled, comparison.config.seed).path / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "result": float("nan")}))
    results = read_comparison(made.path)
    kinds = [arm.kind for arm in results.arms]
    assert FEWER in kinds
    assert FEWER_SCALED not in kinds
    assert any("the other reached no finite result." in note for note in results.notes)


def test_of_two_rates_the_better_is_so_in_the_seeds_that_both_have(comparison, tmp_path):
    """The other is ahead only in a seed that the first one has not finished, which is an easier one."""
    shutil.copytree(comparison.path, tmp_path / "copy")
    made = Comparison.load(tmp_path / "copy")
    for kind, results in ((FEWER, (80.0, 90.0)), (FEWER_SCALED, (81.0, None))):
        for seed, result in zip(made.seeds, results, strict=True):
            file = made.folder(Arm(kind, HALF), seed).path / "summary.json"
            summary = {**json.loads(file.read_text()), "result": result}
            file.write_text(json.dumps(summary)) if result else file.unlink()
    kinds = [arm.kind for arm in read_comparison(made.path).arms]
    assert FEWER_SCALED in kinds
    assert FEWER not in kinds


def test_small_results_have_digits(comparison, tmp_path):
    shutil.copytree(comparison.folder(PRUNED, comparison.config.seed).path, tmp_path / "run")
    file, options = tmp_path / "run" / "summary.json", tmp_path / "run" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "result": 3.21e-7}))
    own = {"task": "own", "own": {"train": "f.py:train", "metric": "MSE", "lower_is_better": True}}
    options.write_text(json.dumps({**json.loads(options.read_text()), **own}))
    results = read_runs([tmp_path / "run"])
    assert results.metric.text(results.arms[0].result) == "0.0000003210"
    assert results.arms[0].runs[comparison.config.seed].metric == results.metric


def test_runs_that_differ_in_an_option_are_told_apart(comparison, tmp_path):
    paths = []
    for place, options in enumerate(({}, {"weight_decay": 0.25})):
        paths.append(tmp_path / str(place))
        copy_pruned(comparison, paths[-1], **options)
    labels = [arm.label for arm in read_runs(paths).arms]
    assert [label.split(", ")[-1] for label in labels] == [
        "--weight-decay 0.0005",
        "--weight-decay 0.25",
    ]


def test_a_title_says_of_all_runs_what_is_true_of_all(comparison, tmp_path):
    paths = []
    for imbalance in (10.0, 1.0):
        paths.append(tmp_path / f"{imbalance:g}")
        copy_pruned(comparison, paths[-1], imbalance=imbalance)
    results = read_runs(paths)
    assert "long-tailed" not in results.title
    assert [arm.label.split(", ")[-1] for arm in results.arms] == ["--imbalance 10.0", "--imbalance 1.0"]
    assert "long-tailed by 10" in read_runs(paths[:1]).title


def test_a_folder_of_ones_own_says_what_the_data_are(comparison, tmp_path):
    paths = []
    for data, folder in (("images", "a"), ("images", "b"), ("cifar10", "a"), ("cifar10", "b")):
        paths.append(tmp_path / f"{data}-{folder}")
        copy_pruned(comparison, paths[-1], data=data, data_dir=f"/data/{folder}")
    labels = [arm.label for arm in read_runs(paths[:2]).arms]
    assert [label.split(", ")[-1] for label in labels] == ["--data-dir /data/a", "--data-dir /data/b"]
    with pytest.raises(ValueError, match="hold the same run"):
        read_runs(paths[2:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (({"data_mark": "a"}, {"data_mark": "b"}), r"different data, .* though each is called table"),
        (({"tabular": {"target": "x"}}, {"tabular": {"target": "y"}}), r"--tabular\.target \(x and y\)"),
        (({"held_out": 0.1}, {"held_out": 0.2}), r"differ in --held-out \(0\.1 and 0\.2\)"),
    ],
)
def test_runs_of_other_data_have_no_common_report(comparison, tmp_path, options, message):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, arm, given in zip(paths, (PRUNED, FULL), options, strict=True):
        shutil.copytree(comparison.folder(arm, comparison.config.seed).path, path)
        config = {**json.loads((path / "config.json").read_text()), "data": "table", **given}
        (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        read_runs(paths)


def test_unfinished_runs_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        read_runs([tmp_path])


def test_a_report_tells_how_many_runs_are_missing(comparison):
    replace(comparison, num_seeds=3).save()
    try:
        (note,) = [note for note in read_comparison(comparison.path).notes if "missing" in note]
        assert note == "Unfinished: 5 of the 15 runs are missing."
    finally:
        comparison.save()


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
def test_a_damaged_file_is_named(comparison, tmp_path, name):
    shutil.copytree(comparison.path, tmp_path / "copy")
    damaged = tmp_path / "copy" / "full" / "seed-3" / name
    damaged.write_text("{")
    with pytest.raises(ValueError, match=rf"seed-3/{name} is damaged"):
        read_comparison(tmp_path / "copy")
