import json
import math
from dataclasses import replace

import pytest

from infobatch.lab.comparison import variants as arms
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.run import run_comparison
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.report import read_comparison, read_runs, to_markdown, write_report
from infobatch.lab.report.paired import Difference, judge
from infobatch.lab.report.verdict import verdict
from infobatch.lab.tasks.metrics import ACCURACY

CONFIG = TrainConfig(data="digits", epochs=4, batch_size=128, device="cpu", seed=3)
HALF = Variant("infobatch", 0.5)
FULL = Arm(arms.FULL)
PRUNED, FEWER, FEWER_SCALED, RANDOM = (
    Arm(kind, HALF) for kind in (arms.PRUNED, arms.FEWER, arms.FEWER_SCALED, arms.RANDOM)
)
ARMS = (FULL, PRUNED, FEWER, FEWER_SCALED, RANDOM)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "comparison"
    made = Comparison(CONFIG, (HALF,), num_seeds=2, margin=0.5, path=path)
    made.create()
    run_comparison(made, load_data("digits"), lambda arm, seed, progress: None, lambda: False)
    return made


def kept(comparison, arm, seed):
    return [m.num_kept for m in comparison.folder(arm, seed).metrics()]


def test_every_arm_is_trained_with_every_seed(comparison):
    assert list(comparison.seeds) == [3, 4]
    assert all(comparison.folder(arm, seed).finished for arm in ARMS for seed in comparison.seeds)


def test_full_data_trains_on_everything(comparison):
    assert kept(comparison, FULL, 3) == [1400] * 4


def test_random_pruning_keeps_the_recorded_count_of_each_epoch(comparison):
    for seed in comparison.seeds:
        assert kept(comparison, RANDOM, seed) == kept(comparison, PRUNED, seed)


@pytest.mark.parametrize("arm", [FEWER, FEWER_SCALED])
def test_fewer_epochs_gets_exactly_the_samples_that_the_pruned_run_recorded(comparison, arm):
    for seed in comparison.seeds:
        counts = kept(comparison, arm, seed)
        assert sum(counts) == sum(kept(comparison, PRUNED, seed))
        assert counts[:-1] == [1400] * (len(counts) - 1)
        assert counts[-1] < 1400


def test_the_scaled_arm_raises_the_learning_rate_by_the_samples_saved(comparison):
    config = comparison.folder(FEWER_SCALED, 3).config()
    share = sum(kept(comparison, PRUNED, 3)) / (4 * 1400)
    assert config.lr == pytest.approx(CONFIG.lr / share)
    assert comparison.folder(FEWER, 3).config().lr == CONFIG.lr


def test_the_schedule_of_fewer_epochs_ends_at_the_same_rate(comparison):
    rates = [comparison.folder(arm, 3).metrics()[-1].lr for arm in (FULL, PRUNED, FEWER, RANDOM)]
    assert max(rates) < 1e-3 * CONFIG.lr
    assert rates == pytest.approx([rates[0]] * 4, abs=1e-3 * CONFIG.lr)


def test_the_arms_of_a_seed_start_alike(comparison):
    first = {arm: comparison.folder(arm, 3).metrics()[0].train_loss for arm in (FULL, PRUNED, RANDOM)}
    assert len(set(first.values())) == 1


def test_a_finished_comparison_is_only_read_again(comparison):
    before = (comparison.folder(FULL, 3).path / "summary.json").stat().st_mtime_ns
    run_comparison(comparison, load_data("digits"), lambda arm, seed, progress: None, lambda: False)
    assert (comparison.folder(FULL, 3).path / "summary.json").stat().st_mtime_ns == before


def test_results_agree_with_the_summaries(comparison):
    results = read_comparison(comparison.path)
    assert [arm.arm for arm in results.arms][:2] == [FULL, PRUNED]
    assert len(results.arms) == 4, "the worse of the two learning rates is not a row"
    rows = {row.label: row for row in results.rows()}
    pruned = rows["InfoBatch r=0.5"]
    summaries = [comparison.folder(PRUNED, seed).summary() for seed in comparison.seeds]
    full = [comparison.folder(FULL, seed).summary() for seed in comparison.seeds]
    assert pruned.result == pytest.approx(sum(s.result for s in summaries) / 2)
    assert pruned.saved == pytest.approx(1 - sum(s.num_trained for s in summaries) / (2 * 4 * 1400))
    differences = [s.result - f.result for s, f in zip(summaries, full, strict=True)]
    assert pruned.to_full.mean == pytest.approx(sum(differences) / 2)


def test_the_report_is_one_page_with_its_plots_inside(comparison, tmp_path):
    results = read_comparison(comparison.path)
    page = write_report(results, tmp_path)
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 4
    assert "http://" not in html
    assert "https://" not in html
    assert "infobatch compare --data digits" in html
    assert verdict(results)[:20] in html
    for name in ("overlay.png", "curves.png", "kept.png", "scores.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(to_markdown(results).rstrip())
    assert "![curves](curves.png)" in text


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


def test_runs_are_grouped_by_all_but_their_seed(comparison):
    paths = [comparison.folder(arm, seed).path for arm in (FULL, PRUNED) for seed in comparison.seeds]
    results = read_runs(paths)
    assert [len(arm.runs) for arm in results.arms] == [2, 2]
    assert results.full is results.arms[0]
    with pytest.raises(ValueError, match="hold the same run"):
        read_runs([*paths, paths[0]])


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


def test_the_verdict_says_if_nothing_was_pruned(tmp_path):
    made = Comparison(replace(CONFIG, epochs=1), (HALF,), 1, 0.5, tmp_path / "c", controls=False)
    made.create()
    run_comparison(made, load_data("digits"), lambda arm, seed, progress: None, lambda: False)
    assert verdict(read_comparison(made.path)).startswith("Nothing was pruned: the first epoch")


def test_a_comparison_folder_is_not_used_twice(comparison):
    with pytest.raises(FileExistsError, match="already holds a comparison"):
        comparison.create()


def test_a_comparison_survives_json(comparison):
    assert Comparison.load(comparison.path) == comparison
    assert json.loads((comparison.path / "compare.json").read_text())["num_seeds"] == 2


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((-0.4, 0.2), "lossless"),
        ((-0.5, 0.2), "too few seeds to say"),
        ((-1.0, -0.4), "too few seeds to say"),
        ((-1.0, -0.6), "not lossless"),
        ((-math.inf, math.inf), "too few seeds to say"),
    ],
)
def test_the_verdict_follows_the_whole_interval(interval, words):
    pairs = 1 if math.isinf(interval[0]) else 5
    assert judge(Difference(-0.3, *interval, pairs), margin=0.5) == words


class FixedRun:
    metric = ACCURACY

    def __init__(self, accuracy):
        self.summary = type("Summary", (), {"result": accuracy})


def test_the_interval_is_students_over_paired_seeds():
    ours = {seed: FixedRun(a) for seed, a in enumerate((1.0, 2.0, 4.0))}
    theirs = {seed: FixedRun(0.0) for seed in range(5)}
    difference = Difference.of(ours, theirs)
    assert difference.num_pairs == 3
    assert difference.mean == pytest.approx(7 / 3)
    half = 4.302653 * math.sqrt(7 / 3) / math.sqrt(3)  # t quantile 0.975 of 2 degrees of freedom
    assert difference.high - difference.mean == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_seeds": 0}, "--seeds is 0"), ({"margin": -1.0}, "--margin is -1.0")],
)
def test_bad_comparison_options_are_refused(tmp_path, options, message):
    values = {"num_seeds": 2, "margin": 0.5, **options}
    with pytest.raises(ValueError, match=message):
        Comparison(CONFIG, (HALF,), path=tmp_path, **values).check()
